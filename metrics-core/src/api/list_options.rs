//! The query parameters of a list (`metav1.ListOptions`).

use std::time::Duration;

use super::query::Query;
use super::selector::{self, FieldSelector, LabelSelector};
use super::status::{Cause, Details, Status};

const LONGEST_WATCH: Duration = Duration::from_secs(24 * 3600);

/// What a list or watch asks for.
#[derive(Debug, Default)]
pub(super) struct ListOptions {
    /// Which labels.
    pub(super) labels: LabelSelector,
    /// Which names and namespaces.
    pub(super) fields: FieldSelector,
    /// Events rather than a list.
    pub(super) watch: Option<WatchOptions>,
    /// At most so many objects; zero or less means all.
    pub(super) limit: i64,
    /// Where to go on, from the list before.
    pub(super) continuation: Option<String>,
}

/// What a watch asks for besides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WatchOptions {
    /// Where to begin.
    pub(super) start: Start,
    /// Whether the end of the initial events is to be told, if bookmarks are wanted.
    pub(super) announces_end: bool,
    /// Whether bookmarks are wanted.
    pub(super) bookmarks: bool,
    /// When to end.
    pub(super) timeout: Option<Duration>,
}

impl WatchOptions {
    /// How long the watch lasts. One that names no end, or one beyond a day, lasts `shortest` at least and twice as long
    /// at most, so that clients spread; as the API server has it.
    pub(super) fn lasts(&self, shortest: Duration) -> Duration {
        let named = self.timeout.filter(|timeout| *timeout <= LONGEST_WATCH);
        named.unwrap_or_else(|| shortest.mul_f64(1.0 + fastrand::f64()))
    }
}

/// Where a watch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// With what is there, as initial events.
    Initial,
    /// With the next change.
    Now,
    /// With the change of this version.
    At(u64),
    /// At a version that nobody here can have given.
    Unknown,
}

/// A parameter that can't be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    /// A selector with a fault.
    #[error("{fault}")]
    Selector {
        /// The parameter.
        parameter: &'static str,
        /// The fault.
        fault: selector::Error,
    },
    /// No integer where one is due.
    #[error("{parameter}: {value:?} is not an integer")]
    Integer {
        /// The parameter.
        parameter: &'static str,
        /// Its value.
        value: String,
    },
    /// A value that the API does not know.
    #[error("{parameter}: Unsupported value: {value:?}: supported values: {supported}")]
    Unsupported {
        /// The parameter.
        parameter: &'static str,
        /// Its value.
        value: String,
        /// The values that there are.
        supported: &'static str,
    },
    /// A combination that the API forbids.
    #[error("{parameter}: Forbidden: {rule}")]
    Forbidden {
        /// The parameter.
        parameter: &'static str,
        /// The rule.
        rule: &'static str,
    },
}

impl ListOptions {
    /// Reads the parameters. `resourceVersion` and `timeoutSeconds` have no effect on a list.
    pub(super) fn read(query: &Query) -> Result<Self, Error> {
        let timeout = integer(query, "timeoutSeconds")?;
        let watch = query.flag("watch").then(|| watch_options(query, timeout)).transpose()?;
        let options = Self {
            labels: LabelSelector::parse(query.get("labelSelector").unwrap_or_default())
                .map_err(|fault| Error::Selector { parameter: "labelSelector", fault })?,
            fields: FieldSelector::parse(query.get("fieldSelector").unwrap_or_default())
                .map_err(|fault| Error::Selector { parameter: "fieldSelector", fault })?,
            watch,
            limit: integer(query, "limit")?,
            continuation: query.get("continue").filter(|token| !token.is_empty()).map(str::to_owned),
        };
        if options.watch.is_none() {
            check_combinations(query)?;
        }
        Ok(options)
    }
}

fn integer(query: &Query, parameter: &'static str) -> Result<i64, Error> {
    match query.get(parameter) {
        None => Ok(0),
        Some(value) => value.parse().map_err(|_| Error::Integer { parameter, value: value.to_owned() }),
    }
}

fn watch_options(query: &Query, timeout: i64) -> Result<WatchOptions, Error> {
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
        return Err(Error::Forbidden { parameter: "resourceVersionMatch", rule });
    }
    let parameter = "resourceVersion";
    let start = match (query.get(parameter).unwrap_or_default(), initial) {
        // Initial events are the newest there are, whichever version is asked for at least.
        (_, Some(true)) | ("" | "0", None) => Start::Initial,
        ("" | "0", Some(false)) => Start::Now,
        (version, _) if version.bytes().all(|byte| byte.is_ascii_digit()) => {
            version.parse().map_or(Start::Unknown, Start::At)
        }
        (value, _) => return Err(Error::Integer { parameter, value: value.to_owned() }),
    };
    Ok(WatchOptions {
        start,
        announces_end: initial == Some(true),
        bookmarks: query.flag("allowWatchBookmarks"),
        timeout: u64::try_from(timeout).ok().filter(|timeout| *timeout > 0).map(Duration::from_secs),
    })
}

/// The API's rules for lists (API concepts, "Resource versions").
fn check_combinations(query: &Query) -> Result<(), Error> {
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
            return Err(Error::Unsupported { parameter, value: other.to_owned(), supported });
        }
    };
    if let Some(rule) = rule {
        return Err(Error::Forbidden { parameter, rule });
    }
    if query.get("sendInitialEvents").is_some() {
        let rule = "sendInitialEvents is forbidden for list";
        return Err(Error::Forbidden { parameter: "sendInitialEvents", rule });
    }
    Ok(())
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Selector { parameter, .. } | Error::Integer { parameter, .. } => {
                Self::bad_parameter(parameter, message)
            }
            Error::Forbidden { parameter, .. } => invalid("FieldValueForbidden", parameter, &message),
            Error::Unsupported { parameter, .. } => invalid("FieldValueNotSupported", parameter, &message),
        }
    }
}

/// What the API server's validation says; `message` begins with the parameter's name.
fn invalid(reason: &'static str, parameter: &'static str, message: &str) -> Status {
    let problem = message.strip_prefix(parameter).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(message);
    Status {
        details: Some(Box::new(Details {
            group: "meta.k8s.io".into(),
            kind: "ListOptions".into(),
            causes: vec![Cause { reason, message: problem.to_owned(), field: parameter.into() }],
            ..Details::default()
        })),
        ..Status::new(422, "Invalid", format!("ListOptions.meta.k8s.io \"\" is invalid: {message}"))
    }
}

#[cfg(test)]
mod tests {
    use super::{ListOptions, Query, Start, Status};

    fn fault(query: &str) -> Status {
        Status::from(ListOptions::read(&Query::parse(Some(query))).unwrap_err())
    }

    #[test]
    fn names_the_parameter_at_fault() {
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
        ] {
            let status = fault(query);
            assert_eq!(status.code, code, "{query}");
            assert_eq!(status.details.unwrap().causes[0].field, parameter, "{query}");
        }
    }

    #[test]
    fn takes_what_clients_send() {
        let query =
            "limit=500&resourceVersion=0&resourceVersionMatch=NotOlderThan&timeoutSeconds=30&continue=";
        let options = ListOptions::read(&Query::parse(Some(query))).unwrap();
        assert_eq!((options.limit, options.watch, options.continuation), (500, None, None));
    }

    #[test]
    fn tells_where_a_watch_begins() {
        for (query, start) in [
            ("", Start::Initial),
            ("&resourceVersion=0", Start::Initial),
            ("&resourceVersion=17&timeoutSeconds=9&allowWatchBookmarks=true", Start::At(17)),
            ("&resourceVersion=99999999999999999999999", Start::Unknown),
            ("&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&resourceVersion=17", Start::Initial),
            ("&sendInitialEvents=false&resourceVersionMatch=NotOlderThan", Start::Now),
            ("&sendInitialEvents=false&resourceVersionMatch=NotOlderThan&resourceVersion=17", Start::At(17)),
        ] {
            let options = ListOptions::read(&Query::parse(Some(&format!("watch=1{query}")))).unwrap();
            assert_eq!(options.watch.unwrap().start, start, "{query}");
        }
    }
}
