//! Formats an error with its causes.

use std::error::Error;

use serde_json::error::Category;

/// Returns the error and its sources on one line: `client error (Connect): tcp connect error: Connection refused`.
/// A source whose text the line already contains is left out.
///
/// The text contains no decoded data: serde_json quotes the value that does not fit, which may be a key of a Secret.
#[must_use]
pub fn error_chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = Some(error);
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if let Some(json) = cause.downcast_ref::<serde_json::Error>()
            && json.classify() == Category::Data
        {
            let place = format!("unexpected JSON value at line {} column {}", json.line(), json.column());
            text = text.replace(&cause_text, &place);
        } else if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Secret;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn omits_repeated_causes() {
        assert_eq!(error_chain(&Outer(std::io::Error::other("inner"))), "outer: inner");
        assert_eq!(error_chain(&Outer(std::io::Error::other("outer"))), "outer");
    }

    #[test]
    fn contains_no_value_of_a_secret_that_cannot_be_decoded() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot read it: {0}")]
        struct Repeating(#[source] kube::Error);

        #[derive(Debug, thiserror::Error)]
        #[error("cannot read it")]
        struct Silent(#[source] kube::Error);

        for body in [
            r#"{"metadata":{},"data":"cHJpdmF0ZQ"}"#,
            r#"{"metadata":{},"data":{"tls.key":["cHJpdmF0ZQ"]}}"#,
            r#"{"metadata":{},"data":{"cHJpdmF0ZQ":7}}"#,
            r#"{"metadata":{},"data":{"tls.key":"cHJpdmF0ZQ!"}}"#,
            r#"{"metadata":{"labels":"cHJpdmF0ZQ"}}"#,
        ] {
            let error = || serde_json::from_str::<Secret>(body).expect_err("an error");
            let kube = || kube::Error::SerdeError(error());
            for text in [
                error_chain(&error()),
                error_chain(&kube()),
                error_chain(&Repeating(kube())),
                error_chain(&Silent(kube())),
                error_chain(&kube::runtime::watcher::Error::InitialListFailed(kube())),
            ] {
                assert!(!text.contains("cHJpdmF0ZQ"), "{text}");
            }
            let text = error_chain(&Repeating(kube()));
            assert!(text.contains("unexpected JSON value at line 1 column "), "{text}");
        }
    }
}
