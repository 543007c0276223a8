use std::time::Duration;

use super::Directory;
use crate::ingest::discover::Node;
use crate::model::labels::Labels;

fn node(name: &str, uid: &str) -> Node {
    Node {
        name: name.into(),
        uid: uid.into(),
        labels: Labels::default(),
        addresses: [].into(),
        identities: [].into(),
        port: 1,
        path: "/".into(),
        ready: true,
        cpu_millicores: 0,
    }
}

fn pods(directory: &Directory<()>, namespace: Option<&str>, after: Option<(&str, &str)>) -> Vec<String> {
    directory
        .pods()
        .iter_after(namespace, after)
        .map(|(namespace, name, _)| format!("{namespace}/{name}"))
        .collect()
}

fn apply(directory: &Directory<()>, key: &str, uid: &str) {
    let (namespace, name) = key.split_once('/').unwrap();
    directory.apply_pod(namespace, name, uid, [("app", "x")].into_iter().collect());
}

#[test]
fn iterates_over_pods_in_order_from_any_key() {
    let directory = Directory::<()>::new();
    for key in ["b/2", "a/9", "b/10", "c/1", "a-b/1"] {
        apply(&directory, key, "u");
    }
    assert_eq!(pods(&directory, None, None), ["a/9", "a-b/1", "b/10", "b/2", "c/1"]);
    assert_eq!(pods(&directory, None, Some(("a", "9"))), ["a-b/1", "b/10", "b/2", "c/1"]);
    assert_eq!(pods(&directory, None, Some(("b", "1"))), ["b/10", "b/2", "c/1"]);
    assert_eq!(pods(&directory, None, Some(("bb", ""))), ["c/1"]);
    assert_eq!(pods(&directory, Some("b"), Some(("b", "10"))), ["b/2"]);
    assert_eq!(pods(&directory, Some("b"), Some(("a", "z"))), ["b/10", "b/2"]);
    assert!(pods(&directory, Some("b"), Some(("c", "0"))).is_empty());
    assert!(pods(&directory, Some("x"), None).is_empty());
    assert_eq!(directory.pods().len(), 5);
}

#[test]
fn a_relist_hides_no_pod_and_removes_deleted_ones() {
    let directory = Directory::<()>::new();
    directory.begin_pod_list();
    apply(&directory, "a/1", "u1");
    apply(&directory, "a/2", "u2");
    assert!(!directory.pods_synced.load(std::sync::atomic::Ordering::Relaxed));
    directory.end_pod_list();
    assert_eq!(directory.pods().get("a", "1").unwrap().since_ms, 0);
    directory.begin_pod_list();
    apply(&directory, "a/2", "u2");
    assert_eq!(pods(&directory, None, None), ["a/1", "a/2"], "nothing is missing while the list runs");
    // The list is interrupted and starts again.
    directory.begin_pod_list();
    apply(&directory, "a/3", "u3");
    directory.end_pod_list();
    assert_eq!(pods(&directory, None, None), ["a/3"]);
    assert!(directory.pods().get("a", "3").unwrap().since_ms > 0);
    directory.begin_pod_list();
    directory.end_pod_list();
    assert!((directory.pods().len() == 0) && directory.pods().by_namespace.is_empty());
    assert_eq!(directory.interner.lock().len(), 0);
}

#[test]
fn pods_of_one_template_share_their_labels() {
    let directory = Directory::<()>::new();
    apply(&directory, "a/1", "u1");
    apply(&directory, "a/2", "u2");
    apply(&directory, "a/2", "u2");
    let pods = directory.pods();
    assert!(std::sync::Arc::ptr_eq(&pods.get("a", "1").unwrap().labels, &pods.get("a", "2").unwrap().labels));
    drop(pods);
    directory.delete_pod("a", "1");
    assert_eq!(directory.interner.lock().len(), 1);
    directory.apply_pod("a", "2", "u2", Labels::default());
    assert!(directory.pods().get("a", "2").unwrap().labels.is_empty());
    assert_eq!(directory.interner.lock().len(), 1);
    directory.delete_pod("a", "2");
    directory.delete_pod("a", "2");
    assert_eq!(directory.interner.lock().len(), 0);
}

#[test]
fn a_new_uid_resets_since() {
    let directory = Directory::<()>::new();
    apply(&directory, "a/1", "0c4f3a7e-9d5b-4b6e-8a44-d1b0f1d1a001");
    assert_eq!(directory.pods().get("a", "1").unwrap().since_ms, 0);
    apply(&directory, "a/1", "0c4f3a7e-9d5b-4b6e-8a44-d1b0f1d1a001");
    assert_eq!(directory.pods().get("a", "1").unwrap().since_ms, 0);
    apply(&directory, "a/1", "0c4f3a7e-9d5b-4b6e-8a44-d1b0f1d1a002");
    assert!(directory.pods().get("a", "1").unwrap().since_ms > 0);
    assert_eq!(directory.pods().len(), 1);
}

#[tokio::test]
async fn reports_node_changes_once_and_ignores_heartbeats() {
    let directory = Directory::<()>::new();
    directory.begin_node_list();
    directory.apply_node(node("b", "1"));
    directory.apply_node(node("a", "1"));
    directory.end_node_list();
    let changed = |names: &std::collections::BTreeSet<std::sync::Arc<str>>| {
        names.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(changed(&directory.changed_nodes().await), ["a", "b"]);
    directory.apply_node(node("a", "1"));
    let none = tokio::time::timeout(Duration::from_millis(20), directory.changed_nodes()).await;
    assert!(none.is_err());
    directory.apply_node(node("a", "2"));
    assert_eq!(changed(&directory.changed_nodes().await), ["a"]);
    directory.begin_node_list();
    directory.apply_node(node("a", "2"));
    directory.end_node_list();
    assert_eq!(changed(&directory.changed_nodes().await), ["b"]);
    directory.delete_node("a");
    assert_eq!(changed(&directory.changed_nodes().await), ["a"]);
    assert!((directory.nodes().len() == 0));
}

#[test]
fn rebuilding_maps_after_a_list_keeps_all_pods() {
    let directory = Directory::<()>::new();
    let all: Vec<_> = (0..3).flat_map(|of| (10..60).map(move |name| format!("n{of}/{name}"))).collect();
    for list in 0..2 {
        directory.begin_pod_list();
        for key in &all {
            apply(&directory, key, "u");
        }
        directory.end_pod_list();
        assert_eq!(pods(&directory, None, None), all, "{list}");
    }
    apply(&directory, "n1/105", "u");
    assert_eq!(pods(&directory, Some("n1"), Some(("n1", "10"))).first().unwrap(), "n1/105");
    assert_eq!(directory.pods().len(), all.len() + 1);
}
