//! `cargo demo`: from an empty machine to `kubectl top` on a real Kubernetes.

#![allow(clippy::print_stdout, reason = "what it shows is its output")]

use std::process::{ExitCode, Stdio};
use std::time::Duration;

use clap::Parser;
use e2e::testbed::{binaries, images, pipeline};
use e2e::wait::Pending;
use e2e::{Client, Cluster, ClusterSpec, Progress, Result, command};
use serde_json::json;

/// Brings up a single-node Kubernetes on this machine, installs the operator with Helm, applies one
/// MetricsPipeline, and shows that `kubectl top` and a HorizontalPodAutoscaler work.
#[derive(Parser)]
#[command(name = "cargo demo")]
struct Arguments {
    /// Name of the cluster; an existing one is used.
    #[arg(long, default_value = "default")]
    name: String,
}

/// The namespace of the demo's workload.
const WORKLOAD: &str = "demo";

fn main() -> ExitCode {
    e2e::cli::main(run)
}

fn run(arguments: &Arguments) -> Result<bool> {
    let progress = Progress::default();
    progress.say("1/6 build the images and Helm");
    let built = images::project(&progress)?;
    let helm = binaries::helm(&progress)?;

    progress.say(
        "2/6 start a real Kubernetes: etcd, kube-apiserver, controllers, containerd, kubelet, kube-proxy",
    );
    let cluster = Cluster::up(&ClusterSpec::new(&arguments.name), &progress)?;
    let client = cluster.client();
    progress.step("images loaded", |_| {
        cluster.load(&images::busybox()?)?;
        pipeline::load(&cluster, &built)
    })?;

    progress.say("3/6 helm install metrics-pipeline");
    progress.step("the operator is ready", |_| pipeline::install(&client, &helm, &built))?;
    client.apply(
        &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": WORKLOAD}}).to_string(),
    )?;
    client.apply(&pipeline::busy_deployment(WORKLOAD))?;

    progress.say("4/6 kubectl apply: one MetricsPipeline with an empty spec");
    client.apply(&pipeline::manifest(pipeline::NAME, &json!({})))?;
    progress.step("the pipeline is Ready", |step| await_ready(&client, &progress, step))?;

    progress.say("5/6 metrics");
    progress.step("kubectl top reports 90m to 110m for a busy container with a limit of 100m", |step| {
        client.wait_for("kubectl top reports 90m to 110m", Duration::from_secs(90), |client| {
            let cpu = pipeline::top_millicores(client, WORKLOAD, "busy")?;
            step.note(format!("{cpu}m"));
            if (90..=110).contains(&cpu) { Ok(()) } else { Err(format!("{cpu}m").into()) }
        })
    })?;

    progress.say("6/6 autoscaling");
    progress.step("the HorizontalPodAutoscaler scaled the busy Deployment to 2", |step| {
        client.wait_for("two replicas run", Duration::from_secs(120), |client| {
            let deployment = client.get(&["-n", WORKLOAD, "deployment", "busy"])?;
            let hpa = client.get(&["-n", WORKLOAD, "hpa", "busy"])?;
            step.note(hpa["status"].to_string());
            match deployment["status"]["readyReplicas"].as_u64() {
                Some(2) => Ok(()),
                ready => Err(Pending(format!("{ready:?} ready; HPA: {}", hpa["status"]))),
            }
        })
    })?;

    println!("\n$ kubectl get metricspipelines\n");
    show(&client, &["get", "metricspipelines"])?;
    println!();
    let table = pipeline::conditions(&client.get(&["mpl", pipeline::NAME])?);
    println!("{:<22} {:<8} {:<20} MESSAGE", "CONDITION", "STATUS", "REASON");
    for [condition, status, reason, message] in table {
        println!("{condition:<22} {status:<8} {reason:<20} {message}");
    }
    for command in [
        &["top", "nodes"] as &[&str],
        &["top", "pods", "-A", "--containers"],
        &["get", "hpa", "-n", WORKLOAD],
        &["get", "apiservices", "v1beta1.metrics.k8s.io", "v1.metrics.k8s.io"],
    ] {
        println!("\n$ kubectl {}\n", command.join(" "));
        show(&client, command)?;
    }
    let option = match arguments.name.as_str() {
        "default" => String::new(),
        name => format!("--name {name} "),
    };
    println!(
        "\nNext:\n  cargo cluster {option}kubectl describe mpl {name}\n  cargo cluster {option}kubectl -n {namespace} \
         get all,secrets,configmaps\n  cargo cluster {option}kubectl -n {namespace} logs deploy/metrics-core\n  cargo cluster \
         {option}kubectl explain mpl.spec --recursive\n  cargo cluster {option}status\nClean up:\n  cargo cluster \
         {option}kubectl delete mpl {name}      # deletes the pipeline, the APIServices first\n  cargo cluster {option}down\
         \n\nTotal time: {:.0} s.",
        progress.elapsed().as_secs_f64(),
        name = pipeline::NAME,
        namespace = pipeline::NAMESPACE,
    );
    Ok(true)
}

/// Waits for Ready and prints each change of the condition.
fn await_ready(client: &Client, progress: &Progress, step: &e2e::progress::Step) -> Result<()> {
    let mut last = String::new();
    client.wait_for("the MetricsPipeline is Ready", Duration::from_secs(180), |client| {
        let conditions = pipeline::conditions(&client.get(&["mpl", pipeline::NAME])?);
        let Some([_, status, reason, message]) = conditions.iter().find(|row| row[0] == "Ready") else {
            return Err("no condition yet".into());
        };
        if status == "True" {
            return Ok(());
        }
        let now = format!("{reason}: {message}");
        if now != last {
            progress.say(format!("  Ready={status}, {now}"));
            step.note(now.clone());
            last.clone_from(&now);
        }
        Err(now.into())
    })
}

/// Runs kubectl with the standard output of this process.
fn show(client: &Client, arguments: &[&str]) -> Result<()> {
    command::shown(client.kubectl().args(arguments).stdin(Stdio::null()))
}
