//! Kubelets that ask the cluster for their serving certificates (`serverTLSBootstrap: true`), and who may have one.

use std::net::IpAddr;

use e2e::pki::{self, Subject};
use e2e::scenario::{Needs, Stand, Suite};
use e2e::{Client, Result, binaries, check, images, pipeline};
use serde_json::{Value, json};

use super::{MINUTE, PATIENCE, ready};

const CONTROL_PLANE: &str = "node-role.kubernetes.io/control-plane";

pub fn add(suite: &mut Suite) {
    let group = suite.group_with("approval", Vec::new(), Some(prepare));
    suite.add(&group, "a_kubelet_gets_its_serving_certificate", Needs::Alone, kubelet);
    suite.add(&group, "no_other_request_is_approved", Needs::Alone, others);
}

fn prepare(stand: &Stand) -> Result<()> {
    let built = images::for_scenarios(&stand.progress)?;
    let helm = binaries::helm(&stand.progress)?;
    pipeline::load(stand.ours()?, &built)?;
    pipeline::install_with(&stand.client, &helm, &built, &["csrApproval.enabled=true"])?;
    let spec = json!({"metricsCore": {"kubelet": {"tls": {"csrApproval": "Exact"}}}});
    stand.client.apply(&pipeline::manifest(pipeline::NAME, &spec))?;
    ready(&stand.client)
}

/// The conditions of a request, and the certificate if it has one.
fn decided(csr: &Value) -> Vec<&str> {
    let conditions = csr["status"]["conditions"].as_array().into_iter().flatten();
    conditions.filter_map(|condition| condition["type"].as_str()).collect()
}

fn label(stand: &Stand, value: &str) -> Result<String> {
    let node = &stand.ours()?.node().name;
    stand.client.run(&["label", "node", node, &format!("{CONTROL_PLANE}{value}"), "--overwrite"])
}

/// Waits for an event that says why a request is left alone.
fn left(client: &Client, name: &str, words: &str) -> Result<()> {
    client.wait_for(&format!("an event that {name} is left alone: {words}"), MINUTE, |client| {
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

/// A real kubelet, from a certificate of its own to one of the cluster's.
fn kubelet(stand: &Stand) -> Result<()> {
    let client = &stand.client;
    let cluster = stand.ours()?;
    let quiet = stand.progress.clone().quiet();
    let bootstrap = json!({"serverTLSBootstrap": true, "tlsCertFile": null, "tlsPrivateKeyFile": null});
    cluster.restart_kubelet_with(&bootstrap, &quiet)?;
    let pending = client.wait_for("the kubelet's request", MINUTE, |client| {
        let list = client.get(&["csr", "--field-selector=spec.signerName=kubernetes.io/kubelet-serving"])?;
        let first = list["items"][0]["metadata"]["name"].as_str().map(str::to_owned);
        first.ok_or_else(|| "none yet".into())
    })?;
    // This node has kube-apiserver's address; nothing but the label, which no kubelet can set, makes that good.
    left(client, &pending, "kube-apiserver")?;
    check!(decided(&client.get(&["csr", &pending])?).is_empty(), "a worker got kube-apiserver's address");
    label(stand, "=")?;
    client.wait_for("the request is approved and signed", PATIENCE, |client| {
        let csr = client.get(&["csr", &pending])?;
        match decided(&csr)[..] {
            ["Approved"] if csr["status"]["certificate"].is_string() => Ok(()),
            _ => Err(csr["status"].to_string().into()),
        }
    })?;
    ready(client)?;
    client.wait_for("the node has metrics, by a certificate that is verified", PATIENCE, |client| {
        client.run(&["top", "node", &cluster.node().name])?;
        Ok(())
    })?;
    label(stand, "-")?;
    cluster.restart_kubelet_with(&json!({}), &quiet)?;
    ready(client)
}

fn others(stand: &Stand) -> Result<()> {
    let client = &stand.client;
    let cluster = stand.ours()?;
    let node = cluster.node().name.clone();
    let own: IpAddr = cluster.node().address.into();
    let service: IpAddr = IpAddr::from([10, 96, 0, 1]);
    let user = format!("system:node:{node}");
    let kubelet = cluster.client_as(&user, Some("system:nodes"))?;
    label(stand, "=")?;
    let subject = |names: &[&str], addresses: &[IpAddr]| Subject {
        organization: Some("system:nodes".to_owned()),
        ..Subject::server(&user, names, addresses)
    };
    let ask = |client: &Client, name: &str, subject: &Subject, usages: &[&str]| -> Result<()> {
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
    ask(&kubelet, "service-address", &subject(&[&node], &[own, service]), &server)?;
    ask(&kubelet, "service-name", &subject(&["kubernetes.default.svc"], &[]), &server)?;
    ask(&kubelet, "other-name", &subject(&["node-2"], &[own]), &server)?;
    ask(&kubelet, "client-too", &good, &["digital signature", "server auth", "client auth"])?;
    ask(client, "not-a-kubelet", &good, &server)?;
    // It is judged after those before it.
    ask(&kubelet, "z-good", &good, &server)?;
    client.wait_for("the good request is approved", PATIENCE, |client| {
        let csr = client.get(&["csr", "z-good"])?;
        if decided(&csr) == ["Approved"] { Ok(()) } else { Err(csr["status"].to_string().into()) }
    })?;
    for (name, words) in [
        ("service-address", "not in status.addresses"),
        ("service-name", "no kubelet may have"),
        ("other-name", "not in status.addresses"),
        ("client-too", "usages"),
        ("not-a-kubelet", "is not a kubelet"),
    ] {
        left(client, name, words)?;
        let csr = client.get(&["csr", name])?;
        check!(decided(&csr).is_empty(), "{name} was decided: {}", csr["status"]);
    }
    label(stand, "-")?;
    Ok(())
}
