//! Errors of decoding, without the decoded data.

use std::error::Error;

use serde_json::error::Category;

/// Returns the text of an error. serde_json quotes the value that does not fit, which may be a key of a Secret; its text is
/// replaced by the place of the value.
#[must_use]
pub(crate) fn without_values(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(json) = cause.downcast_ref::<serde_json::Error>()
            && json.classify() == Category::Data
        {
            let place = format!("unexpected JSON value at line {} column {}", json.line(), json.column());
            text = text.replace(&cause.to_string(), &place);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Secret;
    use kube::runtime::watcher;

    use super::without_values;

    #[test]
    fn contains_no_value_of_a_secret_that_cannot_be_decoded() {
        for body in [r#"{"metadata":{},"data":"cHJpdmF0ZQ"}"#, r#"{"data":{"tls.key":"cHJpdmF0ZQ!"}}"#] {
            let error = || kube::Error::SerdeError(serde_json::from_str::<Secret>(body).unwrap_err());
            for text in [
                without_values(&error()),
                without_values(&watcher::Error::InitialListFailed(error())),
                without_values(&watcher::Error::WatchFailed(error())),
            ] {
                assert!(
                    !text.contains("cHJpdmF0ZQ") && text.contains("unexpected JSON value at line 1"),
                    "{text}"
                );
            }
        }
    }
}
