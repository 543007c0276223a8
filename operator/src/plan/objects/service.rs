//! What the APIServices point to.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{Context, Desired, selector};
use crate::common::ManagedObject;
use crate::common::names::PORT_NAME;

/// The port of the Service.
pub const PORT: i32 = 443;

/// A Service of one port. Its IP families are the cluster's own choice.
pub fn build(context: Context<'_>) -> Result<Desired, serde_json::Error> {
    let service = Service {
        metadata: context.metadata(ManagedObject::Service),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            selector: Some(selector()),
            ports: Some(vec![ServicePort {
                name: Some(PORT_NAME.to_owned()),
                // Named, so that a changed port and the pods of before it serve side by side.
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
    fn it_leads_from_443_to_the_named_port() {
        let body = with_context(|_| {}, |context| super::build(context).expect("built").body);
        assert_eq!(body["spec"]["ports"][0]["port"], 443);
        assert_eq!(body["spec"]["ports"][0]["targetPort"], "https");
        assert_eq!(body["spec"]["selector"]["app.kubernetes.io/name"], "metrics-core");
    }
}
