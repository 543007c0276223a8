//! The way of one request.

use std::sync::Arc;

use crds::report::Report;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use tokio::sync::Semaphore;

use super::activity::{Activity, InFlight};
use super::body::{Body, Tracked, text};
use super::connection::is_http2;
use super::health::Health;
use super::requests::{RequestLabels, RequestMetrics};
use super::{Failure, Limits, Resources};
use crate::server::authentication::{Authenticator, NoUser, Peer, UserInfo};
use crate::server::authorization::{self, Authorizer, Verdict};
use crate::server::request_info::RequestInfo;
use crate::telemetry::{self, Occasional};

const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");
/// The longest Audit-ID that is taken over.
const LONGEST_AUDIT_ID: usize = 64;

/// Returns the report of this moment.
pub type ReportSource = Box<dyn Fn() -> Report + Send + Sync>;

/// All that a request goes through.
pub struct Chain {
    /// Who asks.
    pub authenticator: Authenticator,
    /// Whether they may.
    pub authorizer: Authorizer,
    /// Health.
    pub health: Health,
    /// What `/metrics` shows.
    pub registry: telemetry::Shared,
    /// Counters of requests.
    pub requests: RequestMetrics,
    /// What `/report` shows.
    pub report: ReportSource,
    /// All else.
    pub resources: Arc<dyn Resources>,
    in_flight: Option<Arc<Semaphore>>,
    timeout: std::time::Duration,
    strict_transport_security: Option<HeaderValue>,
    unknown_log: Occasional<&'static str>,
}

impl Chain {
    /// Puts the parts together.
    #[must_use]
    #[allow(clippy::too_many_arguments)] // Each is a part of its own kind.
    pub fn new(
        authenticator: Authenticator,
        authorizer: Authorizer,
        health: Health,
        registry: telemetry::Shared,
        requests: RequestMetrics,
        report: ReportSource,
        resources: Arc<dyn Resources>,
        limits: &Limits,
        strict_transport_security: Option<HeaderValue>,
    ) -> Self {
        Self {
            authenticator,
            authorizer,
            health,
            registry,
            requests,
            report,
            resources,
            in_flight: limits.in_flight.map(|most| Arc::new(Semaphore::new(most))),
            timeout: limits.request,
            strict_transport_security,
            unknown_log: Occasional::default(),
        }
    }

    /// Answers one request. Its body is not read: nothing here takes one.
    pub(super) async fn answer(
        &self,
        request: Request<Incoming>,
        peer: &Peer,
        activity: Arc<Activity>,
    ) -> Response<Body> {
        let (mut parts, _) = request.into_parts();
        let info = self.resources.request_info(&parts.method, &parts.uri);
        let watch = info.is_resource_request && info.verb == "watch";
        let mut in_flight =
            InFlight::begin(activity.clone(), self.requests.clone(), RequestLabels::of(&info), watch);
        let audit_id = parts.headers.get(&AUDIT_ID).filter(|id| id.len() <= LONGEST_AUDIT_ID).cloned();
        let passed =
            tokio::time::timeout(self.timeout, self.pass(&mut parts, &info, peer, &activity, &mut in_flight))
                .await;
        let mut response = passed.unwrap_or_else(|_| {
            self.resources.failure(
                &parts,
                Failure {
                    code: 504,
                    reason: "Timeout",
                    message: "Timeout: request did not complete within the allotted timeout".to_owned(),
                    about: None,
                },
            )
        });
        let headers = response.headers_mut();
        if let Some(id) = audit_id {
            headers.insert(AUDIT_ID, id);
        }
        headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache, private"));
        if let Some(directives) = &self.strict_transport_security {
            headers.insert(header::STRICT_TRANSPORT_SECURITY, directives.clone());
        }
        in_flight.code = response.status().as_u16();
        response.map(|body| Tracked { body, in_flight: Some(in_flight) }.boxed_unsync())
    }

    async fn pass(
        &self,
        parts: &mut Parts,
        info: &RequestInfo,
        peer: &Peer,
        activity: &Activity,
        in_flight: &mut InFlight,
    ) -> Response<Body> {
        let user = self.authenticator.authenticate(parts, peer).await;
        // As k8s.io/apiserver: who is not known does not get to keep an HTTP/2 connection (CVE-2023-44487).
        if is_http2(parts.version) && user.as_ref().map_or(true, UserInfo::is_anonymous) {
            activity.close();
        }
        let user = match user {
            Ok(user) => user,
            Err(NoUser::TooMany) => return self.turn_away(),
            Err(NoUser::Unauthorized(_)) => {
                return self.resources.failure(
                    parts,
                    Failure {
                        code: 401,
                        reason: "Unauthorized",
                        message: "Unauthorized".to_owned(),
                        about: None,
                    },
                );
            }
        };
        // Probes are answered however busy we are: turned away, they would have us restarted. Watches, which stay for
        // long, are limited by what serves them.
        let unlimited = in_flight.is_watch() || self.authorizer.always_allows(info);
        if let Some(limit) = self.in_flight.as_ref().filter(|_| !unlimited) {
            match limit.clone().try_acquire_owned() {
                Ok(permit) => in_flight.permit = Some(permit),
                Err(_) => return self.turn_away(),
            }
        }
        if parts.headers.keys().any(|name| name.as_str().starts_with("impersonate-")) {
            let message =
                "forbidden: impersonation is not served here, ask through kube-apiserver".to_owned();
            return self.forbidden(parts, message, None);
        }
        match self.authorizer.authorize(&user, info).await {
            Verdict::Allowed => self.allowed(parts, info),
            Verdict::Forbidden(reason) => {
                self.forbidden(parts, authorization::forbidden_message(&user, info, &reason), Some(info))
            }
            Verdict::TooMany => self.turn_away(),
            Verdict::Unknown(error) => {
                if let Some(more) = self.unknown_log.due("authorize") {
                    tracing::error!(
                        since_last = more,
                        "can't tell whether a request is allowed, so it is answered with 500: {error}"
                    );
                }
                let uri = parts.uri.path_and_query().map_or("", |uri| uri.as_str());
                let message = format!("Internal Server Error: {uri:?}: {error}\n");
                let message = message.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
                text(StatusCode::INTERNAL_SERVER_ERROR, message)
            }
        }
    }

    fn forbidden(&self, parts: &Parts, message: String, about: Option<&RequestInfo>) -> Response<Body> {
        let mut response =
            self.resources.failure(parts, Failure { code: 403, reason: "Forbidden", message, about });
        response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }

    fn allowed(&self, parts: &Parts, info: &RequestInfo) -> Response<Body> {
        // The path as it was authorized.
        if let Some(response) = self.health.answer(&info.path, parts.uri.query()) {
            return response;
        }
        if info.path == "/metrics" {
            return self.metrics(parts);
        }
        if info.path == crds::report::PATH {
            return self.report(parts);
        }
        self.resources.handle(parts, info)
    }

    fn report(&self, parts: &Parts) -> Response<Body> {
        if !matches!(parts.method, Method::GET | Method::HEAD) {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET is allowed\n");
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        let report = (self.report)();
        let Ok(json) = serde_json::to_vec(&report) else {
            return text(StatusCode::INTERNAL_SERVER_ERROR, "the report can't be encoded\n");
        };
        let mut response = Response::new(Full::new(json.into()).boxed_unsync());
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }

    fn turn_away(&self) -> Response<Body> {
        self.requests.turned_away();
        let mut response =
            text(StatusCode::TOO_MANY_REQUESTS, "Too many requests, please try again later.\n");
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        response
    }

    fn metrics(&self, parts: &Parts) -> Response<Body> {
        let accept =
            parts.headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
        let openmetrics = telemetry::accepts_openmetrics(accept);
        let Ok(metrics) = telemetry::encode(&self.registry, openmetrics) else {
            return text(StatusCode::INTERNAL_SERVER_ERROR, "the metrics can't be encoded\n");
        };
        let mut response = Response::new(Full::new(metrics.into()).boxed_unsync());
        let content_type = if openmetrics { telemetry::OPENMETRICS } else { telemetry::TEXT };
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        response
    }
}
