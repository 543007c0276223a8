//! The query parameters of a list or watch (`metav1.ListOptions`).

use std::time::Duration;

use super::query::Query;
use super::selector::{self, FieldSelector, LabelSelector};
use super::status::{Status, StatusCause, StatusDetails};

/// A longer `timeoutSeconds` is treated as unset.
const MAX_TIMEOUT: Duration = Duration::from_secs(24 * 3600);

/// The options of a list or watch.
#[derive(Debug, Default)]
pub(super) struct ListOptions {
    /// The label selector.
    pub(super) labels: LabelSelector,
    /// The field selector.
    pub(super) fields: FieldSelector,
    /// Set if the request is a watch.
    pub(super) watch: Option<WatchOptions>,
    /// The maximum number of objects; zero or less means no limit.
    pub(super) limit: i64,
    /// The `continue` token of the previous page.
    pub(super) continue_token: Option<String>,
    /// Whether a list must be exactly that of a resource version.
    pub(super) exact_version: bool,
}

/// The further options of a watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WatchOptions {
    /// The first event to send.
    pub(super) start: Start,
    /// `sendInitialEvents=true`: a bookmark must follow the initial events, if bookmarks are enabled.
    pub(super) send_initial_events: bool,
    /// Whether to send bookmarks.
    pub(super) bookmarks: bool,
    /// The requested duration.
    pub(super) timeout: Option<Duration>,
}

impl WatchOptions {
    /// Returns how long the watch lasts. Without a timeout, or with one over a day, it lasts between `min` and twice
    /// `min`, at random, so that clients do not reconnect all at once. This is what kube-apiserver does.
    pub(super) fn duration(&self, min: Duration) -> Duration {
        let requested = self.timeout.filter(|timeout| *timeout <= MAX_TIMEOUT);
        requested.unwrap_or_else(|| min.mul_f64(1.0 + fastrand::f64()))
    }
}

/// The first event of a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// All current objects, as initial events.
    Initial,
    /// The next change.
    Now,
    /// The change of this version.
    At(u64),
    /// A version that metrics-core can't have issued.
    Unknown,
}

/// Why a query parameter is rejected. The text is the message of the Status.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ListOptionsError {
    /// An invalid selector.
    #[error("{error}")]
    Selector {
        /// The parameter.
        parameter: &'static str,
        /// The error.
        error: selector::SelectorError,
    },
    /// Not an integer.
    #[error("{parameter}: {value:?} is not an integer")]
    Integer {
        /// The parameter.
        parameter: &'static str,
        /// Its value.
        value: String,
    },
    /// An unsupported value.
    #[error("{parameter}: Unsupported value: {value:?}: supported values: {supported}")]
    Unsupported {
        /// The parameter.
        parameter: &'static str,
        /// Its value.
        value: String,
        /// The supported values.
        supported: &'static str,
    },
    /// A resource version together with a token that has one.
    #[error("specifying resource version is not allowed when using continue")]
    VersionOfContinue,
    /// A combination of parameters that the API forbids.
    #[error("{parameter}: Forbidden: {rule}")]
    Forbidden {
        /// The parameter.
        parameter: &'static str,
        /// The rule.
        rule: &'static str,
    },
}

impl ListOptions {
    /// Parses the parameters. `timeoutSeconds` has no effect on a list, and neither has `resourceVersion` as the minimum
    /// version of a list: each list has the newest rows.
    pub(super) fn parse(query: &Query) -> Result<Self, ListOptionsError> {
        let timeout = integer(query, "timeoutSeconds")?;
        let watch = query.flag("watch").then(|| watch_options(query, timeout)).transpose()?;
        let options = Self {
            labels: LabelSelector::parse(query.get("labelSelector").unwrap_or_default())
                .map_err(|error| ListOptionsError::Selector { parameter: "labelSelector", error })?,
            fields: FieldSelector::parse(query.get("fieldSelector").unwrap_or_default())
                .map_err(|error| ListOptionsError::Selector { parameter: "fieldSelector", error })?,
            exact_version: watch.is_none() && is_exact(query)?,
            watch,
            limit: integer(query, "limit")?,
            continue_token: query.get("continue").filter(|token| !token.is_empty()).map(str::to_owned),
        };
        if options.watch.is_none() {
            check_combinations(query)?;
        }
        Ok(options)
    }
}

fn integer(query: &Query, parameter: &'static str) -> Result<i64, ListOptionsError> {
    match query.get(parameter) {
        None => Ok(0),
        Some(value) => {
            value.parse().map_err(|_| ListOptionsError::Integer { parameter, value: value.to_owned() })
        }
    }
}

/// Returns whether a list requests exactly one resource version (API concepts, "Resource versions"): with
/// `resourceVersionMatch=Exact`, and without it if there is a limit.
fn is_exact(query: &Query) -> Result<bool, ListOptionsError> {
    let parameter = "resourceVersion";
    let version = query.get(parameter).unwrap_or_default();
    if !version.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(ListOptionsError::Integer { parameter, value: version.to_owned() });
    }
    if matches!(version, "" | "0") {
        return Ok(false);
    }
    Ok(match query.get("resourceVersionMatch").unwrap_or_default() {
        "" => integer(query, "limit")? > 0,
        matching => matching == "Exact",
    })
}

fn watch_options(query: &Query, timeout: i64) -> Result<WatchOptions, ListOptionsError> {
    let given = |parameter| query.get(parameter).is_some_and(|value| !value.is_empty());
    let initial = query.get("sendInitialEvents").map(|_| query.flag("sendInitialEvents"));
    let matching = query.get("resourceVersionMatch").unwrap_or_default();
    let rule = if initial.is_some() && matching != "NotOlderThan" {
        Some("sendInitialEvents requires setting resourceVersionMatch to NotOlderThan")
    } else if initial.is_none() && !matching.is_empty() {
        Some("resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided")
    } else if !matching.is_empty() && given("continue") {
        Some("resourceVersionMatch is forbidden when continue is provided")
    } else {
        None
    };
    if let Some(rule) = rule {
        return Err(ListOptionsError::Forbidden { parameter: "resourceVersionMatch", rule });
    }
    let parameter = "resourceVersion";
    let start = match (query.get(parameter).unwrap_or_default(), initial) {
        // Initial events always have the newest rows, so any minimum version is satisfied.
        (_, Some(true)) | ("" | "0", None) => Start::Initial,
        ("" | "0", Some(false)) => Start::Now,
        (version, _) if version.bytes().all(|byte| byte.is_ascii_digit()) => {
            version.parse().map_or(Start::Unknown, Start::At)
        }
        (value, _) => return Err(ListOptionsError::Integer { parameter, value: value.to_owned() }),
    };
    Ok(WatchOptions {
        start,
        send_initial_events: initial == Some(true),
        bookmarks: query.flag("allowWatchBookmarks"),
        timeout: u64::try_from(timeout).ok().filter(|timeout| *timeout > 0).map(Duration::from_secs),
    })
}

/// Checks the API's rules for lists (API concepts, "Resource versions").
fn check_combinations(query: &Query) -> Result<(), ListOptionsError> {
    let given = |parameter| query.get(parameter).is_some_and(|value| !value.is_empty());
    let parameter = "resourceVersionMatch";
    let rule = match query.get(parameter).unwrap_or_default() {
        "" => None,
        _ if !given("resourceVersion") => {
            Some("resourceVersionMatch is forbidden unless resourceVersion is provided")
        }
        _ if given("continue") => Some("resourceVersionMatch is forbidden when continue is provided"),
        "Exact" if query.get("resourceVersion") == Some("0") => {
            Some("resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"")
        }
        "Exact" | "NotOlderThan" => None,
        other => {
            let supported = "\"Exact\", \"NotOlderThan\", \"\"";
            return Err(ListOptionsError::Unsupported { parameter, value: other.to_owned(), supported });
        }
    };
    if let Some(rule) = rule {
        return Err(ListOptionsError::Forbidden { parameter, rule });
    }
    if query.get("sendInitialEvents").is_some() {
        let rule = "sendInitialEvents is forbidden for list";
        return Err(ListOptionsError::Forbidden { parameter: "sendInitialEvents", rule });
    }
    if given("continue") && !matches!(query.get("resourceVersion").unwrap_or_default(), "" | "0") {
        return Err(ListOptionsError::VersionOfContinue);
    }
    Ok(())
}

impl From<ListOptionsError> for Status {
    fn from(error: ListOptionsError) -> Self {
        let message = error.to_string();
        match error {
            ListOptionsError::Selector { parameter, .. } | ListOptionsError::Integer { parameter, .. } => {
                Self::bad_parameter(parameter, message)
            }
            ListOptionsError::VersionOfContinue => Self::bad_parameter("resourceVersion", message),
            ListOptionsError::Forbidden { parameter, .. } => {
                invalid("FieldValueForbidden", parameter, &message)
            }
            ListOptionsError::Unsupported { parameter, .. } => {
                invalid("FieldValueNotSupported", parameter, &message)
            }
        }
    }
}

/// Returns a Status like that of kube-apiserver's validation. `message` starts with the parameter's name.
fn invalid(reason: &'static str, parameter: &'static str, message: &str) -> Status {
    let problem = message.strip_prefix(parameter).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(message);
    Status {
        details: Some(Box::new(StatusDetails {
            group: "meta.k8s.io".into(),
            kind: "ListOptions".into(),
            causes: vec![StatusCause { reason, message: problem.to_owned(), field: parameter.into() }],
            ..StatusDetails::default()
        })),
        ..Status::new(422, "Invalid", format!("ListOptions.meta.k8s.io \"\" is invalid: {message}"))
    }
}

#[cfg(test)]
mod tests {
    use super::{ListOptions, Query, Start, Status};

    fn rejection(query: &str) -> Status {
        Status::from(ListOptions::parse(&Query::parse(Some(query))).unwrap_err())
    }

    #[test]
    fn rejects_invalid_parameters_by_name() {
        for (query, code, parameter) in [
            ("labelSelector=!", 400, "labelSelector"),
            ("fieldSelector=x", 400, "fieldSelector"),
            ("limit=many", 400, "limit"),
            ("timeoutSeconds=", 400, "timeoutSeconds"),
            ("resourceVersionMatch=Exact", 422, "resourceVersionMatch"),
            ("resourceVersionMatch=Exact&resourceVersion=0", 422, "resourceVersionMatch"),
            ("resourceVersionMatch=x&resourceVersion=1", 422, "resourceVersionMatch"),
            ("resourceVersionMatch=Exact&resourceVersion=1&continue=a", 422, "resourceVersionMatch"),
            ("sendInitialEvents=true", 422, "sendInitialEvents"),
            ("watch=1&sendInitialEvents=true", 422, "resourceVersionMatch"),
            ("watch=1&sendInitialEvents=true&resourceVersionMatch=Exact", 422, "resourceVersionMatch"),
            ("watch=1&resourceVersionMatch=NotOlderThan", 422, "resourceVersionMatch"),
            ("watch=1&resourceVersion=x", 400, "resourceVersion"),
            ("resourceVersion=x", 400, "resourceVersion"),
            ("resourceVersion=-1", 400, "resourceVersion"),
            ("resourceVersion=5&continue=a", 400, "resourceVersion"),
        ] {
            let status = rejection(query);
            assert_eq!(status.code, code, "{query}");
            assert_eq!(status.details.unwrap().causes[0].field, parameter, "{query}");
        }
    }

    #[test]
    fn accepts_parameters_that_clients_send() {
        let query =
            "limit=500&resourceVersion=0&resourceVersionMatch=NotOlderThan&timeoutSeconds=30&continue=";
        let options = ListOptions::parse(&Query::parse(Some(query))).unwrap();
        assert_eq!((options.limit, options.watch, options.continue_token), (500, None, None));
    }

    #[test]
    fn only_an_exact_version_needs_history() {
        for (query, exact) in [
            ("", false),
            ("resourceVersion=", false),
            ("resourceVersion=0", false),
            ("resourceVersion=0&limit=5", false),
            ("resourceVersion=17", false),
            ("resourceVersion=17&limit=0", false),
            ("resourceVersion=17&limit=5", true),
            ("resourceVersion=17&resourceVersionMatch=Exact", true),
            ("resourceVersion=17&resourceVersionMatch=Exact&limit=5", true),
            ("resourceVersion=17&resourceVersionMatch=NotOlderThan", false),
            ("resourceVersion=17&resourceVersionMatch=NotOlderThan&limit=5", false),
            ("resourceVersion=99999999999999999999999&resourceVersionMatch=Exact", true),
            ("continue=a&resourceVersion=0&limit=5", false),
            ("watch=1&resourceVersion=17&limit=5", false),
        ] {
            let options = ListOptions::parse(&Query::parse(Some(query))).unwrap();
            assert_eq!(options.exact_version, exact, "{query}");
        }
    }

    #[test]
    fn determines_the_start_of_a_watch() {
        for (query, start) in [
            ("", Start::Initial),
            ("&resourceVersion=0", Start::Initial),
            ("&resourceVersion=17&timeoutSeconds=9&allowWatchBookmarks=true", Start::At(17)),
            ("&resourceVersion=99999999999999999999999", Start::Unknown),
            ("&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&resourceVersion=17", Start::Initial),
            ("&sendInitialEvents=false&resourceVersionMatch=NotOlderThan", Start::Now),
            ("&sendInitialEvents=false&resourceVersionMatch=NotOlderThan&resourceVersion=17", Start::At(17)),
        ] {
            let options = ListOptions::parse(&Query::parse(Some(&format!("watch=1{query}")))).unwrap();
            assert_eq!(options.watch.unwrap().start, start, "{query}");
        }
    }
}
