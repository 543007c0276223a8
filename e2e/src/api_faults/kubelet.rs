//! A stand-in for the scheduler and the kubelets: it binds pods, marks them Ready, applies resizes and removes them.
//! kube-controller-manager is the real one.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::api::Api;
use super::replica::{Replica, Serving};
use super::{NAMESPACES, NODE};
use crate::error::Result;

const INTERVAL: Duration = Duration::from_millis(80);

/// How long a pod continues to serve after its deletion, as metrics-core does while it terminates.
const TERMINATION: Duration = Duration::from_millis(300);

/// A pod that this kubelet runs.
struct Running {
    /// Its server and address, once it runs.
    replica: Option<(Replica, IpAddr)>,
    ending: Option<Instant>,
}

/// The kubelet of the cluster's one node.
pub(super) struct Kubelet {
    api: Arc<Api>,
    serving: BTreeMap<String, Serving>,
    running: BTreeMap<String, Running>,
    addresses: u32,
    /// The last error, for reports of failed runs.
    error: Arc<Mutex<String>>,
}

impl Kubelet {
    /// Starts the kubelet; returns a place for its last error.
    pub(super) fn start(api: Arc<Api>) -> Arc<Mutex<String>> {
        let error: Arc<Mutex<String>> = Arc::default();
        let serving = NAMESPACES.map(|name| (name.to_owned(), Serving::default())).into();
        let mut kubelet = Self { api, serving, running: BTreeMap::new(), addresses: 0, error: error.clone() };
        tokio::spawn(async move {
            loop {
                if let Err(error) = kubelet.sync().await {
                    *kubelet.error.lock() = error.to_string();
                }
                tokio::time::sleep(INTERVAL).await;
            }
        });
        error
    }

    async fn sync(&mut self) -> Result<()> {
        let pods = self.api.list("/api/v1/pods?resourceVersion=0").await?;
        if !pods.is_empty() {
            self.read_certificates().await?;
        }
        let uid = |pod: &Value| pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
        self.running.retain(|known, _| pods.iter().any(|pod| uid(pod) == *known));
        for pod in &pods {
            self.sync_pod(&uid(pod), pod).await?;
        }
        Ok(())
    }

    async fn read_certificates(&self) -> Result<()> {
        for (namespace, serving) in &self.serving {
            let path = format!("/api/v1/namespaces/{namespace}/secrets/metrics-core-serving");
            let Some(secret) = self.api.get(&path).await? else { continue };
            let text = |key: &str| {
                let bytes = BASE64_STANDARD.decode(secret["data"][key].as_str()?).ok()?;
                String::from_utf8(bytes).ok()
            };
            if let (Some(certificate), Some(key)) = (text("tls.crt"), text("tls.key")) {
                serving.set(&certificate, &key)?;
            }
        }
        Ok(())
    }

    async fn sync_pod(&mut self, uid: &str, pod: &Value) -> Result<()> {
        let (metadata, spec, status) = (&pod["metadata"], &pod["spec"], &pod["status"]);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (namespace, name) = (text(&metadata["namespace"]), text(&metadata["name"]));
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
        let known = self.running.entry(uid.to_owned()).or_insert(Running { replica: None, ending: None });
        if !metadata["deletionTimestamp"].is_null() {
            let since = *known.ending.get_or_insert_with(Instant::now);
            if since.elapsed() >= TERMINATION {
                known.replica = None;
                let now = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": uid}});
                self.api.delete(&path, &now).await?;
            }
        } else if spec["nodeName"].is_null() {
            let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name},
                "target": {"apiVersion": "v1", "kind": "Node", "name": NODE}});
            self.api.create(&format!("{path}/binding"), &binding).await?;
        } else if status["phase"] != "Running" {
            let Some(serving) = self.serving.get(&namespace).filter(|serving| serving.is_set()) else {
                return Ok(());
            };
            let port = spec["containers"][0]["ports"][0]["containerPort"].as_u64().unwrap_or_default();
            let address = if let Some((_, address)) = known.replica {
                address
            } else {
                self.addresses += 1;
                let address = address(self.addresses);
                let replica =
                    Replica::start(address, u16::try_from(port).unwrap_or_default(), serving).await?;
                known.replica = Some((replica, address));
                address
            };
            let status = running(pod, address);
            self.api.merge(&format!("{path}/status"), &json!({"status": status})).await?;
        } else if status["containerStatuses"][0]["resources"] != spec["containers"][0]["resources"] {
            let mut containers = status["containerStatuses"].clone();
            containers[0]["resources"] = spec["containers"][0]["resources"].clone();
            containers[0]["allocatedResources"] = spec["containers"][0]["resources"]["requests"].clone();
            let status =
                json!({"containerStatuses": containers, "observedGeneration": metadata["generation"]});
            self.api.merge(&format!("{path}/status"), &json!({"status": status})).await?;
        }
        Ok(())
    }
}

/// Returns an address that no other pod has had. All of 10.98.0.0/16 is local.
fn address(number: u32) -> IpAddr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 98, 0, 0)) + number % 65_000).into()
}

/// Returns the status of a pod whose containers run.
fn running(pod: &Value, address: IpAddr) -> Value {
    let now = format!("{:.0}", jiff::Timestamp::now());
    let generation = &pod["metadata"]["generation"];
    let condition = |name: &str| json!({"type": name, "status": "True", "lastTransitionTime": now, "observedGeneration": generation});
    let conditions = ["PodScheduled", "Initialized", "ContainersReady", "Ready"].map(condition);
    let container = |container: &Value| {
        json!({
            "name": container["name"], "image": container["image"], "imageID": container["image"],
            "containerID": format!("stand-in://{address}"), "ready": true, "started": true, "restartCount": 0,
            "state": {"running": {"startedAt": now}}, "resources": container["resources"],
            "allocatedResources": container["resources"]["requests"],
        })
    };
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten().map(container);
    json!({
        "phase": "Running", "startTime": now, "hostIP": "10.99.0.1", "podIP": address,
        "podIPs": [{"ip": address}], "observedGeneration": generation,
        "conditions": conditions,
        "containerStatuses": containers.collect::<Vec<_>>(),
    })
}
