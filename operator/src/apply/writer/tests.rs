use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response};
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::json;
use tokio::time::{Instant, advance};
use tower::service_fn;

use super::*;
use crate::plan::Removal;

/// Returns a writer whose requests for paths that contain `hanging` have no response, and the requests that had one.
fn writer(hanging: &Arc<Mutex<&'static str>>) -> (Writer, Arc<Mutex<Vec<String>>>) {
    let requests = Arc::<Mutex<Vec<String>>>::default();
    let (sent, hanging) = (requests.clone(), hanging.clone());
    let service = service_fn(move |request: Request<Body>| {
        let path = request.uri().path().to_owned();
        let (is_hanging, sent) = (path.contains(*hanging.lock()), sent.clone());
        async move {
            if is_hanging {
                std::future::pending::<()>().await;
            }
            sent.lock().push(format!("{} {path}", request.method()));
            let body = if request.method() == Method::DELETE {
                json!({ "kind": "Status", "status": "Success" })
            } else {
                json!({ "metadata": { "name": "n", "resourceVersion": "1" } })
            };
            Response::builder().body(Body::from(body.to_string().into_bytes()))
        }
    });
    (Writer::new(Client::new(service, "ns"), "ns".to_owned(), Known::default()), requests)
}

fn desired(object: ManagedObject) -> Desired {
    let resource = object.resource();
    let body = json!({ "apiVersion": resource.api_version, "kind": resource.kind, "metadata": { "name": object.name() } });
    Desired { object, manager: FIELD_MANAGER, body, resource_version: None }
}

fn plan() -> MaintainPlan {
    let objects = [
        ManagedObject::ServiceAccount,
        ManagedObject::CollectorRole,
        ManagedObject::CaSecret,
        ManagedObject::ServingSecret,
        ManagedObject::ConfigMap,
        ManagedObject::Service,
    ];
    MaintainPlan { desired: objects.map(desired).into(), ..MaintainPlan::default() }
}

async fn pass(writer: &mut Writer) -> Applied {
    let mut applied = Applied::default();
    writer.write(&plan(), &Observed::default(), &mut applied).await;
    applied
}

#[tokio::test(start_paused = true)]
async fn a_webhook_that_hangs_for_one_object_does_not_stop_the_others() {
    let hanging = Arc::new(Mutex::new("clusterroles"));
    let (mut writer, _) = writer(&hanging);
    let began = Instant::now();
    let applied = pass(&mut writer).await;
    assert!(began.elapsed() <= Duration::from_secs(6), "{:?}", began.elapsed());
    assert!(applied.interrupted.is_none());
    assert_eq!(applied.outcome.applied.len(), 5, "{:?}", applied.outcome.applied);
    let problems = &applied.outcome.problems;
    assert_eq!(problems.keys().collect::<Vec<_>>(), [&ManagedObject::CollectorRole]);
    let problem = &problems[&ManagedObject::CollectorRole];
    assert_eq!(problem.reason, Reason::ApplyFailed);
    assert!(
        problem.message.starts_with("ClusterRole metrics-core:collector cannot be applied")
            && problem.message.contains("webhook"),
        "{}",
        problem.message
    );
    // Later passes hardly wait, and say the same.
    let began = Instant::now();
    let again = pass(&mut writer).await;
    assert!(began.elapsed() <= Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(again.outcome.problems, *problems);
    // Its request ends at its deadline; the next one succeeds.
    *hanging.lock() = "nothing";
    advance(Duration::from_secs(40)).await;
    assert_eq!(pass(&mut writer).await.outcome.problems, *problems);
    let applied = pass(&mut writer).await;
    assert!(applied.outcome.problems.is_empty(), "{:?}", applied.outcome.problems);
    assert!(applied.outcome.applied.contains(&ManagedObject::CollectorRole));
}

#[tokio::test(start_paused = true)]
async fn an_object_waits_only_for_what_it_requires() {
    let hanging = Arc::new(Mutex::new("metrics-core-ca"));
    let (mut writer, _) = writer(&hanging);
    let applied = pass(&mut writer).await;
    let problem = |object| applied.outcome.problems.get(&object).map(|problem: &Problem| problem.reason);
    assert_eq!(problem(ManagedObject::CaSecret), Some(Reason::ApplyFailed));
    assert_eq!(problem(ManagedObject::ServingSecret), Some(Reason::WaitingForDependency));
    assert_eq!(problem(ManagedObject::Service), None);
}

#[tokio::test(start_paused = true)]
async fn a_deletion_cancels_what_is_still_being_applied() {
    let hanging = Arc::new(Mutex::new("clusterroles"));
    let (mut writer, requests) = writer(&hanging);
    pass(&mut writer).await;
    *hanging.lock() = "nothing";
    let removal = Removal { object: ManagedObject::CollectorRole, uid: "u".to_owned(), replaced: None };
    let mut applied = Applied::default();
    writer.remove(&[removal], &mut applied).await;
    assert_eq!(applied.outcome.deleted, [ManagedObject::CollectorRole]);
    assert!(!writer.requests.is_sent((ManagedObject::CollectorRole, FIELD_MANAGER)));
    advance(Duration::from_secs(60)).await;
    let requests = requests.lock();
    assert!(
        requests.iter().any(|request| request.starts_with("DELETE") && request.contains("clusterroles")),
        "{requests:?}"
    );
    assert!(
        !requests.iter().any(|request| request.starts_with("PATCH") && request.contains("clusterroles")),
        "{requests:?}"
    );
}
