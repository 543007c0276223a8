use super::super::for_test::{malformed, request};
use super::*;
use k8s_openapi::api::certificates::v1::CertificateSigningRequestStatus;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

fn created(mut csr: CertificateSigningRequest, second: i64) -> CertificateSigningRequest {
    csr.metadata.creation_timestamp = Some(Time(Timestamp::from_second(second).expect("a time")));
    csr
}

fn decided(mut csr: CertificateSigningRequest, kind: &str) -> CertificateSigningRequest {
    let conditions = json!({ "conditions": [{ "type": kind, "status": "True" }] });
    csr.status = serde_json::from_value::<CertificateSigningRequestStatus>(conditions).ok();
    csr
}

fn names(pending: &PendingRequests) -> Vec<&str> {
    pending.iter().map(|request| request.name.as_str()).collect()
}

#[test]
fn keeps_pending_requests_until_they_are_decided_or_deleted() {
    let mut pending = PendingRequests::default();
    let (a, b) = (request("a", "node-1", &["node-1"]), request("b", "node-2", &["node-2"]));
    pending.apply(&a);
    pending.apply(&b);
    pending.apply(&a);
    assert_eq!(names(&pending), ["a", "b"]);
    pending.apply(&decided(a, "Approved"));
    assert_eq!(names(&pending), ["b"]);
    pending.remove(&b);
    pending.apply(&malformed("c"));
    assert_eq!(names(&pending), ["c"]);
    pending.apply(&decided(malformed("c"), "Denied"));
    assert!(names(&pending).is_empty() && pending.by_node.is_empty());
}

#[test]
fn keeps_the_newest_requests_of_each_node() {
    let mut pending = PendingRequests::default();
    pending.apply(&created(request("other", "node-2", &["node-2"]), 0));
    for second in [5, 1, 9, 3, 7, 2] {
        pending.apply(&created(request(&format!("r{second}"), "node-1", &["node-1"]), second));
    }
    assert_eq!(names(&pending), ["r9", "r7", "r5", "r3", "other"]);
}

#[test]
fn malformed_requests_are_bounded_and_come_last() {
    let mut pending = PendingRequests::default();
    let template = malformed("m");
    for at in 0..1000 {
        let mut csr = template.clone();
        csr.metadata.name = Some(format!("a-{at}"));
        csr.metadata.uid = csr.metadata.name.clone();
        pending.apply(&csr);
    }
    pending.apply(&request("z", "node-1", &["node-1"]));
    assert_eq!((names(&pending)[0], pending.iter().count()), ("z", MAX_MALFORMED + 1));
    // A user who is no kubelet cannot fill the place of Nodes.
    let mut csr = template;
    csr.spec.username = Some("system:serviceaccount:a:b".to_owned());
    csr.metadata.uid = Some("b".to_owned());
    pending.apply(&csr);
    assert_eq!(pending.iter().count(), MAX_MALFORMED + 1);
}

#[test]
fn lists_again_when_nodes_were_left_out() {
    let mut pending = PendingRequests::default();
    let template = request("r", "node", &["node"]);
    let of = |at: usize| {
        let mut csr = template.clone();
        csr.metadata.uid = Some(format!("{at}"));
        csr
    };
    let parsed = KubeletRequest::parse(&template).expect("a request");
    for at in 0..MAX_NODES {
        let one = PendingRequest {
            name: at.to_string(),
            uid: at.to_string(),
            created: None,
            request: Ok(KubeletRequest { node: format!("n{at}"), ..parsed.clone() }),
        };
        pending.by_node.insert(format!("n{at}"), vec![one]);
    }
    pending.apply(&of(MAX_NODES));
    assert!(!pending.by_node.contains_key("node") && !pending.has_room_for_more());
    while pending.by_node.len() >= MAX_NODES / 2 {
        pending.by_node.pop_first();
    }
    assert!(pending.has_room_for_more());
}
