//! The handler chain of a request.

use std::sync::Arc;
use std::time::Duration;

use crds::report::Report;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use tokio::sync::Semaphore;

use super::body::{BoxedBody, DirectClient, LongRunning, TrackedBody, text};
use super::connection::is_http2;
use super::health::Health;
use super::open_requests::{InFlight, OpenRequests};
use super::places::Standing;
use super::requests::{RequestLabels, RequestMetrics};
use super::{ApiHandler, Failure, Limits};
use crate::memory::{Holder, MemoryBudget, MemoryClass};
use crate::server::authentication::{AuthenticationError, Authenticator, ClientConnection, UserInfo};
use crate::server::authorization::{self, Authorizer, Verdict};
use crate::server::request_info::RequestInfo;
use crate::telemetry::{self, Exposition, LogLimiter, RenderError};

const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");
/// The maximum length of an Audit-ID that the response repeats.
const MAX_AUDIT_ID: usize = 64;

/// The memory of a request besides its headers: its task, and the HTTP/2 stream.
const REQUEST_BYTES: usize = 8 << 10;

/// The part of the requests in flight, and of the memory of requests and responses, that is reserved for front proxies:
/// most clients send their requests through kube-apiserver.
const RESERVED_PART: usize = 4;

/// Returns the memory of a request: what was received, and what was parsed of it.
fn request_bytes(parts: &Parts) -> usize {
    let headers: usize =
        parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 64).sum();
    REQUEST_BYTES + 2 * (headers + parts.uri.to_string().len())
}

/// Returns the current report.
pub type ReportSource = Box<dyn Fn() -> Report + Send + Sync>;

/// The parts of the handler chain.
pub struct Handlers {
    /// Authenticates requests.
    pub authenticator: Authenticator,
    /// Authorizes requests.
    pub authorizer: Authorizer,
    /// Serves the health endpoints.
    pub health: Health,
    /// The content of `/metrics`.
    pub registry: telemetry::SharedRegistry,
    /// The metrics of requests.
    pub request_metrics: RequestMetrics,
    /// The content of `/report`.
    pub report: ReportSource,
    /// The memory budget.
    pub memory: Arc<MemoryBudget>,
    /// Serves all other paths.
    pub api: Arc<dyn ApiHandler>,
}

/// The handler chain: authentication, limits, authorization and the endpoints.
pub struct Chain {
    handlers: Handlers,
    exposition: Exposition,
    in_flight: Option<Arc<Semaphore>>,
    /// The number of permits of `in_flight` that are reserved for front proxies.
    reserved_in_flight: usize,
    timeout: Duration,
    response_timeout: Duration,
    strict_transport_security: Option<HeaderValue>,
    failure_log: LogLimiter<&'static str>,
}

impl Chain {
    /// Returns a chain of these parts.
    #[must_use]
    pub fn new(handlers: Handlers, limits: &Limits, strict_transport_security: Option<HeaderValue>) -> Self {
        let exposition = Exposition::new(handlers.registry.clone(), handlers.memory.clone());
        Self {
            handlers,
            exposition,
            in_flight: limits.in_flight.map(|max| Arc::new(Semaphore::new(max))),
            reserved_in_flight: limits.in_flight.unwrap_or(0) / RESERVED_PART,
            timeout: limits.request,
            response_timeout: limits.response_timeout(),
            strict_transport_security,
            failure_log: LogLimiter::default(),
        }
    }

    /// Returns whether the client has the certificate of a front proxy.
    pub(super) fn is_front_proxy(&self, client: &ClientConnection) -> bool {
        self.handlers.authenticator.is_front_proxy(client)
    }

    /// Returns the response to a request. The body of the request is not read: no endpoint has one.
    pub(super) async fn handle(
        &self,
        request: Request<Incoming>,
        client: &ClientConnection,
        open_requests: Arc<OpenRequests>,
    ) -> Response<BoxedBody> {
        let (mut parts, _) = request.into_parts();
        let info = self.handlers.api.request_info(&parts.method, &parts.uri);
        let mut in_flight = InFlight::start(
            open_requests.clone(),
            self.handlers.request_metrics.clone(),
            RequestLabels::of(&info),
            self.response_timeout,
        );
        let audit_id = parts.headers.get(&AUDIT_ID).filter(|id| id.len() <= MAX_AUDIT_ID).cloned();
        let result = tokio::time::timeout(
            self.timeout,
            self.run(&mut parts, &info, client, &open_requests, &mut in_flight),
        )
        .await;
        let mut response = result.unwrap_or_else(|_| {
            self.handlers.api.failure(
                &parts,
                Failure {
                    code: 504,
                    reason: "Timeout",
                    message: "Timeout: request did not complete within the allotted timeout".to_owned(),
                    about: None,
                },
            )
        });
        if response.extensions_mut().remove::<LongRunning>().is_some() {
            in_flight.become_watch();
        }
        if let Some(holder) = response.extensions_mut().remove::<Holder>() {
            in_flight.timer.hold(&open_requests.timer, holder);
        }
        let headers = response.headers_mut();
        if let Some(id) = audit_id {
            headers.insert(AUDIT_ID, id);
        }
        headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache, private"));
        if let Some(directives) = &self.strict_transport_security {
            headers.insert(header::STRICT_TRANSPORT_SECURITY, directives.clone());
        }
        in_flight.code = response.status().as_u16();
        // A client whose HTTP/2 window is closed from the start would never be waited for otherwise.
        in_flight.timer.filled();
        response.map(|body| TrackedBody::new(body, in_flight).boxed_unsync())
    }

    async fn run(
        &self,
        parts: &mut Parts,
        info: &RequestInfo,
        client: &ClientConnection,
        open_requests: &OpenRequests,
        in_flight: &mut InFlight,
    ) -> Response<BoxedBody> {
        // No limit applies to probes, as a rejected probe would restart the pod.
        let is_probe = self.handlers.authorizer.always_allows(info);
        let is_proxy = open_requests.standing() == Standing::FrontProxy;
        if !is_probe {
            let memory = &self.handlers.memory;
            let spared = if is_proxy { 0 } else { memory.max(MemoryClass::Requests) / RESERVED_PART };
            let mut reserved = memory.empty(MemoryClass::Requests);
            if !reserved.try_grow_sparing(request_bytes(parts), spared) {
                return self.too_many_requests();
            }
            in_flight.memory = Some(reserved);
        }
        if !is_proxy {
            parts.extensions.insert(DirectClient { spared_part: RESERVED_PART });
        }
        let user = self.handlers.authenticator.authenticate(parts, client).await;
        // As in k8s.io/apiserver, an unauthenticated client can't keep an HTTP/2 connection (CVE-2023-44487).
        // A front proxy is authenticated by its certificate, and its connection serves other users too.
        if !is_proxy && is_http2(parts.version) && user.as_ref().map_or(true, UserInfo::is_anonymous) {
            open_requests.close();
        }
        let user = match user {
            Ok(user) => {
                if open_requests.standing() == Standing::Unauthenticated {
                    // The trust can be newer than the connection.
                    if self.is_front_proxy(client) {
                        open_requests.authenticated(Standing::FrontProxy);
                    } else if !user.is_anonymous() {
                        open_requests.authenticated(Standing::User);
                    }
                }
                user
            }
            Err(AuthenticationError::TooManyReviews) => return self.too_many_requests(),
            Err(AuthenticationError::Unauthorized(_)) => {
                return self.handlers.api.failure(
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
        // A request for a watch has a permit until its response is one: watches have a limit of their own in the API.
        if let Some(limit) = self.in_flight.as_ref().filter(|_| !is_probe) {
            let reserved = if is_proxy { 0 } else { self.reserved_in_flight };
            if limit.available_permits() <= reserved {
                return self.too_many_requests();
            }
            match limit.clone().try_acquire_owned() {
                Ok(permit) => in_flight.permit = Some(permit),
                Err(_) => return self.too_many_requests(),
            }
        }
        if parts.headers.keys().any(|name| name.as_str().starts_with("impersonate-")) {
            let message =
                "forbidden: impersonation is not supported here; send the request through kube-apiserver"
                    .to_owned();
            return self.forbidden(parts, message, None);
        }
        match self.handlers.authorizer.authorize(&user, info).await {
            Verdict::Allowed => self.allowed(parts, info),
            Verdict::Forbidden(reason) => {
                self.forbidden(parts, authorization::forbidden_message(&user, info, &reason), Some(info))
            }
            Verdict::TooMany => self.too_many_requests(),
            Verdict::Failed(error) => {
                if let Some(more) = self.failure_log.due("authorize") {
                    tracing::error!(since_last = more, "authorization failed; the response is 500: {error}");
                }
                let uri = parts.uri.path_and_query().map_or("", |uri| uri.as_str());
                let message = format!("Internal Server Error: {uri:?}: {error}\n");
                let message = message.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
                text(StatusCode::INTERNAL_SERVER_ERROR, message)
            }
        }
    }

    fn forbidden(&self, parts: &Parts, message: String, about: Option<&RequestInfo>) -> Response<BoxedBody> {
        let mut response =
            self.handlers.api.failure(parts, Failure { code: 403, reason: "Forbidden", message, about });
        response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }

    fn allowed(&self, parts: &Parts, info: &RequestInfo) -> Response<BoxedBody> {
        // The path that was authorized.
        if let Some(response) = self.handlers.health.respond(&info.path, parts.uri.query()) {
            return response;
        }
        if info.path == "/metrics" {
            return self.metrics(parts);
        }
        if info.path == crds::report::PATH {
            return self.report(parts);
        }
        self.handlers.api.handle(parts, info)
    }

    fn report(&self, parts: &Parts) -> Response<BoxedBody> {
        if !matches!(parts.method, Method::GET | Method::HEAD) {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET is allowed\n");
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        let report = (self.handlers.report)();
        let Ok(json) = serde_json::to_vec(&report) else {
            return text(StatusCode::INTERNAL_SERVER_ERROR, "the report can't be encoded\n");
        };
        let mut response = Response::new(Full::new(json.into()).boxed_unsync());
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }

    fn too_many_requests(&self) -> Response<BoxedBody> {
        self.handlers.request_metrics.rejected();
        let mut response =
            text(StatusCode::TOO_MANY_REQUESTS, "Too many requests, please try again later.\n");
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        response
    }

    fn metrics(&self, parts: &Parts) -> Response<BoxedBody> {
        let accept =
            parts.headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
        let openmetrics = telemetry::accepts_openmetrics(accept);
        let rendering = match self.exposition.render(openmetrics) {
            Ok(rendering) => rendering,
            Err(RenderError::Memory) => return self.too_many_requests(),
            Err(RenderError::Encode) => {
                return text(StatusCode::INTERNAL_SERVER_ERROR, "the metrics can't be encoded\n");
            }
        };
        let mut response = Response::new(rendering.boxed_unsync());
        let content_type = if openmetrics { telemetry::OPENMETRICS } else { telemetry::TEXT };
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        response
    }
}
