//! Kubelets that request their serving certificates from the cluster (`serverTLSBootstrap: true`), and which requests
//! are approved.

use std::net::IpAddr;

use e2e::suite::{Needs, Suite, TestEnv};
use e2e::testbed::cluster::KubeletKind;
use e2e::testbed::pki::{self, Subject};
use e2e::testbed::{binaries, images, pipeline};
use e2e::{Client, Result, check};
use serde_json::{Value, json};

use super::{MINUTE, TIMEOUT, condition, ready};

const CONTROL_PLANE: &str = "node-role.kubernetes.io/control-plane";

pub(super) fn add(suite: &mut Suite) {
    let group = suite.group_with("approval", KubeletKind::OnDemand, Vec::new(), Some(prepare));
    suite.add(&group, "approves_the_serving_certificate_of_a_kubelet", Needs::Alone, kubelet);
    suite.add(&group, "approves_no_other_request", Needs::Alone, others);
}

fn prepare(env: &TestEnv) -> Result<()> {
    let built = images::for_scenarios(&env.progress)?;
    let helm = binaries::helm(&env.progress)?;
    pipeline::load(env.own_cluster()?, &built)?;
    pipeline::install_with(&env.client, &helm, &built, &["csrApproval.enabled=true"])?;
    let spec = json!({"metricsCore": {"kubelet": {"tls": {"csrApproval": "Exact"}}}});
    env.client.apply(&pipeline::manifest(pipeline::NAME, &spec))?;
    ready(&env.client)
}

/// Returns the types of a request's conditions.
fn decided(csr: &Value) -> Vec<&str> {
    let conditions = csr["status"]["conditions"].as_array().into_iter().flatten();
    conditions.filter_map(|condition| condition["type"].as_str()).collect()
}

fn label(env: &TestEnv, value: &str) -> Result<String> {
    let node = &env.own_cluster()?.node().name;
    env.client.run(&["label", "node", node, &format!("{CONTROL_PLANE}{value}"), "--overwrite"])
}

/// Waits for an event that explains why a request is not approved.
fn left(client: &Client, name: &str, words: &str) -> Result<()> {
    client.wait_for(&format!("an event that {name} is not approved: {words}"), MINUTE, |client| {
        let events = client.get(&["events.events.k8s.io", "-n", "default"])?;
        let notes: Vec<_> = events["items"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|event| event["reason"] == "CertificateSigningRequestNotApproved")
            .filter_map(|event| event["note"].as_str())
            .filter(|note| note.contains(name))
            .map(str::to_owned)
            .collect();
        if notes.iter().any(|note| note.contains(words)) { Ok(()) } else { Err(format!("{notes:?}").into()) }
    })
}

/// A real kubelet moves from its self-signed certificate to one signed by the cluster.
fn kubelet(env: &TestEnv) -> Result<()> {
    let client = &env.client;
    let cluster = env.own_cluster()?;
    let quiet = env.progress.clone().quiet();
    let bootstrap = json!({"serverTLSBootstrap": true, "tlsCertFile": null, "tlsPrivateKeyFile": null});
    cluster.restart_kubelet_with(&bootstrap, &quiet)?;
    let pending = client.wait_for("the kubelet's request", MINUTE, |client| {
        let list = client.get(&["csr", "--field-selector=spec.signerName=kubernetes.io/kubelet-serving"])?;
        let first = list["items"][0]["metadata"]["name"].as_str().map(str::to_owned);
        first.ok_or_else(|| "none yet".into())
    })?;
    // This node has kube-apiserver's address: only the label, which no kubelet can set, allows it.
    left(client, &pending, "kube-apiserver")?;
    check!(decided(&client.get(&["csr", &pending])?).is_empty(), "a worker got kube-apiserver's address");
    client.wait_for("the condition says that the kubelet has no certificate", TIMEOUT, |client| {
        let object = client.get(&["mpl", pipeline::NAME])?;
        let condition = condition(&object, "KubeletsReachable").cloned().unwrap_or_default();
        let message = condition["message"].as_str().unwrap_or_default();
        let named = message.contains("pending") && message.contains("did not approve");
        if condition["reason"] == "KubeletCertificateMissing" && named {
            Ok(())
        } else {
            Err(condition.to_string().into())
        }
    })?;
    label(env, "=")?;
    client.wait_for("the request is approved and signed", TIMEOUT, |client| {
        let csr = client.get(&["csr", &pending])?;
        match decided(&csr)[..] {
            ["Approved"] if csr["status"]["certificate"].is_string() => Ok(()),
            _ => Err(csr["status"].to_string().into()),
        }
    })?;
    ready(client)?;
    client.wait_for("the node has metrics with a verified certificate", TIMEOUT, |client| {
        client.run(&["top", "node", &cluster.node().name])?;
        Ok(())
    })?;
    label(env, "-")?;
    cluster.restart_kubelet_with(&json!({}), &quiet)?;
    ready(client)
}

fn others(env: &TestEnv) -> Result<()> {
    let client = &env.client;
    let cluster = env.own_cluster()?;
    let node = cluster.node().name.clone();
    let own: IpAddr = cluster.node().address.into();
    let service: IpAddr = IpAddr::from([10, 96, 0, 1]);
    let user = format!("system:node:{node}");
    let kubelet = cluster.client_as(&user, Some("system:nodes"))?;
    label(env, "=")?;
    let subject = |names: &[&str], addresses: &[IpAddr]| Subject {
        organization: Some("system:nodes".to_owned()),
        ..Subject::server(&user, names, addresses)
    };
    let submit = |client: &Client, name: &str, subject: &Subject, usages: &[&str]| -> Result<()> {
        use base64::Engine as _;
        let request = base64::engine::general_purpose::STANDARD.encode(pki::signing_request(subject)?);
        let csr = json!({
            "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": name},
            "spec": {"request": request, "signerName": "kubernetes.io/kubelet-serving", "usages": usages},
        });
        client.with_manifest(&["create"], &csr.to_string()).map(drop)
    };
    let server = ["digital signature", "server auth"];
    let good = subject(&[&node], &[own]);
    submit(&kubelet, "service-address", &subject(&[&node], &[own, service]), &server)?;
    submit(&kubelet, "service-name", &subject(&["kubernetes.default.svc"], &[]), &server)?;
    submit(&kubelet, "other-name", &subject(&["node-2"], &[own]), &server)?;
    submit(&kubelet, "client-too", &good, &["digital signature", "server auth", "client auth"])?;
    submit(client, "not-a-kubelet", &good, &server)?;
    // It is processed after those before it.
    submit(&kubelet, "z-good", &good, &server)?;
    client.wait_for("the good request is approved", TIMEOUT, |client| {
        let csr = client.get(&["csr", "z-good"])?;
        if decided(&csr) == ["Approved"] { Ok(()) } else { Err(csr["status"].to_string().into()) }
    })?;
    for (name, words) in [
        ("service-address", "not in status.addresses"),
        ("service-name", "not allowed in a kubelet's certificate"),
        ("other-name", "not in status.addresses"),
        ("client-too", "usages"),
        ("not-a-kubelet", "is not a kubelet"),
    ] {
        left(client, name, words)?;
        let csr = client.get(&["csr", name])?;
        check!(decided(&csr).is_empty(), "{name} was decided: {}", csr["status"]);
    }
    label(env, "-")?;
    Ok(())
}
