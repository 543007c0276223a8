//! A client's request: path, query (selectors, limit, continue) and Accept.
#![no_main]

use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Waker};

use http_body::Body;
use libfuzzer_sys::fuzz_target;
use metrics_core::labels::Labels;
use metrics_core::rows::{ContainerRow, Lookup, NodeRow, PodRow, Rows, Usage};
use metrics_core::serve::{Api, Config, request_info};

/// Two nodes and four pods.
struct Few(Labels);

const CONTAINERS: [ContainerRow<'static>; 1] = [ContainerRow {
    name: "main",
    usage: Usage { cpu_nanocores: 1_234_567, memory_bytes: 4096, swap_bytes: Some(1) },
}];
const PODS: [(&str, &str); 4] = [("a", "x"), ("a", "y"), ("b", "x"), ("c", "z")];

impl Few {
    fn row<'a>(&'a self, name: &'a str) -> NodeRow<'a> {
        let usage = CONTAINERS[0].usage;
        NodeRow { name, labels: &self.0, timestamp_ns: 1_000_000_000, window_ns: 15_012_000_000, usage }
    }
}

impl Rows for Few {
    fn node(&self, name: &str, visit: &mut dyn FnMut(&NodeRow<'_>)) -> Lookup {
        if !["n1", "n2"].contains(&name) {
            return Lookup::Absent;
        }
        visit(&self.row(name));
        Lookup::Found
    }

    fn nodes(&self, after: Option<&str>, visit: &mut dyn FnMut(&NodeRow<'_>) -> ControlFlow<()>) {
        let rest = ["n1", "n2"].into_iter().filter(|name| after.is_none_or(|after| *name > after));
        let _ = rest.map(|name| visit(&self.row(name))).find(ControlFlow::is_break);
    }

    fn pod(&self, namespace: &str, name: &str, visit: &mut dyn FnMut(&PodRow<'_>)) -> Lookup {
        let mut found = Lookup::Absent;
        self.pods(Some(namespace), None, &mut |row| {
            if row.name == name {
                visit(row);
                found = Lookup::Found;
            }
            ControlFlow::Continue(())
        });
        found
    }

    fn pods(
        &self,
        namespace: Option<&str>,
        after: Option<(&str, &str)>,
        visit: &mut dyn FnMut(&PodRow<'_>) -> ControlFlow<()>,
    ) {
        for (of, name) in PODS {
            if namespace.is_none_or(|namespace| namespace == of) && after.is_none_or(|after| (of, name) > after) {
                let row = PodRow {
                    namespace: of,
                    name,
                    labels: &self.0,
                    timestamp_ns: 1_000_000_000,
                    window_ns: 15_000_000_000,
                    containers: &CONTAINERS,
                };
                if visit(&row).is_break() {
                    return;
                }
            }
        }
    }
}

static API: LazyLock<Api> = LazyLock::new(|| {
    let labels = [("app", "web"), ("n", "7")].into_iter().collect();
    Api::new(Arc::new(Few(labels)), Config { swap: true })
});

fuzz_target!(|input: &str| {
    let (target, accept) = input.split_once('\n').unwrap_or((input, ""));
    // Most of what is tried should get as far as the selectors.
    let target = match target.strip_prefix('?') {
        Some(query) => format!("/apis/metrics.k8s.io/v1beta1/pods?{query}"),
        None => target.to_owned(),
    };
    let Ok(request) = http::Request::get(target).header("accept", accept).body(()) else { return };
    let (parts, ()) = request.into_parts();
    let info = request_info(&parts.method, &parts.uri);
    let response = API.handle(&parts, &info);
    let json = response.headers().get("content-type").is_some_and(|kind| kind == "application/json");
    let mut body = pin!(response.into_body());
    let mut bytes = Vec::new();
    // A watch has no end; what is there at once is enough.
    while let Poll::Ready(Some(frame)) = body.as_mut().poll_frame(&mut Context::from_waker(Waker::noop())) {
        if let Some(data) = frame.ok().and_then(|frame| frame.into_data().ok()) {
            bytes.extend_from_slice(&data);
        }
        assert!(bytes.len() < 1 << 20);
    }
    let watch = info.verb == "watch";
    if json && !watch && !bytes.is_empty() {
        assert!(serde_json::from_slice::<serde_json::Value>(&bytes).is_ok());
    }
});
