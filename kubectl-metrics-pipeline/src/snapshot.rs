//! What the plugin reads of a cluster. Each part is read on its own: what can't be read is shown as that.

use std::fmt;

use crds::MetricsPipeline;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::api::ListParams;
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Client};

use operator::inspect::METRICS_CORE;
use operator::inspect::Pipeline;
use operator::inspect::error_chain;

/// How many objects of one kind are read.
const LIMIT: u32 = 500;

/// The label of the operator's own Deployment, as the chart sets it.
const OPERATOR: &str = "app.kubernetes.io/name=metrics-pipeline-operator";

/// A part that was read, or why not.
pub(crate) type Fetched<T> = Result<T, FetchError>;

/// Why a part could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FetchError {
    /// Whether the kind is unknown to the cluster.
    pub(crate) not_found: bool,
    /// In words.
    pub(crate) message: String,
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<kube::Error> for FetchError {
    fn from(error: kube::Error) -> Self {
        match &error {
            kube::Error::Api(status) => {
                // kube-apiserver's answer for a group that it does not know has no reason.
                Self { not_found: status.code == 404, message: status.message.trim().to_owned() }
            }
            _ => Self { not_found: false, message: error_chain(&error) },
        }
    }
}

/// What was read.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// The MetricsPipelines.
    pub(crate) pipelines: Fetched<Vec<Pipeline>>,
    /// The operator's Deployments; one is expected.
    pub(crate) operators: Fetched<Vec<Deployment>>,
    /// The pods of metrics-core.
    pub(crate) pods: Fetched<Vec<Pod>>,
    /// The APIServices of `metrics.k8s.io`.
    pub(crate) api_services: Fetched<Vec<APIService>>,
    /// HorizontalPodAutoscalers that use resource metrics.
    pub(crate) autoscalers: Fetched<Vec<HorizontalPodAutoscaler>>,
    /// The operator's namespace, if it was found.
    pub(crate) namespace: Option<String>,
}

impl Snapshot {
    /// Reads it all. `namespace` is where the operator is, when the user says so.
    pub(crate) async fn read(client: &Client, namespace: Option<String>) -> Self {
        let everything = ListParams::default().limit(LIMIT);
        let of_operator = everything.clone().labels(OPERATOR);
        let of_core = everything.clone().labels(&format!("app.kubernetes.io/name={METRICS_CORE}"));
        let resource = ApiResource::erase::<MetricsPipeline>(&());
        let pipelines: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
        let deployments: Api<Deployment> = match &namespace {
            Some(namespace) => Api::namespaced(client.clone(), namespace),
            None => Api::all(client.clone()),
        };
        let api_services: Api<APIService> = Api::all(client.clone());
        let autoscalers: Api<HorizontalPodAutoscaler> = Api::all(client.clone());
        let (pipelines, operators, v1beta1, v1, autoscalers) = tokio::join!(
            pipelines.list(&everything),
            deployments.list(&of_operator),
            api_services.get_opt("v1beta1.metrics.k8s.io"),
            api_services.get_opt("v1.metrics.k8s.io"),
            autoscalers.list(&everything),
        );
        let operators = operators.map(|list| list.items).map_err(FetchError::from);
        let namespace = namespace.or_else(|| found_namespace(&operators, [&v1beta1, &v1]));
        let pods = match &namespace {
            Some(namespace) => {
                let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
                pods.list(&of_core).await.map(|list| list.items)
            }
            None => Ok(Vec::new()),
        };
        Self {
            pipelines: pipelines
                .map(|list| list.items.into_iter().map(Pipeline::read).collect())
                .map_err(FetchError::from),
            operators,
            pods: pods.map_err(FetchError::from),
            api_services: v1beta1
                .and_then(|v1beta1| Ok(v1beta1.into_iter().chain(v1?).collect()))
                .map_err(FetchError::from),
            autoscalers: autoscalers
                .map(|list| list.items.into_iter().filter(uses_resource_metrics).collect())
                .map_err(FetchError::from),
            namespace,
        }
    }
}

/// Where the operator is: where its Deployment stands, or else where the APIServices point to.
fn found_namespace(
    operators: &Fetched<Vec<Deployment>>,
    api_services: [&Result<Option<APIService>, kube::Error>; 2],
) -> Option<String> {
    let operator = operators.as_ref().ok().and_then(|list| list.first()?.metadata.namespace.clone());
    let pointed = || {
        api_services.into_iter().filter_map(|found| found.as_ref().ok()?.as_ref()).find_map(|api_service| {
            let service = api_service.spec.as_ref()?.service.as_ref()?;
            (service.name.as_deref() == Some(METRICS_CORE)).then(|| service.namespace.clone())?
        })
    };
    operator.or_else(pointed)
}

fn uses_resource_metrics(autoscaler: &HorizontalPodAutoscaler) -> bool {
    let metrics = autoscaler.spec.as_ref().and_then(|spec| spec.metrics.as_ref());
    metrics
        .into_iter()
        .flatten()
        .any(|metric| matches!(metric.type_.as_str(), "Resource" | "ContainerResource"))
}
