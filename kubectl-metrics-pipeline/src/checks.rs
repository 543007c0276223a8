//! What `doctor` reads beyond what `status` shows. Read-only, and each part on its own.

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::api::ListParams;
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Client};
use serde::Deserialize;

use crate::doctor::is_diagnosed;
use crate::snapshot::{FetchError, Fetched, Snapshot};
use crds::extension_apiserver_authentication::{CONFIG_MAP, NAMESPACE};
use operator::inspect::LEASE;
use operator::inspect::{FrontProxyMap, Unreadable};

/// How many kubelets are asked for their configuration; those of a cluster are mostly alike.
const SAMPLE: u32 = 5;

/// What was read.
#[derive(Debug)]
pub(crate) struct Checks {
    /// What `status` shows.
    pub(crate) snapshot: Snapshot,
    /// kube-apiserver's version.
    pub(crate) version: Fetched<Version>,
    /// How kube-apiserver is known to aggregated API servers.
    pub(crate) front_proxy: FrontProxyMap,
    /// The APIServices with all that tells whose they are.
    pub(crate) registrations: Fetched<Vec<DynamicObject>>,
    /// When the operator last renewed its Lease.
    pub(crate) lease: Fetched<Option<Timestamp>>,
    /// Some kubelets; none are asked where the operator's conditions tell of them.
    pub(crate) kubelets: Fetched<Vec<Kubelet>>,
    /// The time of the checks.
    pub(crate) now: Timestamp,
}

/// kube-apiserver's version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    /// Major and minor.
    pub(crate) number: (u32, u32),
    /// As it is written.
    pub(crate) text: String,
}

/// One kubelet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kubelet {
    /// Its Node's name.
    pub(crate) node: String,
    /// How it is configured.
    pub(crate) configuration: Fetched<KubeletConfiguration>,
}

/// The fields of KubeletConfiguration (kubelet.config.k8s.io/v1beta1) that decide whether it can be scraped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct KubeletConfiguration {
    /// Its serving certificate, when one is given.
    pub(crate) tls_cert_file: String,
    /// Whether it asks the cluster's CA for a serving certificate.
    #[serde(rename = "serverTLSBootstrap")]
    pub(crate) server_tls_bootstrap: bool,
    /// How it tells who asks.
    pub(crate) authentication: KubeletAuthentication,
}

/// How a kubelet tells who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct KubeletAuthentication {
    /// By kube-apiserver, for tokens.
    pub(crate) webhook: KubeletWebhook,
}

/// Whether tokens are taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct KubeletWebhook {
    /// Whether they are.
    pub(crate) enabled: Option<bool>,
}

#[derive(Deserialize)]
struct Configz {
    kubeletconfig: KubeletConfiguration,
}

impl Checks {
    /// Reads it all.
    pub(crate) async fn read(client: &Client, snapshot: Snapshot) -> Self {
        let (version, front_proxy, registrations, lease) = tokio::join!(
            version(client),
            front_proxy(client),
            registrations(client),
            lease(client, snapshot.namespace.as_deref()),
        );
        let now = Timestamp::now();
        // A kubelet that is in trouble keeps everybody waiting who asks it.
        let kubelets =
            if is_diagnosed(&snapshot, &lease, now) { Ok(Vec::new()) } else { kubelets(client).await };
        Self { snapshot, version, front_proxy, registrations, lease, kubelets, now }
    }
}

async fn version(client: &Client) -> Fetched<Version> {
    let info = client.apiserver_version().await?;
    // Providers append to the minor version, as in `33+`.
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

async fn registrations(client: &Client) -> Fetched<Vec<DynamicObject>> {
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

/// Asks kubelets through kube-apiserver (nodes/proxy), as from where the user is nothing else may reach them.
async fn kubelets(client: &Client) -> Fetched<Vec<Kubelet>> {
    let api: Api<Node> = Api::all(client.clone());
    let nodes = api.list_metadata(&ListParams::default().limit(SAMPLE)).await?;
    let names = nodes.items.into_iter().filter_map(|node| node.metadata.name);
    let asked = names.map(|node| async move {
        let configuration = configuration(client, &node).await;
        Kubelet { node, configuration }
    });
    Ok(futures::future::join_all(asked).await)
}

async fn configuration(client: &Client, node: &str) -> Fetched<KubeletConfiguration> {
    const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);
    let unread = |message: String| FetchError { not_found: false, message };
    let request = http::Request::get(format!("/api/v1/nodes/{node}/proxy/configz"))
        .body(Vec::new())
        .map_err(|error| unread(error.to_string()))?;
    match tokio::time::timeout(PATIENCE, client.request::<Configz>(request)).await {
        Ok(answer) => Ok(answer?.kubeletconfig),
        Err(_) => Err(unread(format!("no answer within {} s", PATIENCE.as_secs()))),
    }
}
