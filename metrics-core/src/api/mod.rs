//! The Metrics API: turns a request and the newest rows into a response. No network access; the clock is read only
//! for the time of a response.
//!
//! ```text
//! request_info                     method, path, query → attributes, which authorization uses too
//! route                            attributes → what the request addresses
//! negotiate                        Accept → media type and view
//! list_options, selector           query → what is selected
//! objects                          one object, a list or a watch
//! cursor                           visits the selected rows, in batches by key
//! encode                           rows → bytes
//! list, watch                      the chunks of a response, as the client reads them
//! chunk_queue                      what a protobuf list holds in memory before it is sent
//! gzip                             compresses long lists
//! list_memory                      the memory of responses, from the budget
//! body                             the response body
//! discovery, openapi, documents    documents that never change
//! status                           failures
//! ```

mod body;
mod chunk_queue;
mod continue_token;
mod cursor;
mod discovery;
mod documents;
mod duration;
mod encode;
mod gzip;
mod list;
mod list_memory;
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
mod selector;
mod status;
mod step;
#[cfg(test)]
mod tests;
mod timestamp;
mod watch;
mod watch_limit;

use std::sync::Arc;
use std::time::Duration;

use http::Response;
use http::header::{ALLOW, CACHE_CONTROL, HeaderValue, LOCATION, VARY};
use http::request::Parts;
use prometheus_client::registry::Registry;

use self::documents::Documents;
use self::gzip::Compressors;
use self::list_memory::ResponseMemory;
use self::resource::ApiVersion;
use self::route::Route;
use self::sample_age::SampleAge;
use self::watch_limit::WatchLimit;
use crate::memory::MemoryBudget;
use crate::model::rows::Rows;

pub(crate) use self::body::ResponseBody;
pub use self::request_info::request_info;
pub(crate) use self::status::{Status, status};
use crate::server::request_info::RequestInfo;

/// The memory budget of an API that shares none.
const DEFAULT_MEMORY: usize = 256 << 20;

/// The configuration of the Metrics API.
#[derive(Clone, Copy, Debug)]
pub struct ApiConfig {
    /// Whether usage includes `swap`, where the kubelet reports it.
    pub(crate) swap: bool,
    /// The maximum number of bytes of one protobuf list that are encoded before they are sent.
    pub(crate) max_encoded_list_bytes: usize,
    /// The maximum number of concurrent watches. Further ones get 429. With 0, watch is not in discovery, and a request
    /// for a watch gets 405, as from an API server whose storage does not support watch.
    pub(crate) max_watches: usize,
    /// The minimum duration of a watch without `timeoutSeconds`. The maximum is twice this.
    pub(crate) min_watch_duration: Duration,
}

impl ApiConfig {
    /// Serves up to `max` concurrent watches.
    #[must_use]
    pub fn with_watches(self, max: usize) -> Self {
        Self { max_watches: max, ..self }
    }

    /// Returns whether watch is served.
    fn serves_watch(&self) -> bool {
        self.max_watches > 0
    }
}

impl Default for ApiConfig {
    fn default() -> Self {
        Self {
            swap: true,
            // A list of 1,000 nodes with 30 pods each is 11 MB.
            max_encoded_list_bytes: 16 << 20,
            max_watches: 0,
            min_watch_duration: Duration::from_secs(1800),
        }
    }
}

/// The Metrics API.
pub struct Api {
    rows: Arc<dyn Rows>,
    config: ApiConfig,
    documents: Documents,
    sample_age: SampleAge,
    watch_limit: Arc<WatchLimit>,
    memory: ResponseMemory,
    compressors: Arc<Compressors>,
}

impl Api {
    /// Creates an API that serves `rows`, with a memory budget of its own.
    #[must_use]
    pub fn new(rows: Arc<dyn Rows>, config: ApiConfig) -> Self {
        Self::with_memory(rows, config, MemoryBudget::new(DEFAULT_MEMORY))
    }

    /// Creates an API that serves `rows` and reserves memory from `budget`.
    #[must_use]
    pub(crate) fn with_memory(rows: Arc<dyn Rows>, config: ApiConfig, budget: Arc<MemoryBudget>) -> Self {
        let watch_limit = WatchLimit::new(config.max_watches);
        Self {
            rows,
            config,
            documents: Documents::new(config.serves_watch()),
            sample_age: SampleAge::default(),
            watch_limit,
            memory: ResponseMemory::new(budget),
            compressors: Arc::default(),
        }
    }

    /// Adds the API's metrics to `registry`.
    pub(crate) fn register(&self, registry: &mut Registry) {
        self.sample_age.register(registry);
    }

    /// Ends all watches within about a second. Their clients reconnect to another replica.
    pub(crate) fn end_watches(&self) {
        self.watch_limit.close();
    }

    /// Handles an authorized request. `info` must be the request's own [`request_info()`].
    ///
    /// Returns at once: a long list is encoded when its body is polled.
    #[must_use]
    pub fn handle(&self, request: &Parts, info: &RequestInfo) -> Response<ResponseBody> {
        self.handle_at(request, info, now_ns())
    }

    /// Handles a request at `now_ns`, in nanoseconds since the Unix epoch.
    fn handle_at(&self, request: &Parts, info: &RequestInfo, now_ns: i64) -> Response<ResponseBody> {
        let documents = &self.documents;
        match route::find(&request.method, info) {
            Route::Objects { resource, version } => objects::ObjectsRequest {
                rows: &self.rows,
                config: self.config,
                sample_age: &self.sample_age,
                watch_limit: &self.watch_limit,
                memory: &self.memory,
                compressors: &self.compressors,
                parts: request,
                info,
                resource,
                version,
                now_ns,
            }
            .handle()
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

    /// Returns `/apis`, plain or aggregated.
    fn groups(&self, request: &Parts) -> Response<ResponseBody> {
        let Some((representation, version)) = negotiate::discovery(request) else {
            return status(request, &Status::not_acceptable());
        };
        let Some(version) = version else {
            return respond::discovery(
                representation,
                representation.media_type.as_str(),
                &self.documents.groups,
            );
        };
        let (document, tag) = self.documents.aggregated(version);
        let version = document.api_version.trim_start_matches("apidiscovery.k8s.io/");
        let content_type = format!(
            "{};g=apidiscovery.k8s.io;v={version};as={}",
            representation.media_type.as_str(),
            document.kind
        );
        let mut response =
            respond::with_etag(request, tag, respond::discovery(representation, &content_type, document));
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public"));
        response
    }

    /// Returns an OpenAPI 3 document. If the URL contains the digest of the document, the response can be cached forever.
    fn openapi_v3(&self, request: &Parts, version: ApiVersion) -> Response<ResponseBody> {
        let document = self.documents.openapi_v3(version);
        let query = query::Query::parse(request.uri.query());
        let hash = query.get("hash").filter(|hash| !hash.is_empty());
        if hash.is_some_and(|hash| hash != document.tag) {
            let mut response = respond::with_body(301, "application/json", ResponseBody::empty());
            if let Ok(address) = HeaderValue::from_str(&openapi::v3_address(version, &document.tag)) {
                response.headers_mut().insert(LOCATION, address);
            }
            return response;
        }
        let mut response = openapi_document(request, document);
        if hash.is_some() && response.status() != http::StatusCode::NOT_ACCEPTABLE {
            let immutable = HeaderValue::from_static("public, immutable, max-age=31536000");
            response.headers_mut().insert(CACHE_CONTROL, immutable);
        }
        response
    }
}

impl std::fmt::Debug for Api {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Api").field("config", &self.config).finish_non_exhaustive()
    }
}

fn discovery_document(request: &Parts, document: &discovery::DiscoveryDocument) -> Response<ResponseBody> {
    match negotiate::document(request) {
        Some(representation) => {
            respond::discovery(representation, representation.media_type.as_str(), document)
        }
        None => status(request, &Status::not_acceptable()),
    }
}

fn openapi_document(request: &Parts, document: &openapi::OpenApiDocument) -> Response<ResponseBody> {
    if negotiate::accepts_json(request) {
        let response = respond::with_bytes(200, "application/json", document.json.clone());
        respond::with_etag(request, &document.tag, response)
    } else {
        let mut response = status(request, &Status::not_acceptable());
        response.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
        response
    }
}

/// Returns a document that is always indented, as people read it more often than programs.
fn pretty_json(code: u16, json: &[u8]) -> Response<ResponseBody> {
    respond::with_bytes(
        code,
        "application/json",
        respond::serialize(negotiate::Representation::FALLBACK, json),
    )
}

fn now_ns() -> i64 {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_nanos()).unwrap_or(i64::MAX)
}
