//! The objects that `status` shows. Each kind is read separately: an error is shown in place of the objects.

use crds::MetricsPipeline;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::api::ListParams;
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Client};
use operator::inspect::{METRICS_CORE, Pipeline, error_chain};

/// The maximum number of objects of one kind.
const LIMIT: u32 = 500;

/// The label selector of the operator's Deployment, as the chart sets the label.
const OPERATOR: &str = "app.kubernetes.io/name=metrics-pipeline-operator";

/// The result of a read.
pub(crate) type Fetched<T> = Result<T, FetchError>;

/// An error from a read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct FetchError {
    /// Whether kube-apiserver returned 404: for a list, the cluster does not have the kind.
    pub(crate) not_found: bool,
    /// The message of kube-apiserver, or the chain of errors.
    pub(crate) message: String,
}

impl From<kube::Error> for FetchError {
    fn from(error: kube::Error) -> Self {
        match &error {
            kube::Error::Api(status) => {
                // By the code: the response for an unknown API group has no reason.
                Self { not_found: status.code == 404, message: status.message.trim().to_owned() }
            }
            _ => Self { not_found: false, message: error_chain(&error) },
        }
    }
}

/// The objects that `status` shows.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// All MetricsPipelines.
    pub(crate) pipelines: Fetched<Vec<Pipeline>>,
    /// The operator's Deployments; normally one.
    pub(crate) operators: Fetched<Vec<Deployment>>,
    /// The pods of metrics-core.
    pub(crate) pods: Fetched<Vec<Pod>>,
    /// The APIServices of `metrics.k8s.io`.
    pub(crate) api_services: Fetched<Vec<APIService>>,
    /// The HorizontalPodAutoscalers that use resource metrics.
    pub(crate) autoscalers: Fetched<Vec<HorizontalPodAutoscaler>>,
    /// The operator's namespace; `None` if it is unknown.
    pub(crate) namespace: Option<String>,
}

impl Snapshot {
    /// Reads all objects. `namespace` is the operator's namespace, if the user sets it.
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
        let namespace = namespace.or_else(|| operator_namespace(&operators, [&v1beta1, &v1]));
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

/// Returns the namespace of the operator's Deployment, or else of the Service that the APIServices name.
fn operator_namespace(
    operators: &Fetched<Vec<Deployment>>,
    api_services: [&Result<Option<APIService>, kube::Error>; 2],
) -> Option<String> {
    let operator = operators.as_ref().ok().and_then(|list| list.first()?.metadata.namespace.clone());
    let service = || {
        api_services.into_iter().filter_map(|found| found.as_ref().ok()?.as_ref()).find_map(|api_service| {
            let service = api_service.spec.as_ref()?.service.as_ref()?;
            (service.name.as_deref() == Some(METRICS_CORE)).then(|| service.namespace.clone())?
        })
    };
    operator.or_else(service)
}

fn uses_resource_metrics(autoscaler: &HorizontalPodAutoscaler) -> bool {
    let metrics = autoscaler.spec.as_ref().and_then(|spec| spec.metrics.as_ref());
    metrics
        .into_iter()
        .flatten()
        .any(|metric| matches!(metric.type_.as_str(), "Resource" | "ContainerResource"))
}
