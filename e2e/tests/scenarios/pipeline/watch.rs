//! Watches with the clients that people use: kubectl, client-go's informer, kube-rs' watcher, and a raw stream.

use std::process::Command;
use std::sync::Arc;

use e2e::suite::{Group, Needs, Suite, TestEnv, failed};
use e2e::testbed::background::Background;
use e2e::testbed::http::{Request, Response};
use e2e::testbed::{binaries, pipeline};
use e2e::wait::Pending;
use e2e::{Result, check};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::kube_rs::KubeRsWatcher;
use super::{LOAD, MINUTE, TIMEOUT, metrics_core, metrics_core_pods, patch_spec, ready};
use crate::workloads;

pub(super) fn add(suite: &mut Suite, group: &Arc<Group>) {
    suite.add(group, "watches_report_each_sample_once", Needs::OurCluster, watches_report_each_sample_once);
    suite.add(
        group,
        "watch_stream_starts_with_initial_events",
        Needs::OurCluster,
        watch_stream_starts_with_initial_events,
    );
}

pub(super) fn add_rough(suite: &mut Suite, group: &Arc<Group>) {
    suite.add(group, "serves_no_watch_by_default", Needs::Alone, serves_no_watch_by_default);
    suite.add(
        group,
        "watches_continue_after_a_replica_ends",
        Needs::Alone,
        watches_continue_after_a_replica_ends,
    );
    suite.add(group, "limits_the_number_of_watches", Needs::Alone, limits_the_number_of_watches);
}

/// The kind of an event.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum EventKind {
    /// The client has to list everything again.
    #[default]
    Started,
    /// The client has listed everything.
    Synced,
    /// An object was added or modified.
    Modified,
    /// An object was deleted.
    Deleted,
    /// A failure, after which the client retries by itself.
    Failed,
}

/// An event that a client received.
#[derive(Clone, Debug, Default)]
pub(super) struct WatchEvent {
    pub kind: EventKind,
    /// `NAMESPACE/NAME` of the object.
    pub key: String,
    /// The time of the sample; empty if the client does not report it. The message of a failure.
    pub timestamp: String,
}

impl WatchEvent {
    pub(super) fn failure(words: String) -> Self {
        Self { kind: EventKind::Failed, key: String::new(), timestamp: words }
    }
}

/// All events that a client received, in order.
#[derive(Clone, Default)]
pub(super) struct EventLog(Arc<Mutex<Vec<WatchEvent>>>);

impl EventLog {
    pub(super) fn push(&self, seen: WatchEvent) {
        self.0.lock().push(seen);
    }

    fn all(&self) -> Vec<WatchEvent> {
        self.0.lock().clone()
    }
}

/// A client that watches, and its events so far.
struct Watcher {
    title: &'static str,
    source: Source,
}

enum Source {
    Program(Box<WatchProgram>),
    KubeRs(KubeRsWatcher),
}

/// A program that prints the events of a namespace.
struct WatchProgram {
    command: Command,
    lines: Background,
    read: fn(&str, &str) -> Option<WatchEvent>,
    namespace: String,
}

impl Watcher {
    fn seen(&self) -> Vec<WatchEvent> {
        match &self.source {
            Source::Program(program) => {
                let WatchProgram { lines, read, namespace, .. } = &**program;
                lines.lines().iter().filter_map(|line| read(line, namespace)).collect()
            }
            Source::KubeRs(watcher) => watcher.log().all(),
        }
    }

    /// Returns the events of one object.
    fn of(&self, key: &str) -> Vec<WatchEvent> {
        self.seen().into_iter().filter(|seen| seen.key == key).collect()
    }

    fn summary(&self) -> String {
        let seen = self.seen();
        let last = &seen[seen.len().saturating_sub(8)..];
        let errors = match &self.source {
            Source::Program(program) => program.lines.errors(),
            Source::KubeRs(_) => String::new(),
        };
        format!("{}: {} seen, the last: {last:?} {errors}", self.title, seen.len())
    }

    /// Restarts a program that ended before its first event. A program without retries may be routed to a deleted
    /// pod, because for a while after kube-apiserver was killed its EndpointSlice may list one.
    fn restart_if_ended_early(&mut self) -> Result<()> {
        if let Source::Program(program) = &mut self.source
            && program.lines.has_ended()
            && program.lines.lines().is_empty()
        {
            program.lines = Background::start(&mut program.command)?;
        }
        Ok(())
    }
}

/// Starts each kind of client on the pods of a namespace.
fn watchers(env: &TestEnv, namespace: &str) -> Result<Vec<Watcher>> {
    let cluster = env.own_cluster()?;
    let clients = binaries::clients(&env.progress)?;
    let newer = env.client.with_kubectl(clients.join("kubectl"));
    let program =
        |title, mut command: Command, read: fn(&str, &str) -> Option<WatchEvent>| -> Result<Watcher> {
            let lines = Background::start(&mut command)?;
            let program = WatchProgram { command, lines, read, namespace: namespace.to_owned() };
            Ok(Watcher { title, source: Source::Program(Box::new(program)) })
        };
    let with = |mut command: Command, arguments: &[&str]| {
        command.args(arguments);
        command
    };
    let table = ["get", "pods.metrics.k8s.io", "-n", namespace, "-w", "--output-watch-events"];
    let path = format!(
        "/apis/metrics.k8s.io/v1/namespaces/{namespace}/pods?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    );
    let informer = env.client.command(&clients.join("client-go"));
    Ok(vec![
        program("kubectl get -w", with(env.client.kubectl(), &table), row)?,
        program("a newer kubectl get -w", with(newer.kubectl(), &table), row)?,
        program("the bare stream", with(env.client.kubectl(), &["get", "--raw", &path]), event)?,
        program("client-go's informer", with(informer, &["follow", "pods"]), handler_event)?,
        Watcher {
            title: "kube-rs by streaming lists",
            source: Source::KubeRs(KubeRsWatcher::start(cluster, namespace, true)),
        },
        Watcher {
            title: "kube-rs by list and watch",
            source: Source::KubeRs(KubeRsWatcher::start(cluster, namespace, false)),
        },
    ])
}

/// Parses `EVENT NAME CPU MEMORY WINDOW` of `kubectl get -w --output-watch-events`.
fn row(line: &str, namespace: &str) -> Option<WatchEvent> {
    let mut fields = line.split_whitespace();
    let kind = event_kind(fields.next()?)?;
    Some(WatchEvent { kind, key: format!("{namespace}/{}", fields.next()?), timestamp: String::new() })
}

fn event_kind(event: &str) -> Option<EventKind> {
    Some(match event {
        "ADDED" | "MODIFIED" | "added" | "modified" => EventKind::Modified,
        "DELETED" | "deleted" => EventKind::Deleted,
        "ERROR" | "error" => EventKind::Failed,
        "BOOKMARK" | "synced" => EventKind::Synced,
        _ => return None,
    })
}

/// Parses an event of the API.
fn event(line: &str, _: &str) -> Option<WatchEvent> {
    let event: Value = serde_json::from_str(line).ok()?;
    of_object(event["type"].as_str()?, &event["object"])
}

/// Parses the output of the informer's handlers (`e2e/clients/typed.go`).
fn handler_event(line: &str, namespace: &str) -> Option<WatchEvent> {
    let event: Value = serde_json::from_str(line).ok()?;
    let kind = event["event"].as_str()?;
    if kind == "error" {
        return Some(WatchEvent::failure(event["message"].to_string()));
    }
    // It watches all namespaces.
    let seen = of_object(kind, &event["object"])?;
    (seen.kind == EventKind::Synced || seen.key.starts_with(&format!("{namespace}/"))).then_some(seen)
}

fn of_object(kind: &str, object: &Value) -> Option<WatchEvent> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let metadata = &object["metadata"];
    let key = format!("{}/{}", text(&metadata["namespace"]), text(&metadata["name"]));
    Some(WatchEvent { kind: event_kind(kind)?, key, timestamp: text(&object["timestamp"]) })
}

fn watches_report_each_sample_once(env: &TestEnv) -> Result<()> {
    let namespace = env.namespace()?;
    let watchers = watchers(env, namespace)?;
    let node =
        Background::start(env.client.kubectl().args(["get", "nodes.metrics.k8s.io", "-w", "--no-headers"]))?;
    workloads::start(env, "watched", &["sleep", "3600"])?;
    let key = format!("{namespace}/watched");
    for watcher in &watchers {
        env.client.wait_for(&format!("{} saw three samples", watcher.title), MINUTE * 2, |_| {
            let shown = watcher.of(&key).iter().filter(|seen| seen.kind == EventKind::Modified).count();
            if shown >= 3 { Ok(()) } else { Err(Pending(watcher.summary())) }
        })?;
    }
    env.client.delete(&["-n", namespace, "pod", "watched", "--grace-period=0", "--force"])?;
    for watcher in &watchers {
        env.client.wait_for(&format!("{} saw the pod go", watcher.title), MINUTE, |_| {
            match watcher.of(&key).last() {
                Some(seen) if seen.kind == EventKind::Deleted => Ok(()),
                _ => Err(Pending(watcher.summary())),
            }
        })?;
        let times: Vec<_> = watcher
            .of(&key)
            .into_iter()
            .filter(|seen| seen.kind == EventKind::Modified && !seen.timestamp.is_empty())
            .map(|seen| seen.timestamp)
            .collect();
        check!(
            times.is_sorted_by(|earlier, later| earlier < later),
            "{} saw a sample twice or out of order: {times:?}",
            watcher.title
        );
        let failures: Vec<_> =
            watcher.seen().into_iter().filter(|seen| seen.kind == EventKind::Failed).collect();
        check!(failures.is_empty(), "{} failed: {failures:?}", watcher.title);
    }
    env.client.wait_for("kubectl get nodes.metrics.k8s.io -w saw two samples", MINUTE, |_| {
        let lines = node.lines();
        if lines.len() >= 2 { Ok(()) } else { Err(Pending(format!("{lines:?} {}", node.errors()))) }
    })
}

fn watch_stream_starts_with_initial_events(env: &TestEnv) -> Result<()> {
    let stream = |query: &str| -> Result<Vec<Value>> {
        let text = env.client.raw(&format!("/apis/metrics.k8s.io/v1beta1/nodes?watch=1&{query}"))?;
        text.lines()
            .map(|line| serde_json::from_str(line).map_err(|error| failed(format!("{error}: {line}"))))
            .collect()
    };
    let version = |event: &Value| event["object"]["metadata"]["resourceVersion"].as_str().map(str::to_owned);
    let events = stream(
        "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds=3",
    )?;
    let kinds: Vec<_> = events.iter().filter_map(|event| event["type"].as_str()).collect();
    let first = kinds.iter().position(|kind| *kind == "BOOKMARK").unwrap_or_default();
    check!(first > 0 && kinds[..first].iter().all(|kind| *kind == "ADDED"), "{kinds:?}");
    let marked = &events[first]["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"];
    check!(marked == "true", "the bookmark behind the initial events: {}", events[first]);
    check!(kinds.last() == Some(&"BOOKMARK"), "the last is no bookmark: {kinds:?}");
    // It ended by itself and continues where it stopped.
    let last = version(&events[events.len() - 1]).unwrap_or_default();
    let more = stream(&format!("resourceVersion={last}&timeoutSeconds=1"))?;
    check!(more.iter().all(|event| event["type"] == "MODIFIED"), "from {last}: {more:?}");
    let unknown = stream("resourceVersion=1&timeoutSeconds=1")?;
    check!(
        unknown.len() == 1 && unknown[0]["type"] == "ERROR" && unknown[0]["object"]["code"] == 410,
        "from an unknown resourceVersion: {unknown:?}"
    );
    Ok(())
}

fn serves_no_watch_by_default(env: &TestEnv) -> Result<()> {
    ready(&env.client)?;
    let base = "/apis/metrics.k8s.io/v1beta1";
    let resources = env.client.raw_json(base)?;
    let verbs: Vec<_> =
        resources["resources"].as_array().into_iter().flatten().map(|r| &r["verbs"]).collect();
    check!(verbs == [&json!(["get", "list"]); 2], "the verbs in discovery: {verbs:?}");
    let response = get_from_pod(env, "watch=1&timeoutSeconds=1")?;
    check!(
        response.status == 405 && response.text().contains("watch is not supported on resources of kind"),
        "a watch: {} {}",
        response.status,
        response.text()
    );
    let list = env.client.raw_json(&format!("{base}/nodes"))?;
    check!(list["metadata"]["resourceVersion"].is_null(), "nothing can start from it: {}", list["metadata"]);
    Ok(())
}

/// Sends a list or watch of nodes to metrics-core's pod, as kube-apiserver does for an administrator.
fn get_from_pod(env: &TestEnv, query: &str) -> Result<Response> {
    let [_, address, _] = metrics_core(&env.client)?;
    let proxy = env.own_cluster()?.front_proxy_identity()?;
    let request = Request::get(format!("https://{address}:4443/apis/metrics.k8s.io/v1beta1/nodes?{query}"));
    let request = request.header("X-Remote-User", "admin").header("X-Remote-Group", "system:masters");
    env.own_cluster()?.send(&request.identity(&proxy))
}

/// Changes watch and the arguments of metrics-core, and waits until only a pod with them runs.
fn set_watch(env: &TestEnv, watch: &str, arguments: &[&str]) -> Result<()> {
    patch_spec(&env.client, json!({"metricsCore": {"watch": watch, "extraArgs": arguments}}))?;
    ready(&env.client)?;
    // The condition is also Ready while the old pod still serves.
    let wanted: Vec<_> = arguments.iter().map(|argument| Value::from(*argument)).collect();
    env.client.wait_for(&format!("one pod of metrics-core, {watch}, {arguments:?}"), TIMEOUT, |client| {
        let pods = metrics_core_pods(client)?;
        let of = |pod: &Value| pod["spec"]["containers"][0]["args"].as_array().cloned().unwrap_or_default();
        match pods.as_slice() {
            [pod]
                if wanted.iter().all(|argument| of(pod).contains(argument))
                    && of(pod).contains(&json!("--watch")) == (watch == "Enabled") =>
            {
                Ok(())
            }
            pods => Err(Pending(Value::from(pods).to_string())),
        }
    })
}

fn watches_continue_after_a_replica_ends(env: &TestEnv) -> Result<()> {
    set_watch(env, "Enabled", &[])?;
    let result = continue_after_a_replica_ends(env);
    set_watch(env, "Disabled", &[])?;
    result
}

fn continue_after_a_replica_ends(env: &TestEnv) -> Result<()> {
    let pods = env.client.get(&["-n", LOAD, "pods"])?;
    let pod = pods["items"][0]["metadata"]["name"].as_str().unwrap_or_default();
    let key = format!("{LOAD}/{pod}");
    let mut watchers: Vec<_> =
        watchers(env, LOAD)?.into_iter().filter(|watcher| !watcher.title.contains("kubectl")).collect();
    for watcher in &mut watchers {
        env.client.wait_for(&format!("{} saw {key}", watcher.title), MINUTE, |_| {
            watcher.restart_if_ended_early()?;
            if watcher.of(&key).is_empty() { Err(Pending(watcher.summary())) } else { Ok(()) }
        })?;
    }
    let list = env.client.wait_for("a list is answered", MINUTE, |client| {
        Ok(client.raw_json("/apis/metrics.k8s.io/v1beta1/pods")?)
    })?;
    let version = list["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();

    let [old, _, _] = metrics_core(&env.client)?;
    env.client.run(&["-n", pipeline::NAMESPACE, "delete", "pod", &old])?;
    let replaced = jiff::Timestamp::now().to_string();
    ready(&env.client)?;
    env.client.wait_for("kubectl top succeeds", TIMEOUT, |client| {
        client.run(&["top", "pods", "-n", LOAD])?;
        Ok(())
    })?;
    // The old one serves for some more seconds.
    let path =
        format!("/apis/metrics.k8s.io/v1beta1/pods?watch=1&resourceVersion={version}&timeoutSeconds=1");
    env.client.wait_for("a resourceVersion of the old replica is rejected", TIMEOUT, |client| {
        let answer = client.raw(&path)?;
        if answer.contains("\"code\":410") { Ok(()) } else { Err(Pending(answer)) }
    })?;
    for watcher in &watchers {
        // kubectl does not resume its stream; all others must continue by themselves.
        if watcher.title == "the bare stream" {
            env.client.wait_for("the bare stream ended", MINUTE, |_| match &watcher.source {
                Source::Program(program) if !program.lines.has_ended() => Err(Pending(watcher.summary())),
                _ => Ok(()),
            })?;
            continue;
        }
        env.client.wait_for(&format!("{} continues", watcher.title), TIMEOUT, |_| {
            let goes_on = watcher
                .of(&key)
                .iter()
                .any(|seen| seen.kind == EventKind::Modified && seen.timestamp > replaced);
            if goes_on { Ok(()) } else { Err(Pending(watcher.summary())) }
        })?;
        let gone = watcher.of(&key).into_iter().any(|seen| seen.kind == EventKind::Deleted);
        check!(!gone, "{} received a deletion of {key}: {}", watcher.title, watcher.summary());
    }
    Ok(())
}

fn limits_the_number_of_watches(env: &TestEnv) -> Result<()> {
    set_watch(env, "Enabled", &["--max-watches=1", "--serve-swap=false"])?;
    let result = limited_to_one(env);
    set_watch(env, "Disabled", &[])?;
    result
}

fn limited_to_one(env: &TestEnv) -> Result<()> {
    let list = |query: &str| get_from_pod(env, query);
    let first = Background::start(env.client.kubectl().args([
        "get",
        "--raw",
        "/apis/metrics.k8s.io/v1beta1/nodes?watch=1",
    ]))?;
    env.client.wait_for("the first watch sees a node", MINUTE, |_| {
        if first.lines().is_empty() { Err(Pending(first.errors())) } else { Ok(()) }
    })?;
    check!(!first.lines()[0].contains("swap"), "--serve-swap=false: {:?}", first.lines());
    let second = list("watch=1&timeoutSeconds=1")?;
    check!(
        second.status == 429 && second.header("retry-after").is_some(),
        "a second watch: {} {}",
        second.status,
        second.text()
    );
    check!(list("limit=1")?.status == 200, "lists are not limited");
    drop(first);
    env.client.wait_for("a watch is accepted again", MINUTE, |_| {
        match list("watch=1&timeoutSeconds=1")?.status {
            200 => Ok(()),
            status => Err(Pending(status.to_string())),
        }
    })
}
