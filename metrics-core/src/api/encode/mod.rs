//! Rows to bytes, straight: no tree of the object is built in between.
//!
//! `json` and `protobuf` write; `indent` and `yaml` turn compact JSON into what people read, piece by piece.

mod indent;
pub(super) mod json;
mod out;
pub(super) mod protobuf;
mod yaml;

pub(super) use indent::Indent;
pub(super) use out::Out;
pub(super) use yaml::Yaml;

use super::negotiate::View;
use super::resource::{Resource, Version};
use super::timestamp;

/// What part of an object a table's row carries (`?includeObject=`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IncludeObject {
    /// Nothing.
    None,
    /// Its metadata.
    Metadata,
    /// All of it.
    Object,
}

/// What all objects of one answer have in common.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    /// The resource.
    pub(super) resource: Resource,
    /// The version.
    pub(super) version: Version,
    /// What is shown.
    pub(super) view: View,
    /// For tables.
    pub(super) include: IncludeObject,
    /// For tables: whether they say their columns.
    pub(super) columns: bool,
    /// Whether usage has `swap`.
    pub(super) swap: bool,
    /// `metadata.resourceVersion` of the list, or of the bookmark; 0 for none.
    pub(super) version_of_list: u64,
    /// `metadata.creationTimestamp` of every object, nanoseconds since the Unix epoch.
    pub(super) created_ns: i64,
    /// The same as text.
    pub(super) created: Vec<u8>,
}

impl Shape {
    /// The shape of an answer given at `now_ns`.
    pub(super) fn new(resource: Resource, version: Version, view: View, now_ns: i64) -> Self {
        let mut shape = Self {
            resource,
            version,
            view,
            include: IncludeObject::Metadata,
            columns: true,
            swap: false,
            version_of_list: 0,
            created_ns: now_ns,
            created: Vec::with_capacity(20),
        };
        shape.set_time(now_ns);
        shape
    }

    /// Goes on at another time.
    pub(super) fn set_time(&mut self, now_ns: i64) {
        self.created_ns = now_ns;
        self.created.clear();
        timestamp::push(&mut self.created, now_ns);
    }
}
