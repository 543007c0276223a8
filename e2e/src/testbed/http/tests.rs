use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::thread;

use super::*;

/// Serves one connection: returns its address and what the client sent, once it has sent `until`.
fn server(response: &'static str, until: &'static str) -> (SocketAddr, thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let served = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let (mut sent, mut room) = (String::new(), [0; 4096]);
        while !sent.ends_with(until) {
            let count = stream.read(&mut room).unwrap();
            assert!(count > 0, "only {sent:?}");
            sent.push_str(std::str::from_utf8(&room[..count]).unwrap());
        }
        stream.write_all(response.as_bytes()).unwrap();
        sent
    });
    (address, served)
}

fn get(response: &'static str) -> Result<Response> {
    let (address, served) = server(response, "\r\n\r\n");
    let response = Request::get(format!("http://{address}/")).send();
    served.join().unwrap();
    response
}

#[test]
fn removes_the_framing_of_bodies() {
    let chunked = get(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nVary: a\r\nvary: b\r\n\r\n3\r\nabc\r\n2;x\r\nde\r\n0\r\n\r\n",
    );
    let chunked = chunked.unwrap();
    assert_eq!((chunked.status, chunked.body.as_slice()), (200, b"abcde".as_slice()));
    assert_eq!(chunked.header("vary").as_deref(), Some("a, b"));
    assert_eq!(chunked.header("etag"), None);
    let sized = get("HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno").unwrap();
    assert_eq!(sized.text(), "no");
    assert!(sized.ok().unwrap_err().to_string().contains("404: no"));
}

#[test]
fn skips_interim_responses() {
    let response =
        get("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 403 Forbidden\r\na: b: c\r\nContent-Length: 2\r\n\r\nno");
    let response = response.unwrap();
    assert_eq!((response.status, response.header("a").as_deref()), (403, Some("b: c")));
}

#[test]
fn rejects_incomplete_responses() {
    for response in [
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nno",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nno",
        "",
    ] {
        assert!(get(response).is_err(), "{response:?}");
    }
}

#[test]
fn sends_the_target_and_the_headers_unchanged() {
    let (address, served) = server("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "\r\n\r\n");
    let request = Request::new("PUT", format!("http://{address}//a/../b%2Fc?x=%00(y)&z"))
        .header("Content-Length", "0")
        .header("Authorization", "Bearer ")
        .header("X-Remote-Group", "a")
        .header("X-Remote-Group", "b");
    request.send().unwrap();
    let sent = served.join().unwrap();
    assert!(sent.starts_with("PUT //a/../b%2Fc?x=%00(y)&z HTTP/1.1\r\n"), "{sent}");
    for line in
        ["authorization: Bearer \r\n", "x-remote-group: a\r\nx-remote-group: b\r\n", "content-length: 0\r\n"]
    {
        assert!(sent.contains(line), "{line:?} in {sent}");
    }
}

#[test]
fn names_the_request_and_the_cause_in_errors() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = Request::get(format!("https://{address}/x")).send().unwrap_err().to_string();
    assert!(error.starts_with(&format!("GET https://{address}/x: ")) && error.contains("refused"), "{error}");
    assert!(Request::get("https://host.example/").send().unwrap_err().to_string().contains("ADDRESS:PORT"));
}

#[test]
fn uses_http2_if_the_server_offers_it_unless_disabled() {
    use hyper::service::service_fn;
    use hyper_util::server::conn::auto;

    let authority = crate::testbed::pki::Authority::create("test").unwrap();
    let address = [127, 0, 0, 1].into();
    let identity = authority.issue(&crate::testbed::pki::Subject::server("s", &[], &[address])).unwrap();
    let mut config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(tls::chain(&identity.certificate).unwrap(), tls::key(&identity.key).unwrap())
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let Ok(stream) = acceptor.accept(stream).await else { continue };
                let service = service_fn(async |request: hyper::Request<hyper::body::Incoming>| {
                    let text = format!("{:?} {}", request.version(), request.uri().path());
                    Ok::<_, std::convert::Infallible>(hyper::Response::new(Full::new(Bytes::from(text))))
                });
                let _ = auto::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            }
        });
    });
    let request = Request {
        authority: Some(authority.certificate().to_owned()),
        ..Request::get(format!("https://{address}/a/b"))
    };
    assert_eq!(request.send().unwrap().text(), "HTTP/2.0 /a/b");
    let http1 = Request { only_http1: true, ..request.clone() };
    assert_eq!(http1.send().unwrap().text(), "HTTP/1.1 /a/b");
    let other = crate::testbed::pki::Authority::create("other").unwrap();
    let untrusted = Request { authority: Some(other.certificate().to_owned()), ..request.clone() };
    assert!(untrusted.send().unwrap_err().to_string().contains("certificate"));
    assert_eq!(Request { authority: None, ..request }.send().unwrap().status, 200);
}
