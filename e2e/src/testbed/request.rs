//! One HTTPS request from inside a cluster's network, with any certificate and any header.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::command;
use crate::error::{Doing as _, Error, Result};
use crate::testbed::cluster::Cluster;
use crate::testbed::pki::{Identity, write_private};

/// A request; see [`Cluster::https`].
#[derive(Clone, Default)]
pub struct Request {
    /// `https://HOST:PORT/PATH`.
    pub url: String,
    /// The method; GET when empty.
    pub method: String,
    /// Headers as `Name: value`.
    pub headers: Vec<String>,
    /// The body, if any.
    pub body: Option<String>,
    /// The client certificate, if any.
    pub identity: Option<Identity>,
    /// The PEM of the authority that must vouch for the server; `None` takes any certificate.
    pub authority: Option<String>,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Headers, names in lower case, in order.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Request {
    /// A GET that takes any server certificate.
    #[must_use]
    pub fn get(url: impl Into<String>) -> Self {
        Self { url: url.into(), ..Self::default() }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push(format!("{name}: {value}"));
        self
    }

    /// Presents a client certificate.
    #[must_use]
    pub fn identity(mut self, identity: &Identity) -> Self {
        self.identity = Some(identity.clone());
        self
    }
}

impl Response {
    /// The first header of that name (lower case).
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Files that live as long as the request.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Cluster {
    /// Sends a request from inside the cluster's network.
    ///
    /// # Errors
    /// [`Error::Command`] with curl's words when no HTTP answer comes (refused, TLS alert, timeout of 20 s).
    pub fn https(&self, request: &Request) -> Result<Response> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!("request-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let scratch = Scratch(self.layout().run.join(name));
        fs::create_dir_all(&scratch.0).doing(|| format!("create {}", scratch.0.display()))?;

        let mut curl = self.network().command("curl");
        curl.args(["--silent", "--show-error", "--include", "--noproxy", "*", "--max-time", "20"]);
        if !request.method.is_empty() {
            curl.args(["--request", &request.method]);
        }
        for header in &request.headers {
            curl.args(["--header", header]);
        }
        if let Some(body) = &request.body {
            curl.args(["--data-binary", body]);
        }
        if let Some(identity) = &request.identity {
            identity.save(&scratch.0, "client")?;
            curl.arg("--cert")
                .arg(scratch.0.join("client.crt"))
                .arg("--key")
                .arg(scratch.0.join("client.key"));
        }
        match &request.authority {
            Some(authority) => {
                write_private(&scratch.0.join("ca.crt"), authority)?;
                curl.arg("--cacert").arg(scratch.0.join("ca.crt"));
            }
            None => {
                curl.arg("--insecure");
            }
        }
        let text = command::output(curl.arg(&request.url))?;
        parse(&text).ok_or_else(|| Error::Invalid(format!("no HTTP answer from {}: {text}", request.url)))
    }
}

/// Splits what `curl --include` prints; interim answers (1xx) are skipped.
fn parse(text: &str) -> Option<Response> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut lines = head.lines();
    let status: u16 = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    if (100..200).contains(&status) {
        return parse(body);
    }
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    Some(Response { status, headers, body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_after_an_interim_one() {
        let text = "HTTP/1.1 100 Continue\r\n\r\nHTTP/2 403 \r\nContent-Type: text/plain\r\na: b: c\r\n\r\nno\r\n\r\nno";
        let response = parse(text).unwrap();
        assert_eq!(response.status, 403);
        assert_eq!(response.header("content-type"), Some("text/plain"));
        assert_eq!(response.header("a"), Some("b: c"));
        assert_eq!(response.body, "no\r\n\r\nno");
    }
}
