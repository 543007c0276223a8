//! Faults of a kubelet and of the network to it: injected and repaired.

use std::net::IpAddr;
use std::time::Duration;

use serde_json::json;

use crate::command;
use crate::error::Result;
use crate::progress::Progress;
use crate::testbed::cluster::{Cluster, component};
use crate::testbed::pki::{self, Authority, Subject};

/// The port on which the kubelet serves HTTPS.
pub const KUBELET_PORT: u16 = 10250;
/// The port on which it serves the same metrics over HTTP without authentication (`readOnlyPort`).
pub const KUBELET_HTTP_PORT: u16 = 10255;

/// The nftables table that drops packets.
const DROPS: &str = "e2e-drops";

/// A serving certificate of a kubelet. Each has a key of its own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KubeletCertificate {
    /// Signed by the cluster's CA, with the Node's name and address.
    Proper,
    /// Signed by the cluster's CA, with the Node's name but no address.
    NameOnly,
    /// Self-signed, as a kubelet creates one by default (kubeadm).
    SelfSigned,
    /// Self-signed and expired.
    SelfSignedExpired,
    /// Signed by an unknown CA.
    UnknownAuthority,
    /// Signed by the cluster's CA and expired.
    Expired,
    /// Signed by the cluster's CA, without subject alternative names: the Node's name is only in the subject.
    WithoutNames,
    /// Signed by the cluster's CA, for another node.
    OtherNode,
}

impl Cluster {
    /// Restarts the kubelet with this serving certificate and waits until it is healthy. Pods keep running.
    /// [`Cluster::up`] does not revert this; repair it with [`KubeletCertificate::Proper`].
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
            Kind::UnknownAuthority => Authority::create("an unknown authority")?.issue(&proper)?,
        };
        identity.save(&self.layout.pki(), name)?;
        self.start_kubelet(progress)
    }

    /// Kills the kubelet, as a crash would. Its pods keep running; after 40 s the Node is not Ready.
    pub fn stop_kubelet(&self) {
        component::stop(&self.layout, "kubelet");
    }

    /// Starts the kubelet unless it is running with its current inputs, and waits until it is healthy.
    pub fn start_kubelet(&self, progress: &Progress) -> Result<()> {
        self.steady(progress)
    }

    /// Adds a Node without a kubelet, with these addresses (type, address) and this kubelet port. No pod is scheduled
    /// to it. [`Cluster::remove_node`] removes it.
    ///
    /// With the address of the real node and [`KUBELET_HTTP_PORT`], its kubelet speaks HTTP. With a name under
    /// `.invalid` (RFC 6761), its address does not resolve.
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

    /// Removes a Node that [`Cluster::add_node`] added.
    pub fn remove_node(&self, name: &str) -> Result<()> {
        self.client().delete(&["node", name, "--timeout=30s"]).map(drop)
    }

    /// Drops packets of pods to a port of the node in the kernel, as a NetworkPolicy or a firewall does (the CNI
    /// plugin here enforces none): no response arrives and open connections hang. Repair it with
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

    /// Removes all rules that drop packets.
    pub fn drop_nothing(&self) -> Result<()> {
        // Adding an existing table succeeds, deleting a missing one would fail.
        let table = format!("add table ip {DROPS}; delete table ip {DROPS}");
        command::output(self.network.command("nft").arg(table)).map(drop)
    }
}

/// The time for which a kubelet caches an authorization (`cacheAuthorizedTTL` of the cluster's kubelets), and a
/// margin. A removed permission takes effect after this time.
pub const KUBELET_FORGETS: Duration = Duration::from_secs(12);
