//! kube-apiserver as metrics-core sees it: the objects that make it a proxy for metrics-core, and its outages.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::Arc;

use rustix::process::Signal;
use rustls::ClientConfig;
use serde_json::{Value, json};

use super::phase::Outage;
use crate::bench::scale::env::BenchEnv;
use crate::command;
use crate::error::{Doing as _, Error, Result};
use crate::testbed::cluster::server;
use crate::testbed::http::Connection;

/// The address at which metrics-core reaches kube-apiserver: that of the Service `kubernetes`. All other clients use the
/// node's address, so that only metrics-core can be cut off.
const APISERVER: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
const NAMESPACE: &str = "kube-system";
const NAME: &str = "metrics-core";

/// Gives the node the address of the Service `kubernetes`, and prepares the firewall. Returns kube-apiserver's address
/// for metrics-core.
pub(super) fn prepare() -> Result<SocketAddr> {
    let url = server();
    let port = url.rsplit(':').next().and_then(|port| port.parse().ok());
    let port: u16 = port.ok_or_else(|| Error::Invalid(format!("{url} has no port")))?;
    let address = format!("{APISERVER}/32");
    command::output(Command::new("ip").args(["address", "add", &address, "dev", "node0"]))?;
    let rules = "add table inet hostile; add set inet hostile cut { type ipv4_addr; }; \
                 add chain inet hostile input { type filter hook input priority 0; }; \
                 add rule inet hostile input ip daddr @cut drop; \
                 add rule inet hostile input ip saddr @cut drop";
    command::output(Command::new("nft").arg(rules))?;
    Ok(SocketAddr::from((APISERVER, port)))
}

/// Lets kube-apiserver proxy `metrics.k8s.io/v1beta1` to `target`.
pub(super) async fn register(config: Arc<ClientConfig>, target: SocketAddr) -> Result<()> {
    let address = server().trim_start_matches("https://").parse();
    let address = address.map_err(|_| Error::Invalid(format!("{} is no address", server())))?;
    let metadata = json!({"name": NAME, "namespace": NAMESPACE});
    let objects: [(String, Value); 3] = [
        (
            format!("/api/v1/namespaces/{NAMESPACE}/services"),
            json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata,
                   "spec": {"ports": [{"name": "https", "port": 443, "targetPort": target.port()}]}}),
        ),
        (
            format!("/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices"),
            json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                   "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": {"kubernetes.io/service-name": NAME}},
                   "addressType": "IPv4",
                   "endpoints": [{"addresses": [target.ip()], "conditions": {"ready": true}}],
                   "ports": [{"name": "https", "port": target.port(), "protocol": "TCP"}]}),
        ),
        (
            "/apis/apiregistration.k8s.io/v1/apiservices".to_owned(),
            json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
                   "metadata": {"name": "v1beta1.metrics.k8s.io"},
                   "spec": {"group": "metrics.k8s.io", "version": "v1beta1", "groupPriorityMinimum": 100,
                            "versionPriority": 100, "service": metadata, "insecureSkipTLSVerify": true}}),
        ),
    ];
    for (path, object) in objects {
        let mut http = Connection::tls(address, config.clone()).await?;
        let response = http.post(&path, object.to_string()).await?;
        if response.status != 201 {
            return Err(Error::Invalid(format!("POST {path}: {} {}", response.status, response.text())));
        }
    }
    Ok(())
}

/// Begins an outage.
pub(super) fn begin(outage: Outage, env: &mut BenchEnv) -> Result<()> {
    match outage {
        Outage::Frozen => env.apiserver().signal(Signal::STOP),
        Outage::Killed => {
            env.apiserver().kill();
            Ok(())
        }
        Outage::CutOff => cut(&format!("add element inet hostile cut {{ {APISERVER} }}")),
    }
}

/// Ends an outage.
pub(super) fn end(outage: Outage, env: &mut BenchEnv) -> Result<()> {
    match outage {
        Outage::Frozen => env.apiserver().signal(Signal::CONT),
        Outage::Killed => env.restart_apiserver(),
        Outage::CutOff => cut("flush set inet hostile cut"),
    }
}

fn cut(rule: &str) -> Result<()> {
    command::output(Command::new("nft").arg(rule)).map(drop)
}

/// Returns the address at which kube-apiserver reaches metrics-core, which must not be a loopback address.
pub(super) fn node_address() -> Result<IpAddr> {
    let url = server();
    let address = url.trim_start_matches("https://").parse::<SocketAddr>();
    address.map(|address| address.ip()).map_err(std::io::Error::other).doing(|| format!("parse {url}"))
}
