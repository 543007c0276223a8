//! Encodes rows.
//!
//! `json` (compact) and `protobuf` write rows directly, without building an object tree. `print` converts compact
//! JSON to indented JSON or YAML.

pub(super) mod json;
mod out;
mod print;
pub(super) mod protobuf;

pub(super) use out::Output;
pub(super) use print::{ListPart, Printer};

use super::negotiate::View;
use super::resource::{ApiVersion, Resource, Row};
use super::timestamp;

/// What a table row contains of its object (`?includeObject=`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IncludeObject {
    /// Nothing.
    None,
    /// Its metadata.
    Metadata,
    /// The whole object.
    Object,
}

/// What the encoding of all objects of one response depends on.
#[derive(Clone, Debug)]
pub(super) struct EncodeContext {
    /// The resource.
    pub(super) resource: Resource,
    /// The version.
    pub(super) version: ApiVersion,
    /// The view.
    pub(super) view: View,
    /// What table rows contain of their objects.
    pub(super) include: IncludeObject,
    /// Whether tables have column definitions.
    pub(super) columns: bool,
    /// Whether usage has `swap`.
    pub(super) swap: bool,
    /// Whether objects and lists have `metadata.resourceVersion`, from which a watch can start.
    pub(super) resource_versions: bool,
    /// `metadata.resourceVersion` of the list, or of the bookmark; 0 means unset.
    pub(super) list_resource_version: u64,
    /// `metadata.creationTimestamp` of every object, in nanoseconds since the Unix epoch.
    pub(super) created_ns: i64,
    /// `created_ns` as text.
    pub(super) created: Vec<u8>,
}

impl EncodeContext {
    /// Creates the context of a response at `now_ns`.
    pub(super) fn new(resource: Resource, version: ApiVersion, view: View, now_ns: i64) -> Self {
        let mut context = Self {
            resource,
            version,
            view,
            include: IncludeObject::Metadata,
            columns: true,
            swap: false,
            resource_versions: true,
            list_resource_version: 0,
            created_ns: now_ns,
            created: Vec::with_capacity(20),
        };
        context.set_time(now_ns);
        context
    }

    /// Returns the resource version of an object; 0 means unset.
    fn object_version(&self, row: Row<'_>) -> u64 {
        if self.resource_versions { row.version() } else { 0 }
    }

    /// Returns kind and apiVersion of an object in this view.
    fn object_type(&self) -> (&'static str, &'static str) {
        match self.view {
            View::Full => (self.resource.kind(), self.version.group_version()),
            View::Metadata(version) | View::MetadataList(version) => {
                ("PartialObjectMetadata", version.group_version())
            }
            View::Table(version) => ("Table", version.group_version()),
        }
    }

    /// Returns kind and apiVersion of a list in this view.
    fn list_type(&self) -> (&'static str, &'static str) {
        match self.view {
            View::Full => (self.resource.list_kind(), self.version.group_version()),
            View::Metadata(version) | View::MetadataList(version) => {
                ("PartialObjectMetadataList", version.group_version())
            }
            View::Table(version) => ("Table", version.group_version()),
        }
    }

    /// Changes the time of the response.
    pub(super) fn set_time(&mut self, now_ns: i64) {
        self.created_ns = now_ns;
        self.created.clear();
        timestamp::push(&mut self.created, now_ns);
    }
}
