//! kube-apiserver's flags for the front proxy, as the operator writes them into its ConfigMap.

use crds::{FrontProxyMode, FrontProxySpec};

use crate::arguments::FlagsForm;
use crate::snapshot::Snapshot;
use operator::inspect::front_proxy_flags;
use operator::inspect::serving;

/// Where the operator is installed when nothing tells: the chart's README says so.
const NAMESPACE: &str = "metrics-pipeline";

/// The flags in one form, and what to know beside them.
#[must_use]
pub(crate) fn flags(snapshot: &Snapshot, form: FlagsForm) -> (String, Option<String>) {
    let pipelines = snapshot.pipelines.as_deref().unwrap_or_default();
    let served = serving(pipelines).served;
    let spec = served.and_then(|pipeline| pipeline.spec.as_ref().ok());
    let spec = spec.map_or_else(FrontProxySpec::default, |spec| spec.certificates.front_proxy.clone());
    let flags = front_proxy_flags(&spec, snapshot.namespace.as_deref().unwrap_or(NAMESPACE));
    let text = match form {
        FlagsForm::Steps => flags.steps(),
        FlagsForm::Lines => flags.lines(),
        FlagsForm::Json => flags.json(),
        FlagsForm::Kubeadm => flags.kubeadm(),
        FlagsForm::Systemd => flags.systemd(),
    };
    let remark = (spec.mode == FrontProxyMode::Off).then(|| {
        let name = served.map_or("NAME", |pipeline| pipeline.name.as_str());
        format!(
            "no certificate is issued for these flags yet. Where the cluster has one already (kubeadm, managed clusters), leave \
             it alone. Else: `helm upgrade` with `--set frontProxy.enabled=true`, and `kubectl patch mpl {name} --type merge -p \
             '{{\"spec\":{{\"certificates\":{{\"frontProxy\":{{\"mode\":\"Issue\"}}}}}}}}'`"
        )
    });
    (text, remark)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::FetchError;

    #[test]
    fn without_a_cluster_that_has_any_the_defaults_are_shown_with_a_remark() {
        let unread = || FetchError { not_found: true, message: String::new() };
        let snapshot = Snapshot {
            pipelines: Err(unread()),
            operators: Err(unread()),
            pods: Err(unread()),
            api_services: Err(unread()),
            autoscalers: Err(unread()),
            namespace: None,
        };
        let (text, remark) = flags(&snapshot, FlagsForm::Lines);
        assert_eq!(text.lines().count(), 7);
        assert!(text.contains("--requestheader-allowed-names=aggregator\n"), "{text}");
        assert!(remark.is_some_and(|remark| remark.contains("frontProxy.enabled=true")));
    }
}
