//! The test bed itself: starting clusters, repairing them, changing their flags, taking them down.

use std::time::Duration;

use e2e::suite::{Needs, Suite, TestEnv};
use e2e::testbed::cluster::{COMPONENTS, Cluster, ClusterSpec, FlagChange};
use e2e::testbed::mounts;
use e2e::{Result, check};

use crate::workloads::start;

pub fn add(suite: &mut Suite) {
    let group = suite.group("repair");
    suite.add(&group, "up_twice_changes_nothing", Needs::Alone, up_twice_changes_nothing);
    suite.add(&group, "up_repairs_what_was_killed", Needs::Alone, up_repairs_what_was_killed);
    suite.add(&group, "flags_of_the_api_server_change", Needs::Alone, flags_of_the_api_server_change);
    suite.add(&group, "two_clusters_stand_side_by_side", Needs::OurCluster, two_clusters_stand_side_by_side);
}

/// Returns the specification of the same cluster, owned by this process.
fn again(cluster: &Cluster) -> ClusterSpec {
    ClusterSpec::new(&cluster.layout().name).owned_by_this_process()
}

fn pids(cluster: &Cluster) -> Vec<(&'static str, Option<i32>)> {
    cluster.status().components
}

fn up_twice_changes_nothing(env: &TestEnv) -> Result<()> {
    let cluster = env.own_cluster()?;
    let before = pids(cluster);
    check!(before.iter().all(|(_, pid)| pid.is_some()), "not all components run: {before:?}");
    let cluster = Cluster::up(&again(cluster), &env.progress.clone().quiet())?;
    let after = pids(&cluster);
    check!(before == after, "components were started anew: {before:?}, then {after:?}");
    Ok(())
}

fn up_repairs_what_was_killed(env: &TestEnv) -> Result<()> {
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
        check!(!broken.is_healthy(), "{victims:?} were killed, yet all is well: {broken:?}");
        let repaired = Cluster::up(&again(cluster), &env.progress.clone().quiet())?.status();
        check!(repaired.is_healthy(), "after {victims:?} were killed, `up` leaves {repaired:?}");
    }
    let after = container()?;
    check!(before == after, "the pod did not outlive its kubelet and containerd: {before}, then {after}");
    Ok(())
}

/// The fault that the project began with: quoting merged three arguments into one.
fn flags_of_the_api_server_change(env: &TestEnv) -> Result<()> {
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

fn two_clusters_stand_side_by_side(env: &TestEnv) -> Result<()> {
    let first = env.own_cluster()?;
    let name = format!("t{}-beside", std::process::id());
    let quiet = env.progress.clone().quiet();
    let second = Cluster::up(&ClusterSpec::new(&name).owned_by_this_process(), &quiet)?;
    let both = [first.status(), second.status()];
    let layout = second.layout().clone();
    let cgroup = second.node().cgroup().clone();
    Cluster::down(&name, &quiet)?;
    check!(both.iter().all(e2e::testbed::cluster::Status::is_healthy), "not both are well: {both:?}");
    check!(first.status().is_healthy(), "the first suffers from the end of the second: {:?}", first.status());
    for directory in [&layout.data, &layout.run] {
        check!(!directory.exists(), "{} is left", directory.display());
        check!(mounts::under(directory).is_empty(), "mounts are left below {}", directory.display());
    }
    check!(cgroup.processes().is_empty(), "processes are left in {}", cgroup.root());
    Ok(())
}
