//! A stand-in for a replica of metrics-core: it serves the Metrics API and the report with the certificate of the Secret.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use parking_lot::RwLock;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::error::{Doing as _, Result};
use crate::testbed::tls;

/// The path of metrics-core's report.
const REPORT: &str = "/report";

/// The certificate that the replicas of a namespace serve. metrics-core reads its Secret, too, so a change needs no restart.
#[derive(Clone, Debug, Default)]
pub(super) struct Serving(Arc<RwLock<(String, Option<Arc<CertifiedKey>>)>>);

impl Serving {
    /// Takes over certificate and key (PEM).
    pub(super) fn set(&self, certificate: &str, key: &str) -> Result<()> {
        if self.0.read().0 == certificate {
            return Ok(());
        }
        let key = any_supported_type(&tls::key(key)?).map_err(tls::invalid)?;
        let certified = CertifiedKey::new(tls::chain(certificate)?, key);
        *self.0.write() = (certificate.to_owned(), Some(Arc::new(certified)));
        Ok(())
    }

    /// Whether there is a certificate to serve.
    pub(super) fn is_set(&self) -> bool {
        self.0.read().1.is_some()
    }
}

impl ResolvesServerCert for Serving {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.read().1.clone()
    }
}

/// A running replica; it stops when this is dropped.
pub(super) struct Replica(JoinHandle<()>);

impl Drop for Replica {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Replica {
    /// Starts a replica on a pod's address.
    pub(super) async fn start(address: IpAddr, port: u16, serving: &Serving) -> Result<Self> {
        let address = SocketAddr::new(address, port);
        let listener = TcpListener::bind(address).await.doing(|| format!("listen on {address}"))?;
        let config =
            ServerConfig::builder().with_no_client_auth().with_cert_resolver(Arc::new(serving.clone()));
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let mut connections = tokio::task::JoinSet::new();
        Ok(Self(tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                connections.spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        let service =
                            service_fn(|request| async move { Ok::<_, Infallible>(respond(&request)) });
                        let connection = hyper::server::conn::http1::Builder::new();
                        let _ = connection.serve_connection(TokioIo::new(stream), service).await;
                    }
                });
                while connections.try_join_next().is_some() {}
            }
        })))
    }
}

/// Responds as a healthy metrics-core of a cluster with one node does.
fn respond(request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let body = content(request.uri().path(), &jiff::Timestamp::now().to_string());
    let mut response = Response::new(Full::new(Bytes::from(body.clone().unwrap_or_default().to_string())));
    if body.is_none() {
        *response.status_mut() = hyper::StatusCode::NOT_FOUND;
    }
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert("content-type", json);
    response
}

fn content(path: &str, now: &str) -> Option<Value> {
    if path == REPORT {
        return Some(json!({
            "started": now, "now": now, "lastFrontProxyRequest": now, "scrapes": [],
            "nodes": {"known": 1, "covered": 1, "failing": 0},
        }));
    }
    let rest = path.strip_prefix("/apis/metrics.k8s.io/")?;
    let version = rest.split('/').next()?;
    let group = format!("metrics.k8s.io/{version}");
    let resource = |name: &str, kind: &str, namespaced: bool| json!({"name": name, "singularName": "", "kind": kind, "namespaced": namespaced, "verbs": ["get", "list"]});
    Some(match rest.rsplit('/').next()? {
        "nodes" => json!({"kind": "NodeMetricsList", "apiVersion": group, "metadata": {}, "items": [{
            "metadata": {"name": super::NODE, "creationTimestamp": now}, "timestamp": now, "window": "15s",
            "usage": {"cpu": "100m", "memory": "1Gi"},
        }]}),
        "pods" => json!({"kind": "PodMetricsList", "apiVersion": group, "metadata": {}, "items": []}),
        _ => json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group, "resources": [
            resource("nodes", "NodeMetrics", false), resource("pods", "PodMetrics", true),
        ]}),
    })
}
