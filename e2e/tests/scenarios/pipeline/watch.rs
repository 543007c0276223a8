//! Watches, by the clients that people use: kubectl, client-go's informer, kube-rs' watcher, and a bare stream.

use std::process::Command;
use std::sync::Arc;

use e2e::lines::Lines;
use e2e::request::Request;
use e2e::scenario::{Group, Needs, Stand, Suite, failed};
use e2e::wait::Pending;
use e2e::{Result, binaries, check, pipeline};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::{LOAD, MINUTE, PATIENCE, kube_rs, metrics_core, ready};
use crate::workloads;

pub fn add(suite: &mut Suite, group: &Arc<Group>) {
    suite.add(group, "watchers_see_each_sample_once", Needs::OurCluster, watchers_see_each_sample_once);
    suite.add(group, "a_stream_has_its_initial_events", Needs::Cluster, a_stream_has_its_initial_events);
}

pub fn add_rough(suite: &mut Suite, group: &Arc<Group>) {
    suite.add(group, "watchers_outlive_a_replica", Needs::Alone, watchers_outlive_a_replica);
    suite.add(group, "watchers_are_limited", Needs::Alone, watchers_are_limited);
}

/// What a client was told.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum What {
    /// It has to learn everything anew.
    #[default]
    Begun,
    /// It knows everything.
    Synced,
    /// An object is there, or is another than before.
    Shown,
    /// An object is gone.
    Gone,
    /// Something went wrong; it tries again by itself.
    Failed,
}

/// Something that a client was told.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub what: What,
    /// `NAMESPACE/NAME` of the object.
    pub key: String,
    /// The sample's time; empty where the client does not tell it. For failures, the words.
    pub timestamp: String,
}

impl Seen {
    pub fn failure(words: String) -> Self {
        Self { what: What::Failed, key: String::new(), timestamp: words }
    }
}

/// All that a client was told, in order.
#[derive(Clone, Default)]
pub struct Witness(Arc<Mutex<Vec<Seen>>>);

impl Witness {
    pub fn tell(&self, seen: Seen) {
        self.0.lock().push(seen);
    }

    fn all(&self) -> Vec<Seen> {
        self.0.lock().clone()
    }
}

/// A client that watches, and what it saw so far.
struct Watcher {
    title: &'static str,
    source: Source,
}

enum Source {
    Program(Box<Program>),
    KubeRs(kube_rs::Watcher),
}

/// A program that prints what it is told of the objects of a namespace.
struct Program {
    command: Command,
    lines: Lines,
    read: fn(&str, &str) -> Option<Seen>,
    namespace: String,
}

impl Watcher {
    fn seen(&self) -> Vec<Seen> {
        match &self.source {
            Source::Program(program) => {
                let Program { lines, read, namespace, .. } = &**program;
                lines.so_far().iter().filter_map(|line| read(line, namespace)).collect()
            }
            Source::KubeRs(watcher) => watcher.witness().all(),
        }
    }

    /// What it saw of one object.
    fn of(&self, key: &str) -> Vec<Seen> {
        self.seen().into_iter().filter(|seen| seen.key == key).collect()
    }

    fn last_words(&self) -> String {
        let seen = self.seen();
        let last = &seen[seen.len().saturating_sub(8)..];
        let errors = match &self.source {
            Source::Program(program) => program.lines.errors(),
            Source::KubeRs(_) => String::new(),
        };
        format!("{}: {} seen, the last: {last:?} {errors}", self.title, seen.len())
    }

    /// Starts a program anew that ended before it was told anything. Those that try but once may be led to a pod that
    /// is gone: for a while after kube-apiserver was killed its EndpointSlice may name one.
    fn persist(&mut self) -> Result<()> {
        if let Source::Program(program) = &mut self.source
            && program.lines.has_ended()
            && program.lines.so_far().is_empty()
        {
            program.lines = Lines::start(&mut program.command)?;
        }
        Ok(())
    }
}

/// Each kind of client on the pods of a namespace.
fn watchers(stand: &Stand, namespace: &str) -> Result<Vec<Watcher>> {
    let cluster = stand.ours()?;
    let clients = binaries::clients(&stand.progress)?;
    let newer = stand.client.with_kubectl(clients.join("kubectl"));
    let program = |title, mut command: Command, read: fn(&str, &str) -> Option<Seen>| -> Result<Watcher> {
        let lines = Lines::start(&mut command)?;
        let program = Program { command, lines, read, namespace: namespace.to_owned() };
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
    let informer = stand.client.command(&clients.join("client-go"));
    Ok(vec![
        program("kubectl get -w", with(stand.client.kubectl(), &table), row)?,
        program("a newer kubectl get -w", with(newer.kubectl(), &table), row)?,
        program("the bare stream", with(stand.client.kubectl(), &["get", "--raw", &path]), event)?,
        program("client-go's informer", with(informer, &["follow", "pods"]), told)?,
        Watcher {
            title: "kube-rs by streaming lists",
            source: Source::KubeRs(kube_rs::Watcher::start(cluster, namespace, true)),
        },
        Watcher {
            title: "kube-rs by list and watch",
            source: Source::KubeRs(kube_rs::Watcher::start(cluster, namespace, false)),
        },
    ])
}

/// `EVENT NAME CPU MEMORY WINDOW`, of `kubectl get -w --output-watch-events`.
fn row(line: &str, namespace: &str) -> Option<Seen> {
    let mut fields = line.split_whitespace();
    let what = what(fields.next()?)?;
    Some(Seen { what, key: format!("{namespace}/{}", fields.next()?), timestamp: String::new() })
}

fn what(event: &str) -> Option<What> {
    Some(match event {
        "ADDED" | "MODIFIED" | "added" | "modified" => What::Shown,
        "DELETED" | "deleted" => What::Gone,
        "ERROR" | "error" => What::Failed,
        "BOOKMARK" | "synced" => What::Synced,
        _ => return None,
    })
}

/// An event of the API.
fn event(line: &str, _: &str) -> Option<Seen> {
    let event: Value = serde_json::from_str(line).ok()?;
    of_object(event["type"].as_str()?, &event["object"])
}

/// What the informer's handlers were told (`e2e/clients/typed.go`).
fn told(line: &str, namespace: &str) -> Option<Seen> {
    let event: Value = serde_json::from_str(line).ok()?;
    let kind = event["event"].as_str()?;
    if kind == "error" {
        return Some(Seen::failure(event["message"].to_string()));
    }
    // It follows all namespaces.
    let seen = of_object(kind, &event["object"])?;
    (seen.what == What::Synced || seen.key.starts_with(&format!("{namespace}/"))).then_some(seen)
}

fn of_object(kind: &str, object: &Value) -> Option<Seen> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let metadata = &object["metadata"];
    let key = format!("{}/{}", text(&metadata["namespace"]), text(&metadata["name"]));
    Some(Seen { what: what(kind)?, key, timestamp: text(&object["timestamp"]) })
}

fn watchers_see_each_sample_once(stand: &Stand) -> Result<()> {
    let namespace = stand.namespace()?;
    let watchers = watchers(stand, namespace)?;
    let node =
        Lines::start(stand.client.kubectl().args(["get", "nodes.metrics.k8s.io", "-w", "--no-headers"]))?;
    workloads::start(stand, "watched", &["sleep", "3600"])?;
    let key = format!("{namespace}/watched");
    for watcher in &watchers {
        stand.client.wait_for(&format!("{} saw three samples", watcher.title), MINUTE * 2, |_| {
            let shown = watcher.of(&key).iter().filter(|seen| seen.what == What::Shown).count();
            if shown >= 3 { Ok(()) } else { Err(Pending(watcher.last_words())) }
        })?;
    }
    stand.client.delete(&["-n", namespace, "pod", "watched", "--grace-period=0", "--force"])?;
    for watcher in &watchers {
        stand.client.wait_for(&format!("{} saw the pod go", watcher.title), MINUTE, |_| {
            match watcher.of(&key).last() {
                Some(seen) if seen.what == What::Gone => Ok(()),
                _ => Err(Pending(watcher.last_words())),
            }
        })?;
        let times: Vec<_> = watcher
            .of(&key)
            .into_iter()
            .filter(|seen| seen.what == What::Shown && !seen.timestamp.is_empty())
            .map(|seen| seen.timestamp)
            .collect();
        check!(
            times.is_sorted_by(|earlier, later| earlier < later),
            "{} saw a sample twice or out of order: {times:?}",
            watcher.title
        );
        let failures: Vec<_> = watcher.seen().into_iter().filter(|seen| seen.what == What::Failed).collect();
        check!(failures.is_empty(), "{} failed: {failures:?}", watcher.title);
    }
    stand.client.wait_for("kubectl get nodes.metrics.k8s.io -w saw two samples", MINUTE, |_| {
        let lines = node.so_far();
        if lines.len() >= 2 { Ok(()) } else { Err(Pending(format!("{lines:?} {}", node.errors()))) }
    })
}

fn a_stream_has_its_initial_events(stand: &Stand) -> Result<()> {
    let stream = |query: &str| -> Result<Vec<Value>> {
        let text = stand.client.raw(&format!("/apis/metrics.k8s.io/v1beta1/nodes?watch=1&{query}"))?;
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
    // It ended by itself, and goes on from where it was.
    let last = version(&events[events.len() - 1]).unwrap_or_default();
    let more = stream(&format!("resourceVersion={last}&timeoutSeconds=1"))?;
    check!(more.iter().all(|event| event["type"] == "MODIFIED"), "from {last}: {more:?}");
    let unknown = stream("resourceVersion=1&timeoutSeconds=1")?;
    check!(
        unknown.len() == 1 && unknown[0]["type"] == "ERROR" && unknown[0]["object"]["code"] == 410,
        "from a version of nobody's: {unknown:?}"
    );
    Ok(())
}

fn watchers_outlive_a_replica(stand: &Stand) -> Result<()> {
    ready(&stand.client)?;
    let pods = stand.client.get(&["-n", LOAD, "pods"])?;
    let pod = pods["items"][0]["metadata"]["name"].as_str().unwrap_or_default();
    let key = format!("{LOAD}/{pod}");
    let mut watchers: Vec<_> =
        watchers(stand, LOAD)?.into_iter().filter(|watcher| !watcher.title.contains("kubectl")).collect();
    for watcher in &mut watchers {
        stand.client.wait_for(&format!("{} saw {key}", watcher.title), MINUTE, |_| {
            watcher.persist()?;
            if watcher.of(&key).is_empty() { Err(Pending(watcher.last_words())) } else { Ok(()) }
        })?;
    }
    let list = stand.client.wait_for("a list is answered", MINUTE, |client| {
        Ok(client.raw_json("/apis/metrics.k8s.io/v1beta1/pods")?)
    })?;
    let version = list["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();

    let [old, _, _] = metrics_core(&stand.client)?;
    stand.client.run(&["-n", pipeline::NAMESPACE, "delete", "pod", &old])?;
    let replaced = jiff::Timestamp::now().to_string();
    ready(&stand.client)?;
    stand.client.wait_for("kubectl top answers", PATIENCE, |client| {
        client.run(&["top", "pods", "-n", LOAD])?;
        Ok(())
    })?;
    // The old one serves for some seconds more.
    let path =
        format!("/apis/metrics.k8s.io/v1beta1/pods?watch=1&resourceVersion={version}&timeoutSeconds=1");
    stand.client.wait_for("a version of the old replica is refused", PATIENCE, |client| {
        let answer = client.raw(&path)?;
        if answer.contains("\"code\":410") { Ok(()) } else { Err(Pending(answer)) }
    })?;
    for watcher in &watchers {
        // The stream is not taken up again by kubectl; all others have to go on by themselves.
        if watcher.title == "the bare stream" {
            stand.client.wait_for("the bare stream ended", MINUTE, |_| match &watcher.source {
                Source::Program(program) if !program.lines.has_ended() => Err(Pending(watcher.last_words())),
                _ => Ok(()),
            })?;
            continue;
        }
        stand.client.wait_for(&format!("{} goes on", watcher.title), PATIENCE, |_| {
            let goes_on =
                watcher.of(&key).iter().any(|seen| seen.what == What::Shown && seen.timestamp > replaced);
            if goes_on { Ok(()) } else { Err(Pending(watcher.last_words())) }
        })?;
        let gone = watcher.of(&key).into_iter().any(|seen| seen.what == What::Gone);
        check!(!gone, "{} was told that {key} is gone: {}", watcher.title, watcher.last_words());
    }
    Ok(())
}

fn watchers_are_limited(stand: &Stand) -> Result<()> {
    let flags = |flags: &[&str]| -> Result<()> {
        let patch = json!({"spec": {"metricsCore": {"extraArgs": flags}}}).to_string();
        stand.client.run(&["patch", "mpl", pipeline::NAME, "--type=merge", "-p", &patch])?;
        ready(&stand.client)?;
        // Ready it is as well while the old pod still serves.
        let wanted: Vec<_> = flags.iter().map(|flag| Value::from(*flag)).collect();
        stand.client.wait_for(&format!("one pod of metrics-core, with {flags:?}"), PATIENCE, |client| {
            let pods = client.get(&[
                "-n",
                pipeline::NAMESPACE,
                "pods",
                "-l",
                "app.kubernetes.io/name=metrics-core",
            ])?;
            let of =
                |pod: &Value| pod["spec"]["containers"][0]["args"].as_array().cloned().unwrap_or_default();
            match pods["items"].as_array().map(Vec::as_slice) {
                Some([pod]) if wanted.iter().all(|flag| of(pod).contains(flag)) => Ok(()),
                _ => Err(Pending(pods["items"].to_string())),
            }
        })
    };
    flags(&["--max-watches=1", "--serve-swap=false"])?;
    let [_, address, _] = metrics_core(&stand.client)?;
    let proxy = stand.ours()?.front_proxy_identity()?;
    let ask = |query: &str| {
        let request =
            Request::get(format!("https://{address}:4443/apis/metrics.k8s.io/v1beta1/nodes?{query}"));
        let request = request.header("X-Remote-User", "admin").header("X-Remote-Group", "system:masters");
        stand.ours()?.https(&request.identity(&proxy))
    };
    let first = Lines::start(stand.client.kubectl().args([
        "get",
        "--raw",
        "/apis/metrics.k8s.io/v1beta1/nodes?watch=1",
    ]))?;
    stand.client.wait_for("the first watch sees a node", MINUTE, |_| {
        if first.so_far().is_empty() { Err(Pending(first.errors())) } else { Ok(()) }
    })?;
    check!(!first.so_far()[0].contains("swap"), "--serve-swap=false: {:?}", first.so_far());
    let second = ask("watch=1&timeoutSeconds=1")?;
    check!(
        second.status == 429 && second.header("retry-after").is_some(),
        "a second watch: {} {}",
        second.status,
        second.body
    );
    check!(ask("limit=1")?.status == 200, "lists have no part in it");
    drop(first);
    stand.client.wait_for("the place is free again", MINUTE, |_| {
        match ask("watch=1&timeoutSeconds=1")?.status {
            200 => Ok(()),
            status => Err(Pending(status.to_string())),
        }
    })?;
    flags(&[])
}
