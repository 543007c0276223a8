//! The data that the ingest half produces and the API half serves.

pub(crate) mod changes;
pub mod labels;
pub mod rows;
