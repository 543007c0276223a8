//! cert-manager's own controllers issue the serving certificate.

use std::path::Path;
use std::thread;
use std::time::Duration;

use e2e::suite::{Needs, Suite, TestEnv, failed};
use e2e::testbed::background::Background;
use e2e::testbed::pki::Authority;
use e2e::testbed::{binaries, images, pipeline};
use e2e::wait::Pending;
use e2e::{Client, Result, check};
use serde_json::{Value, json};

use super::rotation::{self, Requests};
use super::{MINUTE, TIMEOUT, condition, patch_spec, ready};

/// A new CA is used after 2 s, because there is one kube-apiserver; the replicas are verified all the same.
const QUICK: &str = "extraArgs[0]=--ca-trust-settles=2";
const GRANTED: &str = "certManager.enabled=true";

/// The timeout for reporting a fault, and for detecting its repair.
const SOON: Duration = Duration::from_secs(30);

const CRDS: [&str; 4] = ["certificates", "certificaterequests", "issuers", "clusterissuers"];

pub(super) fn add(suite: &mut Suite) {
    let group = suite.group_with("certmanager", Vec::new(), Some(prepare));
    suite.add(&group, "reports_a_missing_cert_manager", Needs::Alone, missing);
    suite.add(&group, "cert_manager_issues_the_serving_certificate", Needs::Alone, issues);
}

fn prepare(env: &TestEnv) -> Result<()> {
    pipeline::load(env.own_cluster()?, &images::for_scenarios(&env.progress)?)?;
    install(env, &[QUICK])?;
    let spec = json!({"metricsCore": {"replicas": 2}});
    env.client.apply(&pipeline::manifest(pipeline::NAME, &spec))?;
    ready(&env.client)
}

fn install(env: &TestEnv, values: &[&str]) -> Result<()> {
    let built = images::for_scenarios(&env.progress)?;
    let helm = binaries::helm(&env.progress)?;
    pipeline::install_with(&env.client, &helm, &built, values)?;
    Ok(())
}

/// Without the permission, without the API, without the controllers: each is reported, and the pipeline keeps
/// serving.
fn missing(env: &TestEnv) -> Result<()> {
    let client = &env.client;
    ready(client)?;
    for crd in CRDS {
        client.delete(&["crd", &format!("{crd}.cert-manager.io")])?;
    }
    install(env, &[QUICK])?;
    request_from(client, &json!({"name": "company", "kind": "ClusterIssuer"}))?;
    named(client, "False", "PermissionMissing", &["--set certManager.enabled=true"])?;
    install(env, &[QUICK, GRANTED])?;
    named(client, "False", "CertManagerNotInstalled", &["cert-manager.io/v1", "helm install cert-manager"])?;
    serves(client)?;
    let [_, crds] = binaries::cert_manager(&env.progress)?;
    served(client, &crds)?;
    let message = named(
        client,
        "False",
        "CertificateNotIssued",
        &["cert-manager has not processed it", "kubectl describe"],
    )?;
    env.progress.say(format!("cert-manager without its controller: {message}"));
    serves(client)?;
    self_signed(client)
}

/// A CA issuer that is created late, renewals during requests, another CA, drift, and the way back.
fn issues(env: &TestEnv) -> Result<()> {
    let client = &env.client;
    ready(client)?;
    let [program, crds] = binaries::cert_manager(&env.progress)?;
    served(client, &crds)?;
    install(env, &[QUICK, GRANTED])?;
    let controllers = Background::start(&mut client.command(&program))?;
    let outcome = issued(env);
    let log = controllers.errors();
    let last = log.lines().rev().take(5).collect::<Vec<_>>().join("\n");
    outcome.map_err(|error| failed(format!("{error}\ncert-manager's log ends, latest first:\n{last}")))
}

fn issued(env: &TestEnv) -> Result<()> {
    let client = &env.client;
    let requests = Requests::start(
        env.own_cluster()?,
        &["/apis/metrics.k8s.io/v1beta1/nodes", "/apis/metrics.k8s.io/v1/pods"],
    )?;

    request_from(client, &json!({"name": "company"}))?;
    let message = named(
        client,
        "False",
        "CertificateNotIssued",
        &[
            "CertificateRequest metrics-pipeline/metrics-core-1",
            "not found",
            "issuer.cert-manager.io company",
        ],
    )?;
    env.progress.say(format!("an issuer that is missing: {message}"));

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

    // The issued certificate stays in use while the next issuer is missing.
    request_from(client, &json!({"name": "elsewhere", "kind": "ClusterIssuer"}))?;
    named(client, "True", "CertificateNotIssued", &["clusterissuer.cert-manager.io", "continues to serve"])?;
    request_from(client, &json!({"name": "company"}))?;
    named(client, "True", "AsExpected", &["Issuer company"])?;

    let names = json!([{"op": "replace", "path": "/spec/dnsNames", "value": ["elsewhere"]}]).to_string();
    let certificate = ["-n", pipeline::NAMESPACE, "certificates.cert-manager.io", "metrics-core"];
    client.run(&[&["patch"][..], &certificate, &["--type=json", "-p", &names]].concat())?;
    client.wait_for("the Certificate is reverted", SOON, |client| {
        match &client.get(&certificate)?["spec"]["dnsNames"][0] {
            Value::String(name) if name.starts_with("metrics-core.") => Ok(()),
            other => Err(other.to_string().into()),
        }
    })?;
    taken_over(client, &fourth)?;

    self_signed(client)?;
    let (good, bad) = requests.stop()?;
    env.progress.say(format!("cert-manager's certificates: {good} lists succeeded, {} failed", bad.len()));
    check!(bad.is_empty() && good > 500, "{good} good, {} bad: {:?}", bad.len(), bad.first());
    Ok(())
}

/// Sets the issuer that is requested from cert-manager.
fn request_from(client: &Client, issuer: &Value) -> Result<()> {
    // Null removes the fields of the previous issuer.
    let spec = json!({"source": "CertManager", "certManager": {"issuerRef": {"kind": null, "group": null}}});
    let mut patch = json!({"certificates": spec});
    for (field, value) in issuer.as_object().into_iter().flatten() {
        patch["certificates"]["certManager"]["issuerRef"][field] = value.clone();
    }
    patch_spec(client, patch)
}

/// Restores a CA of the operator's own: the Certificate is deleted, and everything is as before.
fn self_signed(client: &Client) -> Result<()> {
    patch_spec(client, json!({"certificates": {"source": "SelfSigned", "certManager": null}}))?;
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

/// Waits until CertificatesReady has a status and a reason and contains a text; returns its message.
fn named(client: &Client, status: &str, reason: &str, words: &[&str]) -> Result<String> {
    client.wait_for(&format!("CertificatesReady is {status}, {reason}"), SOON, |client| {
        let object = client.get(&["mpl", pipeline::NAME])?;
        let found = condition(&object, "CertificatesReady").cloned().unwrap_or_default();
        let message = found["message"].as_str().unwrap_or_default();
        let current = found["observedGeneration"] == object["metadata"]["generation"];
        let matches = words.iter().all(|words| message.contains(words));
        if current && matches && found["status"] == status && found["reason"] == reason {
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

/// Creates an issuer that signs with the CA of Secret `company-ca`.
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
    // cert-manager signs with the Secret in its cache.
    thread::sleep(Duration::from_secs(2));
    Ok(())
}

/// Requests a new certificate, as `cmctl renew` does.
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

/// Waits until a new certificate of cert-manager is served and only its CA is trusted; returns the certificate.
fn taken_over(client: &Client, before: &str) -> Result<String> {
    let leaf = client.wait_for(
        "cert-manager's certificate is served, and only its CA trusted",
        TIMEOUT,
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
