//! Schemas of durations with a minimum and a maximum.

use schemars::{Schema, SchemaGenerator, json_schema};

/// Returns the schema of a Go duration from 1 s to 10 min. Kubernetes has no schema format with such limits.
pub(super) fn metric_resolution(_: &mut SchemaGenerator) -> Schema {
    bounded_duration("duration('1s')", "duration('10m')", "1s to 10m, such as 15s")
}

pub(super) fn request_timeout(_: &mut SchemaGenerator) -> Schema {
    bounded_duration("duration('100ms')", "duration('2m')", "100ms to 2m, such as 10s")
}

pub(super) fn certificate_validity(_: &mut SchemaGenerator) -> Schema {
    bounded_duration("duration('1h')", "duration('87600h')", "1h to 87600h (ten years), such as 2160h")
}

pub(super) fn nanny_delay(_: &mut SchemaGenerator) -> Schema {
    bounded_duration("duration('0s')", "duration('24h')", "0s to 24h, such as 10m")
}

pub(super) fn bounded_duration(min: &str, max: &str, words: &str) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": 32,
        // CEL's duration() fails the whole rule on malformed text; with the pattern, the error names the field.
        "pattern": r"^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$",
        "x-kubernetes-validations": [{
            "rule": format!("duration(self) >= {min} && duration(self) <= {max}"),
            "message": format!("must be a duration from {words}"),
        }],
    })
}
