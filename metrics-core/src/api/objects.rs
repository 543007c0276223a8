//! Handles requests for one object, a list or a watch.

use std::sync::Arc;
use std::time::Instant;

use http::Response;
use http::request::Parts;

use super::body::ResponseBody;
use super::continue_token::ObjectKey;
use super::cursor::{Cursor, Selection};
use super::encode::{EncodeContext, IncludeObject, json, protobuf};
use super::gzip::{self, Compressors};
use super::list::ListStream;
use super::list_memory::ResponseMemory;
use super::list_options::ListOptions;
use super::negotiate::{self, MediaType, Representation, View};
use super::query::Query;
use super::resource::{ApiVersion, GROUP, Resource, Row};
use super::sample_age::SampleAge;
use super::selector::{FieldSelector, LabelSelector};
use super::status::Status;
use super::watch::WatchStream;
use super::watch_limit::WatchLimit;
use super::{ApiConfig, respond};
use crate::model::rows::{Lookup, Rows};
use crate::server::listen::{DirectClient, LongRunning};
use crate::server::request_info::RequestInfo;

/// The Retry-After of a watch that is rejected because too many are open.
const RETRY_AFTER_SECONDS: u32 = 5;

/// A request for objects of one resource.
pub(super) struct ObjectsRequest<'a> {
    /// The rows to read.
    pub(super) rows: &'a Arc<dyn Rows>,
    /// The configuration of the API.
    pub(super) config: ApiConfig,
    /// The metric of the age of the samples that are read.
    pub(super) sample_age: &'a SampleAge,
    /// The maximum number of watches.
    pub(super) watch_limit: &'a Arc<WatchLimit>,
    /// The memory of responses.
    pub(super) memory: &'a ResponseMemory,
    /// The compressors for lists.
    pub(super) compressors: &'a Arc<Compressors>,
    /// The request.
    pub(super) parts: &'a Parts,
    /// Its attributes.
    pub(super) info: &'a RequestInfo,
    /// The resource.
    pub(super) resource: Resource,
    /// The API version.
    pub(super) version: ApiVersion,
    /// The time of the request, in nanoseconds since the Unix epoch.
    pub(super) now_ns: i64,
}

impl ObjectsRequest<'_> {
    /// Returns the response, or the failure to report to the client.
    pub(super) fn handle(&self) -> Result<Response<ResponseBody>, Status> {
        let query = Query::parse(self.parts.uri.query());
        if self.info.verb == "watch" {
            return if self.config.serves_watch() {
                self.watch(&query)
            } else {
                Err(self.unsupported_watch(&query))
            };
        }
        let (representation, view) = negotiate::objects(self.parts)?;
        let context = self.encode_context(view, &query)?;
        let body = if self.info.verb == "get" {
            self.one(representation, &context)?
        } else {
            self.list(representation, context, ListOptions::parse(&query)?)?
        };
        Ok(with_holder(respond::with_encoded_body(representation.media_type.as_str(), body)))
    }

    fn encode_context(&self, view: View, query: &Query) -> Result<EncodeContext, Status> {
        let mut context = EncodeContext::new(self.resource, self.version, view, self.now_ns);
        context.swap = self.config.swap;
        context.resource_versions = self.config.serves_watch();
        if matches!(view, View::Table(_)) {
            context.include = include_object(query)?;
        }
        Ok(context)
    }

    fn watch(&self, query: &Query) -> Result<Response<ResponseBody>, Status> {
        let (media_type, view) = negotiate::events(self.parts)?;
        let context = self.encode_context(view, query)?;
        let options = ListOptions::parse(query)?;
        // Always set: the verb follows from the same parameter.
        let Some(watch) = &options.watch else { return Err(Status::no_such_resource()) };
        let now = Instant::now();
        let permit =
            self.watch_limit.try_acquire().ok_or_else(|| Status::too_many_watches(RETRY_AFTER_SECONDS))?;
        let memory = self.memory.watch().ok_or_else(Status::memory_is_short)?;
        let selection = self.selection(options.labels, options.fields);
        let time = now..now + watch.duration(self.config.min_watch_duration);
        let watch = WatchStream::new(
            self.rows.clone(),
            self.sample_age.clone(),
            selection,
            context,
            media_type,
            watch,
            permit,
            time,
        );
        let content_type = match media_type {
            MediaType::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
            other => other.as_str(),
        };
        let mut response =
            with_holder(respond::with_body(200, content_type, ResponseBody::watch(watch, memory)));
        response.extensions_mut().insert(LongRunning);
        Ok(response)
    }

    /// Returns the failure of an API server whose storage does not support watch: invalid requests are reported first.
    fn unsupported_watch(&self, query: &Query) -> Status {
        let valid = || -> Result<(), Status> {
            negotiate::objects(self.parts)?;
            ListOptions::parse(query)?;
            Ok(())
        };
        valid().err().unwrap_or_else(|| Status::verb_not_supported("watch", GROUP, self.resource.name()))
    }

    fn selection(&self, labels: LabelSelector, fields: FieldSelector) -> Selection {
        let namespace = Some(self.info.namespace.clone()).filter(|namespace| !namespace.is_empty());
        Selection { resource: self.resource, namespace, labels, fields }
    }

    fn one(&self, representation: Representation, context: &EncodeContext) -> Result<ResponseBody, Status> {
        if matches!(context.view, View::MetadataList(_)) {
            let message = "you requested PartialObjectMetadataList, but the requested object is not a list";
            return Err(Status::new(406, "NotAcceptable", message));
        }
        let (namespace, name) = (self.info.namespace.as_str(), self.info.name.as_str());
        let mut bytes = Vec::new();
        let mut write = |row: Row<'_>| {
            self.sample_age.read().row(row.interval().0);
            match representation.media_type {
                MediaType::Protobuf => bytes = protobuf::object(context, row),
                _ => json::object(&mut bytes, context, row),
            }
        };
        let found = match self.resource {
            Resource::Nodes => self.rows.node(name, &mut |row| write(Row::Node(row))),
            Resource::Pods => self.rows.pod(namespace, name, &mut |row| write(Row::Pod(row))),
        };
        match found {
            Lookup::Found if representation.media_type == MediaType::Protobuf => {
                Ok(ResponseBody::complete(bytes))
            }
            Lookup::Found => Ok(ResponseBody::complete(respond::serialize(representation, &bytes))),
            Lookup::Unmeasured => Err(match self.resource {
                Resource::Nodes => Status::not_found(GROUP, "nodemetrics", name),
                Resource::Pods => Status::not_found(GROUP, "podmetrics", &format!("{namespace}/{name}")),
            }),
            Lookup::Absent => Err(match self.resource {
                Resource::Nodes => Status::not_found("", "node", name),
                Resource::Pods => Status::not_found("", "pods", name),
            }),
        }
    }

    fn list(
        &self,
        representation: Representation,
        mut context: EncodeContext,
        options: ListOptions,
    ) -> Result<ResponseBody, Status> {
        if matches!(context.view, View::Metadata(_)) {
            let message = "you requested PartialObjectMetadata, but the requested object is a list";
            return Err(Status::new(406, "NotAcceptable", message));
        }
        if options.exact_version {
            // As in kube-apiserver after a compaction: there is no history.
            return Err(Status::expired(
                "the requested resourceVersion is not available: only the newest metrics are stored; list again without \
                 resourceVersion",
            ));
        }
        // A watch from this version sends all changes from now on, also of objects on the next pages.
        let version = self.rows.version();
        let (after, version) = match &options.continue_token {
            None => (None, version),
            Some(token) => {
                let (key, version) = self.continue_after(token)?;
                (Some(key), version)
            }
        };
        context.list_resource_version = if context.resource_versions { version } else { 0 };
        let selection = self.selection(options.labels, options.fields);
        let limit = usize::try_from(options.limit).ok().filter(|limit| *limit > 0);
        let cursor = Cursor::new(self.rows.clone(), self.sample_age.clone(), selection, after);
        let spared_part = self.parts.extensions.get::<DirectClient>().map(|client| client.spared_part);
        let memory = self.memory.list(spared_part).ok_or_else(Status::memory_is_short)?;
        let max_encoded = self.config.max_encoded_list_bytes;
        let list = ListStream::new(cursor, context, representation, limit, max_encoded, memory);
        let gzip = gzip::is_accepted(&self.parts.headers).then(|| self.compressors.response());
        Ok(ResponseBody::list(list, gzip))
    }

    /// Parses a `continue` token into key and resource version. Fails unless a list of this resource and namespace
    /// could have issued it.
    fn continue_after(&self, token: &str) -> Result<(ObjectKey, u64), Status> {
        let within = |key: &ObjectKey| match self.resource {
            Resource::Nodes => key.namespace.is_empty(),
            Resource::Pods => {
                !key.namespace.is_empty()
                    && ["", key.namespace.as_str()].contains(&self.info.namespace.as_str())
            }
        };
        ObjectKey::parse_token(token).filter(|(key, _)| within(key)).ok_or_else(|| {
            let message = "continue key is not valid: it was not issued by a list of this resource and namespace; \
                           list again without it";
            Status::bad_parameter("continue", message.to_owned())
        })
    }
}

/// Adds the holder of the memory of a response as an extension, for the server that sends it.
fn with_holder(mut response: Response<ResponseBody>) -> Response<ResponseBody> {
    if let Some(holder) = response.body().holder() {
        response.extensions_mut().insert(holder);
    }
    response
}

fn include_object(query: &Query) -> Result<IncludeObject, Status> {
    match query.get("includeObject").unwrap_or_default() {
        "" | "Metadata" => Ok(IncludeObject::Metadata),
        "None" => Ok(IncludeObject::None),
        "Object" => Ok(IncludeObject::Object),
        other => {
            let message = format!(
                "Unable to convert to Table as requested: includeObject: Invalid value: {other:?}: must be 'Metadata', \
                 'Object', 'None', or empty"
            );
            Err(Status::bad_parameter("includeObject", message))
        }
    }
}
