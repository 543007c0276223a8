//! The data that the checks of `doctor` need in addition to the snapshot. Each part is read separately.

use crds::extension_apiserver_authentication::{CONFIG_MAP, NAMESPACE};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node};
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::api::ListParams;
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Client};
use operator::inspect::{FrontProxyMap, LEASE, Pipeline, Unreadable, select_active};
use serde::Deserialize;

use crate::leftovers::Leftovers;
use crate::snapshot::{FetchError, Fetched, Snapshot};

/// The number of kubelets whose configuration is read; those of a cluster are usually alike.
pub(crate) const SAMPLE: u32 = 5;

/// The age from which the operator's Lease is stale. The operator renews it every 5 s, and it expires after 15 s.
pub(crate) const STALE: SignedDuration = SignedDuration::from_secs(60);

/// The label of a namespace with the Pod Security level that kube-apiserver enforces there.
pub(crate) const ENFORCE: &str = "pod-security.kubernetes.io/enforce";

/// The timeout for the configuration of one kubelet.
const KUBELET_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);

/// The input of the checks.
#[derive(Debug)]
pub(crate) struct Checks {
    /// The objects that `status` shows.
    pub(crate) snapshot: Snapshot,
    /// kube-apiserver's version.
    pub(crate) version: Fetched<Version>,
    /// The configuration that kube-apiserver publishes for aggregated API servers.
    pub(crate) front_proxy: FrontProxyMap,
    /// The APIServices of `metrics.k8s.io` with their complete metadata, which shows who manages them.
    pub(crate) api_services: Fetched<Vec<DynamicObject>>,
    /// The last renewal of the operator's Lease; `None` if there is no Lease.
    pub(crate) lease: Fetched<Option<Timestamp>>,
    /// The Pod Security level that the operator's namespace enforces; `None` if it enforces none or is unknown.
    pub(crate) pod_security: Fetched<Option<String>>,
    /// A sample of the kubelets; empty if the operator diagnoses the pipeline.
    pub(crate) kubelets: Fetched<Vec<Kubelet>>,
    /// What remains of an operator; empty if one is installed.
    pub(crate) leftovers: Fetched<Leftovers>,
    /// The time of the checks.
    pub(crate) now: Timestamp,
}

/// kube-apiserver's version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    /// Major and minor version.
    pub(crate) number: (u32, u32),
    /// The complete version, such as `v1.36.3`.
    pub(crate) text: String,
}

/// A kubelet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kubelet {
    /// The name of its Node.
    pub(crate) node: String,
    /// Its configuration.
    pub(crate) configuration: Fetched<KubeletConfiguration>,
}

/// The fields of `KubeletConfiguration` (kubelet.config.k8s.io/v1beta1) that decide whether metrics-core can scrape a
/// kubelet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct KubeletConfiguration {
    /// The file of the serving certificate; empty if none is configured.
    pub(crate) tls_cert_file: String,
    /// Whether the kubelet requests its serving certificate from the cluster.
    #[serde(rename = "serverTLSBootstrap")]
    pub(crate) server_tls_bootstrap: bool,
    /// The authentication of clients.
    pub(crate) authentication: KubeletAuthentication,
}

/// The authentication of the kubelet's clients.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct KubeletAuthentication {
    /// Authentication by bearer token.
    pub(crate) webhook: KubeletWebhook,
}

/// Authentication by bearer token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct KubeletWebhook {
    /// Whether it is enabled.
    pub(crate) enabled: Option<bool>,
}

#[derive(Deserialize)]
struct Configz {
    kubeletconfig: KubeletConfiguration,
}

impl Checks {
    /// Reads all data.
    pub(crate) async fn read(client: &Client, snapshot: Snapshot) -> Self {
        let namespace = snapshot.namespace.as_deref();
        let (version, front_proxy, api_services, lease, pod_security) = tokio::join!(
            version(client),
            front_proxy(client),
            api_services(client),
            lease(client, namespace),
            pod_security(client, namespace),
        );
        let mut checks = Self {
            snapshot,
            version,
            front_proxy,
            api_services,
            lease,
            pod_security,
            kubelets: Ok(Vec::new()),
            leftovers: Ok(Leftovers::default()),
            now: Timestamp::now(),
        };
        if !checks.is_installed() {
            checks.leftovers = Leftovers::read(client, &checks.api_services).await;
        }
        // A kubelet that does not respond delays the command until the timeout.
        if checks.diagnosed().is_none() {
            checks.kubelets = kubelets_sample(client).await;
        }
        checks
    }

    /// Whether the operator's Deployment exists.
    pub(crate) fn is_installed(&self) -> bool {
        self.snapshot.operators.as_ref().is_ok_and(|found| !found.is_empty())
    }

    /// Whether an operator holds the Lease.
    pub(crate) fn is_lease_current(&self) -> bool {
        let renewed = self.lease.as_ref().ok().copied().flatten();
        renewed.is_some_and(|renewed| self.now.duration_since(renewed) < STALE)
    }

    /// Returns the active MetricsPipeline unless it is being deleted.
    pub(crate) fn active(&self) -> Option<&Pipeline> {
        let pipelines = self.snapshot.pipelines.as_deref().unwrap_or_default();
        select_active(pipelines).active.filter(|active| !active.deleting)
    }

    /// Returns the active MetricsPipeline if a running operator keeps its conditions up to date.
    pub(crate) fn diagnosed(&self) -> Option<&Pipeline> {
        self.active().filter(|_| self.is_installed() && self.is_lease_current())
    }
}

async fn version(client: &Client) -> Fetched<Version> {
    let info = client.apiserver_version().await?;
    // Some providers append a suffix to the minor version, as in `33+`.
    let number = |text: &str| text.trim_end_matches(|c: char| !c.is_ascii_digit()).parse().unwrap_or(0);
    Ok(Version { number: (number(&info.major), number(&info.minor)), text: info.git_version })
}

async fn front_proxy(client: &Client) -> FrontProxyMap {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    match api.get_opt(CONFIG_MAP).await {
        Ok(Some(map)) => FrontProxyMap::Found(map.data.unwrap_or_default()),
        Ok(None) => FrontProxyMap::Absent,
        Err(error) => {
            let forbidden = matches!(&error, kube::Error::Api(status) if status.is_forbidden());
            FrontProxyMap::Unreadable(Unreadable { forbidden, message: FetchError::from(error).message })
        }
    }
}

async fn api_services(client: &Client) -> Fetched<Vec<DynamicObject>> {
    let resource = ApiResource::erase::<APIService>(&());
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    let (v1beta1, v1) = tokio::join!(api.get_opt("v1beta1.metrics.k8s.io"), api.get_opt("v1.metrics.k8s.io"));
    Ok(v1beta1?.into_iter().chain(v1?).collect())
}

async fn lease(client: &Client, namespace: Option<&str>) -> Fetched<Option<Timestamp>> {
    let Some(namespace) = namespace else { return Ok(None) };
    let api: Api<Lease> = Api::namespaced(client.clone(), namespace);
    let lease = api.get_opt(LEASE).await?;
    Ok(lease.and_then(|lease| Some(lease.spec?.renew_time?.0)))
}

async fn pod_security(client: &Client, namespace: Option<&str>) -> Fetched<Option<String>> {
    let Some(namespace) = namespace else { return Ok(None) };
    let api: Api<Namespace> = Api::all(client.clone());
    let found = api.get_metadata_opt(namespace).await?;
    Ok(found.and_then(|found| found.metadata.labels?.remove(ENFORCE)))
}

/// Reads the configuration of some kubelets through kube-apiserver (nodes/proxy): users often cannot reach nodes directly.
async fn kubelets_sample(client: &Client) -> Fetched<Vec<Kubelet>> {
    let api: Api<Node> = Api::all(client.clone());
    let nodes = api.list_metadata(&ListParams::default().limit(SAMPLE)).await?;
    let names = nodes.items.into_iter().filter_map(|node| node.metadata.name);
    let kubelets = names.map(|node| async move {
        let configuration = kubelet_configuration(client, &node).await;
        Kubelet { node, configuration }
    });
    Ok(futures::future::join_all(kubelets).await)
}

async fn kubelet_configuration(client: &Client, node: &str) -> Fetched<KubeletConfiguration> {
    let failed = |message: String| FetchError { not_found: false, message };
    let request = http::Request::get(format!("/api/v1/nodes/{node}/proxy/configz"))
        .body(Vec::new())
        .map_err(|error| failed(error.to_string()))?;
    match tokio::time::timeout(KUBELET_TIMEOUT, client.request::<Configz>(request)).await {
        Ok(response) => Ok(response?.kubeletconfig),
        Err(_) => Err(failed(format!("timeout after {} s", KUBELET_TIMEOUT.as_secs()))),
    }
}
