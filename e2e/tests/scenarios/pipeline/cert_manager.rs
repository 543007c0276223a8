//! cert-manager's own controllers issue the serving certificate.

use std::path::Path;
use std::thread;
use std::time::Duration;

use e2e::lines::Lines;
use e2e::pki::Authority;
use e2e::scenario::{Needs, Stand, Suite, failed};
use e2e::wait::Pending;
use e2e::{Client, Result, binaries, check, images, pipeline};
use serde_json::{Value, json};

use super::rotation::{self, Requests};
use super::{MINUTE, PATIENCE, condition, ready};

/// A new CA is used after 2 s, as there is one kube-apiserver; the replicas are proven all the same.
const QUICK: &str = "extraArgs[0]=--ca-trust-settles=2";
const GRANTED: &str = "certManager.enabled=true";

/// How soon a fault is named, and a remedy seen.
const SOON: Duration = Duration::from_secs(30);

const CRDS: [&str; 4] = ["certificates", "certificaterequests", "issuers", "clusterissuers"];

pub fn add(suite: &mut Suite) {
    let group = suite.group_with("certmanager", Vec::new(), Some(prepare));
    suite.add(&group, "a_missing_cert_manager_is_named", Needs::Alone, missing);
    suite.add(&group, "cert_manager_issues_the_serving_certificate", Needs::Alone, issues);
}

fn prepare(stand: &Stand) -> Result<()> {
    pipeline::load(stand.ours()?, &images::for_scenarios(&stand.progress)?)?;
    install(stand, &[QUICK])?;
    let spec = json!({"metricsCore": {"replicas": 2}});
    stand.client.apply(&pipeline::manifest(pipeline::NAME, &spec))?;
    ready(&stand.client)
}

fn install(stand: &Stand, values: &[&str]) -> Result<()> {
    let built = images::for_scenarios(&stand.progress)?;
    let helm = binaries::helm(&stand.progress)?;
    pipeline::install_with(&stand.client, &helm, &built, values)?;
    Ok(())
}

/// Without the right, without the API, without anybody behind it: each is told, and the pipeline goes on serving.
fn missing(stand: &Stand) -> Result<()> {
    let client = &stand.client;
    ready(client)?;
    for crd in CRDS {
        client.delete(&["crd", &format!("{crd}.cert-manager.io")])?;
    }
    install(stand, &[QUICK])?;
    ask(client, &json!({"name": "company", "kind": "ClusterIssuer"}))?;
    named(client, "False", "PermissionMissing", &["--set certManager.enabled=true"])?;
    install(stand, &[QUICK, GRANTED])?;
    named(client, "False", "CertManagerNotInstalled", &["cert-manager.io/v1", "helm install cert-manager"])?;
    serves(client)?;
    let [_, crds] = binaries::cert_manager(&stand.progress)?;
    served(client, &crds)?;
    let told = named(
        client,
        "False",
        "CertificateNotIssued",
        &["cert-manager has not processed it", "kubectl describe"],
    )?;
    stand.progress.say(format!("cert-manager without its controller: {told}"));
    serves(client)?;
    self_signed(client)
}

/// A CA issuer that comes late, renewals under requests, another CA, drift, and the way back.
fn issues(stand: &Stand) -> Result<()> {
    let client = &stand.client;
    ready(client)?;
    let [program, crds] = binaries::cert_manager(&stand.progress)?;
    served(client, &crds)?;
    install(stand, &[QUICK, GRANTED])?;
    let controllers = Lines::start(&mut client.command(&program))?;
    let outcome = issued(stand);
    let log = controllers.errors();
    let last = log.lines().rev().take(5).collect::<Vec<_>>().join("\n");
    outcome.map_err(|error| failed(format!("{error}\ncert-manager's log ends, latest first:\n{last}")))
}

fn issued(stand: &Stand) -> Result<()> {
    let client = &stand.client;
    let requests = Requests::start(
        stand.ours()?,
        &["/apis/metrics.k8s.io/v1beta1/nodes", "/apis/metrics.k8s.io/v1/pods"],
    )?;

    ask(client, &json!({"name": "company"}))?;
    let told = named(
        client,
        "False",
        "CertificateNotIssued",
        &[
            "CertificateRequest metrics-pipeline/metrics-core-1",
            "not found",
            "issuer.cert-manager.io company",
        ],
    )?;
    stand.progress.say(format!("an issuer that is missing: {told}"));

    store(client, &Authority::create("a company's CA")?)?;
    client.apply(&issuer().to_string())?;
    let first = taken_over(client, "")?;
    let object = client.get(&["-n", pipeline::NAMESPACE, "certificates.cert-manager.io", "metrics-core"])?;
    check!(object["spec"]["privateKey"]["rotationPolicy"] == "Always", "{}", object["spec"]);

    renew(client)?;
    let second = taken_over(client, &first)?;
    client.delete(&["-n", pipeline::NAMESPACE, "secret", "metrics-core-cert-manager"])?;
    let third = taken_over(client, &second)?;
    store(client, &Authority::create("a company's next CA")?)?;
    renew(client)?;
    let fourth = taken_over(client, &third)?;

    // What was issued is served on while the next issuer is missing.
    ask(client, &json!({"name": "elsewhere", "kind": "ClusterIssuer"}))?;
    named(client, "True", "CertificateNotIssued", &["clusterissuer.cert-manager.io", "continues to serve"])?;
    ask(client, &json!({"name": "company"}))?;
    named(client, "True", "AsExpected", &["Issuer company"])?;

    let names = json!([{"op": "replace", "path": "/spec/dnsNames", "value": ["elsewhere"]}]).to_string();
    let certificate = ["-n", pipeline::NAMESPACE, "certificates.cert-manager.io", "metrics-core"];
    client.run(&[&["patch"][..], &certificate, &["--type=json", "-p", &names]].concat())?;
    client.wait_for("the Certificate is set back", SOON, |client| {
        match &client.get(&certificate)?["spec"]["dnsNames"][0] {
            Value::String(name) if name.starts_with("metrics-core.") => Ok(()),
            other => Err(other.to_string().into()),
        }
    })?;
    taken_over(client, &fourth)?;

    self_signed(client)?;
    let (good, bad) = requests.stop()?;
    stand.progress.say(format!("cert-manager's certificates: {good} lists answered, {} failed", bad.len()));
    check!(bad.is_empty() && good > 500, "{good} good, {} bad: {:?}", bad.len(), bad.first());
    Ok(())
}

/// Has cert-manager asked by way of an issuer.
fn ask(client: &Client, issuer: &Value) -> Result<()> {
    // With null the fields that the last one had are gone.
    let spec = json!({"source": "CertManager", "certManager": {"issuerRef": {"kind": null, "group": null}}});
    let mut patch = json!({"spec": {"certificates": spec}});
    for (field, value) in issuer.as_object().into_iter().flatten() {
        patch["spec"]["certificates"]["certManager"]["issuerRef"][field] = value.clone();
    }
    client.run(&["patch", "mpl", pipeline::NAME, "--type=merge", "-p", &patch.to_string()])?;
    Ok(())
}

/// Back to a CA of the operator's own: the Certificate goes, and all is as it was.
fn self_signed(client: &Client) -> Result<()> {
    let patch = json!({"spec": {"certificates": {"source": "SelfSigned", "certManager": null}}}).to_string();
    client.run(&["patch", "mpl", pipeline::NAME, "--type=merge", "-p", &patch])?;
    client.wait_for("the Certificate is gone", MINUTE, |client| {
        let left = ["-n", pipeline::NAMESPACE, "get", "certificates.cert-manager.io", "-o", "name"];
        match client.run(&left)?.trim() {
            "" => Ok(()),
            name => Err(name.into()),
        }
    })?;
    rotation::our_own_is_served_alone(client)?;
    named(client, "True", "AsExpected", &["is renewed at"])?;
    ready(client)
}

/// Waits until CertificatesReady has a status and a reason and says some words; its message.
fn named(client: &Client, status: &str, reason: &str, words: &[&str]) -> Result<String> {
    client.wait_for(&format!("CertificatesReady is {status}, {reason}"), SOON, |client| {
        let object = client.get(&["mpl", pipeline::NAME])?;
        let found = condition(&object, "CertificatesReady").cloned().unwrap_or_default();
        let message = found["message"].as_str().unwrap_or_default();
        let current = found["observedGeneration"] == object["metadata"]["generation"];
        let says = words.iter().all(|words| message.contains(words));
        if current && says && found["status"] == status && found["reason"] == reason {
            Ok(message.to_owned())
        } else {
            Err(Pending(found.to_string()))
        }
    })
}

/// Applies cert-manager's CRDs and waits until they are served.
fn served(client: &Client, crds: &Path) -> Result<()> {
    client.run(&["apply", "--server-side", "-f", &crds.display().to_string()])?;
    let names = CRDS.map(|crd| format!("crd/{crd}.cert-manager.io"));
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    client.run(&[&["wait", "--for=condition=Established", "--timeout=60s"][..], &names].concat())?;
    Ok(())
}

fn serves(client: &Client) -> Result<()> {
    client.raw("/apis/metrics.k8s.io/v1beta1/nodes").map(|_| ())
}

/// An issuer that signs with the CA of Secret `company-ca`.
fn issuer() -> Value {
    json!({
        "apiVersion": "cert-manager.io/v1", "kind": "Issuer",
        "metadata": {"name": "company", "namespace": pipeline::NAMESPACE},
        "spec": {"ca": {"secretName": "company-ca"}},
    })
}

fn store(client: &Client, authority: &Authority) -> Result<()> {
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": "company-ca", "namespace": pipeline::NAMESPACE},
        "stringData": {"tls.crt": authority.certificate(), "tls.key": authority.identity().key},
    });
    client.apply(&secret.to_string())?;
    // cert-manager signs with what its cache holds.
    thread::sleep(Duration::from_secs(2));
    Ok(())
}

/// Has the certificate issued anew, as `cmctl renew` does.
fn renew(client: &Client) -> Result<()> {
    client.wait_for("the renewal is triggered", SOON, |client| {
        let name = ["-n", pipeline::NAMESPACE, "certificates.cert-manager.io", "metrics-core"];
        let mut object = client.get(&name)?;
        let issuing = json!({
            "type": "Issuing", "status": "True", "reason": "ManuallyTriggered",
            "message": "Certificate re-issuance manually triggered", "lastTransitionTime": "2026-01-01T00:00:00Z",
        });
        object["status"]["conditions"].as_array_mut().ok_or(Pending("no conditions".into()))?.push(issuing);
        client.with_manifest(&["replace", "--subresource=status"], &object.to_string())?;
        Ok(())
    })
}

/// Waits until a new certificate of cert-manager's is served, and only its CA is trusted; the certificate.
fn taken_over(client: &Client, before: &str) -> Result<String> {
    let leaf = client.wait_for(
        "cert-manager's certificate is served, and only its CA trusted",
        PATIENCE,
        |client| {
            let of =
                ["-n", pipeline::NAMESPACE, "secrets", "metrics-core-serving", "metrics-core-cert-manager"];
            let secrets = client.get(&of)?;
            let data = |at: usize, key: &str| {
                secrets["items"][at]["data"][key].as_str().unwrap_or_default().to_owned()
            };
            let (leaf, same) = (data(0, "tls.crt"), data(0, "tls.crt") == data(1, "tls.crt"));
            let alone = data(0, "ca.crt") == data(1, "ca.crt");
            if same && alone && !leaf.is_empty() && leaf != before {
                Ok(leaf)
            } else {
                Err(format!("cert-manager's {same}, new {}, alone {alone}", leaf != before).into())
            }
        },
    )?;
    named(client, "True", "AsExpected", &["cert-manager issued the serving certificate"])?;
    ready(client)?;
    Ok(leaf)
}
