//! The Metrics API: a request and the newest rows make a response. Pure: no network, no clock but the one
//! that stamps an answer.
//!
//! ```text
//! request_info   method, path, query → attributes (authorization sees the same)
//! route          attributes → what is asked for
//! negotiate      Accept → encoding and view        list_options, selector  query → what is selected
//! cursor         rows, in batches by key           encode  rows → bytes
//! list, watch, body  chunks as the client takes them   held    what is encoded before it is sent
//! status  failures
//! ```

mod body;
mod budget;
mod continuation;
mod cursor;
mod discovery;
mod documents;
mod duration;
mod encode;
mod held;
mod list;
mod list_options;
mod negotiate;
mod objects;
mod openapi;
mod quantity;
mod query;
mod request_info;
mod resource;
mod respond;
mod route;
mod sample_age;
mod seats;
mod selector;
mod status;
#[cfg(test)]
mod tests;
mod timestamp;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use http::Response;
use http::header::{ALLOW, CACHE_CONTROL, HeaderValue, LOCATION, VARY};
use http::request::Parts;
use prometheus_client::registry::Registry;

use self::budget::Budget;
use self::documents::Documents;
use self::resource::Version;
use self::route::Route;
use self::sample_age::SampleAge;
use self::seats::Seats;
use crate::model::rows::Rows;

pub use self::body::Body;
pub use self::request_info::request_info;
pub use self::status::{Cause, Details, Status, status};
use crate::server::request_info::RequestInfo;

/// What the API shows.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Whether usage has `swap` where the kubelet reports it.
    pub swap: bool,
    /// Of one list of protobuf so many bytes may be in memory, encoded, until they are sent.
    pub encoded_at_once: usize,
    /// Of all lists of protobuf together; what is beyond costs more time, but hardly any memory.
    pub encoded_in_all: usize,
    /// Watches at once; more get 429.
    pub watches: usize,
    /// A watch whose client names no end lasts this long at least and twice as long at most.
    pub shortest_watch: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            swap: true,
            // A list of 1,000 nodes with 30 pods each has 11 MB.
            encoded_at_once: 16 << 20,
            // Two such lists at once: clients that take theirs slowly must not add up to what kills the process.
            encoded_in_all: 32 << 20,
            watches: 256,
            shortest_watch: Duration::from_secs(1800),
        }
    }
}

/// The Metrics API over some rows.
pub struct Api {
    rows: Arc<dyn Rows>,
    config: Config,
    documents: Documents,
    sample_age: SampleAge,
    seats: Arc<Seats>,
    budget: Arc<Budget>,
}

impl Api {
    /// An API that answers out of `rows`.
    #[must_use]
    pub fn new(rows: Arc<dyn Rows>, config: Config) -> Self {
        let (seats, budget) = (Seats::new(config.watches), Budget::new(config.encoded_in_all));
        Self { rows, config, documents: Documents::new(), sample_age: SampleAge::default(), seats, budget }
    }

    /// Adds the API's metrics to `registry`.
    pub fn register(&self, registry: &mut Registry) {
        self.sample_age.register(registry);
    }

    /// Ends all watches within a second or so; their clients come again, elsewhere.
    pub fn end_watches(&self) {
        self.seats.close();
    }

    /// Answers a request that is allowed. `info` must be the request's own [`request_info()`].
    ///
    /// Returns at once; a long list is encoded as its body is polled.
    #[must_use]
    pub fn handle(&self, request: &Parts, info: &RequestInfo) -> Response<Body> {
        self.answer(request, info, now_ns())
    }

    /// Answers as of `now_ns`, nanoseconds since the Unix epoch.
    fn answer(&self, request: &Parts, info: &RequestInfo, now_ns: i64) -> Response<Body> {
        let documents = &self.documents;
        match route::find(&request.method, info) {
            Route::Objects { resource, version } => objects::Request {
                rows: &self.rows,
                sample_age: &self.sample_age,
                config: self.config,
                seats: &self.seats,
                budget: &self.budget,
                parts: request,
                info,
                resource,
                version,
                now_ns,
            }
            .answer()
            .unwrap_or_else(|failure| status(request, &failure)),
            Route::Groups => self.groups(request),
            Route::Group => discovery_document(request, &documents.group),
            Route::Resources(version) => discovery_document(request, documents.resources(version)),
            Route::Paths => pretty_json(200, &documents.paths),
            Route::Version if negotiate::accepts_json(request) => pretty_json(200, &documents.version),
            Route::OpenApiV2 => openapi_document(request, &documents.openapi_v2),
            Route::OpenApiV3Index => openapi_document(request, &documents.openapi_v3_index),
            Route::OpenApiV3(version) => self.openapi_v3(request, version),
            Route::Version => status(request, &Status::not_acceptable()),
            Route::NoSuchResource => status(request, &Status::no_such_resource()),
            Route::NoSuchPath => pretty_json(404, &documents.paths),
            Route::MethodNotAllowed => {
                let mut response = status(request, &Status::method_not_allowed());
                response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
                response
            }
        }
    }

    /// `/apis`, plain or aggregated.
    fn groups(&self, request: &Parts) -> Response<Body> {
        let Some((layout, version)) = negotiate::discovery(request) else {
            return status(request, &Status::not_acceptable());
        };
        let Some(version) = version else {
            return respond::discovery(layout, layout.format.media_type(), &self.documents.groups);
        };
        let (document, tag) = self.documents.aggregated(version);
        let version = document.api_version.trim_start_matches("apidiscovery.k8s.io/");
        let content_type =
            format!("{};g=apidiscovery.k8s.io;v={version};as={}", layout.format.media_type(), document.kind);
        let mut response = respond::tagged(request, tag, respond::discovery(layout, &content_type, document));
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public"));
        response
    }

    /// A document of OpenAPI 3; with the digest of its content in the address it may be kept for ever.
    fn openapi_v3(&self, request: &Parts, version: Version) -> Response<Body> {
        let document = self.documents.openapi_v3(version);
        let query = query::Query::parse(request.uri.query());
        let hash = query.get("hash").filter(|hash| !hash.is_empty());
        if hash.is_some_and(|hash| hash != document.tag) {
            let mut response = respond::with_body(301, "application/json", Body::empty());
            if let Ok(address) = HeaderValue::from_str(&openapi::v3_address(version, &document.tag)) {
                response.headers_mut().insert(LOCATION, address);
            }
            return response;
        }
        let mut response = openapi_document(request, document);
        if hash.is_some() && response.status() != http::StatusCode::NOT_ACCEPTABLE {
            let forever = HeaderValue::from_static("public, immutable, max-age=31536000");
            response.headers_mut().insert(CACHE_CONTROL, forever);
        }
        response
    }
}

impl std::fmt::Debug for Api {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Api").field("config", &self.config).finish_non_exhaustive()
    }
}

fn discovery_document(request: &Parts, document: &discovery::Document) -> Response<Body> {
    match negotiate::document(request) {
        Some(layout) => respond::discovery(layout, layout.format.media_type(), document),
        None => status(request, &Status::not_acceptable()),
    }
}

fn openapi_document(request: &Parts, document: &openapi::Document) -> Response<Body> {
    if negotiate::accepts_json(request) {
        let response = respond::whole(200, "application/json", document.json.clone());
        respond::tagged(request, &document.tag, response)
    } else {
        let mut response = status(request, &Status::not_acceptable());
        response.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
        response
    }
}

/// Documents that are shown to people in the first place are indented whoever asks.
fn pretty_json(code: u16, json: &[u8]) -> Response<Body> {
    respond::whole(code, "application/json", respond::laid_out(negotiate::Layout::FALLBACK, json))
}

fn now_ns() -> i64 {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_nanos()).unwrap_or(i64::MAX)
}
