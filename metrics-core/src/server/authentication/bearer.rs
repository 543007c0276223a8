//! The bearer token of a request (RFC 6750, section 2.1).

use http::{HeaderMap, header};

/// The most that a token may have, bytes; those of service accounts have about 1,200.
const MOST: usize = 32 << 10;

/// The token; `None` if there is none, or another scheme.
pub(super) fn token(headers: &HeaderMap) -> Option<&str> {
    let mut words = headers.get(header::AUTHORIZATION)?.to_str().ok()?.trim().split(' ');
    let scheme = words.next()?;
    let token = words.next()?;
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && token.len() <= MOST).then_some(token)
}

/// Takes it out.
pub(super) fn clear(headers: &mut HeaderMap) {
    headers.remove(header::AUTHORIZATION);
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, header};

    use super::token;

    #[test]
    fn only_a_whole_bearer_token_counts() {
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
