//! The Service that the APIServices reference.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{Context, Desired, selector};
use crate::common::ManagedObject;
use crate::common::names::PORT_NAME;

/// The port of the Service.
pub(crate) const PORT: i32 = 443;

/// Builds a Service with one port. The cluster selects its IP families.
pub(crate) fn build(context: Context<'_>) -> Result<Desired, serde_json::Error> {
    let service = Service {
        metadata: context.metadata(ManagedObject::Service),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            selector: Some(selector()),
            ports: Some(vec![ServicePort {
                name: Some(PORT_NAME.to_owned()),
                // By name, so that pods with the previous port still receive requests during a rollout.
                target_port: Some(IntOrString::String(PORT_NAME.to_owned())),
                port: PORT,
                protocol: Some("TCP".to_owned()),
                app_protocol: Some("https".to_owned()),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    };
    Desired::new(ManagedObject::Service, &service)
}

#[cfg(test)]
mod tests {
    use super::super::tests::with_context;

    #[test]
    fn forwards_443_to_the_named_port() {
        let body = with_context(|_| {}, |context| super::build(context).expect("built").body);
        assert_eq!(body["spec"]["ports"][0]["port"], 443);
        assert_eq!(body["spec"]["ports"][0]["targetPort"], "https");
        assert_eq!(body["spec"]["selector"]["app.kubernetes.io/name"], "metrics-core");
    }
}
