//! What may be wrong with a kubelet, brought about and healed.

use std::net::IpAddr;
use std::time::Duration;

use serde_json::json;

use crate::command;
use crate::error::Result;
use crate::progress::Progress;
use crate::testbed::cluster::{Cluster, component};
use crate::testbed::pki::{self, Authority, Subject};

/// Where the kubelet serves over HTTPS.
pub const KUBELET_PORT: u16 = 10250;
/// Where it serves the same metrics over HTTP, to anyone (`readOnlyPort`).
pub const KUBELET_HTTP_PORT: u16 = 10255;

/// The nftables table that drops packets.
const DROPS: &str = "e2e-drops";

/// A serving certificate that a kubelet shows. Each has a key of its own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KubeletCertificate {
    /// Signed by the cluster's CA, with the Node's name and address.
    Proper,
    /// Signed by the cluster's CA, with the Node's name alone: no address is in it.
    NameOnly,
    /// Signed by itself, as a kubelet makes one when nobody gives it any (kubeadm's default).
    SelfSigned,
    /// Signed by itself, and expired.
    SelfSignedExpired,
    /// Signed by a CA that nobody knows.
    UnknownAuthority,
    /// Signed by the cluster's CA, and expired.
    Expired,
    /// Signed by the cluster's CA, without any subject alternative name: the Node's name is in the subject only.
    WithoutNames,
    /// Signed by the cluster's CA, for another node.
    OtherNode,
}

impl Cluster {
    /// Starts the kubelet anew with such a serving certificate, and waits until it is well. Pods go on meanwhile.
    /// What [`Cluster::up`] finds later it leaves as it is: heal with [`KubeletCertificate::Proper`].
    pub fn kubelet_certificate(&self, certificate: KubeletCertificate, progress: &Progress) -> Result<()> {
        use KubeletCertificate as Kind;
        let name = self.node.name.as_str();
        let address = [IpAddr::from(self.node.address)];
        let proper = Subject::server(name, &[name], &address);
        let by_cluster = |subject: &Subject| self.cluster_authority()?.issue(subject);
        let identity = match certificate {
            Kind::Proper => by_cluster(&proper)?,
            Kind::NameOnly => by_cluster(&Subject::server(name, &[name], &[]))?,
            Kind::Expired => by_cluster(&Subject { expired: true, ..proper })?,
            Kind::WithoutNames => by_cluster(&Subject::server(name, &[], &[]))?,
            Kind::OtherNode => by_cluster(&Subject::server("node-2", &["node-2"], &[]))?,
            Kind::SelfSigned => pki::self_signed(&proper)?,
            Kind::SelfSignedExpired => pki::self_signed(&Subject { expired: true, ..proper })?,
            Kind::UnknownAuthority => Authority::create("an authority nobody knows")?.issue(&proper)?,
        };
        identity.save(&self.layout.pki(), name)?;
        self.start_kubelet(progress)
    }

    /// Ends the kubelet, as a crash would. Its pods go on; after 40 s the Node is not Ready.
    pub fn stop_kubelet(&self) {
        component::stop(&self.layout, "kubelet");
    }

    /// Starts the kubelet unless it runs with what it is given, and waits until it is well.
    pub fn start_kubelet(&self, progress: &Progress) -> Result<()> {
        self.steady(progress)
    }

    /// Adds a Node that no kubelet stands behind, with these addresses (type, address) and this kubelet port. No pod
    /// is scheduled to it. Take it away with [`Cluster::remove_node`].
    ///
    /// With the address of the real node and [`KUBELET_HTTP_PORT`] it is one whose port speaks HTTP; with a name
    /// under `.invalid` (RFC 6761) it is one that does not resolve.
    pub fn add_node(&self, name: &str, addresses: &[(&str, &str)], port: u16) -> Result<()> {
        let addresses: Vec<_> =
            addresses.iter().map(|(kind, address)| json!({"type": kind, "address": address})).collect();
        let node = json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name},
            "spec": {"unschedulable": true},
        });
        let status = json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name},
            "status": {"addresses": addresses, "daemonEndpoints": {"kubeletEndpoint": {"Port": port}}},
        });
        let client = self.client();
        let apply = ["apply", "--server-side", "--field-manager=e2e"];
        client.with_manifest(&apply, &node.to_string())?;
        let apply_status = [&apply[..], &["--subresource=status"]].concat();
        client.with_manifest(&apply_status, &status.to_string()).map(drop)
    }

    /// Takes away a Node that [`Cluster::add_node`] added.
    pub fn remove_node(&self, name: &str) -> Result<()> {
        self.client().delete(&["node", name, "--timeout=30s"]).map(drop)
    }

    /// Has the kernel drop what pods send to a port of the node, as a NetworkPolicy or a firewall does (the CNI
    /// plugin here enforces none): no answer comes, and connections that stand fall silent. Heal with
    /// [`Cluster::drop_nothing`].
    pub fn drop_from_pods(&self, port: u16) -> Result<()> {
        self.drop_nothing()?;
        let table = format!(
            "table ip {DROPS} {{\nchain from-pods {{\ntype filter hook input priority -200;\n\
             ip saddr {} tcp dport {port} drop;\n}}\n}}",
            self.node.pods
        );
        command::output(self.network.command("nft").arg(table)).map(drop)
    }

    /// Lets everything through again.
    pub fn drop_nothing(&self) -> Result<()> {
        // Adding what is there is no error, deleting what is not there would be one.
        let table = format!("add table ip {DROPS}; delete table ip {DROPS}");
        command::output(self.network.command("nft").arg(table)).map(drop)
    }
}

/// How long a kubelet remembers that somebody may ask for its metrics (`cacheAuthorizedTTL` of the cluster's
/// kubelets), and a little more. A right that is taken away shows after this.
pub const KUBELET_FORGETS: Duration = Duration::from_secs(12);
