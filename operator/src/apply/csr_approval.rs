//! The edge: reads whose names are whose when a request waits, and approves.

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
use crate::common::error_chain::error_chain;
use crate::csr::{Claims, Refusal, Request};

/// How long one request to kube-apiserver may take.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Objects in one answer.
const PAGE: u32 = 500;

/// A request that is left alone is looked at again: a new Node gets its addresses a moment later.
const FIRST_AGAIN: Duration = Duration::from_secs(5);
const LAST_AGAIN: Duration = Duration::from_secs(300);

/// What came of a visit.
#[derive(Clone, Debug, Default)]
pub struct Visit {
    /// Requests that were approved, with their Nodes.
    pub approved: Vec<(String, String)>,
    /// Requests that are left alone, with news of why.
    pub left: Vec<(String, Refusal)>,
    /// When to come again.
    pub again: Option<Duration>,
    /// Whether there was anything to ask kube-apiserver, or nothing waits.
    pub looked: bool,
    /// What kube-apiserver refused, in its words.
    pub refused: Option<String>,
}

/// Approves requests that match their Node.
pub struct Approver {
    client: Client,
    /// Why each pending request is left alone, by UID.
    left: BTreeMap<String, Refusal>,
    /// Those that may be approved later, when they were last looked at, and how long to wait.
    waiting: Option<(BTreeSet<String>, Instant, Duration)>,
}

impl Approver {
    /// One that has seen nothing yet.
    #[must_use]
    pub const fn new(client: Client) -> Self {
        Self { client, left: BTreeMap::new(), waiting: None }
    }

    /// Looks at the requests that are pending. Costs nothing when there is none.
    pub async fn visit(&mut self, pending: &[CertificateSigningRequest]) -> Visit {
        let mut visit = Visit::default();
        let uids: BTreeSet<_> = pending.iter().map(uid).collect();
        self.left.retain(|uid, _| uids.contains(uid));
        let mut readable = Vec::new();
        for csr in pending {
            match Request::read(csr) {
                Ok(request) => readable.push((csr, request)),
                // A spec never changes: this is final.
                Err(refusal) => self.leave(csr, refusal, &mut visit),
            }
        }
        let waiting: BTreeSet<_> = readable.iter().map(|(csr, _)| uid(csr)).collect();
        if waiting.is_empty() {
            self.waiting = None;
            visit.looked = true;
            return visit;
        }
        let pause = match &self.waiting {
            Some((before, looked, pause)) if waiting.is_subset(before) => {
                let left = pause.saturating_sub(looked.elapsed());
                if !left.is_zero() {
                    visit.again = Some(left);
                    return visit;
                }
                (*pause * 2).min(LAST_AGAIN)
            }
            _ => FIRST_AGAIN,
        };
        self.waiting = Some((waiting, Instant::now(), pause));
        visit.looked = true;
        visit.again = Some(pause);
        let claims = match self.claims().await {
            Ok(claims) => claims,
            Err(why) => {
                visit.refused = Some(why);
                return visit;
            }
        };
        for (csr, request) in readable {
            match claims.judge(&request) {
                Ok(()) => match self.approve(csr, &request).await {
                    Ok(()) => visit.approved.push((name(csr), request.node)),
                    Err(why) => visit.refused = why.or(visit.refused),
                },
                Err(refusal) => self.leave(csr, refusal, &mut visit),
            }
        }
        visit
    }

    fn leave(&mut self, csr: &CertificateSigningRequest, refusal: Refusal, visit: &mut Visit) {
        if self.left.get(&uid(csr)) != Some(&refusal) {
            self.left.insert(uid(csr), refusal.clone());
            visit.left.push((name(csr), refusal));
        }
    }

    async fn claims(&self) -> Result<Claims, String> {
        let mut claims = Claims::default();
        let all = ListParams::default();
        let apiserver = ListParams::default().labels("kubernetes.io/service-name=kubernetes");
        list(Api::<Node>::all(self.client.clone()), all.clone(), |node| claims.add_node(&node)).await?;
        list(Api::<Service>::all(self.client.clone()), all, |service| claims.add_service(&service)).await?;
        list(Api::<EndpointSlice>::namespaced(self.client.clone(), "default"), apiserver, |slice| {
            claims.add_apiserver(&slice);
        })
        .await?;
        Ok(claims)
    }

    /// On the version that was judged. `Err(None)` when it changed meanwhile.
    async fn approve(
        &self,
        csr: &CertificateSigningRequest,
        request: &Request,
    ) -> Result<(), Option<String>> {
        let mut approved = csr.clone();
        let now = Some(Time(Timestamp::now()));
        approved.status.get_or_insert_default().conditions.get_or_insert_default().push(
            CertificateSigningRequestCondition {
                type_: "Approved".to_owned(),
                status: "True".to_owned(),
                reason: Some("MatchesNode".to_owned()),
                message: Some(format!(
                    "Every name and address belongs to Node {} alone ({FIELD_MANAGER}).",
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
            Err(_) => Err(Some(format!("no answer within {} s", TIMEOUT.as_secs()))),
        }
    }
}

impl std::fmt::Debug for Approver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Approver").field("left", &self.left).finish_non_exhaustive()
    }
}

/// Page by page, each object let go as soon as it was looked at.
async fn list<K>(api: Api<K>, mut parameters: ListParams, mut each: impl FnMut(K)) -> Result<(), String>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    parameters = parameters.limit(PAGE);
    loop {
        let page = tokio::time::timeout(TIMEOUT, api.list(&parameters))
            .await
            .map_err(|_| format!("no answer within {} s", TIMEOUT.as_secs()))?
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
