//! Requests for objects: names, encodings, options of the query.

use super::{ACCEPTS, BASE, JSON, Matrix, PROTOBUF, TABLE, User, YAML};

/// Adds every encoding of every kind of response.
pub(super) fn objects(matrix: &mut Matrix, node: &str, pod: &str) {
    for target in [
        "/nodes",
        "/nodes/fake-a",
        "/nodes/none-such",
        "/nodes/fake-500",
        "/pods",
        "/namespaces/team-a/pods",
        "/namespaces/team-a/pods/web-1",
        "/namespaces/team-a/pods/none-such",
        "/namespaces/team-b/pods/unmeasured",
        "/namespaces/none-such/pods",
    ] {
        for accept in ACCEPTS {
            matrix.get(&format!("{BASE}{target}"), accept);
        }
    }
    for target in [format!("/nodes/{node}"), format!("/namespaces/team-a/pods/{pod}")] {
        for accept in [JSON, YAML, PROTOBUF, TABLE] {
            matrix.get(&format!("{BASE}{target}"), accept);
        }
    }
    for name in ["pending", "done", "failed", "job-0"] {
        matrix.get(&format!("{BASE}/namespaces/team-b/pods/{name}"), JSON);
    }
    for target in [
        "/namespaces/edges/pods",
        "/namespaces/team-b/pods",
        "/namespaces/edge-cases/pods",
        "/namespaces/crowd/pods",
    ] {
        for accept in [JSON, PROTOBUF, TABLE] {
            matrix.get(&format!("{BASE}{target}"), accept);
        }
    }
    for include in ["None", "Metadata", "Object", "Nonsense", ""] {
        matrix.get(
            &format!("{BASE}/nodes?fieldSelector=metadata.name%3Dfake-a&includeObject={include}"),
            TABLE,
        );
        matrix.get(&format!("{BASE}/namespaces/team-a/pods/web-1?includeObject={include}"), TABLE);
    }
    // Clients for which JSON is indented.
    for agent in ["curl/8.0", "Wget/1.21", "Mozilla/5.0 (X11; Linux x86_64)", "kubectl/v1.36.3", ""] {
        matrix.add(User::Admin, "GET", &format!("{BASE}/nodes/fake-a"), &[("User-Agent", agent)]);
    }
    for pretty in ["true", "false", "1", "0", "", "yes"] {
        matrix.get(&format!("{BASE}/nodes/fake-a?pretty={pretty}"), JSON);
    }
    matrix.get(&format!("{BASE}/nodes/fake-a?pretty=true"), YAML);
}

pub(super) fn options(matrix: &mut Matrix) {
    for query in [
        "limit=0",
        "limit=1000",
        "limit=-1",
        "limit=many",
        "limit=99999999999999999999",
        "limit=1&continue=nonsense",
        "resourceVersion=0",
        "resourceVersion=5",
        "resourceVersion=nonsense",
        "resourceVersionMatch=Exact",
        "resourceVersionMatch=NotOlderThan&resourceVersion=0",
        "resourceVersionMatch=Exact&resourceVersion=0",
        "resourceVersionMatch=Exact&resourceVersion=5",
        "resourceVersionMatch=NotOlderThan&resourceVersion=5",
        "limit=1&resourceVersion=5",
        "resourceVersionMatch=Nonsense&resourceVersion=1",
        "timeoutSeconds=30",
        "timeoutSeconds=x",
        "sendInitialEvents=true",
        "allowWatchBookmarks=true",
        "watch=false",
        "watch=0",
        "watch=true&timeoutSeconds=1",
        "watch=1&timeoutSeconds=1",
        "watch=nonsense&timeoutSeconds=1",
        "unknown=parameter",
        "timeout=5s",
        "timeout=nonsense",
    ] {
        matrix.get(&format!("{BASE}/namespaces/team-a/pods?{query}"), JSON);
    }
    matrix.get(&format!("{BASE}/namespaces/team-a/pods?limit=1"), JSON);
    matrix.get(&format!("{BASE}/nodes/fake-a?resourceVersion=7"), JSON);
    matrix.get(&format!("{BASE}/watch/nodes?timeoutSeconds=1"), JSON);
}
