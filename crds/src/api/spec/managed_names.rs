//! The rule that a reference does not name an object that the operator itself manages.

use serde_json::{Value, json};

/// Returns the CEL rule of the name of a `kind` in the operator's namespace.
pub(super) fn not_managed(names: &[&str], kind: &str) -> Value {
    json!([{ "rule": format!("!(self in {})", list(names)), "message": message(kind) }])
}

/// Returns the CEL rule of a reference with a name and an optional namespace: in another namespace than the operator's,
/// every name is allowed.
pub(super) fn not_managed_here(names: &[&str], kind: &str) -> Value {
    json!([{
        "rule": format!("has(self.__namespace__) || !(self.name in {})", list(names)),
        "message": message(kind),
        "fieldPath": ".name",
    }])
}

fn list(names: &[&str]) -> String {
    let names: Vec<_> = names.iter().map(|name| format!("'{name}'")).collect();
    format!("[{}]", names.join(", "))
}

fn message(kind: &str) -> String {
    format!("name: the operator manages the {kind} of this name; use another name")
}
