//! The query parameters of a list (`metav1.ListOptions`).

use super::query::Query;
use super::selector::{self, FieldSelector, LabelSelector};
use super::status::{Cause, Details, Status};

/// What a list or watch asks for.
#[derive(Debug, Default)]
pub(super) struct ListOptions {
    /// Which labels.
    pub(super) labels: LabelSelector,
    /// Which names and namespaces.
    pub(super) fields: FieldSelector,
    /// Events rather than a list.
    pub(super) watch: bool,
    /// At most so many objects; zero or less means all.
    pub(super) limit: i64,
    /// Where to go on, from the list before.
    pub(super) continuation: Option<String>,
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
        integer(query, "timeoutSeconds")?;
        let options = Self {
            labels: LabelSelector::parse(query.get("labelSelector").unwrap_or_default())
                .map_err(|fault| Error::Selector { parameter: "labelSelector", fault })?,
            fields: FieldSelector::parse(query.get("fieldSelector").unwrap_or_default())
                .map_err(|fault| Error::Selector { parameter: "fieldSelector", fault })?,
            watch: query.flag("watch"),
            limit: integer(query, "limit")?,
            continuation: query.get("continue").filter(|token| !token.is_empty()).map(str::to_owned),
        };
        if !options.watch {
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
    use super::{ListOptions, Query, Status};

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
        assert_eq!((options.limit, options.watch, options.continuation), (500, false, None));
        let watch = ListOptions::read(&Query::parse(Some("watch=true&sendInitialEvents=true"))).unwrap();
        assert!(watch.watch);
    }
}
