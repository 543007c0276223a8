//! Builds responses from encoded documents.

use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY};
use http::request::Parts;
use http::{HeaderValue, Response, StatusCode};

use super::body::ResponseBody;
use super::encode::Printer;
use super::negotiate::{MediaType, Representation};

/// The Cache-Control of everything but aggregated discovery and immutable OpenAPI documents.
const NO_CACHE: HeaderValue = HeaderValue::from_static("no-cache, private");

/// Returns a response with this body and `Cache-Control: no-cache, private`.
pub(super) fn with_body(code: u16, content_type: &str, body: ResponseBody) -> Response<ResponseBody> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, NO_CACHE);
    if let Ok(content_type) = HeaderValue::from_str(content_type) {
        headers.insert(CONTENT_TYPE, content_type);
    }
    response
}

/// Returns the response of a list or object, which names the compression of its body. The body of another client may be
/// compressed if this one is long enough.
pub(super) fn with_encoded_body(content_type: &str, body: ResponseBody) -> Response<ResponseBody> {
    let (is_long, is_gzip) = (body.is_long(), body.is_gzip());
    let mut response = with_body(200, content_type, body);
    if is_gzip {
        response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    if is_long {
        response.headers_mut().insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    }
    response
}

/// Returns a response with these bytes and `Cache-Control: no-cache, private`.
pub(super) fn with_bytes(
    code: u16,
    content_type: &str,
    bytes: impl Into<bytes::Bytes>,
) -> Response<ResponseBody> {
    with_body(code, content_type, ResponseBody::complete(bytes))
}

/// Converts a document from compact JSON to its JSON or YAML representation. Does not convert to protobuf.
pub(super) fn serialize(representation: Representation, json: &[u8]) -> Vec<u8> {
    match Printer::of(representation) {
        Some(printer) => printer.print(json),
        None => [json, b"\n"].concat(),
    }
}

/// Adds an ETag. Returns 304 without a body if the client already has this version of the document.
pub(super) fn with_etag(
    request: &Parts,
    tag: &str,
    mut response: Response<ResponseBody>,
) -> Response<ResponseBody> {
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
        *response.body_mut() = ResponseBody::empty();
        response.headers_mut().remove(CONTENT_TYPE);
    }
    if let Ok(value) = HeaderValue::from_str(&quoted) {
        response.headers_mut().insert(ETAG, value);
    }
    response.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
    response
}

/// Returns a discovery document.
pub(super) fn discovery(
    representation: Representation,
    content_type: &str,
    document: &super::discovery::DiscoveryDocument,
) -> Response<ResponseBody> {
    let bytes = match representation.media_type {
        MediaType::Protobuf => {
            super::encode::protobuf::enveloped(document.api_version, document.kind, |out| {
                out.extend_from_slice(&document.protobuf);
            })
        }
        _ => serialize(representation, &document.json),
    };
    with_bytes(200, content_type, bytes)
}
