//! Approves kubelets' CertificateSigningRequests: reads what they are checked against, and writes the approvals. The rules are
//! in [`csr`](crate::csr).
//!
//! A round checks a batch of requests, and costs one list of Nodes, in small pages, only if a request of the batch passed all
//! other checks. Nothing that was read is kept but kube-apiserver's names. If anything can't be read, nothing is approved.

mod api_servers;
mod reads;
mod schedule;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::PostParams;
use kube::{Api, Client};

use crate::common::FIELD_MANAGER;
use crate::csr::{
    AllowList, KubeletRequest, NodeConflicts, NodeNames, NotApproved, PendingRequest, Rules, is_pending,
};
pub(crate) use api_servers::ApiServers;
use reads::{CONCURRENT, within};
use schedule::Schedule;

/// The maximum count of requests that a round checks.
const BATCH: usize = 100;

/// The maximum count of reasons that a round reports, each with an event.
const MAX_REPORTS: usize = 10;

/// The pause before the rest is checked or reported.
const NEXT_BATCH: Duration = Duration::from_millis(200);
const NEXT_REPORTS: Duration = Duration::from_secs(5);

/// The maximum count of reasons that are kept for the diagnosis.
const MAX_REASONS: usize = 1000;

/// The result of [`Approver::approve_pending`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Approvals {
    /// The names of approved requests and their Nodes.
    pub approved: Vec<(String, String)>,
    /// The names of requests that are not approved for a new reason, and the reason.
    pub not_approved: Vec<(String, NotApproved)>,
    /// When to check again.
    pub retry_after: Option<Duration>,
    /// Whether requests were checked; false between two checks.
    pub checked: bool,
    /// The error of kube-apiserver.
    pub error: Option<String>,
}

/// Approves requests that match their Node.
pub(super) struct Approver {
    client: Client,
    servers: ApiServers,
    schedule: Schedule,
    /// Why pending requests are not approved, by UID.
    reasons: BTreeMap<String, NotApproved>,
    /// The UIDs of requests whose current reason was reported.
    reported: BTreeSet<String>,
}

impl Approver {
    /// Creates an approver.
    #[must_use]
    pub(super) fn new(client: Client, servers: ApiServers) -> Self {
        Self {
            client,
            servers,
            schedule: Schedule::default(),
            reasons: BTreeMap::new(),
            reported: BTreeSet::new(),
        }
    }

    /// Checks pending requests that are due, and approves those that match their Node. Sends nothing if none is due.
    pub(super) async fn approve_pending(
        &mut self,
        pending: &[PendingRequest],
        allow_list: &AllowList,
    ) -> Approvals {
        let mut approvals = Approvals::default();
        let uids: BTreeSet<&str> = pending.iter().map(|request| request.uid.as_str()).collect();
        self.reasons.retain(|uid, _| uids.contains(uid.as_str()));
        self.reported.retain(|uid| uids.contains(uid.as_str()));
        let mut well_formed = Vec::new();
        for request in pending {
            match &request.request {
                Ok(parsed) => well_formed.push(Candidate { pending: request, parsed }),
                // The spec is immutable, so this is final.
                Err(reason) => self.record(request, reason.clone()),
            }
        }
        let now = Instant::now();
        let all: Vec<&str> = well_formed.iter().map(|candidate| candidate.pending.uid.as_str()).collect();
        let due = self.schedule.take(&all, BATCH, now);
        let batch: Vec<_> =
            well_formed.into_iter().filter(|candidate| due.contains(candidate.uid())).collect();
        approvals.checked = !batch.is_empty() || pending.is_empty();
        if !batch.is_empty() {
            match self.check(&batch, allow_list).await {
                Ok(verdicts) => self.act(&batch, verdicts, &mut approvals).await,
                Err(error) => approvals.error = Some(error),
            }
            if approvals.error.is_some() {
                // The requests are not the reason.
                self.schedule.retry_soon(batch.iter().map(Candidate::uid), now);
            }
        }
        self.report(pending, &mut approvals);
        let next = self.schedule.next(now).map(|due| due.max(NEXT_BATCH));
        let unreported = self.reasons.len() > self.reported.len();
        approvals.retry_after = next.into_iter().chain(unreported.then_some(NEXT_REPORTS)).min();
        approvals
    }

    /// Returns for each request of the batch whether it is approved.
    async fn check(
        &mut self,
        batch: &[Candidate<'_>],
        allow_list: &AllowList,
    ) -> Result<Vec<Result<(), NotApproved>>, String> {
        let api_server = self.servers.names(&self.client).await?;
        let service_networks = reads::service_networks(&self.client).await?;
        let rules = Rules { allow_list, api_server: &api_server, service_networks: &service_networks };
        let nodes =
            reads::nodes(&self.client, batch.iter().map(|candidate| candidate.parsed.node.as_str())).await?;
        let mut verdicts: Vec<_> = batch
            .iter()
            .map(|candidate| match nodes.get(&candidate.parsed.node) {
                Some(node) => rules.check(candidate.parsed, node),
                None => Err(NotApproved::UnknownNode(candidate.parsed.node.clone())),
            })
            .collect();
        // Only those that passed are compared with all Nodes and with pods.
        let passed: Vec<usize> = (0..batch.len()).filter(|at| verdicts[*at].is_ok()).collect();
        if passed.is_empty() {
            return Ok(verdicts);
        }
        let mut conflicts = NodeConflicts::of(passed.iter().map(|at| batch[*at].parsed).collect());
        reads::each_node(&self.client, |node| conflicts.add(&NodeNames::of(&node))).await?;
        for (at, conflict) in passed.iter().zip(conflicts.end()) {
            verdicts[*at] = conflict.map_or(Ok(()), Err);
        }
        let addresses = passed.iter().filter(|at| verdicts[**at].is_ok());
        let addresses = addresses.flat_map(|at| batch[*at].parsed.addresses.iter().map(|one| (*at, *one)));
        for (at, conflict) in reads::pods_with(&self.client, addresses.collect()).await? {
            verdicts[at] = Err(conflict);
        }
        Ok(verdicts)
    }

    /// Approves what passed, and records the reasons for the rest.
    async fn act(
        &mut self,
        batch: &[Candidate<'_>],
        verdicts: Vec<Result<(), NotApproved>>,
        approvals: &mut Approvals,
    ) {
        let mut passed = Vec::new();
        for (candidate, verdict) in batch.iter().zip(verdicts) {
            match verdict {
                Ok(()) => passed.push(candidate),
                Err(reason) => self.record(candidate.pending, reason),
            }
        }
        let client = &self.client;
        let mut results = futures::stream::iter(passed)
            .map(|candidate| async move { (candidate, approve(client, candidate).await) })
            .buffer_unordered(CONCURRENT);
        while let Some((candidate, result)) = results.next().await {
            match result {
                Ok(true) => {
                    let node = candidate.parsed.node.clone();
                    approvals.approved.push((candidate.pending.name.clone(), node));
                }
                // It changed meanwhile: the watch reports it.
                Ok(false) => {}
                Err(error) => approvals.error = Some(error),
            }
        }
    }

    /// Records why a request is not approved.
    fn record(&mut self, request: &PendingRequest, reason: NotApproved) {
        if self.reasons.get(&request.uid) == Some(&reason) {
            return;
        }
        self.reported.remove(&request.uid);
        self.reasons.insert(request.uid.clone(), reason);
    }

    /// Reports reasons that are new. The requests of kubelets come first in `pending`.
    fn report(&mut self, pending: &[PendingRequest], approvals: &mut Approvals) {
        for request in pending {
            if approvals.not_approved.len() >= MAX_REPORTS {
                return;
            }
            if let Some(reason) = self.reasons.get(&request.uid)
                && self.reported.insert(request.uid.clone())
            {
                approvals.not_approved.push((request.name.clone(), reason.clone()));
            }
        }
    }

    /// Returns why pending requests of kubelets are not approved, by Node: the name of the newest request, and the reason.
    pub(super) fn reasons(&self, pending: &[PendingRequest]) -> BTreeMap<String, (String, String)> {
        let mut reasons = BTreeMap::new();
        for request in pending {
            let (Ok(parsed), Some(reason)) = (&request.request, self.reasons.get(&request.uid)) else {
                continue;
            };
            if reasons.len() >= MAX_REASONS {
                break;
            }
            reasons.entry(parsed.node.clone()).or_insert_with(|| (request.name.clone(), reason.to_string()));
        }
        reasons
    }
}

/// A request that is well-formed.
#[derive(Clone, Copy)]
struct Candidate<'a> {
    pending: &'a PendingRequest,
    parsed: &'a KubeletRequest,
}

impl Candidate<'_> {
    fn uid(&self) -> &str {
        &self.pending.uid
    }
}

/// Approves a request. Returns false if it is not the one that was checked any more. The write carries the version that was
/// read here, so that nothing can change in between.
async fn approve(client: &Client, candidate: &Candidate<'_>) -> Result<bool, String> {
    let api: Api<CertificateSigningRequest> = Api::all(client.clone());
    let name = &candidate.pending.name;
    let Some(mut csr) = within(api.get_opt(name)).await? else { return Ok(false) };
    let same = csr.metadata.uid.as_deref() == Some(candidate.uid())
        && is_pending(&csr)
        && KubeletRequest::parse(&csr).as_ref() == Ok(candidate.parsed);
    if !same {
        return Ok(false);
    }
    let now = Some(Time(Timestamp::now()));
    csr.status.get_or_insert_default().conditions.get_or_insert_default().push(
        CertificateSigningRequestCondition {
            type_: "Approved".to_owned(),
            status: "True".to_owned(),
            reason: Some("MatchesNode".to_owned()),
            message: Some(format!(
                "All names and addresses belong to Node {} alone ({FIELD_MANAGER}).",
                candidate.parsed.node
            )),
            last_update_time: now.clone(),
            last_transition_time: now,
        },
    );
    let parameters = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    let write = async {
        match api.replace_subresource("approval", name, &parameters, &csr).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    };
    within(write).await
}

impl std::fmt::Debug for Approver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Approver").field("reasons", &self.reasons).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
