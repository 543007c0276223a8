//! Authentication and authorization at the API server and at metrics-core: both have the same rules.

use std::sync::Arc;

use e2e::suite::{Group, Needs, Suite, TestEnv};
use e2e::testbed::http::Request;
use e2e::testbed::pki::{Authority, Identity, Subject};
use e2e::{Result, check};
use serde_json::json;

use super::metrics_core;

const NODES: &str = "/apis/metrics.k8s.io/v1beta1/nodes";

pub(super) fn add(suite: &mut Suite, group: &Arc<Group>) {
    suite.add(group, "users_need_permission", Needs::OurCluster, users_need_permission);
    suite.add(
        group,
        "metrics_core_rejects_forged_credentials",
        Needs::OurCluster,
        metrics_core_rejects_forged_credentials,
    );
    suite.add(group, "reviews_tokens", Needs::OurCluster, reviews_tokens);
}

fn users_need_permission(env: &TestEnv) -> Result<()> {
    let jane = env.own_cluster()?.client_as("jane", Some("developers"))?;
    let refused = jane.raw(NODES).map_or_else(|error| error.to_string(), |_| "a response".into());
    check!(
        refused.contains("(Forbidden)") && refused.contains("jane"),
        "jane, without permission: {refused}"
    );
    // The built-in role view has the permission by aggregation.
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "joe-views", "namespace": super::LOAD},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "joe"}],
    });
    env.client.apply(&binding.to_string())?;
    let joe = env.own_cluster()?.client_as("joe", None)?;
    joe.wait_for("joe, who may view the namespace, sees its pods", super::MINUTE, |joe| {
        joe.raw(&format!("/apis/metrics.k8s.io/v1beta1/namespaces/{}/pods", super::LOAD))?;
        Ok(())
    })?;
    check!(joe.raw("/apis/metrics.k8s.io/v1beta1/pods").is_err(), "joe sees the pods of all namespaces");
    let server = Request::get(format!("{}{NODES}", e2e::testbed::cluster::server()));
    let anonymous = env.own_cluster()?.send(&server)?.status;
    check!(anonymous == 403, "anonymous at the API server: {anonymous}");
    Ok(())
}

/// Requests go directly to metrics-core, not through the API server.
fn metrics_core_rejects_forged_credentials(env: &TestEnv) -> Result<()> {
    let cluster = env.own_cluster()?;
    let [_, address, _] = metrics_core(&env.client)?;
    let request = || Request::get(format!("https://{address}:4443{NODES}"));
    let admin = |request: Request| {
        request.header("X-Remote-User", "admin").header("X-Remote-Group", "system:masters")
    };
    let proxy = cluster.front_proxy_identity()?;
    let signed = |authority: &Authority, name: &str| -> Result<Identity> {
        authority.issue(&Subject::user(name, None))
    };
    let stranger = signed(&Authority::create("stranger")?, "aggregator")?;
    let other_name = signed(&cluster.front_proxy_authority()?, "not-the-aggregator")?;
    let client_ca = signed(&cluster.cluster_authority()?, "aggregator")?;
    let master = cluster.cluster_authority()?.issue(&Subject::user("root", Some("system:masters")))?;
    for (who, request, expected) in [
        ("no credentials", request(), 403),
        ("forged headers without a certificate", admin(request()), 403),
        ("a certificate of an unknown CA", request().identity(&stranger), 401),
        ("the same with forged headers", admin(request()).identity(&stranger), 401),
        ("a name that is not allowed, of the front proxy's CA", admin(request()).identity(&other_name), 401),
        // The client CA authenticates the user `aggregator`, who has no permissions; its headers are ignored.
        ("the allowed name, of the client CA", admin(request()).identity(&client_ca), 403),
        ("an invalid bearer token", request().header("Authorization", "Bearer none"), 401),
        (
            "the front proxy for a user without permission",
            request().identity(&proxy).header("X-Remote-User", "jane"),
            403,
        ),
        ("the front proxy for an administrator", admin(request()).identity(&proxy), 200),
        ("an administrator's own certificate", request().identity(&master), 200),
    ] {
        let response = cluster.send(&request)?;
        check!(
            response.status == expected,
            "{who}: {}, not {expected}: {}",
            response.status,
            response.text()
        );
        check!(
            expected == 200 || response.text().contains("\"Status\""),
            "{who}: no Status: {}",
            response.text()
        );
    }
    for (path, expected) in [("/readyz", 200), ("/livez", 200), ("/healthz", 200), ("/metrics", 403)] {
        let status = cluster.send(&Request::get(format!("https://{address}:4443{path}")))?.status;
        check!(status == expected, "{path}, anonymously: {status}, not {expected}");
    }
    Ok(())
}

fn reviews_tokens(env: &TestEnv) -> Result<()> {
    let namespace = env.namespace()?.to_owned();
    let [_, address, _] = metrics_core(&env.client)?;
    let token = env.client.run(&["-n", &namespace, "create", "token", "default"])?;
    let request = || {
        Request::get(format!("https://{address}:4443{NODES}"))
            .header("Authorization", &format!("Bearer {}", token.trim()))
    };
    let before = env.own_cluster()?.send(&request())?;
    check!(
        before.status == 403 && before.text().contains(&format!("system:serviceaccount:{namespace}:default")),
        "a service account without permission: {} {}",
        before.status,
        before.text()
    );
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": namespace}],
    });
    env.client.apply(&binding.to_string())?;
    // The denial is cached for 10 s.
    let allowed = env.client.wait_for("the account is allowed", super::MINUTE, |_| {
        let status = env.own_cluster()?.send(&request())?.status;
        if status == 200 { Ok(()) } else { Err(status.to_string().into()) }
    });
    env.client.delete(&["clusterrolebinding", &namespace])?;
    allowed
}
