//! The exact output of the kubectl plugin: for a cluster without a pipeline, for a healthy pipeline, and for a broken
//! one.

use std::fmt::Write as _;
use std::sync::Arc;

use e2e::faults::{self, FRONT_PROXY, FaultEnv};
use e2e::suite::{Group, Needs, Suite, TestEnv, failed};
use e2e::testbed::plugin::PluginOutput;
use e2e::{Plugin, Result, check, wait};
use serde_json::Value;

/// The timeout of a fault.
const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(60);

/// The status of a healthy pipeline. A line that ends with … is a prefix.
const HEALTHY: &str = "
ok MetricsPipeline cluster: 1 of 1 nodes have metrics
  ok operator: Deployment metrics-pipeline/metrics-pipeline-operator, 1 of 1 replicas are ready
  ok kubelets
    ok KubeletsReachable: The kubelets respond to metrics-core.
    ok NodesCovered: 1 of 1 nodes have metrics.
  ok metrics-core
    ok CertificatesReady: The serving certificate is valid until TIME and is renewed at TIME. The CA is valid until TIME and is renewed at TIME.
    ok AccessReady: The ServiceAccount of metrics-core is bound to every role that it needs.
    ok DeploymentAvailable: 1 of 1 replicas are ready.
    ok Sized: metrics-core has …
    ok pod metrics-core-POD: Ready on node-1, 0 restarts
  ok kube-apiserver
    ok AggregationLayerReady: metrics-core accepts kube-apiserver as the front proxy and authenticates users through it.
    ok APIServiceAvailable: kube-apiserver reaches metrics-core through APIServices v1beta1.metrics.k8s.io and v1.metrics.k8s.io.
    ok APIServices
      ok v1beta1.metrics.k8s.io: Available, Service metrics-pipeline/metrics-core
      ok v1.metrics.k8s.io: Available, Service metrics-pipeline/metrics-core
  ok Metrics API
    ok MetricsServed: 1 of 1 nodes have metrics.
  ok HorizontalPodAutoscalers: None use resource metrics
";

const HEALTHY_DOCTOR: &str = "
ok doctor: 13 checks, no findings
  ok Kubernetes: v1.36.3
  ok operator: Deployment metrics-pipeline/metrics-pipeline-operator, 1 of 1 replicas are ready
  ok Pod Security: Namespace metrics-pipeline enforces no level. The operator and metrics-core meet the level restricted. To enforce it: `kubectl label namespace metrics-pipeline pod-security.kubernetes.io/enforce=restricted --overwrite`
  ok CertificatesReady: The serving certificate is valid until TIME and is renewed at TIME. The CA is valid until TIME and is renewed at TIME.
  ok AccessReady: The ServiceAccount of metrics-core is bound to every role that it needs.
  ok DeploymentAvailable: 1 of 1 replicas are ready.
  ok Sized: metrics-core has …
  ok AggregationLayerReady: metrics-core accepts kube-apiserver as the front proxy and authenticates users through it.
  ok APIServiceAvailable: kube-apiserver reaches metrics-core through APIServices v1beta1.metrics.k8s.io and v1.metrics.k8s.io.
  ok KubeletsReachable: The kubelets respond to metrics-core.
  ok NodesCovered: 1 of 1 nodes have metrics.
  ok MetricsServed: 1 of 1 nodes have metrics.
  ok HorizontalPodAutoscalers: None use resource metrics
";

/// The status of a pipeline whose kube-apiserver has several flags merged into one argument.
const MALFORMED_FLAGS: &str = "
error MetricsPipeline cluster: 1 of 1 nodes have metrics
  ok operator: Deployment metrics-pipeline/metrics-pipeline-operator, 1 of 1 replicas are ready
  ok kubelets
    ok KubeletsReachable: The kubelets respond to metrics-core.
    ok NodesCovered: 1 of 1 nodes have metrics.
  ok metrics-core
    ok CertificatesReady: The serving certificate is valid until TIME and is renewed at TIME. The CA is valid until TIME and is renewed at TIME.
    ok AccessReady: The ServiceAccount of metrics-core is bound to every role that it needs.
    ok DeploymentAvailable: 1 of 1 replicas are ready.
    ok Sized: metrics-core has …
    ok pod metrics-core-POD: Ready on node-1, 0 restarts
  error kube-apiserver
    error AggregationLayerReady: RequestHeaderFlagsMalformed: kube-apiserver received several flags as one argument, so the value of \
--requestheader-extra-headers-prefix contains the flags after it: metrics-core cannot identify users. \
requestheader-extra-headers-prefix in ConfigMap kube-system/extension-apiserver-authentication is \"X-Remote-Extra- \
--requestheader-group-headers=X-Remote-Group --requestheader-username-headers=X-Remote-User\". Empty: \
requestheader-username-headers, requestheader-group-headers, requestheader-allowed-names. In kube-apiserver's systemd unit or \
manifest, write each flag as a separate argument without quotes inside the value (`kubectl metrics-pipeline flags` prints the \
correct flags), and restart kube-apiserver. Then run `kubectl delete configmap extension-apiserver-authentication --namespace \
kube-system`: kube-apiserver only adds to the ConfigMap, and recreates it within a minute. On a managed cluster, ask the provider \
to do this.
    waiting APIServiceAvailable: WaitingForDependency: metrics-core rejects requests from kube-apiserver (RequestHeaderFlagsMalformed). \
See AggregationLayerReady for the remedy.
    error APIServices
      error v1beta1.metrics.k8s.io: Service metrics-pipeline/metrics-core: FailedDiscoveryCheck: failing or missing response from \
https://ADDRESS:443/apis/metrics.k8s.io/v1beta1: bad status from https://ADDRESS:443/apis/metrics.k8s.io/v1beta1: 401
      error v1.metrics.k8s.io: Service metrics-pipeline/metrics-core: FailedDiscoveryCheck: failing or missing response from \
https://ADDRESS:443/apis/metrics.k8s.io/v1: bad status from https://ADDRESS:443/apis/metrics.k8s.io/v1: 401
  waiting Metrics API
    waiting MetricsServed: WaitingForDependency: Metrics requests fail. See AggregationLayerReady for the cause.
  ok HorizontalPodAutoscalers: None use resource metrics
";

/// The result of doctor for a cluster without a pipeline.
const BARE_DOCTOR: &str = "
warning doctor: 6 checks, 1 with findings
  ok Kubernetes: v1.36.3
  ok aggregation layer: kube-apiserver publishes a front-proxy CA; allowed common names: aggregator.
  ok APIServices of metrics.k8s.io: None exist, so the operator can create them.
  ok kubelets: Configuration of at most 5 kubelets.
    ok node-1: Serving certificate: from tlsCertFile. Bearer tokens: accepted.
  warning MetricsPipeline: The cluster has no CRD for it. Install the chart: `helm install metrics-pipeline \
charts/metrics-pipeline --namespace metrics-pipeline --create-namespace`
  ok HorizontalPodAutoscalers: None use resource metrics
";

const FLAGS: &str = "\
--requestheader-client-ca-file=/etc/kubernetes/pki/metrics-core-front-proxy-ca.crt
--requestheader-allowed-names=aggregator
--requestheader-extra-headers-prefix=X-Remote-Extra-
--requestheader-group-headers=X-Remote-Group
--requestheader-username-headers=X-Remote-User
--proxy-client-cert-file=/etc/kubernetes/pki/metrics-core-front-proxy.crt
--proxy-client-key-file=/etc/kubernetes/pki/metrics-core-front-proxy.key
";

/// The clusters of `healthy` and `broken` have a pipeline, those of `bare` have none.
pub(crate) fn add(suite: &mut Suite, bare: &Arc<Group>, healthy: &Arc<Group>, broken: &Arc<Group>) {
    suite.add(
        bare,
        "plugin_checks_a_cluster_without_a_pipeline",
        Needs::OurCluster,
        checks_a_cluster_without_a_pipeline,
    );
    suite.add(healthy, "plugin_shows_a_healthy_pipeline", Needs::Alone, shows_a_healthy_pipeline);
    suite.add(broken, "plugin_explains_a_broken_pipeline", Needs::Alone, explains_a_broken_pipeline);
}

fn checks_a_cluster_without_a_pipeline(env: &TestEnv) -> Result<()> {
    let plugin = Plugin::build(&env.progress)?;
    holds(env, &plugin, "doctor", 0, BARE_DOCTOR)?;
    let status = plugin.run(&env.client, &["status"])?;
    check!(status.code == 1, "exit code {}: {}", status.code, status.errors);
    // Lines are wrapped at the width of the terminal.
    let words: Vec<&str> = status.text.split_whitespace().filter(|word| *word != "│").collect();
    let words = words.join(" ");
    check!(
        words.starts_with("✖ metrics pipeline") && words.contains("Install the chart: `helm install"),
        "{}",
        status.text
    );
    let elsewhere = plugin.run(&env.client, &["doctor", "--kubeconfig=/nowhere"])?;
    check!(
        elsewhere.code == 2
            && elsewhere.text.is_empty()
            && elsewhere.errors.starts_with("error: the kubeconfig"),
        "{elsewhere:?}"
    );
    Ok(())
}

fn shows_a_healthy_pipeline(env: &TestEnv) -> Result<()> {
    faults::settled(&env.client)?;
    let plugin = Plugin::build(&env.progress)?;
    holds(env, &plugin, "status", 0, HEALTHY)?;
    holds(env, &plugin, "doctor", 0, HEALTHY_DOCTOR)?;
    let run = |arguments: &[&str]| -> Result<PluginOutput> {
        let output = plugin.run(&env.client, arguments)?;
        check!(output.code == 0, "{arguments:?}: exit code {}: {}", output.code, output.errors);
        Ok(output)
    };
    // The output for people.
    let status = run(&["status"])?.text;
    let first =
        "✔ MetricsPipeline cluster  1 of 1 nodes have metrics\n├─ ✔ operator  Deployment metrics-pipeline/";
    check!(status.starts_with(first) && !status.contains('\u{1b}'), "{status}");
    check!(
        status.lines().all(|line| line.chars().count() <= 100),
        "longer than a terminal is wide: {status}"
    );
    let coloured = run(&["status", "--color=always"])?.text;
    check!(coloured.starts_with("\u{1b}[32m✔\u{1b}[0m \u{1b}[1mMetricsPipeline cluster"), "{coloured}");
    env.progress.say(format!("kubectl metrics-pipeline status\n{status}"));
    // The output for pasting: each format has the same arguments.
    let flags = run(&["flags", "lines"])?;
    check!(flags.text == FLAGS, "{}", flags.text);
    check!(flags.errors.contains("frontProxy.enabled=true"), "{}", flags.errors);
    let list: Vec<String> = serde_json::from_str(&run(&["flags", "json"])?.text)
        .map_err(|error| failed(format!("flags json: {error}")))?;
    check!(list == FLAGS.lines().collect::<Vec<_>>(), "{list:?}");
    for form in ["steps", "kubeadm", "systemd"] {
        let text = run(&["flags", form])?.text;
        check!(text.contains("metrics-core-front-proxy"), "{form}: {text}");
    }
    Ok(())
}

fn explains_a_broken_pipeline(env: &TestEnv) -> Result<()> {
    faults::settled(&env.client)?;
    let faulty = FaultEnv::new(env.own_cluster()?, &env.progress)?;
    let fault = &FRONT_PROXY[0];
    (fault.inject)(&faulty)?;
    let shown = holds(env, &faulty.plugin, "status", 1, MALFORMED_FLAGS);
    let doctor = faulty.plugin.run(&env.client, &["doctor"]);
    (fault.repair)(&faulty)?;
    shown?;
    let doctor = doctor?;
    check!(
        doctor.code == 1 && doctor.text.starts_with("✖ doctor  13 checks, 1 with findings\n"),
        "exit code {}: {}",
        doctor.code,
        doctor.text
    );
    faults::settled(&env.client)?;
    let status = faulty.plugin.run(&env.client, &["status"])?;
    check!(status.code == 0, "exit code {}: {}", status.code, status.text);
    Ok(())
}

/// Waits until a command exits with this code and prints this tree.
fn holds(env: &TestEnv, plugin: &Plugin, command: &str, code: i32, expected: &str) -> Result<()> {
    let expected: Vec<&str> = expected.trim().lines().collect();
    wait::until(TIMEOUT, &format!("{command} exits with {code} and prints the expected tree"), || {
        let output = plugin.run(&env.client, &[command, "--output=json"])?;
        let tree: Value = serde_json::from_str(&output.text)
            .map_err(|error| format!("{error}: {} {}", output.text, output.errors))?;
        let mut text = String::new();
        flatten(&mut text, &tree, 0);
        let lines: Vec<&str> = text.lines().collect();
        let same = |(line, expected): (&&str, &&str)| match expected.strip_suffix('…') {
            Some(start) => line.starts_with(start),
            None => line == expected,
        };
        if output.code == code && lines.len() == expected.len() && lines.iter().zip(&expected).all(same) {
            Ok(())
        } else {
            Err(format!("exit code {}\n{text}", output.code).into())
        }
    })
}

/// Writes a line for each node of the tree, without what differs from run to run.
fn flatten(out: &mut String, node: &Value, depth: usize) {
    let text = |key: &str| node[key].as_str().unwrap_or_default();
    let colon = if text("text").is_empty() { "" } else { ": " };
    let line = format!("{} {}{colon}{}", text("severity"), text("title"), text("text"));
    let words: Vec<String> = line.split(' ').map(same_each_run).collect();
    // Writing to a String does not fail.
    _ = writeln!(out, "{:1$}{2}", "", depth * 2, words.join(" "));
    for child in node["children"].as_array().into_iter().flatten() {
        flatten(out, child, depth + 1);
    }
}

fn same_each_run(word: &str) -> String {
    let core = word.trim_end_matches(['.', ';', ':']);
    if core.parse::<jiff::Timestamp>().is_ok() {
        return word.replace(core, "TIME");
    }
    if core.strip_prefix("metrics-core-").is_some_and(|rest| rest.split('-').count() == 2) {
        return word.replace(core, "metrics-core-POD");
    }
    if let Some((host, _)) = core.strip_prefix("https://").and_then(|rest| rest.split_once(':'))
        && host.parse::<std::net::IpAddr>().is_ok()
    {
        return word.replace(host, "ADDRESS");
    }
    word.to_owned()
}
