//! The fault that the project began with: quoting merged kube-apiserver's flags of the aggregation layer into one
//! argument. And its repair.

use e2e::suite::{Needs, Suite, TestEnv, failed};
use e2e::testbed::cluster::FlagChange;
use e2e::testbed::{binaries, images, pipeline, pki};
use e2e::{Client, Cluster, Result, check};
use serde_json::{Value, json};

use super::{MINUTE, TIMEOUT, condition, metrics_core, patch_spec, ready};

/// Everything after the first flag became part of its value.
const SWALLOWED: &str = "X-Remote-Extra-   --requestheader-group-headers=X-Remote-Group   \
                         --requestheader-username-headers=X-Remote-User   --proxy-client-cert-file=/etc/kubernetes/cert/metrics-server.pem   \
                         --proxy-client-key-file=/etc/kubernetes/cert/metrics-server-key.pem   --runtime-config=api/all=true";

const PUBLISHED: [&str; 4] = ["-n", "kube-system", "configmap", "extension-apiserver-authentication"];
const SECRET: &str = "metrics-core-front-proxy";

pub(super) fn add(suite: &mut Suite) {
    let faulty = vec![
        FlagChange::set("requestheader-extra-headers-prefix", SWALLOWED),
        FlagChange::remove("requestheader-allowed-names"),
        FlagChange::remove("requestheader-group-headers"),
        FlagChange::remove("requestheader-username-headers"),
        FlagChange::remove("proxy-client-cert-file"),
        FlagChange::remove("proxy-client-key-file"),
    ];
    let group = suite.group_with("seed", faulty, Some(prepare));
    suite.add(&group, "printed_flags_repair_a_front_proxy_with_merged_flags", Needs::Alone, story);
}

fn prepare(env: &TestEnv) -> Result<()> {
    let built = images::for_scenarios(&env.progress)?;
    let helm = binaries::helm(&env.progress)?;
    pipeline::load(env.own_cluster()?, &built)?;
    pipeline::install_with(&env.client, &helm, &built, &[])?;
    Ok(())
}

fn status(client: &Client, kind: &str) -> Result<(String, String, String)> {
    let object = client.get(&["mpl", pipeline::NAME])?;
    let found = condition(&object, kind).cloned().unwrap_or_default();
    let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
    Ok((text("status"), text("reason"), text("message")))
}

/// Waits until a condition has a status and a reason; returns its message.
fn wait_for(client: &Client, kind: &str, status_and_reason: (&str, &str)) -> Result<String> {
    client.wait_for(&format!("{kind} is {status_and_reason:?}"), TIMEOUT, |client| {
        let (status, reason, message) = status(client, kind)?;
        if (status.as_str(), reason.as_str()) == status_and_reason {
            Ok(message)
        } else {
            Err(format!("{status} {reason}: {message}").into())
        }
    })
}

/// Writes the files to the paths in the flags, as an administrator does on each control-plane node.
fn write_files(env: &TestEnv) -> Result<()> {
    let directory = env.own_cluster()?.layout().pki();
    for (key, file) in [
        ("ca.crt", "metrics-core-front-proxy-ca.crt"),
        ("tls.crt", "metrics-core-front-proxy.crt"),
        ("tls.key", "metrics-core-front-proxy.key"),
    ] {
        let template = format!("--output=go-template={{{{index .data \"{key}\" | base64decode}}}}");
        let text = env.client.run(&["-n", pipeline::NAMESPACE, "get", "secret", SECRET, &template])?;
        pki::write_private(&directory.join(file), &text)?;
    }
    Ok(())
}

/// Restarts kube-apiserver with the arguments of the ConfigMap instead of its own arguments of the same names.
fn take_flags(env: &TestEnv, cluster: &Cluster) -> Result<()> {
    let flags =
        env.client.get(&["-n", pipeline::NAMESPACE, "configmap", "metrics-core-front-proxy-flags"])?;
    let text = flags["data"]["flags.json"].as_str().unwrap_or_default();
    let arguments: Vec<String> =
        serde_json::from_str(text).map_err(|error| failed(format!("flags.json: {error}: {text}")))?;
    let changes: Vec<_> = arguments
        .iter()
        .filter_map(|argument| argument.strip_prefix("--")?.split_once('='))
        .map(|(name, value)| FlagChange::set(name, value))
        .collect();
    check!(changes.len() == 7, "not seven flags: {arguments:?}");
    cluster.restart_apiserver_with(&changes, &env.progress.clone().quiet())
}

fn story(env: &TestEnv) -> Result<()> {
    let client = &env.client;
    let cluster = env.own_cluster()?;
    let directory = cluster.layout().pki();
    let spec = json!({"certificates": {"frontProxy": {"mode": "Issue", "directory": directory}}});
    client.apply(&pipeline::manifest(pipeline::NAME, &spec))?;
    metrics_core(client)?;
    let broken = wait_for(client, "AggregationLayerReady", ("False", "RequestHeaderFlagsMalformed"))?;
    check!(broken.contains("requestheader-extra-headers-prefix"), "the flag is not named: {broken}");
    env.progress.say(format!("as it was: {broken}"));

    // The optional permission was not granted, and the condition reports this.
    let missing = wait_for(client, "CertificatesReady", ("False", "PermissionMissing"))?;
    check!(missing.contains("frontProxy.enabled=true"), "no remedy: {missing}");
    let helm = binaries::helm(&env.progress)?;
    let built = images::for_scenarios(&env.progress)?;
    pipeline::install_with(client, &helm, &built, &["frontProxy.enabled=true"])?;
    let issued = wait_for(client, "CertificatesReady", ("True", "AsExpected"))?;
    check!(issued.contains("metrics-core-front-proxy-flags"), "the flags are not named: {issued}");

    write_files(env)?;
    take_flags(env, cluster)?;
    // As in steps.txt: what the wrong flags wrote there would stay.
    client.delete(&PUBLISHED)?;
    ready(client)?;
    client.wait_for("kubectl top nodes succeeds", TIMEOUT, |client| {
        client.run(&["top", "nodes"])?;
        Ok(())
    })?;

    replace_authority(env)?;

    // kube-apiserver depends on the Secret: it survives the MetricsPipeline and is used again.
    let certificate =
        || client.get(&["-n", pipeline::NAMESPACE, "secret", SECRET]).map(|secret| secret["data"].clone());
    let before = certificate()?;
    client.run(&["delete", "mpl", pipeline::NAME, "--timeout=90s"])?;
    check!(certificate()? == before, "the front proxy's Secret did not stay");
    client.apply(&pipeline::manifest(pipeline::NAME, &spec))?;
    ready(client)?;
    check!(certificate()? == before, "the front proxy's Secret was reissued");
    Ok(())
}

/// A new CA, caused by another validity: kube-apiserver trusts it before it signs a certificate.
fn replace_authority(env: &TestEnv) -> Result<()> {
    let client = &env.client;
    patch_spec(client, json!({"certificates": {"frontProxy": {"caValidity": "43800h"}}}))?;
    let message = wait_for(client, "CertificatesReady", ("True", "FrontProxyFilesOutdated"))?;
    check!(message.contains("steps.txt"), "no remedy: {message}");
    let certificate = |client: &Client| -> Result<Value> {
        Ok(client.get(&["-n", pipeline::NAMESPACE, "secret", SECRET])?["data"]["tls.crt"].clone())
    };
    let before = certificate(client)?;
    write_files(env)?;
    // kube-apiserver reloads the file by itself, and publishes its contents.
    client.wait_for("kube-apiserver publishes both CAs", MINUTE * 3, |client| {
        let data = client.get(&PUBLISHED)?["data"]["requestheader-client-ca-file"].clone();
        let count = data.as_str().unwrap_or_default().matches("BEGIN CERTIFICATE").count();
        if count >= 2 { Ok(()) } else { Err(format!("{count} CAs").into()) }
    })?;
    client.wait_for("a client certificate of the new CA", TIMEOUT, |client| {
        if certificate(client)? == before { Err("still the old one".into()) } else { Ok(()) }
    })?;
    wait_for(client, "CertificatesReady", ("True", "AsExpected"))?;
    // With the old client certificate in use, and then with the new one.
    client.raw("/apis/metrics.k8s.io/v1beta1/nodes")?;
    write_files(env)?;
    cluster_uses(env)?;
    ready(client)
}

/// Makes kube-apiserver use the client certificate now; otherwise it does so within about a minute.
fn cluster_uses(env: &TestEnv) -> Result<()> {
    let cluster = env.own_cluster()?;
    take_flags(env, cluster)?;
    env.client.wait_for("kubectl top nodes succeeds", TIMEOUT, |client| {
        client.run(&["top", "nodes"])?;
        Ok(())
    })
}
