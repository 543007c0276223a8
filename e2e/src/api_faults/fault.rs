//! One fault, and when a request meets it. Pure: the proxy does what it decides.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use super::call::{Call, Target};

/// A fault that is injected once.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Fault {
    /// None: an undisturbed run.
    Nothing,
    /// The operator is killed before its write of this number, from 1, reaches kube-apiserver.
    KillBefore(usize),
    /// The operator is killed after kube-apiserver processed its write of this number; the response is lost.
    KillAfter(usize),
    /// The leader is stopped after its write of this number until another operator holds the Lease, and continued then.
    Pause(usize),
    /// The first request of this kind receives this status and does not reach kube-apiserver.
    Status(u16, Target),
    /// The first request of this kind never receives a response and does not reach kube-apiserver.
    Hang(Target),
    /// A read of this kind receives the response of an earlier read of the same path, once.
    StaleRead(Target),
    /// The watches of this resource lose the first event after the journey began.
    DropEvent(String),
}

/// The columns of the results.
pub(super) const KINDS: [&str; 9] = [
    "kill before a write",
    "kill after a write",
    "leader paused",
    "409",
    "429",
    "500",
    "no response",
    "stale read",
    "lost event",
];

impl Fault {
    /// Returns the column of the results; `None` for an undisturbed run.
    #[must_use]
    pub(super) fn kind(&self) -> Option<&'static str> {
        let at = match self {
            Self::Nothing => return None,
            Self::KillBefore(_) => 0,
            Self::KillAfter(_) => 1,
            Self::Pause(_) => 2,
            Self::Status(409, _) => 3,
            Self::Status(429, _) => 4,
            Self::Status(..) => 5,
            Self::Hang(_) => 6,
            Self::StaleRead(_) => 7,
            Self::DropEvent(_) => 8,
        };
        Some(KINDS[at])
    }

    /// Returns how long the journey may take with this fault. The operator reads everything again every 10 minutes, in
    /// case that a watch lost an event.
    #[must_use]
    pub(super) fn limit(&self) -> Duration {
        Duration::from_secs(match self {
            Self::StaleRead(_) | Self::DropEvent(_) => 660,
            Self::Hang(_) | Self::Pause(_) => 180,
            _ => 120,
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("undisturbed"),
            Self::KillBefore(write) => write!(f, "kill before write {write}"),
            Self::KillAfter(write) => write!(f, "kill after write {write}"),
            Self::Pause(write) => write!(f, "leader paused after write {write}"),
            Self::Status(status, target) => write!(f, "{status} to {target}"),
            Self::Hang(target) => write!(f, "no response to {target}"),
            Self::StaleRead(target) => write!(f, "stale {target}"),
            Self::DropEvent(resource) => write!(f, "lost event of {resource}"),
        }
    }
}

/// What the proxy does with a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Decision {
    /// Forwards it.
    Forward,
    /// Kills the operator and discards the request.
    Kill,
    /// Forwards it, then kills the operator.
    ForwardAndKill,
    /// Forwards it and the response, then stops the operator.
    ForwardAndStop,
    /// Responds with this status.
    Respond(u16),
    /// Responds with this status and body.
    Replay(u16, Bytes),
    /// Does not respond.
    Hang,
}

/// The state of the fault of one run.
#[derive(Debug)]
pub(super) struct Injector {
    fault: Fault,
    began: bool,
    writes: usize,
    fired: bool,
    /// Responses to reads of the faulty kind, by path.
    earlier: BTreeMap<String, (u16, Bytes)>,
    /// What was requested since the journey began, with its kind.
    seen: BTreeSet<Target>,
}

impl Injector {
    pub(super) fn new(fault: Fault) -> Self {
        Self { fault, began: false, writes: 0, fired: false, earlier: BTreeMap::new(), seen: BTreeSet::new() }
    }

    /// The journey begins: requests before it are no part of it.
    pub(super) fn begin(&mut self) {
        self.began = true;
    }

    /// Whether the fault was injected.
    pub(super) fn fired(&self) -> bool {
        self.fired
    }

    /// Returns the kinds of requests since the journey began.
    pub(super) fn seen(&self) -> BTreeSet<Target> {
        self.seen.clone()
    }

    /// Decides about a request before it is forwarded.
    pub(super) fn decide(&mut self, call: &Call, path: &str) -> Decision {
        if !self.began {
            return Decision::Forward;
        }
        self.seen.insert(call.target.clone());
        let is_step = call.target.is_write() && !call.target.is_election();
        self.writes += usize::from(is_step);
        if self.fired {
            return Decision::Forward;
        }
        let is_write = |number: &usize| is_step && self.writes == *number;
        let decision = match &self.fault {
            Fault::KillBefore(number) if is_write(number) => Decision::Kill,
            Fault::KillAfter(number) if is_write(number) => Decision::ForwardAndKill,
            Fault::Pause(number) if is_write(number) => Decision::ForwardAndStop,
            Fault::Status(status, target) if *target == call.target => Decision::Respond(*status),
            Fault::Hang(target) if *target == call.target => Decision::Hang,
            Fault::StaleRead(target) if *target == call.target => match self.earlier.get(path) {
                Some((status, body)) => Decision::Replay(*status, body.clone()),
                None => Decision::Forward,
            },
            _ => Decision::Forward,
        };
        self.fired = decision != Decision::Forward;
        decision
    }

    /// Keeps the response to a read, if a later read of this kind is to receive it.
    pub(super) fn keep(&mut self, call: &Call, path: &str, status: u16, body: &Bytes) {
        if matches!(&self.fault, Fault::StaleRead(target) if *target == call.target) {
            self.earlier.entry(path.to_owned()).or_insert_with(|| (status, body.clone()));
        }
    }

    /// Whether a watch loses this event.
    pub(super) fn drops(&mut self, call: &Call, event: &[u8]) -> bool {
        let faulty = matches!(&self.fault, Fault::DropEvent(resource) if *resource == call.target.resource);
        if !faulty || !self.began || self.fired || is_bookmark(event) {
            return false;
        }
        self.fired = true;
        true
    }
}

/// Whether a line of a watch is a bookmark, which reports no change.
fn is_bookmark(event: &[u8]) -> bool {
    let text = String::from_utf8_lossy(event);
    text.trim().is_empty() || text.starts_with(r#"{"type":"BOOKMARK""#)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "/api/v1/namespaces/a/secrets/s";

    fn call(method: &str) -> Call {
        Call::of(method, SECRET, "")
    }

    fn decisions(fault: Fault, methods: &[&str]) -> Vec<Decision> {
        let mut injector = Injector::new(fault);
        assert_eq!(injector.decide(&call("PATCH"), SECRET), Decision::Forward, "before the journey");
        injector.begin();
        methods.iter().map(|method| injector.decide(&call(method), SECRET)).collect()
    }

    #[test]
    fn counts_writes_from_the_begin_of_the_journey() {
        use Decision::{Forward, ForwardAndKill, ForwardAndStop, Kill};
        let requests = ["GET", "PATCH", "PATCH", "DELETE"];
        assert_eq!(decisions(Fault::KillBefore(2), &requests), [Forward, Forward, Kill, Forward]);
        assert_eq!(decisions(Fault::KillAfter(3), &requests), [Forward, Forward, Forward, ForwardAndKill]);
        assert_eq!(decisions(Fault::Pause(1), &requests), [Forward, ForwardAndStop, Forward, Forward]);
        assert_eq!(decisions(Fault::KillBefore(4), &requests), [Forward, Forward, Forward, Forward]);
    }

    #[test]
    fn does_not_count_renewals_of_the_lease() {
        let mut injector = Injector::new(Fault::KillBefore(1));
        injector.begin();
        let path = "/apis/coordination.k8s.io/v1/namespaces/a/leases/l";
        assert_eq!(injector.decide(&Call::of("PUT", path, ""), path), Decision::Forward);
        assert_eq!(injector.decide(&call("PATCH"), SECRET), Decision::Kill);
    }

    #[test]
    fn a_status_is_returned_once() {
        let decided = decisions(Fault::Status(429, call("GET").target), &["PATCH", "GET", "GET"]);
        assert_eq!(decided, [Decision::Forward, Decision::Respond(429), Decision::Forward]);
    }

    #[test]
    fn replays_the_first_response_of_the_same_path_once() {
        let mut injector = Injector::new(Fault::StaleRead(call("GET").target));
        injector.keep(&call("GET"), SECRET, 404, &Bytes::from_static(b"old"));
        injector.keep(&call("GET"), SECRET, 200, &Bytes::from_static(b"new"));
        injector.begin();
        assert_eq!(injector.decide(&call("GET"), "/another"), Decision::Forward);
        let replay = Decision::Replay(404, Bytes::from_static(b"old"));
        assert_eq!(injector.decide(&call("GET"), SECRET), replay);
        assert_eq!(injector.decide(&call("GET"), SECRET), Decision::Forward);
    }

    #[test]
    fn drops_one_event_and_no_bookmark() {
        let mut injector = Injector::new(Fault::DropEvent("secrets".to_owned()));
        let watch = Call::of("GET", "/api/v1/namespaces/a/secrets", "watch=true");
        let event = br#"{"type":"MODIFIED","object":{}}"#;
        assert!(!injector.drops(&watch, event), "before the journey");
        injector.begin();
        assert!(!injector.drops(&watch, br#"{"type":"BOOKMARK","object":{}}"#));
        assert!(!injector.drops(&Call::of("GET", "/api/v1/pods", "watch=true"), event));
        assert!(injector.drops(&watch, event));
        assert!(!injector.drops(&watch, event));
        assert!(injector.fired());
    }
}
