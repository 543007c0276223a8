//! The bearer token of a request (RFC 6750, section 2.1).

use http::{HeaderMap, header};

/// The maximum length of a token in bytes. A service account token has about 1,200.
const MAX_BYTES: usize = 32 << 10;

/// Returns the token; `None` if there is none or the scheme differs.
pub(super) fn token(headers: &HeaderMap) -> Option<&str> {
    let mut words = headers.get(header::AUTHORIZATION)?.to_str().ok()?.trim().split(' ');
    let scheme = words.next()?;
    let token = words.next()?;
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && token.len() <= MAX_BYTES).then_some(token)
}

/// Removes the header.
pub(super) fn clear(headers: &mut HeaderMap) {
    headers.remove(header::AUTHORIZATION);
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, header};

    use super::token;

    #[test]
    fn reads_only_bearer_tokens() {
        let read = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap());
            token(&headers).map(str::to_owned)
        };
        assert_eq!(read("Bearer abc").as_deref(), Some("abc"));
        assert_eq!(read("  bEARER abc more").as_deref(), Some("abc"));
        for none in ["", "Bearer", "Bearer ", "Bearer  abc", "Basic abc"] {
            assert_eq!(read(none), None, "{none:?}");
        }
        assert_eq!(token(&HeaderMap::new()), None);
    }
}
