//! Certificates with a validity of seconds: CA and serving certificate are replaced repeatedly, and no request fails.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use e2e::suite::{Needs, Suite, TestEnv, failed};
use e2e::testbed::{binaries, images, pipeline};
use e2e::{Client, Cluster, Result, check};
use serde_json::{Value, json};

use super::{METRICS_CORE_PODS, MINUTE, TIMEOUT, ready};

/// Validities of an hour become 30 s: a CA is replaced after 20 s.
const COMPRESSED: [&str; 2] =
    ["extraArgs[0]=--certificate-time-compression=120", "extraArgs[1]=--ca-trust-settles=2"];
const VALIDITY: Duration = Duration::from_secs(30);
const REPLICAS: u8 = 2;

const SHORT: usize = 3;
const LONG: usize = 100;

pub(super) fn add(suite: &mut Suite) {
    let group = suite.group_with("rotation", Vec::new(), Some(prepare));
    suite.add(&group, "no_request_fails_while_certificates_rotate", Needs::Alone, rotate);
    suite.add(&group, "switches_to_a_foreign_certificate_and_back", Needs::Alone, take_over);
    suite.add(&group, "operator_recovers_after_all_certificates_expired", Needs::Alone, recover);
}

fn prepare(env: &TestEnv) -> Result<()> {
    let built = images::for_scenarios(&env.progress)?;
    let helm = binaries::helm(&env.progress)?;
    pipeline::load(env.own_cluster()?, &built)?;
    pipeline::install_with(&env.client, &helm, &built, &COMPRESSED)?;
    let spec = json!({
        "metricsCore": {"replicas": REPLICAS},
        "certificates": {"caValidity": "1h", "servingValidity": "1h"},
    });
    env.client.apply(&pipeline::manifest(pipeline::NAME, &spec))?;
    ready(&env.client)
}

/// Continuous requests through the API server; each writes its status to a line of a file.
pub(super) struct Requests {
    processes: Vec<Child>,
    directory: PathBuf,
}

impl Requests {
    /// Starts 20 requests per second for each path.
    pub(super) fn start(cluster: &Cluster, paths: &[&str]) -> Result<Self> {
        let broken = |error: std::io::Error| failed(format!("requests: {error}"));
        let directory = cluster.layout().run.join("requests");
        fs::create_dir_all(&directory).map_err(broken)?;
        let authority = cluster.cluster_authority()?;
        let admin = authority.issue(&e2e::testbed::pki::Subject::user("requests", Some("system:masters")))?;
        admin.save(&directory, "client")?;
        e2e::testbed::pki::write_private(&directory.join("ca.crt"), authority.certificate())?;
        let mut requests = Self { processes: Vec::new(), directory };
        for (number, path) in paths.iter().enumerate() {
            let file = |name: &str| requests.directory.join(name);
            let mut curl = cluster.network().command("curl");
            curl.args(["--silent", "--noproxy", "*", "--max-time", "20", "--rate", "20/s"]);
            curl.arg("--cert").arg(file("client.crt")).arg("--key").arg(file("client.key"));
            curl.arg("--cacert").arg(file("ca.crt"));
            curl.args(["--output", "/dev/null", "--write-out", "%{stderr}%{http_code} %{errormsg}\n"]);
            curl.arg(format!("{}{path}?limit=500&ignored=[1-100000000]", e2e::testbed::cluster::server()));
            let output = File::create(requests.lines(number)).map_err(broken)?;
            // Standard error, because it is not buffered when curl is killed.
            curl.stdin(Stdio::null()).stdout(Stdio::null()).stderr(output);
            requests.processes.push(curl.spawn().map_err(broken)?);
        }
        Ok(requests)
    }

    fn lines(&self, number: usize) -> PathBuf {
        self.directory.join(format!("{number}.txt"))
    }

    /// Returns the number of responses with 200, and the other lines.
    pub(super) fn stop(mut self) -> Result<(usize, Vec<String>)> {
        let (mut good, mut bad) = (0, Vec::new());
        for number in 0..self.processes.len() {
            let process = &mut self.processes[number];
            let ended = process.try_wait().ok().flatten();
            check!(ended.is_none(), "curl ended early: {ended:?}");
            let _ = process.kill();
            let _ = process.wait();
            let text = fs::read_to_string(self.lines(number))
                .map_err(|error| failed(format!("read the output of curl: {error}")))?;
            // The last line may be incomplete.
            let whole = text.rfind('\n').map_or("", |end| &text[..end]);
            for line in whole.lines() {
                match line.trim() {
                    "200" => good += 1,
                    other => bad.push(other.to_owned()),
                }
            }
        }
        Ok((good, bad))
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Returns the contents of the Secrets: the CA, whether an earlier one is still trusted, and the serving certificate.
fn certificates(client: &Client) -> Result<(String, bool, String)> {
    let secrets =
        client.get(&["-n", pipeline::NAMESPACE, "secrets", "metrics-core-ca", "metrics-core-serving"])?;
    let data =
        |at: usize, key: &str| secrets["items"][at]["data"][key].as_str().unwrap_or_default().to_owned();
    Ok((data(0, "tls.crt"), !data(0, "previous.crt").is_empty(), data(1, "tls.crt")))
}

fn restarts(client: &Client) -> Result<String> {
    let pods =
        client.get(&["-n", pipeline::NAMESPACE, "pods", "-l", "app.kubernetes.io/name=metrics-core"])?;
    let one = |pod: &Value| {
        let status = &pod["status"]["containerStatuses"][0];
        format!("{} {} {}", pod["metadata"]["name"], status["containerID"], status["restartCount"])
    };
    let mut all: Vec<_> = pods["items"].as_array().into_iter().flatten().map(one).collect();
    all.sort();
    Ok(all.join("; "))
}

fn rotate(env: &TestEnv) -> Result<()> {
    let client = &env.client;
    ready(client)?;
    let wanted = if env.long { LONG } else { SHORT };
    let before = restarts(client)?;
    let list = "/apis/metrics.k8s.io/v1beta1/";
    let paths =
        [&format!("{list}nodes"), &format!("{list}pods"), &format!("{}pods", list.replace("v1beta1", "v1"))];
    let requests = Requests::start(env.own_cluster()?, &paths.map(String::as_str))?;
    let began = Instant::now();
    let (mut authorities, mut leaves, mut overlaps) = (BTreeSet::new(), BTreeSet::new(), 0);
    let mut overlapped = false;
    let deadline = began + (VALIDITY * u32::try_from(wanted).unwrap_or(u32::MAX)).max(MINUTE) + MINUTE * 2;
    // The initial one is no rotation.
    while overlaps < wanted && Instant::now() < deadline {
        // kubectl may time out on a busy machine; this is not one of the counted requests.
        let Ok((authority, overlapping, leaf)) = certificates(client) else { continue };
        authorities.insert(authority);
        leaves.insert(leaf);
        // An overlap that ended is a completed rotation.
        overlaps += usize::from(overlapped && !overlapping);
        overlapped = overlapping;
        thread::sleep(Duration::from_millis(500));
    }
    let (good, bad) = requests.stop()?;
    env.progress.say(format!(
        "{overlaps} rotations in {} s ({} CAs, {} serving certificates, {REPLICAS} replicas): {good} lists answered, {} failed",
        began.elapsed().as_secs(),
        authorities.len(),
        leaves.len(),
        bad.len()
    ));
    check!(
        bad.is_empty(),
        "{} of {} requests failed: {:?}",
        bad.len(),
        good + bad.len(),
        &bad[..bad.len().min(5)]
    );
    check!(overlaps >= wanted, "only {overlaps} of {wanted} rotations");
    check!(good > wanted * 100, "only {good} requests");
    check!(restarts(client)? == before, "metrics-core was restarted: {before}, then {}", restarts(client)?);
    ready(client)
}

/// No operator renews until after everything has expired; then the operator comes back.
fn recover(env: &TestEnv) -> Result<()> {
    let client = &env.client;
    let scale = |replicas: &str| {
        client.run(&[
            "-n",
            pipeline::NAMESPACE,
            "scale",
            "deployment/metrics-pipeline-operator",
            "--replicas",
            replicas,
        ])
    };
    ready(client)?;
    scale("0")?;
    let gone =
        client.wait_for("nothing is served with an expired certificate", VALIDITY + MINUTE, |client| {
            // The API server verifies when it connects and keeps open connections, so the replicas are replaced too.
            match client.raw("/apis/metrics.k8s.io/v1beta1/nodes") {
                Ok(_) => {
                    thread::sleep(Duration::from_secs(5));
                    client.delete(&["-n", pipeline::NAMESPACE, "pods", "-l", METRICS_CORE_PODS])?;
                    Err("it is still served".into())
                }
                Err(error) => Ok(error.to_string()),
            }
        });
    let began = Instant::now();
    scale("1")?;
    let said = gone?;
    // Ready may still be what the operator wrote before it was stopped.
    client.wait_for("lists succeed again", MINUTE, |client| {
        client.raw("/apis/metrics.k8s.io/v1beta1/nodes")?;
        Ok(())
    })?;
    ready(client)?;
    env.progress.say(format!(
        "expired ({}); answered and Ready again {} s after the operator's start",
        said.lines().last().unwrap_or_default(),
        began.elapsed().as_secs()
    ));
    Ok(())
}

/// From the operator's CA to a certificate of another CA, to the next one of yet another CA, and back.
fn take_over(env: &TestEnv) -> Result<()> {
    let client = &env.client;
    ready(client)?;
    let source = |spec: &Value| {
        let patch = json!({"spec": {"certificates": spec}});
        client.run(&["patch", "mpl", pipeline::NAME, "--type=merge", "-p", &patch.to_string()])
    };
    source(&json!({"source": "Secret", "secretRef": {"name": "company"}}))?;
    let missing =
        client.wait_for_condition(&["mpl", pipeline::NAME], "CertificatesReady", "False", MINUTE)?;
    check!(missing.to_string().contains("servingSecret=company"), "no remedy: {}", missing["status"]);
    let helm = binaries::helm(&env.progress)?;
    let built = images::for_scenarios(&env.progress)?;
    let grant = [&COMPRESSED[..], &["servingSecret=company"]].concat();
    pipeline::install_with(client, &helm, &built, &grant)?;

    let list = "/apis/metrics.k8s.io/v1beta1/nodes";
    let requests = Requests::start(env.own_cluster()?, &[list])?;
    for _ in 0..2 {
        let leaf = store(client)?;
        client.wait_for(
            "their certificate is served, and only their CA is trusted",
            MINUTE * 2,
            |client| {
                let serving = client.get(&["-n", pipeline::NAMESPACE, "secret", "metrics-core-serving"])?;
                let theirs = client.get(&["-n", pipeline::NAMESPACE, "secret", "company"])?;
                let served = decoded(&serving["data"]["tls.crt"])? == leaf;
                let alone = serving["data"]["ca.crt"] == theirs["data"]["ca.crt"];
                if served && alone { Ok(()) } else { Err(format!("served {served}, alone {alone}").into()) }
            },
        )?;
        ready(client)?;
    }
    source(&json!({"source": "SelfSigned", "secretRef": null}))?;
    our_own_is_served_alone(client)?;
    let (good, bad) = requests.stop()?;
    env.progress.say(format!("foreign certificates: {good} lists succeeded, {} failed", bad.len()));
    check!(bad.is_empty() && good > 100, "{good} good, {} bad: {:?}", bad.len(), bad.first());
    ready(client)
}

/// Waits until a certificate of the operator's CA is served, and no other CA is trusted.
pub(super) fn our_own_is_served_alone(client: &Client) -> Result<()> {
    client.wait_for("only a certificate of the operator's CA is served", TIMEOUT, |client| {
        let secrets =
            client.get(&["-n", pipeline::NAMESPACE, "secrets", "metrics-core-ca", "metrics-core-serving"])?;
        let data = |at: usize, key: &str| secrets["items"][at]["data"][key].clone();
        let settled = data(0, "previous.crt").is_null() && data(0, "tls.crt") == data(1, "ca.crt");
        if settled { Ok(()) } else { Err("not yet".into()) }
    })
}

/// Stores a new CA and certificate in the Secret `company`; returns the certificate.
fn store(client: &Client) -> Result<String> {
    use base64::Engine as _;
    let authority = e2e::testbed::pki::Authority::create("a company's CA")?;
    let name = format!("metrics-core.{}.svc", pipeline::NAMESPACE);
    let identity = authority.issue(&e2e::testbed::pki::Subject::server("metrics-core", &[&name], &[]))?;
    let text = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": "company", "namespace": pipeline::NAMESPACE},
        "data": {
            "tls.crt": text(&identity.certificate), "tls.key": text(&identity.key), "ca.crt": text(authority.certificate()),
        },
    });
    client.apply(&secret.to_string())?;
    Ok(identity.certificate)
}

fn decoded(value: &Value) -> Result<String> {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD.decode(value.as_str().unwrap_or_default());
    bytes
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| failed(format!("not base64 of text: {value}")))
}
