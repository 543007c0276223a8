//! Answers requests for one object or a list.

use std::sync::Arc;
use std::time::Instant;

use http::Response;
use http::request::Parts;

use super::body::Body;
use super::budget::Budget;
use super::continuation::Key;
use super::cursor::{Cursor, Selection};
use super::encode::{IncludeObject, Shape, json, protobuf};
use super::list::List;
use super::list_options::ListOptions;
use super::negotiate::{self, Format, Layout, View};
use super::query::Query;
use super::resource::{GROUP, Resource, Row, Version};
use super::sample_age::SampleAge;
use super::seats::Seats;
use super::selector::{FieldSelector, LabelSelector};
use super::status::Status;
use super::watch::Watch;
use super::{Config, respond};
use crate::model::rows::{Lookup, Rows};
use crate::server::request_info::RequestInfo;

/// When a client for whose watch there is no place is to come again.
const RETRY_AFTER_SECONDS: u32 = 5;

/// A request for objects.
pub(super) struct Request<'a> {
    /// Where they come from.
    pub(super) rows: &'a Arc<dyn Rows>,
    /// The age of the samples that were read.
    pub(super) sample_age: &'a SampleAge,
    /// What they show.
    pub(super) config: Config,
    /// The places for watches.
    pub(super) seats: &'a Arc<Seats>,
    /// What lists may hold, encoded.
    pub(super) budget: &'a Arc<Budget>,
    /// The request.
    pub(super) parts: &'a Parts,
    /// Its attributes.
    pub(super) info: &'a RequestInfo,
    /// Which resource.
    pub(super) resource: Resource,
    /// In which version.
    pub(super) version: Version,
    /// When, in nanoseconds since the Unix epoch.
    pub(super) now_ns: i64,
}

impl Request<'_> {
    /// The answer, or the failure to answer with.
    pub(super) fn answer(&self) -> Result<Response<Body>, Status> {
        let query = Query::parse(self.parts.uri.query());
        if self.info.verb == "watch" {
            return self.watch(&query);
        }
        let (layout, view) = negotiate::objects(self.parts)?;
        let shape = self.shape(view, &query)?;
        let body = if self.info.verb == "get" {
            self.one(layout, &shape)?
        } else {
            self.list(layout, shape, ListOptions::read(&query)?)?
        };
        Ok(respond::with_body(200, layout.format.media_type(), body))
    }

    fn shape(&self, view: View, query: &Query) -> Result<Shape, Status> {
        let mut shape = Shape::new(self.resource, self.version, view, self.now_ns);
        shape.swap = self.config.swap;
        if matches!(view, View::Table(_)) {
            shape.include = include_object(query)?;
        }
        Ok(shape)
    }

    fn watch(&self, query: &Query) -> Result<Response<Body>, Status> {
        let (format, view) = negotiate::events(self.parts)?;
        let shape = self.shape(view, query)?;
        let options = ListOptions::read(query)?;
        // Without the parameter nothing is a watch.
        let Some(watch) = &options.watch else { return Err(Status::no_such_resource()) };
        let now = Instant::now();
        let seat = self.seats.take().ok_or_else(|| Status::too_many_watches(RETRY_AFTER_SECONDS))?;
        let selection = self.selection(options.labels, options.fields);
        let time = now..now + watch.lasts(self.config.shortest_watch);
        let watch = Watch::new(
            self.rows.clone(),
            self.sample_age.clone(),
            selection,
            shape,
            format,
            watch,
            seat,
            time,
        );
        let content_type = match format {
            Format::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
            other => other.media_type(),
        };
        Ok(respond::with_body(200, content_type, Body::watch(watch)))
    }

    fn selection(&self, labels: LabelSelector, fields: FieldSelector) -> Selection {
        let namespace = Some(self.info.namespace.clone()).filter(|namespace| !namespace.is_empty());
        Selection { resource: self.resource, namespace, labels, fields }
    }

    fn one(&self, layout: Layout, shape: &Shape) -> Result<Body, Status> {
        if matches!(shape.view, View::MetadataList(_)) {
            let message = "you requested PartialObjectMetadataList, but the requested object is not a list";
            return Err(Status::new(406, "NotAcceptable", message));
        }
        let (namespace, name) = (self.info.namespace.as_str(), self.info.name.as_str());
        let mut bytes = Vec::new();
        let mut write = |row: Row<'_>| {
            self.sample_age.read().row(row.interval().0);
            match layout.format {
                Format::Protobuf => bytes = protobuf::object(shape, row),
                _ => json::object(&mut bytes, shape, row),
            }
        };
        let found = match self.resource {
            Resource::Nodes => self.rows.node(name, &mut |row| write(Row::Node(row))),
            Resource::Pods => self.rows.pod(namespace, name, &mut |row| write(Row::Pod(row))),
        };
        match found {
            Lookup::Found if layout.format == Format::Protobuf => Ok(Body::whole(bytes)),
            Lookup::Found => Ok(Body::whole(respond::laid_out(layout, &bytes))),
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

    fn list(&self, layout: Layout, mut shape: Shape, options: ListOptions) -> Result<Body, Status> {
        if matches!(shape.view, View::Metadata(_)) {
            let message = "you requested PartialObjectMetadata, but the requested object is a list";
            return Err(Status::new(406, "NotAcceptable", message));
        }
        // A watch from this version on tells what changes from now on, pages to come included.
        shape.version_of_list = self.rows.version();
        let after = match &options.continuation {
            None => None,
            Some(token) => {
                let (key, version) = self.continue_after(token)?;
                shape.version_of_list = version;
                Some(key)
            }
        };
        let selection = self.selection(options.labels, options.fields);
        let limit = usize::try_from(options.limit).ok().filter(|limit| *limit > 0);
        let cursor = Cursor::new(self.rows.clone(), self.sample_age.clone(), selection, after);
        let bounds = (self.config.encoded_at_once, self.budget.share());
        Ok(Body::list(List::new(cursor, shape, layout, limit, bounds)))
    }

    /// The key that a `continue` token names, and the version, if this list could have given the token.
    fn continue_after(&self, token: &str) -> Result<(Key, u64), Status> {
        let within = |key: &Key| match self.resource {
            Resource::Nodes => key.namespace.is_empty(),
            Resource::Pods => {
                !key.namespace.is_empty()
                    && ["", key.namespace.as_str()].contains(&self.info.namespace.as_str())
            }
        };
        Key::from_token(token).filter(|(key, _)| within(key)).ok_or_else(|| {
            let message = "continue key is not valid: it was not given by a list of this resource and namespace; \
                           start again without it";
            Status::bad_parameter("continue", message.to_owned())
        })
    }
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
