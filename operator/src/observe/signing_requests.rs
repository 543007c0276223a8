//! The pending CertificateSigningRequests of kubelets.
//!
//! Where the operator approves them, a watch keeps the pending ones: decided ones stay in the cluster for an hour, and after
//! the start of a large cluster there are thousands, so a list for each change would be long. Where it only explains why
//! kubelets have no certificate, it counts them now and then.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use kube::api::ListParams;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Client};
use parking_lot::Mutex;
use tokio::task::JoinSet;

use super::observer::{ObserveError, within};
use super::watches::{Changes, Source, is_error_response};
use crate::common::error_chain;
use crate::csr::{self, PendingRequest, PendingRequests, SIGNER};

/// The count of requests in a page. A request of a kubelet has about 3 kB, but whoever may create one can make it as large
/// as etcd allows, 1.5 MB.
const PAGE: u32 = 5;

/// The maximum count of requests that are read to count the pending ones.
const MAX_COUNTED: u32 = 500;

/// The minimum time between two counts.
const COUNT: Duration = Duration::from_secs(60);

/// The count of consecutive failures from which on the watch counts as failed.
const FAILED: u32 = 2;

/// The pending requests, which a watch keeps current.
pub(super) struct SigningRequests {
    watched: Arc<Mutex<Watched>>,
    _task: JoinSet<()>,
}

#[derive(Default)]
struct Watched {
    pending: PendingRequests,
    /// The requests of a list that is not complete yet.
    fresh: Option<PendingRequests>,
    failures: u32,
    error: Option<String>,
}

impl SigningRequests {
    /// Starts the watch.
    pub(super) fn start(client: &Client, changes: Arc<Changes>) -> Self {
        let watched = Arc::new(Mutex::new(Watched::default()));
        let mut task = JoinSet::new();
        task.spawn(follow(Api::all(client.clone()), watched.clone(), changes));
        Self { watched, _task: task }
    }

    /// Returns the pending requests, or why they can't be read.
    pub(super) fn pending(&self) -> Result<Vec<PendingRequest>, String> {
        let watched = self.watched.lock();
        watched.error.clone().map_or_else(|| Ok(watched.pending.iter().cloned().collect()), Err)
    }
}

async fn follow(api: Api<CertificateSigningRequest>, watched: Arc<Mutex<Watched>>, changes: Arc<Changes>) {
    let of_kubelets =
        || watcher::Config::default().page_size(PAGE).fields(&format!("spec.signerName={SIGNER}"));
    loop {
        let mut events = std::pin::pin!(watch(api.clone(), of_kubelets()).default_backoff());
        while let Some(event) = events.next().await {
            let failed = event.is_err();
            if watched.lock().take(event) {
                changes.mark(Source::SigningRequests);
            }
            if watched.lock().pending.has_room_for_more() {
                break;
            }
            if failed {
                // On top of the backoff: a missing permission does not come back within a second.
                tokio::time::sleep(Duration::from_secs(5)).await;
            }
        }
    }
}

impl Watched {
    /// Takes over an event. Returns whether what is known changed.
    fn take(&mut self, event: watcher::Result<Event<CertificateSigningRequest>>) -> bool {
        let event = match event {
            Ok(event) => event,
            Err(error) => return self.fail(&error),
        };
        self.failures = 0;
        let recovered = self.error.take().is_some();
        match event {
            Event::Init => self.fresh = Some(PendingRequests::default()),
            Event::InitApply(csr) => self.fresh.get_or_insert_default().apply(&csr),
            Event::InitDone => {
                self.pending = self.fresh.take().unwrap_or_default();
                return true;
            }
            Event::Apply(csr) => {
                self.pending.apply(&csr);
                return true;
            }
            Event::Delete(csr) => {
                self.pending.remove(&csr);
                return true;
            }
        }
        recovered
    }

    /// Records a failure. Connections end, and the reconcile reports an unreachable kube-apiserver: only a repeated error
    /// response is kept.
    fn fail(&mut self, error: &watcher::Error) -> bool {
        if !is_error_response(error) {
            return false;
        }
        self.failures += 1;
        let is_new = self.failures >= FAILED && self.error.is_none();
        if is_new {
            self.error = Some(error_chain(error));
        }
        is_new
    }
}

/// The count of pending requests, for explanations.
#[derive(Default)]
pub(super) struct PendingCount {
    counted: Option<(Instant, usize)>,
}

impl PendingCount {
    /// Returns the count, which may be a minute old; `None` if the requests can't be read.
    pub(super) async fn get(&mut self, client: &Client) -> Option<usize> {
        match self.counted {
            Some((at, count)) if at.elapsed() < COUNT => Some(count),
            _ => {
                let count = count(client).await.ok()?;
                self.counted = Some((Instant::now(), count));
                Some(count)
            }
        }
    }
}

async fn count(client: &Client) -> Result<usize, ObserveError> {
    let api: Api<CertificateSigningRequest> = Api::all(client.clone());
    let mut parameters = ListParams::default().fields(&format!("spec.signerName={SIGNER}")).limit(PAGE);
    let mut pending = 0;
    for _ in 0..MAX_COUNTED / PAGE {
        let page = within("CertificateSigningRequests", api.list(&parameters)).await?;
        pending += page.items.iter().filter(|csr| csr::is_pending(csr)).count();
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters = parameters.continue_token(&token),
            None => break,
        }
    }
    Ok(pending)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn csr(name: &str, conditions: &[&str]) -> CertificateSigningRequest {
        let conditions: Vec<_> =
            conditions.iter().map(|kind| json!({ "type": kind, "status": "True" })).collect();
        serde_json::from_value(json!({
            "metadata": { "name": name, "uid": name },
            "spec": { "signerName": SIGNER, "username": "system:node:a", "request": "" },
            "status": { "conditions": conditions },
        }))
        .expect("a request")
    }

    fn names(watched: &Watched) -> Vec<String> {
        watched.pending.iter().map(|request| request.name.clone()).collect()
    }

    fn failure() -> watcher::Error {
        let status = kube::core::Status::failure("no permission", "Forbidden").with_code(403).boxed();
        watcher::Error::InitialListFailed(kube::Error::Api(status))
    }

    #[test]
    fn keeps_the_pending_requests_of_the_last_complete_list_and_of_later_events() {
        let mut watched = Watched::default();
        assert!(!watched.take(Ok(Event::Init)));
        assert!(!watched.take(Ok(Event::InitApply(csr("a", &[])))));
        assert!(!watched.take(Ok(Event::InitApply(csr("b", &["Approved"])))));
        assert!(names(&watched).is_empty(), "the list is not complete");
        assert!(watched.take(Ok(Event::InitDone)));
        assert_eq!(names(&watched), ["a"]);
        assert!(watched.take(Ok(Event::Apply(csr("c", &[])))));
        assert!(watched.take(Ok(Event::Apply(csr("a", &["Denied"])))));
        assert_eq!(names(&watched), ["c"]);
        // Another list begins, and what was known stays until it is complete.
        assert!(!watched.take(Ok(Event::Init)));
        assert_eq!(names(&watched), ["c"]);
        assert!(watched.take(Ok(Event::InitDone)));
        assert!(names(&watched).is_empty());
        watched.take(Ok(Event::Apply(csr("d", &[]))));
        assert!(watched.take(Ok(Event::Delete(csr("d", &[])))) && names(&watched).is_empty());
    }

    #[test]
    fn reports_an_error_response_that_repeats_until_the_watch_recovers() {
        let mut watched = Watched::default();
        assert!(!watched.take(Err(failure())), "one failure may be a restart");
        assert!(watched.take(Err(failure())));
        assert!(watched.error.as_ref().is_some_and(|error| error.contains("no permission")));
        assert!(!watched.take(Err(failure())), "nothing new");
        assert!(
            !watched.take(Err(watcher::Error::WatchFailed(kube::Error::LinesCodecMaxLineLengthExceeded)))
        );
        assert!(watched.take(Ok(Event::Init)), "recovered");
        assert_eq!(watched.error, None);
    }
}
