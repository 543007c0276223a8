//! Authentication and authorization at the API server and at metrics-core: both have the same rules.

use std::sync::Arc;

use e2e::suite::{Group, Needs, Suite, TestEnv};
use e2e::testbed::http::Request;
use e2e::testbed::pki::{Authority, Identity, Subject};
use e2e::{Result, check};
use serde_json::json;

use super::metrics_core;

const NODES: &str = "/apis/metrics.k8s.io/v1beta1/nodes";

pub fn add(suite: &mut Suite, group: &Arc<Group>) {
    suite.add(group, "a_user_needs_the_right", Needs::OurCluster, a_user_needs_the_right);
    suite.add(group, "metrics_core_takes_no_forgery", Needs::OurCluster, metrics_core_takes_no_forgery);
    suite.add(group, "tokens_are_reviewed", Needs::OurCluster, tokens_are_reviewed);
}

fn a_user_needs_the_right(env: &TestEnv) -> Result<()> {
    let jane = env.own_cluster()?.client_as("jane", Some("developers"))?;
    let refused = jane.raw(NODES).map_or_else(|error| error.to_string(), |_| "an answer".into());
    check!(refused.contains("(Forbidden)") && refused.contains("jane"), "jane, without the right: {refused}");
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
fn metrics_core_takes_no_forgery(env: &TestEnv) -> Result<()> {
    let cluster = env.own_cluster()?;
    let [_, address, _] = metrics_core(&env.client)?;
    let ask = || Request::get(format!("https://{address}:4443{NODES}"));
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
        ("nobody", ask(), 403),
        ("forged headers without a certificate", admin(ask()), 403),
        ("a certificate of an unknown CA", ask().identity(&stranger), 401),
        ("the same with forged headers", admin(ask()).identity(&stranger), 401),
        ("a name that is not allowed, of the front proxy's CA", admin(ask()).identity(&other_name), 401),
        // The client CA authenticates the user `aggregator`, who has no permissions; its headers are ignored.
        ("the allowed name, of the client CA", admin(ask()).identity(&client_ca), 403),
        ("a bearer token that is none", ask().header("Authorization", "Bearer none"), 401),
        (
            "the front proxy for a user without the right",
            ask().identity(&proxy).header("X-Remote-User", "jane"),
            403,
        ),
        ("the front proxy for an administrator", admin(ask()).identity(&proxy), 200),
        ("an administrator's own certificate", ask().identity(&master), 200),
    ] {
        let answer = cluster.send(&request)?;
        check!(answer.status == expected, "{who}: {}, not {expected}: {}", answer.status, answer.text());
        check!(
            expected == 200 || answer.text().contains("\"Status\""),
            "{who}: no Status: {}",
            answer.text()
        );
    }
    for (path, expected) in [("/readyz", 200), ("/livez", 200), ("/healthz", 200), ("/metrics", 403)] {
        let status = cluster.send(&Request::get(format!("https://{address}:4443{path}")))?.status;
        check!(status == expected, "{path}, anonymously: {status}, not {expected}");
    }
    Ok(())
}

fn tokens_are_reviewed(env: &TestEnv) -> Result<()> {
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
        "an account without the right: {} {}",
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
