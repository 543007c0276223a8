//! Fuzz targets for the inputs that metrics-core reads from outside, with the invariants that must hold for any
//! input.
//!
//! Each target takes arbitrary bytes and returns a hash of the outcome, so that a fuzzer without coverage
//! information can recognize new inputs. `metrics-core/tests/fuzz` runs the same functions on stable Rust.

mod node;
mod request_info;
mod scrapes;
mod session;
mod store;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use hyper::body::Body;
use metrics_core::api::{Api, ApiConfig, request_info};
use metrics_core::ingest::decode::{
    BadSeries, ContainerKey, DecodeOptions, ExpositionFormat, Metric, Sample, SampleSink,
};
use metrics_core::model::labels::Labels;
use metrics_core::model::rows::{
    Change, ChangeQuery, ContainerRow, Expired, Lookup, NodeRow, Pick, PodRow, Progress, Rows, TwoPassReader,
    Usage,
};
use metrics_core::server::authentication::trust::{FromConfigMap, FrontProxy, LiveTrust};
use metrics_core::server::authentication::{
    Anchors, AuthenticationError, Authenticator, ClientConnection, CredentialMetrics,
};

pub use self::request_info::request_info as request_attributes;
pub use self::scrapes::scrapes;
pub use self::session::session;
pub use self::store::store;

fn outcome(of: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

/// Returns the order of magnitude; exact numbers would make each input look new.
fn size(of: usize) -> u32 {
    of.checked_ilog2().map_or(0, |log| log + 1)
}

#[derive(Default)]
struct Count(u32);

impl Count {
    fn take(&mut self, metric: Metric, sample: Sample) {
        // The store converts a start time to a timestamp and uses u64::MAX as "none".
        assert!(
            sample.value < u64::MAX && (metric != Metric::StartTime || i64::try_from(sample.value).is_ok())
        );
        self.0 += 1;
    }
}

impl SampleSink for Count {
    fn node(&mut self, metric: Metric, sample: Sample) -> Result<(), BadSeries> {
        self.take(metric, sample);
        Ok(())
    }

    fn container(&mut self, metric: Metric, key: &ContainerKey<'_>, sample: Sample) -> Result<(), BadSeries> {
        assert!(!key.namespace.is_empty() && !key.pod.is_empty() && !key.container.is_empty());
        self.take(metric, sample);
        Ok(())
    }
}

/// The body of a kubelet's `/metrics/resource`.
pub fn decode(body: &[u8]) -> u64 {
    let reports = [ExpositionFormat::Text, ExpositionFormat::OpenMetrics].map(|format| {
        let mut count = Count::default();
        let options = DecodeOptions { format, default_timestamp_ns: 1 };
        let report = metrics_core::ingest::decode::decode(body, options, &mut count);
        assert_eq!(report.accepted, count.0);
        // Each series needs a line of its own.
        let lines = body.split(|byte| *byte == b'\n').count();
        let found = report.accepted as usize + report.bad.iter().map(|count| *count as usize).sum::<usize>();
        assert!(found <= lines);
        (size(report.accepted as usize), report.bad.map(|count| size(count as usize)))
    });
    outcome(reports)
}

/// A kubelet's HTTP response: its header section and the chunks of its body, whole and in pieces. The first byte is
/// the size of a piece.
pub fn response(input: &[u8]) -> u64 {
    let Some((step, bytes)) = input.split_first() else { return 0 };
    outcome(metrics_core::ingest::scrape::fuzzing::response(bytes, usize::from(*step).max(1)))
}

/// A gzip body.
pub fn inflate(wire: &[u8]) -> u64 {
    outcome(metrics_core::ingest::scrape::fuzzing::inflate(wire))
}

/// Two nodes and four pods.
struct Few(Labels);

const VERSION: u64 = 1 << 40;
const CONTAINERS: [ContainerRow<'static>; 1] = [ContainerRow {
    name: "main",
    usage: Usage { cpu_nanocores: 1_234_567, memory_bytes: 4096, swap_bytes: Some(1) },
}];
const PODS: [(&str, &str); 4] = [("a", "x"), ("a", "y"), ("b", "x"), ("c", "z")];

impl Few {
    fn row<'a>(&'a self, name: &'a str) -> NodeRow<'a> {
        NodeRow {
            name,
            labels: &self.0,
            version: VERSION - 1,
            timestamp_ns: 1_000_000_000,
            window_ns: 15_012_000_000,
            usage: CONTAINERS[0].usage,
        }
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

    fn nodes(
        &self,
        after: Option<&str>,
        pick: &mut dyn FnMut(&str, &Labels) -> Pick,
        visit: &mut dyn FnMut(&NodeRow<'_>) -> ControlFlow<()>,
    ) {
        for name in ["n1", "n2"].into_iter().filter(|name| after.is_none_or(|after| *name > after)) {
            match pick(name, &self.0) {
                Pick::Take if visit(&self.row(name)).is_break() => return,
                Pick::Take | Pick::Skip => {}
                Pick::End => return,
            }
        }
    }

    fn pod(&self, namespace: &str, name: &str, visit: &mut dyn FnMut(&PodRow<'_>)) -> Lookup {
        let mut found = Lookup::Absent;
        self.pods(Some(namespace), None, &mut |_, _| Pick::Take, &mut |row| {
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
        pick: &mut dyn FnMut((&str, &str), &Labels) -> Pick,
        visit: &mut dyn FnMut(&PodRow<'_>) -> ControlFlow<()>,
    ) {
        for (of, name) in PODS {
            if namespace.is_none_or(|namespace| namespace == of)
                && after.is_none_or(|after| (of, name) > after)
            {
                match pick((of, name), &self.0) {
                    Pick::Take => {}
                    Pick::Skip => continue,
                    Pick::End => return,
                }
                let row = PodRow {
                    namespace: of,
                    name,
                    labels: &self.0,
                    version: VERSION - 2,
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

    fn two_pass_reader(self: Arc<Self>) -> Box<dyn TwoPassReader> {
        Box::new(Unused)
    }

    fn last_known_node(&self, _: &str, _: &Labels, _: &mut dyn FnMut(&NodeRow<'_>)) {}

    fn last_known_pod(&self, _: (&str, &str), _: &Labels, _: &mut dyn FnMut(&PodRow<'_>)) {}

    fn version(&self) -> u64 {
        VERSION
    }

    fn next_change(
        &self,
        query: ChangeQuery<'_>,
        _: &mut dyn FnMut((&str, &str), &Labels) -> bool,
        _: &mut dyn FnMut(Change<'_>),
    ) -> Result<Progress, Expired> {
        if query.from == VERSION { Ok(Progress { until: VERSION, more: false }) } else { Err(Expired) }
    }
}

/// The lists are too short to be read twice.
struct Unused;

impl TwoPassReader for Unused {
    fn nodes(
        &mut self,
        _: Option<&str>,
        _: &mut dyn FnMut(&str, &Labels) -> Pick,
        _: &mut dyn FnMut(&NodeRow<'_>) -> ControlFlow<()>,
    ) {
        unreachable!();
    }

    fn pods(
        &mut self,
        _: Option<&str>,
        _: Option<(&str, &str)>,
        _: &mut dyn FnMut((&str, &str), &Labels) -> Pick,
        _: &mut dyn FnMut(&PodRow<'_>) -> ControlFlow<()>,
    ) {
        unreachable!();
    }

    fn kept_bytes(&self) -> usize {
        0
    }

    fn replay_nodes(&mut self, _: &mut dyn FnMut(&NodeRow<'_>) -> ControlFlow<()>) {}

    fn replay_pods(&mut self, _: &mut dyn FnMut(&PodRow<'_>) -> ControlFlow<()>) {}
}

static API: LazyLock<Api> = LazyLock::new(|| {
    let labels = [("app", "web"), ("n", "7")].into_iter().collect();
    Api::new(Arc::new(Few(labels)), ApiConfig::default().with_watches(256))
});

/// A watch sets a timer.
static TIME: LazyLock<Option<tokio::runtime::Runtime>> =
    LazyLock::new(|| tokio::runtime::Builder::new_current_thread().enable_time().build().ok());

/// A client's request: path and query (selectors, limit, continue, watch) in the first line, Accept in the second.
pub fn api(input: &[u8]) -> u64 {
    let Ok(input) = std::str::from_utf8(input) else { return 0 };
    let (target, accept) = input.split_once('\n').unwrap_or((input, ""));
    // Most inputs should reach the selectors.
    let target = match target.strip_prefix('?') {
        Some(query) => format!("/apis/metrics.k8s.io/v1beta1/pods?{query}"),
        None => target.to_owned(),
    };
    let Ok(request) = http::Request::get(target).header("accept", accept).body(()) else { return 1 };
    let (parts, ()) = request.into_parts();
    let info = request_info(&parts.method, &parts.uri);
    let response = API.handle(&parts, &info);
    let status = response.status().as_u16();
    assert!(status < 500, "{status}");
    let json = response.headers().get("content-type").is_some_and(|kind| kind == "application/json");
    let _time = TIME.as_ref().map(tokio::runtime::Runtime::enter);
    let mut body = pin!(response.into_body());
    let mut bytes = Vec::new();
    // A watch has no end; the frames that are ready at once are enough.
    while let Poll::Ready(Some(frame)) = body.as_mut().poll_frame(&mut Context::from_waker(Waker::noop())) {
        if let Some(data) = frame.ok().and_then(|frame| frame.into_data().ok()) {
            bytes.extend_from_slice(&data);
        }
        assert!(bytes.len() < 1 << 20);
    }
    if json && !bytes.is_empty() {
        let whole = if status == 200 && info.verb == "watch" {
            bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).all(is_json)
        } else {
            is_json(&bytes)
        };
        assert!(whole, "{}", String::from_utf8_lossy(&bytes));
    }
    outcome((status, info.verb, json, size(bytes.len())))
}

fn is_json(text: &[u8]) -> bool {
    serde_json::from_slice::<serde_json::Value>(text).is_ok()
}

/// The values of ConfigMap `kube-system/extension-apiserver-authentication`, separated by zero bytes.
pub fn config_map(input: &[u8]) -> u64 {
    let Ok(input) = std::str::from_utf8(input) else { return 0 };
    let keys = [
        "requestheader-allowed-names",
        "requestheader-username-headers",
        "requestheader-group-headers",
        "requestheader-extra-headers-prefix",
        "requestheader-uid-headers",
        "client-ca-file",
        "requestheader-client-ca-file",
    ];
    let data: BTreeMap<_, _> =
        keys.into_iter().map(str::to_owned).zip(input.split('\0').map(str::to_owned)).collect();
    let (read, findings) = FromConfigMap::default().read(&data);
    for finding in &findings {
        assert!(!finding.to_string().is_empty());
    }
    // Reading the same values again keeps the valid ones.
    assert_eq!(read.read(&data).0, read);
    outcome((
        findings.iter().map(std::mem::discriminant).collect::<Vec<_>>(),
        read == FromConfigMap::default(),
    ))
}

/// The front proxy's certificate, signed by the trusted CA. Its private key was discarded.
const AGGREGATOR: &[u8] = include_bytes!("../aggregator.der");

static AUTHENTICATOR: LazyLock<Option<Authenticator>> = LazyLock::new(|| {
    let anchors = Anchors::from_pem(include_bytes!("../front-proxy-ca.pem")).ok()?;
    let trust = LiveTrust::new(false);
    trust.set_front_proxy(FrontProxy {
        anchors,
        allowed_names: vec!["aggregator".into()],
        username_headers: vec!["X-Remote-User".into()],
        group_headers: vec!["X-Remote-Group".into()],
        extra_prefixes: vec!["x-remote-extra-".into()],
        uid_headers: vec!["X-Remote-Uid".into()],
    });
    Some(Authenticator::new(trust, None, Duration::ZERO, CredentialMetrics::default()))
});

/// A client's credentials: header lines, an empty line, and its certificate (DER) if any.
pub fn credentials(input: &[u8]) -> u64 {
    let Some(authenticator) = &*AUTHENTICATOR else { panic!("the CA certificate cannot be parsed") };
    let end = input.windows(2).position(|pair| pair == b"\n\n").unwrap_or(input.len());
    let (lines, certificate) = (&input[..end], input.get(end + 2..).unwrap_or_default());
    let mut request = http::Request::get("/");
    for line in lines.split(|byte| *byte == b'\n') {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        let name = http::HeaderName::from_bytes(name);
        let (Ok(name), Ok(value)) = (name, http::HeaderValue::from_bytes(value)) else { continue };
        request = request.header(name, value);
    }
    let Ok(request) = request.body(()) else { return 1 };
    let (mut parts, ()) = request.into_parts();
    let chain = if certificate.is_empty() { Vec::new() } else { vec![certificate.to_vec().into()] };
    let peer = ClientConnection::new(std::net::Ipv4Addr::LOCALHOST.into(), chain);
    let result = {
        let authentication = pin!(authenticator.authenticate(&mut parts, &peer));
        let Poll::Ready(result) = authentication.poll(&mut Context::from_waker(Waker::noop())) else {
            panic!("no review should be needed")
        };
        result
    };
    for name in parts.headers.keys().map(http::HeaderName::as_str) {
        let reserved = ["x-remote-user", "x-remote-group", "x-remote-uid", "authorization"].contains(&name);
        assert!(!reserved && !name.starts_with("x-remote-extra-"), "{name} was not removed");
    }
    match &result {
        // No other client is authenticated.
        Ok(user) => assert!(user.is_anonymous() || certificate == AGGREGATOR, "{user:?}"),
        Err(AuthenticationError::Unauthorized(refused)) => {
            assert!(refused.iter().all(|refusal| refusal.detail.len() < 4096));
        }
        Err(AuthenticationError::TooManyReviews) => panic!("no review should be needed"),
    }
    match result {
        Ok(user) => outcome((
            user.is_anonymous(),
            user.uid.is_empty(),
            size(user.groups.len()),
            size(user.extra.len()),
        )),
        Err(AuthenticationError::Unauthorized(refused)) => {
            outcome(refused.iter().map(|refusal| refusal.reason).collect::<Vec<_>>())
        }
        Err(AuthenticationError::TooManyReviews) => 2,
    }
}
