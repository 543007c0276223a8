//! kube-apiserver's flags for the front proxy, in the formats of the operator's ConfigMap.

use crds::{FrontProxyMode, FrontProxySpec};
use operator::inspect::{front_proxy_flags, select_active};

use crate::arguments::FlagsForm;
use crate::snapshot::Snapshot;

/// The operator's namespace if it is unknown: the one in the installation commands of the docs.
const DEFAULT_NAMESPACE: &str = "metrics-pipeline";

/// Returns the flags in one format, and a note while the operator issues no certificate for them.
pub(crate) fn flags(snapshot: &Snapshot, form: FlagsForm) -> (String, Option<String>) {
    let pipelines = snapshot.pipelines.as_deref().unwrap_or_default();
    let active = select_active(pipelines).active;
    let spec = active.and_then(|pipeline| pipeline.spec.as_ref().ok());
    let spec = spec.map_or_else(FrontProxySpec::default, |spec| spec.certificates.front_proxy.clone());
    let flags = front_proxy_flags(&spec, snapshot.namespace.as_deref().unwrap_or(DEFAULT_NAMESPACE));
    let text = match form {
        FlagsForm::Steps => flags.steps(),
        FlagsForm::Lines => flags.lines(),
        FlagsForm::Json => flags.json(),
        FlagsForm::Kubeadm => flags.kubeadm(),
        FlagsForm::Systemd => flags.systemd(),
    };
    let note = (spec.mode == FrontProxyMode::Off).then(|| {
        let name = active.map_or("NAME", |pipeline| pipeline.name.as_str());
        format!(
            "the operator issues no certificate for these flags yet. If the cluster already has a front-proxy certificate (kubeadm, \
             managed clusters), keep it. Otherwise run `helm upgrade` with `--set frontProxy.enabled=true`, then `kubectl patch mpl \
             {name} --type merge -p '{{\"spec\":{{\"certificates\":{{\"frontProxy\":{{\"mode\":\"Issue\"}}}}}}}}'`"
        )
    });
    (text, note)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::FetchError;

    #[test]
    fn prints_defaults_and_a_note_without_a_pipeline() {
        let not_found = || FetchError { not_found: true, message: String::new() };
        let snapshot = Snapshot {
            pipelines: Err(not_found()),
            operators: Err(not_found()),
            pods: Err(not_found()),
            api_services: Err(not_found()),
            autoscalers: Err(not_found()),
            namespace: None,
        };
        let (text, note) = flags(&snapshot, FlagsForm::Lines);
        assert_eq!(text.lines().count(), 7);
        assert!(text.contains("--requestheader-allowed-names=aggregator\n"), "{text}");
        assert!(note.is_some_and(|note| note.contains("frontProxy.enabled=true")));
    }
}
