//! Failures as `metav1.Status`, in the representation that the client accepts.

use http::Response;
use http::header::RETRY_AFTER;
use http::request::Parts;

use super::body::ResponseBody;
use super::encode::{json, protobuf};
use super::negotiate::{self, MediaType, Representation};
use super::respond;
use crate::server::request_info::RequestInfo;

/// A failure (API conventions, "Response Status Kind").
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Status {
    /// The HTTP status code.
    pub(crate) code: u16,
    /// The machine-readable reason: `NotFound`, `Forbidden`, …; may be empty.
    pub(crate) reason: &'static str,
    /// A human-readable description.
    pub(crate) message: String,
    /// Further machine-readable data.
    pub(crate) details: Option<Box<StatusDetails>>,
}

/// Machine-readable details of a failure.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct StatusDetails {
    /// The object's name.
    pub(crate) name: String,
    /// The API group.
    pub(crate) group: String,
    /// The resource, or a kind.
    pub(crate) kind: String,
    /// The individual faults.
    pub(crate) causes: Vec<StatusCause>,
    /// The number of seconds after which the client may retry; 0 means unset.
    pub(crate) retry_after_seconds: u32,
}

/// One fault of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StatusCause {
    /// `FieldValueInvalid`, `FieldValueForbidden`, ….
    pub(crate) reason: &'static str,
    /// A human-readable description.
    pub(crate) message: String,
    /// The parameter or field at fault.
    pub(crate) field: String,
}

impl Status {
    /// Creates a failure without details.
    #[must_use]
    pub(crate) fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: None }
    }

    /// Adds details that name the object, group and resource of `request`.
    #[must_use]
    pub(crate) fn about(self, request: &RequestInfo) -> Self {
        let RequestInfo { name, api_group, resource, .. } = request;
        let details = StatusDetails {
            name: name.clone(),
            group: api_group.clone(),
            kind: resource.clone(),
            ..StatusDetails::default()
        };
        Self { details: Some(Box::new(details)), ..self }
    }

    /// 404: the object does not exist, or has no metrics.
    pub(super) fn not_found(group: &str, resource: &str, name: &str) -> Self {
        let dot = if group.is_empty() { "" } else { "." };
        let details = StatusDetails {
            name: name.into(),
            group: group.into(),
            kind: resource.into(),
            ..StatusDetails::default()
        };
        Self {
            details: Some(Box::new(details)),
            ..Self::new(404, "NotFound", format!("{resource}{dot}{group} {name:?} not found"))
        }
    }

    /// 404: the path does not exist.
    pub(super) fn no_such_resource() -> Self {
        Self {
            details: Some(Box::default()),
            ..Self::new(404, "NotFound", "the server could not find the requested resource")
        }
    }

    /// 405: the path exists, but does not support the method.
    pub(super) fn method_not_allowed() -> Self {
        Self {
            details: Some(Box::default()),
            ..Self::new(
                405,
                "MethodNotAllowed",
                "the server does not allow this method on the requested resource",
            )
        }
    }

    /// 405: the resource does not support the verb.
    pub(super) fn verb_not_supported(verb: &str, group: &str, resource: &str) -> Self {
        let details =
            StatusDetails { group: group.into(), kind: resource.into(), ..StatusDetails::default() };
        let message = format!("{verb} is not supported on resources of kind \"{resource}.{group}\"");
        Self { details: Some(Box::new(details)), ..Self::new(405, "MethodNotAllowed", message) }
    }

    /// 410: the requested resource version is not available.
    pub(super) fn expired(message: &str) -> Self {
        Self::new(410, "Expired", message)
    }

    /// 406: none of the accepted media types is supported.
    pub(super) fn not_acceptable() -> Self {
        let message = "only the following media types are accepted: application/json, application/yaml, \
                       application/vnd.kubernetes.protobuf";
        Self::new(406, "NotAcceptable", message)
    }

    /// 406: none of the accepted media types is supported for watch events.
    pub(super) fn not_streamable() -> Self {
        let message = "only the following media types are accepted: application/json;stream=watch, \
                       application/vnd.kubernetes.protobuf;stream=watch";
        Self::new(406, "NotAcceptable", message)
    }

    /// 429: the maximum number of watches is open; the client may retry after some seconds.
    pub(super) fn too_many_watches(retry_after_seconds: u32) -> Self {
        let details = StatusDetails { retry_after_seconds, ..StatusDetails::default() };
        Self {
            details: Some(Box::new(details)),
            ..Self::new(
                429,
                "TooManyRequests",
                "too many watches are open on this replica, please try again later",
            )
        }
    }

    /// 429: responses that other clients have not read hold the memory; the client may retry after a second.
    pub(super) fn memory_is_short() -> Self {
        let details = StatusDetails { retry_after_seconds: 1, ..StatusDetails::default() };
        Self {
            details: Some(Box::new(details)),
            ..Self::new(
                429,
                "TooManyRequests",
                "the memory for responses is in use on this replica, please try again later",
            )
        }
    }

    /// 400: a query parameter is invalid.
    pub(super) fn bad_parameter(parameter: &str, message: String) -> Self {
        let cause =
            StatusCause { reason: "FieldValueInvalid", message: message.clone(), field: parameter.into() };
        let details = StatusDetails { causes: vec![cause], ..StatusDetails::default() };
        Self { details: Some(Box::new(details)), ..Self::new(400, "BadRequest", message) }
    }

    fn encode(&self, representation: Representation) -> Vec<u8> {
        match representation.media_type {
            MediaType::Protobuf => self.document(representation.media_type),
            _ => respond::serialize(representation, &self.json()),
        }
    }

    /// Encodes the status as protobuf or compact JSON, without a trailing newline.
    pub(super) fn document(&self, media_type: MediaType) -> Vec<u8> {
        match media_type {
            MediaType::Protobuf => protobuf::enveloped("v1", "Status", |out| self.write_protobuf(out)),
            _ => self.json(),
        }
    }

    fn json(&self) -> Vec<u8> {
        let mut out = br#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure""#.to_vec();
        json::member(&mut out, "message", &self.message);
        json::member(&mut out, "reason", self.reason);
        if let Some(details) = &self.details {
            out.extend_from_slice(b",\"details\":{");
            details.write_json(&mut out);
            out.push(b'}');
        }
        out.extend_from_slice(b",\"code\":");
        super::quantity::push_decimal(&mut out, self.code.into());
        out.push(b'}');
        out
    }

    /// `Status`: metadata 1, status 2, message 3, reason 4, details 5, code 6.
    fn write_protobuf(&self, out: &mut Vec<u8>) {
        protobuf::string(out, 2, "Failure");
        protobuf::string(out, 3, &self.message);
        protobuf::string(out, 4, self.reason);
        if let Some(details) = &self.details {
            protobuf::message(out, 5, |out| details.write_protobuf(out));
        }
        protobuf::integer(out, 6, self.code.into());
    }
}

impl StatusDetails {
    fn write_json(&self, out: &mut Vec<u8>) {
        for (name, value) in [("name", &self.name), ("group", &self.group), ("kind", &self.kind)] {
            json::member(out, name, value);
        }
        if !self.causes.is_empty() {
            json::separate(out);
            out.extend_from_slice(b"\"causes\":[");
            for cause in &self.causes {
                json::separate(out);
                out.push(b'{');
                json::member(out, "reason", cause.reason);
                json::member(out, "message", &cause.message);
                json::member(out, "field", &cause.field);
                out.push(b'}');
            }
            out.push(b']');
        }
        if self.retry_after_seconds > 0 {
            json::separate(out);
            out.extend_from_slice(b"\"retryAfterSeconds\":");
            super::quantity::push_decimal(out, self.retry_after_seconds.into());
        }
    }

    /// `StatusDetails`: name 1, group 2, kind 3, causes 4 (reason 1, message 2, field 3), retryAfterSeconds 5.
    fn write_protobuf(&self, out: &mut Vec<u8>) {
        protobuf::string(out, 1, &self.name);
        protobuf::string(out, 2, &self.group);
        protobuf::string(out, 3, &self.kind);
        for cause in &self.causes {
            protobuf::message(out, 4, |out| {
                protobuf::string(out, 1, cause.reason);
                protobuf::string(out, 2, &cause.message);
                protobuf::string(out, 3, &cause.field);
            });
        }
        protobuf::integer(out, 5, self.retry_after_seconds.into());
    }
}

/// Returns the response to a failed request: a `Status` in the representation that the client accepts, or indented
/// JSON if it accepts none that is supported.
#[must_use]
pub(crate) fn status(request: &Parts, status: &Status) -> Response<ResponseBody> {
    let representation = negotiate::document(request).unwrap_or(Representation::FALLBACK);
    let mut response =
        respond::with_bytes(status.code, representation.media_type.as_str(), status.encode(representation));
    let retry_after = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
    if retry_after > 0 {
        response.headers_mut().insert(RETRY_AFTER, retry_after.into());
    }
    response
}
