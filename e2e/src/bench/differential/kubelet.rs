//! A kubelet that answers what it is told and remembers who asked: any body, status or delay.

use std::collections::HashSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::https::{chain, tls};
use crate::error::{Doing as _, Result};
use crate::testbed::pki::Identity;

/// One answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// The media type.
    pub content_type: &'static str,
    /// The body.
    pub body: String,
    /// How long the asker waits for it.
    pub delay: Duration,
}

impl Reply {
    /// 200 with the text format of Prometheus, at once.
    #[must_use]
    pub fn metrics(body: String) -> Self {
        let content_type = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";
        Self { status: 200, content_type, body, delay: Duration::ZERO }
    }

    /// An error.
    #[must_use]
    pub fn error(status: u16) -> Self {
        let (content_type, body) = ("text/plain; charset=utf-8", "no\n".to_owned());
        Self { status, content_type, body, delay: Duration::ZERO }
    }
}

/// A request that came.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Seen {
    /// Which of the replies it was given.
    pub step: usize,
    /// The path.
    pub path: String,
    /// The User-Agent header.
    pub agent: String,
}

struct State {
    replies: Vec<Reply>,
    step: usize,
    seen: HashSet<Seen>,
}

/// A kubelet; ends when dropped.
pub struct Kubelet {
    state: Arc<Mutex<State>>,
    closed: Arc<AtomicBool>,
}

impl Kubelet {
    /// Listens on an address of the network that the calling thread is in. `replies` has one for each step; the
    /// last one counts for all later steps too.
    pub fn start(address: SocketAddr, identity: &Identity, replies: Vec<Reply>) -> Result<Self> {
        let (certificates, key) = chain(identity)?;
        let config =
            ServerConfig::builder().with_no_client_auth().with_single_cert(certificates, key).map_err(tls)?;
        let config = Arc::new(config);
        let what = || format!("listen on {address}");
        let listener = TcpListener::bind(address).doing(what)?;
        listener.set_nonblocking(true).doing(what)?;
        let state = Arc::new(Mutex::new(State { replies, step: 0, seen: HashSet::new() }));
        let closed = Arc::new(AtomicBool::new(false));
        let kubelet = Self { state: Arc::clone(&state), closed: Arc::clone(&closed) };
        thread::spawn(move || {
            while !closed.load(Ordering::Relaxed) {
                let Ok((socket, _)) = listener.accept() else {
                    thread::sleep(Duration::from_millis(20));
                    continue;
                };
                let (config, state) = (Arc::clone(&config), Arc::clone(&state));
                // A connection that breaks concerns its client alone.
                thread::spawn(move || drop(serve(socket, config, &state)));
            }
        });
        Ok(kubelet)
    }

    /// Goes to a step.
    pub fn go_to(&self, step: usize) {
        self.state.lock().step = step;
    }

    /// Whether a client with this in its User-Agent was answered in this step.
    #[must_use]
    pub fn was_asked(&self, step: usize, agent: &str) -> bool {
        self.state.lock().seen.iter().any(|seen| seen.step == step && seen.agent.contains(agent))
    }

    /// All requests, each kind once.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.state.lock().seen.iter().cloned().collect()
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::Relaxed);
    }
}

fn serve(socket: TcpStream, config: Arc<ServerConfig>, state: &Mutex<State>) -> std::io::Result<()> {
    socket.set_nonblocking(false)?;
    socket.set_read_timeout(Some(Duration::from_secs(60)))?;
    let connection = ServerConnection::new(config).map_err(std::io::Error::other)?;
    let mut stream = BufReader::new(StreamOwned::new(connection, socket));
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut agent = String::new();
        loop {
            line.clear();
            if stream.read_line(&mut line)? == 0 || line.trim().is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("user-agent")
            {
                value.trim().clone_into(&mut agent);
            }
        }
        let (step, reply) = {
            let state = state.lock();
            let reply = state.replies.get(state.step).or(state.replies.last()).cloned();
            (state.step, reply.unwrap_or_else(|| Reply::error(503)))
        };
        thread::sleep(reply.delay);
        let head = format!(
            "HTTP/1.1 {} -\r\nContent-Type: {}\r\nContent-Length: {}\r\n\r\n",
            reply.status,
            reply.content_type,
            reply.body.len()
        );
        let out = stream.get_mut();
        out.write_all(head.as_bytes())?;
        out.write_all(reply.body.as_bytes())?;
        out.flush()?;
        state.lock().seen.insert(Seen { step, path, agent });
    }
}
