//! A server in this process, and clients for it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::request::Parts;
use http::{Method, Request, Response, Uri, Version};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s_openapi::api::authorization::v1::SubjectAccessReviewSpec;
use metrics_core::ingest::scrape::Findings;
use metrics_core::ingest::store::{self, Store, StoreDirectory};
use metrics_core::report;
use metrics_core::server::authentication::trust::{FrontProxy, LiveTrust};
use metrics_core::server::authentication::{
    self, Anchors, Audience, Authenticator, ReviewError, TokenReviewer, TokenStatus, UserInfo,
};
use metrics_core::server::authorization::{AccessReviewer, AlwaysAllow, Authorizer, Decision};
use metrics_core::server::listen::{
    self, ApiHandler, BoxedBody, Chain, Failure, Handlers, Limits, health::Health,
};
use metrics_core::server::request_info::RequestInfo;
use metrics_core::server::reviews::cache::Hasher;
use metrics_core::server::tls::{self, ServingCertificate};
use prometheus_client::registry::Registry;
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_rustls::client::TlsStream;

/// A certificate authority.
pub(crate) struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

impl Ca {
    pub(crate) fn new() -> Self {
        Self::named("a CA")
    }

    pub(crate) fn named(common_name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A client's certificate with this common name.
    pub(crate) fn client(&self, common_name: &str) -> CertifiedKey {
        self.client_but(common_name, |_| {})
    }

    /// Like [`Self::client`], with a change.
    pub(crate) fn client_but(
        &self,
        common_name: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> CertifiedKey {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.distinguished_name.push(DnType::CommonName, common_name);
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        CertifiedKey::new(
            vec![certificate.der().clone()],
            tls::provider().key_provider.load_private_key(key).unwrap(),
        )
    }

    pub(crate) fn anchors(&self) -> Anchors {
        Anchors::from_pem(self.pem.as_bytes()).unwrap()
    }

    pub(crate) fn front_proxy(&self, allowed_names: &[&str]) -> FrontProxy {
        FrontProxy {
            anchors: self.anchors(),
            allowed_names: allowed_names.iter().map(|name| (*name).to_owned()).collect(),
            username_headers: vec!["X-Remote-User".into()],
            group_headers: vec!["X-Remote-Group".into()],
            extra_prefixes: vec!["x-remote-extra-".into()],
            uid_headers: vec!["X-Remote-Uid".into()],
        }
    }
}

/// Returns a serving certificate and its key in PEM.
pub(crate) fn serving_pair() -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["metrics-core".to_owned()]).unwrap().self_signed(&key).unwrap();
    (certificate.pem(), key.serialize_pem())
}

/// A fake kube-apiserver. It allows `jane` and `reader` everything, `slow` after a second, and `whole` if UID, groups
/// and extra arrive complete. Token `good` is valid for kube-apiserver, `bound` for the report.
struct ApiServer;

impl AccessReviewer for ApiServer {
    fn review(&self, spec: SubjectAccessReviewSpec) -> BoxFuture<'static, Result<Decision, ReviewError>> {
        Box::pin(async move {
            let user = spec.user.unwrap_or_default();
            match user.as_str() {
                "slow" => tokio::time::sleep(Duration::from_secs(1)).await,
                "whole" => {
                    let extra = spec.extra.unwrap_or_default();
                    let extra: Vec<_> =
                        extra.iter().map(|(key, values)| (key.as_str(), values.join("+"))).collect();
                    let received = format!(
                        "{} {} {extra:?}",
                        spec.uid.unwrap_or_default(),
                        spec.groups.unwrap_or_default().join("+")
                    );
                    let allowed = received == WHOLE;
                    return Ok(Decision { allowed, reason: received });
                }
                "broken" => return Err(ReviewError::Failed("no route to host".into())),
                _ => {}
            }
            Ok(Decision {
                allowed: ["jane", "reader", "slow"].contains(&user.as_str()),
                reason: String::new(),
            })
        })
    }
}

impl TokenReviewer for ApiServer {
    fn review(
        &self,
        token: String,
        audience: Audience,
    ) -> BoxFuture<'static, Result<TokenStatus, ReviewError>> {
        Box::pin(async move {
            Ok(match (token.as_str(), audience) {
                ("good", Audience::ApiServer) | ("bound", Audience::Report) => {
                    TokenStatus::User(UserInfo { name: "reader".into(), ..UserInfo::default() })
                }
                _ => TokenStatus::Rejected(None),
            })
        })
    }
}

/// UID, groups and extra of `whole`.
pub(crate) const WHOLE: &str =
    r#"7-a dev+ops+system:authenticated [("other", "x"), ("scopes/all", "a+b, c")]"#;

/// Responds with the headers of the request, so that tests see what reaches the API.
struct Echo;

impl ApiHandler for Echo {
    fn request_info(&self, method: &Method, uri: &Uri) -> RequestInfo {
        let is_resource_request = uri.path().starts_with("/apis/");
        let (resource, api_group) = if is_resource_request { ("nodes", "metrics.k8s.io") } else { ("", "") };
        RequestInfo {
            is_resource_request,
            path: uri.path().into(),
            verb: match uri.path() {
                "/apis/flood" | "/apis/silence" => "watch",
                _ if method == Method::GET => "list",
                _ => "create",
            },
            api_group: api_group.into(),
            resource: resource.into(),
            ..RequestInfo::default()
        }
    }

    fn handle(&self, request: &Parts, _: &RequestInfo) -> Response<BoxedBody> {
        match request.uri.path() {
            "/apis/flood" => return Response::new(Endless(true).boxed_unsync()),
            "/apis/silence" => return Response::new(Endless(false).boxed_unsync()),
            _ => {}
        }
        Response::new(Full::new(Bytes::from(format!("{:?}", request.headers))).boxed_unsync())
    }

    fn failure(&self, _: &Parts, failure: Failure<'_>) -> Response<BoxedBody> {
        let mut response = Response::new(Full::new(Bytes::from(failure.message)).boxed_unsync());
        *response.status_mut() = failure.code.try_into().unwrap();
        response
    }
}

/// A body that always has data, or never.
struct Endless(bool);

impl hyper::body::Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.0 {
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b'x'; 16 << 10])))))
        } else {
            Poll::Pending
        }
    }
}

/// A running server.
pub(crate) struct Port {
    pub address: SocketAddr,
    pub trust: Arc<LiveTrust>,
    pub serving: Arc<ServingCertificate>,
    pub stop: Option<oneshot::Sender<()>>,
    pub ended: tokio::task::JoinHandle<()>,
}

pub(crate) async fn port(limits: Limits) -> Port {
    let trust = LiveTrust::new(false);
    let serving = ServingCertificate::self_signed(false).unwrap();
    let mut registry = Registry::default();
    let (request_metrics, credentials, connections) = (
        listen::RequestMetrics::default(),
        authentication::CredentialMetrics::default(),
        listen::ConnectionMetrics::default(),
    );
    request_metrics.register(&mut registry);
    credentials.register(&mut registry);
    connections.register(&mut registry);
    let minute = Duration::from_secs(60);
    let reviewer: Arc<dyn TokenReviewer> = Arc::new(ApiServer);
    let authenticator =
        Authenticator::new(trust.clone(), Some((reviewer, Hasher::new().unwrap())), minute, credentials);
    let paths = ["/livez", "/metrics"].map(str::to_owned);
    let authorizer = Authorizer::new(
        AlwaysAllow::new(&paths).unwrap(),
        Arc::new(ApiServer),
        Hasher::new().unwrap(),
        minute,
        minute,
    );
    let directory = Arc::new(StoreDirectory::new());
    let report = report::ReportSources {
        started: jiff::Timestamp::now(),
        store: Arc::new(Store::new(directory, store::StoreConfig::new(minute))),
        kubelets: Findings::default(),
        connections: connections.clone(),
        serving: serving.clone(),
        watches: report::WatchAges::default(),
        credentials: authenticator.history().clone(),
    };
    let handlers = Handlers {
        authenticator,
        authorizer,
        health: Health::new(),
        registry: Arc::new(registry),
        request_metrics,
        report: Box::new(move || report.report()),
        api: Arc::new(Echo),
    };
    let chain = Chain::new(handlers, &limits, None);
    let policy = tls::TlsPolicy::from_flags("", &[], &[], &mut Vec::new()).unwrap();
    let config = tls::server_config(&policy, serving.clone(), true).unwrap();
    let listener = listen::bind("127.0.0.1".parse().unwrap(), 0).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let ended = tokio::spawn(listen::serve(listener, config, Arc::new(chain), limits, connections, async {
        let _ = stopped.await;
    }));
    Port { address, trust, serving, stop: Some(stop), ended }
}

/// The properties of a client.
#[derive(Clone)]
pub(crate) struct Client {
    pub certificate: Option<Arc<CertifiedKey>>,
    pub http2: bool,
    pub tls13: bool,
}

impl Default for Client {
    fn default() -> Self {
        Self { certificate: None, http2: true, tls13: true }
    }
}

impl Client {
    pub(crate) fn with(certificate: CertifiedKey) -> Self {
        Self { certificate: Some(Arc::new(certificate)), ..Self::default() }
    }

    pub(crate) async fn connect(&self, port: &Port) -> std::io::Result<TlsStream<TcpStream>> {
        let versions: &[&rustls::SupportedProtocolVersion] =
            if self.tls13 { &[&rustls::version::TLS13] } else { &[&rustls::version::TLS12] };
        let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(tls::provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyServer))
            .with_client_cert_resolver(Arc::new(PresentedCertificate(self.certificate.clone())));
        config.alpn_protocols = vec![if self.http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
        let stream = TcpStream::connect(port.address).await?;
        let name = ServerName::try_from("metrics-core").unwrap();
        tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }

    /// Opens a connection for requests.
    pub(crate) async fn open(&self, port: &Port) -> Connection {
        let io = TokioIo::new(self.connect(port).await.unwrap());
        if self.http2 {
            let (sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
            Connection {
                http1: None,
                http2: Some(sender),
                ended: tokio::spawn(async { drop(connection.await) }),
            }
        } else {
            let (sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
            Connection {
                http1: Some(sender),
                http2: None,
                ended: tokio::spawn(async { drop(connection.await) }),
            }
        }
    }

    /// Sends one request on a new connection; returns code and text.
    pub(crate) async fn get(&self, port: &Port, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
        self.open(port).await.get(path, headers).await
    }
}

pub(crate) struct Connection {
    http1: Option<hyper::client::conn::http1::SendRequest<Empty<Bytes>>>,
    http2: Option<hyper::client::conn::http2::SendRequest<Empty<Bytes>>>,
    pub ended: tokio::task::JoinHandle<()>,
}

impl Connection {
    pub(crate) async fn get(&mut self, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
        self.try_get(path, headers).await.unwrap()
    }

    pub(crate) async fn try_get(
        &mut self,
        path: &str,
        headers: &[(&str, &str)],
    ) -> hyper::Result<(u16, String)> {
        let response = self.begin(path, headers).await?;
        let code = response.status().as_u16();
        let body = response.into_body().collect().await?.to_bytes();
        Ok((code, String::from_utf8_lossy(&body).into_owned()))
    }

    /// Sends a request; the body of the response is not read yet.
    pub(crate) async fn begin(
        &mut self,
        path: &str,
        headers: &[(&str, &str)],
    ) -> hyper::Result<Response<Incoming>> {
        let version = if self.http2.is_some() { Version::HTTP_2 } else { Version::HTTP_11 };
        let mut request = Request::builder().uri(format!("https://metrics-core{path}")).version(version);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Empty::new()).unwrap();
        match (&mut self.http1, &mut self.http2) {
            (Some(sender), _) => sender.send_request(request).await,
            (_, Some(sender)) => sender.send_request(request).await,
            _ => unreachable!(),
        }
    }
}

/// Presents a certificate, whatever CAs the server lists.
#[derive(Debug)]
struct PresentedCertificate(Option<Arc<CertifiedKey>>);

impl rustls::client::ResolvesClientCert for PresentedCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.clone()
    }

    fn has_certs(&self) -> bool {
        self.0.is_some()
    }
}

/// Trusts every server.
#[derive(Debug)]
struct AnyServer;

impl rustls::client::danger::ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        tls::provider().signature_verification_algorithms.supported_schemes()
    }
}
