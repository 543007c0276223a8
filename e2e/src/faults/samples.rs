//! Faults of samples: kubelets respond, but what they return is incomplete or wrong.
//!
//! A Node of its own has a fake kubelet ([`super::sample_kubelet`]), whose samples are good until a fault is injected
//! and again after its repair.

use std::time::Duration;

use serde_json::json;

use super::sample_kubelet::{PODS, SampleFault, SampleKubelet};
use super::{Action, Fault, FaultEnv, LIMIT, cannot_inject, settled};
use crate::error::Result;
use crate::testbed::pki::Subject;
use crate::wait;

/// The Node with the fake kubelet, and its port: the real kubelet has 10250 on the same address.
const NODE: &str = "sampled";
const PORT: u16 = 10350;
/// A second Node with the same address and port.
const TWIN: &str = "sampled-twin";

/// The limit for what a single response does not show: standing timestamps and missing pods (120 s, and a scrape).
const SLOW: Duration = Duration::from_secs(140);
/// The limit for clearing: a cause is held for two scrapes and 10 s, so that it does not come and go.
const CLEARED: Duration = Duration::from_secs(60);

const fn fault(
    name: &'static str,
    (status, reason): (&'static str, &'static str),
    contains: &'static [&'static str],
    inject: Action,
) -> Fault {
    Fault {
        short: false,
        status,
        flips_ready: false,
        cleared_limit: CLEARED,
        clean_up: remove,
        ..Fault::new("NodesCovered", name, reason, NODE, contains, (inject, repair))
    }
}

/// The faults of samples.
pub const SAMPLES: &[Fault] = &[
    Fault {
        short: true,
        ..fault(
            "kubelet reports a scrape error",
            ("False", "KubeletScrapeErrors"),
            &["resource_scrape_error", "1 node", "journalctl -u kubelet"],
            |env| inject(env, SampleFault::ScrapeError),
        )
    },
    // Without any sample the scrape fails.
    Fault {
        condition: "KubeletsReachable",
        ..fault(
            "kubelet collects nothing",
            ("False", "KubeletScrapeErrors"),
            &["resource_scrape_error", "1 node", "journalctl -u kubelet"],
            |env| inject(env, SampleFault::NothingCollected),
        )
    },
    fault(
        "kubelet returns no containers",
        ("False", "KubeletContainersMissing"),
        &["1 node", "cAdvisor"],
        |env| inject(env, SampleFault::NoContainers),
    ),
    Fault {
        // A container that is young may report zero for as long as its first sample is cached.
        limit: Duration::from_secs(50),
        ..fault(
            "container without memory",
            ("False", "KubeletZeroUsage"),
            &["1 container on 1 node", "crictl stats"],
            |env| inject(env, SampleFault::ZeroUsage),
        )
    },
    Fault {
        limit: SLOW,
        ..fault(
            "Running pod missing from the responses",
            ("False", "PodsMissing"),
            &["1 pod on 1 node", "CrashLoopBackOff"],
            |env| inject(env, SampleFault::PodMissing),
        )
    },
    Fault {
        limit: SLOW,
        ..fault(
            "timestamps of containers stand still",
            ("False", "KubeletTimestampsStalled"),
            &["3 containers on 1 node", "crictl stats"],
            |env| inject(env, SampleFault::Stalled),
        )
    },
    fault(
        "node's clock an hour ahead (warning)",
        ("True", "KubeletClockSkew"),
        &["1 node", "ahead of the clock", "NTP"],
        |env| inject(env, SampleFault::ClockAhead),
    ),
    fault(
        "two Nodes with one address",
        ("False", "KubeletAddressConflict"),
        &["2 nodes", TWIN, "--node-ip"],
        |env| {
            inject(env, SampleFault::None)?;
            let address = env.cluster.node().address.to_string();
            env.cluster.add_node(TWIN, &[("InternalIP", &address)], PORT)
        },
    ),
    fault(
        "implausible CPU usage",
        ("False", "KubeletUsageImplausible"),
        &["1 container on 1 node", "capacity"],
        |env| inject(env, SampleFault::ImplausibleUsage),
    ),
    fault(
        "two series for one container (warning)",
        ("True", "KubeletSeriesDuplicated"),
        &["1 container on 1 node", "cgroup"],
        |env| inject(env, SampleFault::DuplicateSeries),
    ),
];

/// Adds the Node with good samples, waits until it has metrics, and makes the samples faulty.
fn inject(env: &FaultEnv<'_>, fault: SampleFault) -> Result<()> {
    let address = env.cluster.node().address;
    let subject = Subject::server("system:node:sampled", &[NODE], &[address.into()]);
    let identity = env.cluster.cluster_authority()?.issue(&subject)?;
    let kubelet = env.cluster.network().inside(|| SampleKubelet::start(PORT, &identity))?;
    *env.kubelet.lock() = Some(kubelet);
    env.cluster.add_node(NODE, &[("InternalIP", &address.to_string())], PORT)?;
    for pod in PODS {
        let object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": pod, "namespace": "default"},
            "spec": {"nodeName": NODE, "tolerations": [{"operator": "Exists"}],
                "containers": [{"name": "c", "image": "none"}]}});
        env.client.apply(&object.to_string())?;
        let running = r#"{"status":{"phase":"Running"}}"#;
        env.client.run(&["-n", "default", "patch", "pod", pod, "--subresource=status", "-p", running])?;
    }
    let path = |pod: &str| format!("/apis/metrics.k8s.io/v1beta1/namespaces/default/pods/{pod}");
    wait::until(LIMIT, "the pods of the fake kubelet have metrics", || {
        PODS.iter().try_for_each(|pod| env.client.raw(&path(pod)).map(drop))?;
        Ok(())
    })?;
    settled(&env.client)?;
    set(env, fault)
}

fn set(env: &FaultEnv<'_>, fault: SampleFault) -> Result<()> {
    env.kubelet.lock().as_ref().ok_or_else(|| cannot_inject("the fake kubelet does not run"))?.set(fault);
    Ok(())
}

/// Makes the samples good again.
fn repair(env: &FaultEnv<'_>) -> Result<()> {
    env.cluster.remove_node(TWIN)?;
    set(env, SampleFault::None)
}

/// Removes the Node.
fn remove(env: &FaultEnv<'_>) -> Result<()> {
    for pod in PODS {
        let force = ["--force", "--grace-period=0"];
        env.client.delete(&[&["-n", "default", "pod", pod][..], &force].concat())?;
    }
    env.cluster.remove_node(NODE)?;
    *env.kubelet.lock() = None;
    settled(&env.client)
}
