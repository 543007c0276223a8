//! Failures as `metav1.Status`, in the encoding that the client asked for.

use http::Response;
use http::header::RETRY_AFTER;
use http::request::Parts;

use super::body::Body;
use super::encode::{json, protobuf};
use super::negotiate::{self, Format, Layout};
use super::respond;
use crate::server::request_info::RequestInfo;

/// A failure (API conventions, "Response Status Kind").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The HTTP status code.
    pub code: u16,
    /// The machine-readable reason: `NotFound`, `Forbidden`, …; may be empty.
    pub reason: &'static str,
    /// For people.
    pub message: String,
    /// More for machines.
    pub details: Option<Box<Details>>,
}

/// What a failure is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details {
    /// The object's name.
    pub name: String,
    /// The API group.
    pub group: String,
    /// The resource, or a kind.
    pub kind: String,
    /// What exactly is wrong.
    pub causes: Vec<Cause>,
    /// When to try again, in seconds; 0 if that is not known.
    pub retry_after_seconds: u32,
}

/// One thing that is wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// `FieldValueInvalid`, `FieldValueForbidden`, ….
    pub reason: &'static str,
    /// For people.
    pub message: String,
    /// The parameter or field.
    pub field: String,
}

impl Status {
    /// A failure without details.
    #[must_use]
    pub fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: None }
    }

    /// With details that say what `request` is about.
    #[must_use]
    pub fn about(self, request: &RequestInfo) -> Self {
        let RequestInfo { name, api_group, resource, .. } = request;
        let details = Details {
            name: name.clone(),
            group: api_group.clone(),
            kind: resource.clone(),
            ..Details::default()
        };
        Self { details: Some(Box::new(details)), ..self }
    }

    /// 404: the object is not there, or has no metrics.
    pub(super) fn not_found(group: &str, resource: &str, name: &str) -> Self {
        let dot = if group.is_empty() { "" } else { "." };
        let details =
            Details { name: name.into(), group: group.into(), kind: resource.into(), ..Details::default() };
        Self {
            details: Some(Box::new(details)),
            ..Self::new(404, "NotFound", format!("{resource}{dot}{group} {name:?} not found"))
        }
    }

    /// 404: nothing has this path.
    pub(super) fn no_such_resource() -> Self {
        Self {
            details: Some(Box::default()),
            ..Self::new(404, "NotFound", "the server could not find the requested resource")
        }
    }

    /// 405: the path is there, but not for this method.
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

    /// 406: none of the media types that the client accepts.
    pub(super) fn not_acceptable() -> Self {
        let message = "only the following media types are accepted: application/json, application/yaml, \
                       application/vnd.kubernetes.protobuf";
        Self::new(406, "NotAcceptable", message)
    }

    /// 406: none of the media types in which events are sent.
    pub(super) fn not_streamable() -> Self {
        let message = "only the following media types are accepted: application/json;stream=watch, \
                       application/vnd.kubernetes.protobuf;stream=watch";
        Self::new(406, "NotAcceptable", message)
    }

    /// 429: come back after some seconds.
    pub(super) fn too_many_watches(after_seconds: u32) -> Self {
        let details = Details { retry_after_seconds: after_seconds, ..Details::default() };
        Self {
            details: Some(Box::new(details)),
            ..Self::new(429, "TooManyRequests", "too many watches are open here, please try again later")
        }
    }

    /// 400: a query parameter that can't be used.
    pub(super) fn bad_parameter(parameter: &str, message: String) -> Self {
        let cause = Cause { reason: "FieldValueInvalid", message: message.clone(), field: parameter.into() };
        let details = Details { causes: vec![cause], ..Details::default() };
        Self { details: Some(Box::new(details)), ..Self::new(400, "BadRequest", message) }
    }

    fn encode(&self, layout: Layout) -> Vec<u8> {
        match layout.format {
            Format::Protobuf => self.document(layout.format),
            _ => respond::laid_out(layout, &self.json()),
        }
    }

    /// As protobuf or compact JSON, without a line's end.
    pub(super) fn document(&self, format: Format) -> Vec<u8> {
        match format {
            Format::Protobuf => protobuf::enveloped("v1", "Status", |out| self.write_protobuf(out)),
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

impl Details {
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

/// The answer to a request that failed: a `Status` in the encoding that the client asked for, or in
/// indented JSON where it accepts none that we have.
#[must_use]
pub fn status(request: &Parts, status: &Status) -> Response<Body> {
    let layout = negotiate::document(request).unwrap_or(Layout::FALLBACK);
    let mut response = respond::whole(status.code, layout.format.media_type(), status.encode(layout));
    let retry_after = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
    if retry_after > 0 {
        response.headers_mut().insert(RETRY_AFTER, retry_after.into());
    }
    response
}
