//! The parameters of operations. The descriptions are those of Kubernetes, as far as they apply.

use serde_json::{Value, json};

use super::OpenApiVersion;
use crate::api::resource::Resource;

/// The query parameters of lists and watches: name, type and description.
const LIST_PARAMETERS: [(&str, &str, &str); 10] = [
    (
        "labelSelector",
        "string",
        "A selector to restrict the list of returned objects by their labels. Defaults to everything.",
    ),
    (
        "fieldSelector",
        "string",
        "A selector to restrict the list of returned objects by their fields. Defaults to everything. Supported fields \
         are metadata.name and metadata.namespace, with =, == and !=.",
    ),
    (
        "limit",
        "integer",
        "limit is a maximum number of responses to return for a list call. If more items exist, the server will set the \
         `continue` field on the list metadata to a value that can be used with the same initial query to retrieve the \
         next set of results.",
    ),
    (
        "continue",
        "string",
        "The continue option should be set when retrieving more results from the server. It is the `continue` field of \
         the previous list's metadata.",
    ),
    (
        "watch",
        "boolean",
        "Watch for changes to the described resources and return them as a stream of add, update, and remove \
         notifications. Specify resourceVersion.",
    ),
    (
        "resourceVersion",
        "string",
        "For a watch, the resource version after which changes are sent: metadata.resourceVersion of a list, object or \
         bookmark. Defaults to unset: the watch begins with synthetic added events for all objects.",
    ),
    (
        "timeoutSeconds",
        "integer",
        "Timeout for the watch call. This limits the duration of the call, regardless of any activity or inactivity.",
    ),
    (
        "allowWatchBookmarks",
        "boolean",
        "allowWatchBookmarks requests watch events with type \"BOOKMARK\". They are sent every minute. If this is not a \
         watch, this field is ignored.",
    ),
    (
        "sendInitialEvents",
        "boolean",
        "`sendInitialEvents=true` may be set together with `watch=true`. In that case, the watch stream will begin with \
         synthetic events to produce the current state of objects in the collection. Once all such events have been \
         sent, a synthetic \"BOOKMARK\" event with the annotation k8s.io/initial-events-end will be sent, if \
         allowWatchBookmarks is set.",
    ),
    (
        "resourceVersionMatch",
        "string",
        "resourceVersionMatch determines how resourceVersion is applied. A watch with sendInitialEvents requires \
         NotOlderThan.",
    ),
];

const PRETTY: &str = "If 'true', then the output is pretty printed. Defaults to 'false' unless the user-agent indicates \
                      a browser or command-line HTTP tool (curl and wget).";

/// Returns the parameters of `path`, whose action is `get` or `list`.
pub(super) fn parameters(
    version: OpenApiVersion,
    path: &str,
    resource: Resource,
    action: &str,
) -> Vec<Value> {
    let parameter = |name: &str, place: &str, kind: &str, description: &str| {
        let mut parameter = json!({ "name": name, "in": place, "description": description });
        match version {
            OpenApiVersion::V2 => parameter["type"] = kind.into(),
            OpenApiVersion::V3 => parameter["schema"] = json!({ "type": kind }),
        }
        if place == "path" {
            parameter["required"] = true.into();
        }
        parameter
    };
    let mut parameters = Vec::new();
    if path.contains("{namespace}") {
        let description = "object name and auth scope, such as for teams and projects";
        parameters.push(parameter("namespace", "path", "string", description));
    }
    if path.contains("{name}") {
        let description = format!("name of the {}", resource.kind());
        parameters.push(parameter("name", "path", "string", &description));
    }
    if action == "list" {
        let list = LIST_PARAMETERS;
        parameters.extend(list.map(|(name, kind, description)| parameter(name, "query", kind, description)));
    }
    parameters.push(parameter("pretty", "query", "string", PRETTY));
    parameters
}
