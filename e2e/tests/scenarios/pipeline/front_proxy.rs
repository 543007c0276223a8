//! The story that the project began with: a kube-apiserver whose flags for the aggregation layer were swallowed by
//! their quoting, and what puts it right.

use e2e::cluster::FlagChange;
use e2e::scenario::{Needs, Stand, Suite, failed};
use e2e::{Client, Cluster, Result, binaries, check, images, pipeline, pki};
use serde_json::{Value, json};

use super::{MINUTE, PATIENCE, condition, metrics_core, ready};

/// All that stood behind the first flag became part of its value.
const SWALLOWED: &str = "X-Remote-Extra-   --requestheader-group-headers=X-Remote-Group   \
                         --requestheader-username-headers=X-Remote-User   --proxy-client-cert-file=/etc/kubernetes/cert/metrics-server.pem   \
                         --proxy-client-key-file=/etc/kubernetes/cert/metrics-server-key.pem   --runtime-config=api/all=true";

const PUBLISHED: [&str; 4] = ["-n", "kube-system", "configmap", "extension-apiserver-authentication"];
const SECRET: &str = "metrics-core-front-proxy";

pub fn add(suite: &mut Suite) {
    let faulty = vec![
        FlagChange::set("requestheader-extra-headers-prefix", SWALLOWED),
        FlagChange::remove("requestheader-allowed-names"),
        FlagChange::remove("requestheader-group-headers"),
        FlagChange::remove("requestheader-username-headers"),
        FlagChange::remove("proxy-client-cert-file"),
        FlagChange::remove("proxy-client-key-file"),
    ];
    let group = suite.group_with("seed", faulty, Some(prepare));
    suite.add(&group, "swallowed_flags_are_put_right_by_ours", Needs::Alone, story);
}

fn prepare(stand: &Stand) -> Result<()> {
    let built = images::for_scenarios(&stand.progress)?;
    let helm = binaries::helm(&stand.progress)?;
    pipeline::load(stand.ours()?, &built)?;
    pipeline::install_with(&stand.client, &helm, &built, &[])?;
    Ok(())
}

fn status(client: &Client, kind: &str) -> Result<(String, String, String)> {
    let object = client.get(&["mpl", pipeline::NAME])?;
    let found = condition(&object, kind).cloned().unwrap_or_default();
    let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
    Ok((text("status"), text("reason"), text("message")))
}

/// Waits until a condition has a status and a reason; its message.
fn wait_for(client: &Client, kind: &str, status_and_reason: (&str, &str)) -> Result<String> {
    client.wait_for(&format!("{kind} is {status_and_reason:?}"), PATIENCE, |client| {
        let (status, reason, message) = status(client, kind)?;
        if (status.as_str(), reason.as_str()) == status_and_reason {
            Ok(message)
        } else {
            Err(format!("{status} {reason}: {message}").into())
        }
    })
}

/// Writes the files where the flags look for them, as an administrator does on each control-plane node.
fn write_files(stand: &Stand) -> Result<()> {
    let directory = stand.ours()?.layout().pki();
    for (key, file) in [
        ("ca.crt", "metrics-core-front-proxy-ca.crt"),
        ("tls.crt", "metrics-core-front-proxy.crt"),
        ("tls.key", "metrics-core-front-proxy.key"),
    ] {
        let template = format!("--output=go-template={{{{index .data \"{key}\" | base64decode}}}}");
        let text = stand.client.run(&["-n", pipeline::NAMESPACE, "get", "secret", SECRET, &template])?;
        pki::write_private(&directory.join(file), &text)?;
    }
    Ok(())
}

/// Starts kube-apiserver with the arguments of the ConfigMap in place of its own of those names.
fn take_flags(stand: &Stand, cluster: &Cluster) -> Result<()> {
    let flags =
        stand.client.get(&["-n", pipeline::NAMESPACE, "configmap", "metrics-core-front-proxy-flags"])?;
    let text = flags["data"]["flags.json"].as_str().unwrap_or_default();
    let arguments: Vec<String> =
        serde_json::from_str(text).map_err(|error| failed(format!("flags.json: {error}: {text}")))?;
    let changes: Vec<_> = arguments
        .iter()
        .filter_map(|argument| argument.strip_prefix("--")?.split_once('='))
        .map(|(name, value)| FlagChange::set(name, value))
        .collect();
    check!(changes.len() == 7, "not seven flags: {arguments:?}");
    cluster.restart_apiserver_with(&changes, &stand.progress.clone().quiet())
}

fn story(stand: &Stand) -> Result<()> {
    let client = &stand.client;
    let cluster = stand.ours()?;
    let directory = cluster.layout().pki();
    let spec = json!({"certificates": {"frontProxy": {"mode": "Issue", "directory": directory}}});
    client.apply(&pipeline::manifest(pipeline::NAME, &spec))?;
    metrics_core(client)?;
    let broken = wait_for(client, "AggregationLayerReady", ("False", "RequestHeaderFlagsMalformed"))?;
    check!(broken.contains("requestheader-extra-headers-prefix"), "the flag is not named: {broken}");
    stand.progress.say(format!("as it was: {broken}"));

    // The power was not granted, and the condition says how it is.
    let missing = wait_for(client, "CertificatesReady", ("False", "PermissionMissing"))?;
    check!(missing.contains("frontProxy.enabled=true"), "no remedy: {missing}");
    let helm = binaries::helm(&stand.progress)?;
    let built = images::for_scenarios(&stand.progress)?;
    pipeline::install_with(client, &helm, &built, &["frontProxy.enabled=true"])?;
    let issued = wait_for(client, "CertificatesReady", ("True", "AsExpected"))?;
    check!(issued.contains("metrics-core-front-proxy-flags"), "the flags are not named: {issued}");

    write_files(stand)?;
    take_flags(stand, cluster)?;
    // As steps.txt says: what the faulty flags left there would stay.
    client.delete(&PUBLISHED)?;
    ready(client)?;
    client.wait_for("kubectl top nodes answers", PATIENCE, |client| {
        client.run(&["top", "nodes"])?;
        Ok(())
    })?;

    replace_authority(stand)?;

    // What kube-apiserver depends on outlives the MetricsPipeline, and is taken up again.
    let certificate =
        || client.get(&["-n", pipeline::NAMESPACE, "secret", SECRET]).map(|secret| secret["data"].clone());
    let before = certificate()?;
    client.run(&["delete", "mpl", pipeline::NAME, "--timeout=90s"])?;
    check!(certificate()? == before, "the front proxy's Secret did not stay");
    client.apply(&pipeline::manifest(pipeline::NAME, &spec))?;
    ready(client)?;
    check!(certificate()? == before, "the front proxy's Secret was issued anew");
    Ok(())
}

/// A new CA, asked for by another validity: kube-apiserver trusts it before a certificate of it is issued.
fn replace_authority(stand: &Stand) -> Result<()> {
    let client = &stand.client;
    let shorter = r#"{"spec":{"certificates":{"frontProxy":{"caValidity":"43800h"}}}}"#;
    client.run(&["patch", "mpl", pipeline::NAME, "--type=merge", "-p", shorter])?;
    let told = wait_for(client, "CertificatesReady", ("True", "FrontProxyFilesOutdated"))?;
    check!(told.contains("steps.txt"), "no remedy: {told}");
    let certificate = |client: &Client| -> Result<Value> {
        Ok(client.get(&["-n", pipeline::NAMESPACE, "secret", SECRET])?["data"]["tls.crt"].clone())
    };
    let before = certificate(client)?;
    write_files(stand)?;
    // kube-apiserver reads the file again by itself, and publishes what it reads.
    client.wait_for("kube-apiserver publishes both CAs", MINUTE * 3, |client| {
        let data = client.get(&PUBLISHED)?["data"]["requestheader-client-ca-file"].clone();
        let count = data.as_str().unwrap_or_default().matches("BEGIN CERTIFICATE").count();
        if count >= 2 { Ok(()) } else { Err(format!("{count} CAs").into()) }
    })?;
    client.wait_for("a client certificate of the new CA", PATIENCE, |client| {
        if certificate(client)? == before { Err("still the old one".into()) } else { Ok(()) }
    })?;
    wait_for(client, "CertificatesReady", ("True", "AsExpected"))?;
    // With the old client certificate in use, and then with the new one.
    client.raw("/apis/metrics.k8s.io/v1beta1/nodes")?;
    write_files(stand)?;
    cluster_uses(stand)?;
    ready(client)
}

/// Has kube-apiserver take the client certificate now; by itself it does within a minute or so.
fn cluster_uses(stand: &Stand) -> Result<()> {
    let cluster = stand.ours()?;
    take_flags(stand, cluster)?;
    stand.client.wait_for("kubectl top nodes answers", PATIENCE, |client| {
        client.run(&["top", "nodes"])?;
        Ok(())
    })
}
