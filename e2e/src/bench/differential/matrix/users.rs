//! Requests of other users: authentication and authorization.

use super::{Matrix, PROTOBUF, TABLE, User, YAML};

pub(super) fn users(matrix: &mut Matrix) {
    let targets = [
        "/apis/metrics.k8s.io/v1beta1/nodes/fake-a",
        "/apis/metrics.k8s.io/v1beta1/namespaces/team-a/pods",
        "/apis/metrics.k8s.io/v1beta1/pods?watch=1&timeoutSeconds=1",
        "/apis",
        "/metrics",
        "/livez",
        "/none-such",
        "/",
    ];
    for target in targets {
        for user in [User::Anonymous, User::Jane, User::Stranger, User::OtherProxy] {
            matrix.add(user, "GET", target, &[]);
        }
        matrix.add(User::Anonymous, "GET", target, &[("Authorization", "Bearer none")]);
    }
    let target = targets[0];
    let user = ("X-Remote-User", "jane");
    let masters = ("X-Remote-Group", "system:masters");
    for (who, headers) in [
        (User::FrontProxy, &[] as &[_]),
        (User::FrontProxy, &[user]),
        (User::FrontProxy, &[user, masters]),
        (User::FrontProxy, &[user, ("X-Remote-Group", "a"), masters]),
        (User::FrontProxy, &[user, masters, ("X-Remote-Extra-Scopes", "x")]),
        (User::FrontProxy, &[masters]),
        (User::FrontProxy, &[user, ("Authorization", "Bearer none")]),
        (User::FrontProxy, &[("X-Remote-User", "system:serviceaccount:team-a:default")]),
        (User::Anonymous, &[user, masters]),
        (User::Jane, &[("X-Remote-User", "admin"), masters]),
        (User::Stranger, &[user, masters]),
        (User::OtherProxy, &[user, masters]),
        (User::Anonymous, &[("Authorization", "Basic YTpi")]),
        (User::Anonymous, &[("Authorization", "Bearer ")]),
        (User::Anonymous, &[("Authorization", "bearer none")]),
        (User::Anonymous, &[("Impersonate-User", "admin")]),
        (User::Admin, &[("Authorization", "Bearer none")]),
        (User::Admin, &[("Impersonate-User", "jane")]),
    ] {
        matrix.add(who, "GET", target, headers);
    }
    // Errors in the encoding of the Accept header.
    for accept in [YAML, PROTOBUF, TABLE, "text/html"] {
        matrix.add(User::Jane, "GET", target, &[("Accept", accept)]);
        matrix.add(User::Stranger, "GET", target, &[("Accept", accept)]);
    }
    for (method, target) in [
        ("POST", "/apis/metrics.k8s.io/v1beta1/nodes"),
        ("DELETE", "/apis/metrics.k8s.io/v1beta1/nodes/fake-a"),
        ("PATCH", "/apis/metrics.k8s.io/v1beta1/namespaces/team-a/pods/web-0"),
        ("HEAD", "/apis/metrics.k8s.io/v1beta1/nodes"),
        ("GET", "/apis/metrics.k8s.io/v1beta1/nodes/fake-a/status"),
        ("GET", "/apis/metrics.k8s.io/v1beta1/services"),
    ] {
        matrix.add(User::Jane, method, target, &[]);
    }
}
