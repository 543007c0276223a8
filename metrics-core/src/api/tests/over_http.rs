//! Responses over HTTP: a body must not depend on how it is polled.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::memory::InMemoryRows;
use super::{BASE, PROTOBUF, get};
use crate::api::{Api, ApiConfig, request_info};
use crate::memory::MemoryBudget;

/// The bytes that a connection takes before its peer reads.
const CONNECTION: usize = 16 << 10;

/// Returns what a client receives from `api` at `uri`.
async fn receive(api: Arc<Api>, uri: &str, accept: &str, is_http2: bool) -> Bytes {
    let (client, server) = tokio::io::duplex(CONNECTION);
    let (client, server) = (TokioIo::new(client), TokioIo::new(server));
    let service = service_fn(move |request: http::Request<Incoming>| {
        let (parts, _) = request.into_parts();
        let response = api.handle_at(&parts, &request_info(&parts.method, &parts.uri), super::NOW_NS);
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let request =
        http::Request::get(format!("http://a{uri}")).header("accept", accept).body(Empty::<Bytes>::new());
    let response = if is_http2 {
        let connection =
            hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(server, service);
        tokio::spawn(connection);
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), client).await.unwrap();
        tokio::spawn(connection);
        sender.send_request(request.unwrap()).await
    } else {
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(server, service));
        let (mut sender, connection) = hyper::client::conn::http1::handshake(client).await.unwrap();
        tokio::spawn(connection);
        sender.send_request(request.unwrap()).await
    };
    response.unwrap().into_body().collect().await.unwrap().to_bytes()
}

#[tokio::test(start_paused = true)]
async fn responses_of_any_length_are_complete_over_http() {
    let budget = MemoryBudget::new(64 << 20);
    let rows = Arc::new(InMemoryRows::many(4_000));
    for (accept, max_encoded_list_bytes) in [("application/json", 0), (PROTOBUF, 0), (PROTOBUF, 1 << 30)] {
        let config = ApiConfig { max_encoded_list_bytes, ..ApiConfig::default() };
        let api = Arc::new(Api::with_memory(rows.clone(), config, budget.clone()));
        for query in ["", "?limit=1", "?limit=300", "?labelSelector=app%3Dnone"] {
            let uri = format!("{BASE}/pods{query}");
            let expected = get(&api, &uri, accept).bytes();
            for is_http2 in [false, true] {
                let received = receive(api.clone(), &uri, accept, is_http2);
                let received = tokio::time::timeout(Duration::from_secs(60), received).await;
                assert!(received.is_ok_and(|received| received == expected), "{uri} {accept} {is_http2}");
                assert_eq!(budget.reserved(), 0, "{uri} {accept} {is_http2}");
            }
        }
    }
}
