//! The APIServices: registrations with the aggregation layer.

use k8s_openapi::ByteString;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::{
    APIService, APIServiceSpec, ServiceReference,
};

use super::service::PORT;
use super::{Context, Desired};
use crate::common::ManagedObject;

const GROUP: &str = "metrics.k8s.io";

/// Builds the APIService of one version. `was_insecure` is whether the existing object skips the verification of the
/// certificate. Only then the field is set: a field of another manager can't be removed otherwise, and kube-apiserver
/// admits no caBundle beside it.
pub(crate) fn build(
    context: Context<'_>,
    object: ManagedObject,
    bundle: &str,
    was_insecure: bool,
) -> Result<Desired, serde_json::Error> {
    let (version, version_priority) = match object {
        ManagedObject::ApiServiceV1 => ("v1", 200),
        _ => ("v1beta1", 100),
    };
    let api_service = APIService {
        metadata: context.metadata(object),
        spec: Some(APIServiceSpec {
            group: Some(GROUP.to_owned()),
            version: Some(version.to_owned()),
            group_priority_minimum: 100,
            version_priority,
            service: Some(ServiceReference {
                name: Some(ManagedObject::Service.name().to_owned()),
                namespace: Some(context.settings.namespace.clone()),
                port: Some(PORT),
            }),
            ca_bundle: Some(ByteString(bundle.as_bytes().to_vec())),
            insecure_skip_tls_verify: was_insecure.then_some(false),
        }),
        ..APIService::default()
    };
    Desired::new(object, &api_service)
}

#[cfg(test)]
mod tests {
    use super::super::tests::with_context;
    use crate::common::ManagedObject;

    #[test]
    fn always_verifies_the_certificate() {
        let build = |object, was_insecure| {
            with_context(
                |_| {},
                |context| super::build(context, object, "PEM", was_insecure).expect("built").body,
            )
        };
        let v1beta1 = build(ManagedObject::ApiServiceV1beta1, false);
        assert_eq!(v1beta1["spec"]["caBundle"], "UEVN");
        assert_eq!(v1beta1["spec"].get("insecureSkipTLSVerify"), None);
        assert_eq!(v1beta1["spec"]["version"], "v1beta1");
        assert_eq!(build(ManagedObject::ApiServiceV1, true)["spec"]["insecureSkipTLSVerify"], false);
    }

    #[test]
    fn name_is_version_and_group() {
        for object in ManagedObject::API_SERVICES {
            let body = with_context(
                |_| {},
                |context| super::build(context, object, "PEM", false).expect("built").body,
            );
            let spec = &body["spec"];
            let name = format!(
                "{}.{}",
                spec["version"].as_str().expect("text"),
                spec["group"].as_str().expect("text")
            );
            assert_eq!(object.name(), name);
        }
    }
}
