//! Approves kubelets' CertificateSigningRequests: reads the owners of names while requests are pending, and approves.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client};
use serde::de::DeserializeOwned;

use crate::common::FIELD_MANAGER;
use crate::common::error_chain;
use crate::csr::{KubeletRequest, NameOwners, NotApproved};

/// The timeout of a request to kube-apiserver.
const TIMEOUT: Duration = Duration::from_secs(20);

/// The maximum count of objects in a page.
const PAGE: u32 = 500;

/// The delays after which a pending request is checked again, as a new Node gets its addresses a moment after its
/// request.
const MIN_RETRY_DELAY: Duration = Duration::from_secs(5);
const MAX_RETRY_DELAY: Duration = Duration::from_secs(300);

/// The result of [`Approver::approve_pending`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Approvals {
    /// The names of approved requests and their Nodes.
    pub approved: Vec<(String, String)>,
    /// The names of requests that are not approved for a new reason, and the reason.
    pub not_approved: Vec<(String, NotApproved)>,
    /// When to check again.
    pub retry_after: Option<Duration>,
    /// Whether the requests were checked; false between two checks of the same requests.
    pub checked: bool,
    /// The error of kube-apiserver.
    pub error: Option<String>,
}

/// Approves requests that match their Node.
pub(super) struct Approver {
    client: Client,
    /// Why each pending request is not approved, by UID.
    not_approved: BTreeMap<String, NotApproved>,
    /// The UIDs of requests that may be approved later, when they were last checked, and the retry delay.
    waiting: Option<(BTreeSet<String>, Instant, Duration)>,
}

impl Approver {
    /// Creates an approver.
    #[must_use]
    pub(super) const fn new(client: Client) -> Self {
        Self { client, not_approved: BTreeMap::new(), waiting: None }
    }

    /// Checks the pending requests and approves those that match their Node. Sends nothing if none is pending.
    pub(super) async fn approve_pending(&mut self, pending: &[CertificateSigningRequest]) -> Approvals {
        let mut approvals = Approvals::default();
        let uids: BTreeSet<_> = pending.iter().map(uid).collect();
        self.not_approved.retain(|uid, _| uids.contains(uid));
        let mut readable = Vec::new();
        for csr in pending {
            match KubeletRequest::parse(csr) {
                Ok(request) => readable.push((csr, request)),
                // The spec is immutable, so this is final.
                Err(reason) => self.record(csr, reason, &mut approvals),
            }
        }
        let waiting: BTreeSet<_> = readable.iter().map(|(csr, _)| uid(csr)).collect();
        if waiting.is_empty() {
            self.waiting = None;
            approvals.checked = true;
            return approvals;
        }
        let delay = match &self.waiting {
            Some((before, checked, delay)) if waiting.is_subset(before) => {
                let remaining = delay.saturating_sub(checked.elapsed());
                if !remaining.is_zero() {
                    approvals.retry_after = Some(remaining);
                    return approvals;
                }
                (*delay * 2).min(MAX_RETRY_DELAY)
            }
            _ => MIN_RETRY_DELAY,
        };
        self.waiting = Some((waiting, Instant::now(), delay));
        approvals.checked = true;
        approvals.retry_after = Some(delay);
        let owners = match self.name_owners().await {
            Ok(owners) => owners,
            Err(error) => {
                approvals.error = Some(error);
                return approvals;
            }
        };
        for (csr, request) in readable {
            match owners.check(&request) {
                Ok(()) => match self.approve(csr, &request).await {
                    Ok(()) => approvals.approved.push((name(csr), request.node)),
                    Err(error) => approvals.error = error.or(approvals.error),
                },
                Err(reason) => self.record(csr, reason, &mut approvals),
            }
        }
        approvals
    }

    /// Records why a request is not approved, and reports it if the reason is new.
    fn record(&mut self, csr: &CertificateSigningRequest, reason: NotApproved, approvals: &mut Approvals) {
        if self.not_approved.get(&uid(csr)) != Some(&reason) {
            self.not_approved.insert(uid(csr), reason.clone());
            approvals.not_approved.push((name(csr), reason));
        }
    }

    async fn name_owners(&self) -> Result<NameOwners, String> {
        let mut owners = NameOwners::default();
        let all = ListParams::default();
        let apiserver = ListParams::default().labels("kubernetes.io/service-name=kubernetes");
        list(Api::<Node>::all(self.client.clone()), all.clone(), |node| owners.add_node(&node)).await?;
        list(Api::<Service>::all(self.client.clone()), all, |service| owners.add_service(&service)).await?;
        list(Api::<EndpointSlice>::namespaced(self.client.clone(), "default"), apiserver, |slice| {
            owners.add_apiserver(&slice);
        })
        .await?;
        Ok(owners)
    }

    /// Approves the version that was checked. Returns `Err(None)` if the request changed meanwhile.
    async fn approve(
        &self,
        csr: &CertificateSigningRequest,
        request: &KubeletRequest,
    ) -> Result<(), Option<String>> {
        let mut approved = csr.clone();
        let now = Some(Time(Timestamp::now()));
        approved.status.get_or_insert_default().conditions.get_or_insert_default().push(
            CertificateSigningRequestCondition {
                type_: "Approved".to_owned(),
                status: "True".to_owned(),
                reason: Some("MatchesNode".to_owned()),
                message: Some(format!(
                    "All names and addresses belong to Node {} alone ({FIELD_MANAGER}).",
                    request.node
                )),
                last_update_time: now.clone(),
                last_transition_time: now,
            },
        );
        let api: Api<CertificateSigningRequest> = Api::all(self.client.clone());
        let parameters =
            PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        let name = name(csr);
        match tokio::time::timeout(
            TIMEOUT,
            api.replace_subresource("approval", &name, &parameters, &approved),
        )
        .await
        {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(kube::Error::Api(status))) if status.is_conflict() || status.is_not_found() => Err(None),
            Ok(Err(error)) => Err(Some(error_chain(&error))),
            Err(_) => Err(Some(format!("no response within {} s", TIMEOUT.as_secs()))),
        }
    }
}

impl std::fmt::Debug for Approver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Approver").field("not_approved", &self.not_approved).finish_non_exhaustive()
    }
}

/// Lists objects in pages and drops each object after `each`.
async fn list<K>(api: Api<K>, mut parameters: ListParams, mut each: impl FnMut(K)) -> Result<(), String>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    parameters = parameters.limit(PAGE);
    loop {
        let page = tokio::time::timeout(TIMEOUT, api.list(&parameters))
            .await
            .map_err(|_| format!("no response within {} s", TIMEOUT.as_secs()))?
            .map_err(|error| error_chain(&error))?;
        page.items.into_iter().for_each(&mut each);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters = parameters.continue_token(&token),
            None => return Ok(()),
        }
    }
}

fn uid(csr: &CertificateSigningRequest) -> String {
    csr.metadata.uid.clone().unwrap_or_default()
}

fn name(csr: &CertificateSigningRequest) -> String {
    csr.metadata.name.clone().unwrap_or_default()
}
