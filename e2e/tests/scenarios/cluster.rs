//! The test bed itself: starting clusters, repairing them, changing their flags, taking them down.

use std::time::Duration;

use e2e::suite::{Needs, Suite, TestEnv};
use e2e::testbed::cluster::{COMPONENTS, Cluster, ClusterSpec, FlagChange};
use e2e::testbed::mounts;
use e2e::{Result, check};

use crate::workloads::start;

pub(crate) fn add(suite: &mut Suite) {
    let group = suite.group("repair");
    suite.add(&group, "second_up_changes_nothing", Needs::Alone, second_up_changes_nothing);
    suite.add(&group, "up_restarts_killed_components", Needs::Alone, up_restarts_killed_components);
    suite.add(&group, "changes_flags_of_the_api_server", Needs::Alone, changes_flags_of_the_api_server);
    suite.add(&group, "runs_two_clusters_in_parallel", Needs::OurCluster, runs_two_clusters_in_parallel);
}

/// Returns the specification of the same cluster, owned by this process.
fn again(cluster: &Cluster) -> ClusterSpec {
    ClusterSpec::new(&cluster.layout().name).owned_by_this_process()
}

fn pids(cluster: &Cluster) -> Vec<(&'static str, Option<i32>)> {
    cluster.status().components
}

fn second_up_changes_nothing(env: &TestEnv) -> Result<()> {
    let cluster = env.own_cluster()?;
    let before = pids(cluster);
    check!(before.iter().all(|(_, pid)| pid.is_some()), "not all components run: {before:?}");
    let cluster = Cluster::up(&again(cluster), &env.progress.clone().quiet())?;
    let after = pids(&cluster);
    check!(before == after, "components were restarted: {before:?}, then {after:?}");
    Ok(())
}

fn up_restarts_killed_components(env: &TestEnv) -> Result<()> {
    let cluster = env.own_cluster()?;
    let namespace = env.namespace()?;
    start(env, "survivor", &["sleep", "3600"])?;
    let container = || -> Result<String> {
        let pod = env.client.get(&["-n", namespace, "pod", "survivor"])?;
        let status = &pod["status"]["containerStatuses"][0];
        Ok(format!("{} {} {}", pod["metadata"]["uid"], status["containerID"], status["restartCount"]))
    };
    let before = container()?;
    for victims in [&["kubelet"][..], &["containerd"], &["kube-apiserver"], &COMPONENTS] {
        victims.iter().try_for_each(|name| cluster.kill(name))?;
        let broken = cluster.status();
        check!(!broken.is_healthy(), "{victims:?} were killed, but the cluster is healthy: {broken:?}");
        let repaired = Cluster::up(&again(cluster), &env.progress.clone().quiet())?.status();
        check!(repaired.is_healthy(), "after {victims:?} were killed, `up` left {repaired:?}");
    }
    let after = container()?;
    check!(
        before == after,
        "the pod did not survive the restart of kubelet and containerd: {before}, then {after}"
    );
    Ok(())
}

/// The fault that the project began with: quoting merged three arguments into one.
fn changes_flags_of_the_api_server(env: &TestEnv) -> Result<()> {
    let cluster = env.own_cluster()?;
    let swallowed = "X-Remote-Extra- --requestheader-group-headers=X-Remote-Group \
                     --requestheader-username-headers=X-Remote-User";
    let changes = [
        FlagChange::remove("requestheader-group-headers"),
        FlagChange::remove("requestheader-username-headers"),
        FlagChange::set("requestheader-extra-headers-prefix", swallowed),
    ];
    let published = ["-n", "kube-system", "configmap", "extension-apiserver-authentication"];
    let prefix = |expected: &str| {
        // kube-apiserver merges into the existing ConfigMap: only a new one contains just the current flags.
        env.client.delete(&published)?;
        env.client.wait_for("the new prefix is published", Duration::from_secs(60), |client| {
            let data = client.get(&published)?["data"].clone();
            let found = data["requestheader-extra-headers-prefix"].as_str().unwrap_or_default().to_owned();
            if found == format!("[{expected:?}]") { Ok(()) } else { Err(found.into()) }
        })
    };
    cluster.restart_apiserver_with(&changes, &env.progress.clone().quiet())?;
    let result = prefix(swallowed);
    cluster.restart_apiserver_with(&[], &env.progress.clone().quiet())?;
    result?;
    prefix("X-Remote-Extra-")
}

fn runs_two_clusters_in_parallel(env: &TestEnv) -> Result<()> {
    let first = env.own_cluster()?;
    let name = format!("t{}-beside", std::process::id());
    let quiet = env.progress.clone().quiet();
    let second = Cluster::up(&ClusterSpec::new(&name).owned_by_this_process(), &quiet)?;
    let both = [first.status(), second.status()];
    let layout = second.layout().clone();
    let cgroup = second.node().cgroup().clone();
    Cluster::down(&name, &quiet)?;
    check!(both.iter().all(e2e::testbed::cluster::Status::is_healthy), "not both are healthy: {both:?}");
    check!(
        first.status().is_healthy(),
        "taking the second cluster down affected the first: {:?}",
        first.status()
    );
    for directory in [&layout.data, &layout.run] {
        check!(!directory.exists(), "{} still exists", directory.display());
        check!(mounts::under(directory).is_empty(), "mounts remain below {}", directory.display());
    }
    check!(cgroup.processes().is_empty(), "processes remain in {}", cgroup.root());
    Ok(())
}
