//! Responses out of encoded documents.

use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY};
use http::request::Parts;
use http::{HeaderValue, Response, StatusCode};

use super::body::Body;
use super::encode::{Indent, Yaml};
use super::negotiate::{Format, Layout};

/// What no cache may keep: everything but discovery and OpenAPI.
const NO_CACHE: HeaderValue = HeaderValue::from_static("no-cache, private");

/// A response with this body, which no cache may keep.
pub(super) fn with_body(code: u16, content_type: &str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, NO_CACHE);
    if let Ok(content_type) = HeaderValue::from_str(content_type) {
        headers.insert(CONTENT_TYPE, content_type);
    }
    response
}

/// A response with these bytes.
pub(super) fn whole(code: u16, content_type: &str, bytes: impl Into<bytes::Bytes>) -> Response<Body> {
    with_body(code, content_type, Body::whole(bytes))
}

/// Compact JSON, laid out; for protobuf, which it can't be turned into, as it is.
pub(super) fn laid_out(layout: Layout, json: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(json.len() * 2);
    match layout {
        Layout { format: Format::Yaml, .. } => Yaml::default().push(&mut out, json),
        Layout { pretty: true, .. } => Indent::default().push(&mut out, json),
        Layout { .. } => {
            out.extend_from_slice(json);
            out.push(b'\n');
        }
    }
    out
}

/// Adds an entity tag, and answers 304 without a body where the client has that state already.
pub(super) fn tagged(request: &Parts, tag: &str, mut response: Response<Body>) -> Response<Body> {
    let quoted = format!("\"{tag}\"");
    let known =
        request.headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok()).any(|value| {
            value
                .split(',')
                .map(|tag| tag.trim().trim_start_matches("W/"))
                .any(|tag| tag == "*" || tag == quoted)
        });
    if known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        *response.body_mut() = Body::empty();
        response.headers_mut().remove(CONTENT_TYPE);
    }
    if let Ok(value) = HeaderValue::from_str(&quoted) {
        response.headers_mut().insert(ETAG, value);
    }
    response.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
    response
}

/// A discovery document.
pub(super) fn discovery(
    layout: Layout,
    content_type: &str,
    document: &super::discovery::Document,
) -> Response<Body> {
    let bytes = match layout.format {
        Format::Protobuf => super::encode::protobuf::enveloped(document.api_version, document.kind, |out| {
            out.extend_from_slice(&document.protobuf);
        }),
        _ => laid_out(layout, &document.json),
    };
    whole(200, content_type, bytes)
}
