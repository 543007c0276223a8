//! TLS towards one kubelet, without buffers of its own: between two scrapes thousands of connections rest, and what
//! a usual TLS stream keeps for each (4 kB and more) would be most of what they cost.
//!
//! What arrives stands in [`Records`] that are shared by whoever reads just then; only what is left of an unfinished
//! record, mostly nothing, stays with the session.

use std::io;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::buffers::Lease;

/// How much is asked for at a time: more than a body of 30 pods has, gzipped.
const READ: usize = 8 * 1024;
/// The longest handshake message (2¹⁶ bytes here) with the longest record (RFC 8446, 5.2) behind it.
const MOST: usize = 0xffff + 5 + (1 << 14) + 256;

/// A connection on which the handshake is done.
pub(super) struct Session {
    /// Apart, so that what is kept of a node moves cheaply.
    tls: Box<UnbufferedClientConnection>,
    tcp: TcpStream,
    /// What came of an unfinished record.
    left: Vec<u8>,
}

/// Room for TLS records, those that came and those to send.
#[derive(Default)]
pub(super) struct Records {
    incoming: Vec<u8>,
    /// What is not yet processed of `incoming`.
    start: usize,
    end: usize,
    outgoing: Vec<u8>,
}

/// What is to be done next.
enum Step {
    /// Send what is in `outgoing`.
    Send,
    /// Read more: nothing goes on before.
    Read,
    /// Nothing: requests can be sent, and all that came has been decrypted.
    Rest,
    /// The kubelet will send nothing more.
    Closed,
}

impl Records {
    /// Forgets what is in it, for another session.
    pub(super) fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
        self.outgoing.clear();
    }

    /// How much memory it holds.
    pub(super) fn capacity(&self) -> usize {
        self.incoming.capacity() + self.outgoing.capacity()
    }

    /// Room behind what is there.
    fn room(&mut self) -> io::Result<&mut [u8]> {
        if self.start > 0 {
            self.incoming.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.end >= MOST {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a TLS message is too long"));
        }
        if self.incoming.len() < self.end + READ {
            self.incoming.resize(self.end + READ, 0);
        }
        Ok(&mut self.incoming[self.end..])
    }

    fn take_in(&mut self, bytes: &[u8]) -> io::Result<()> {
        if !bytes.is_empty() {
            while self.room()?.len() < bytes.len() {
                self.incoming.resize(self.incoming.len() + READ, 0);
            }
            self.room()?[..bytes.len()].copy_from_slice(bytes);
            self.end += bytes.len();
        }
        Ok(())
    }
}

impl Session {
    /// Shakes hands. Buffers are taken once something came: many kubelets may be waited for.
    pub(super) async fn open(
        tcp: TcpStream,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
        lease: &mut Lease<'_>,
    ) -> io::Result<Self> {
        let tls = UnbufferedClientConnection::new(config, name).map_err(invalid)?;
        let mut session = Self { tls: Box::new(tls), tcp, left: Vec::new() };
        let mut hello = Records::default();
        while let Step::Send = session.step(&mut hello, &mut Vec::new(), &mut None)? {
            session.write(&mut hello).await?;
        }
        drop(hello);
        session.arrives().await?;
        let records = &mut lease.buffers().records;
        records.clear();
        let mut early = Vec::new();
        loop {
            match session.step(records, &mut early, &mut None)? {
                Step::Send => session.write(records).await?,
                Step::Read => {
                    if session.fill(records).await? == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Step::Rest if early.is_empty() => break,
                Step::Rest => {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "an answer before a request"));
                }
                Step::Closed => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        session.rest(records);
        Ok(session)
    }

    /// What the kubelet showed in the handshake, leaf first.
    pub(super) fn peer_certificates(&self) -> &[CertificateDer<'static>] {
        self.tls.peer_certificates().unwrap_or_default()
    }

    /// Sends a request.
    pub(super) async fn send(&mut self, request: &[u8]) -> io::Result<()> {
        let (mut records, mut unasked) = (Records::default(), Vec::new());
        let mut request = Some(request);
        records.take_in(&std::mem::take(&mut self.left))?;
        while request.is_some() {
            match self.step(&mut records, &mut unasked, &mut request)? {
                Step::Send => self.write(&mut records).await?,
                Step::Read | Step::Rest | Step::Closed => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        self.rest(&records);
        if unasked.is_empty() { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// Waits until something came, or the end.
    pub(super) async fn arrives(&self) -> io::Result<()> {
        self.tcp.readable().await
    }

    /// Begins to read into `records`: what was left is taken up.
    pub(super) fn resume(&mut self, records: &mut Records) -> io::Result<()> {
        records.clear();
        records.take_in(&std::mem::take(&mut self.left))
    }

    /// Ends reading into `records`, which may then be another session's.
    pub(super) fn rest(&mut self, records: &Records) {
        self.left = records.incoming[records.start..records.end].to_vec();
    }

    /// Appends what comes next to `plain`; how much it was, nothing at the end.
    pub(super) async fn read(&mut self, records: &mut Records, plain: &mut Vec<u8>) -> io::Result<usize> {
        let before = plain.len();
        loop {
            match self.step(records, plain, &mut None)? {
                Step::Send => self.write(records).await?,
                Step::Closed => return Ok(plain.len() - before),
                Step::Read | Step::Rest => {
                    if plain.len() > before {
                        return Ok(plain.len() - before);
                    }
                    if self.fill(records).await? == 0 {
                        return Ok(0);
                    }
                }
            }
        }
    }

    /// Processes what came until something is to be done. The request is encrypted as soon as it may be.
    fn step(
        &mut self,
        records: &mut Records,
        plain: &mut Vec<u8>,
        request: &mut Option<&[u8]>,
    ) -> io::Result<Step> {
        let done = self.advance(records, plain, request);
        if done.is_err() {
            self.alert(records);
        }
        done
    }

    fn advance(
        &mut self,
        records: &mut Records,
        plain: &mut Vec<u8>,
        request: &mut Option<&[u8]>,
    ) -> io::Result<Step> {
        loop {
            let Records { incoming, start, end, outgoing } = &mut *records;
            let UnbufferedStatus { discard, state } =
                self.tls.process_tls_records(&mut incoming[*start..*end]);
            let next = match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    let mut more = 0;
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(invalid)?;
                        plain.extend_from_slice(record.payload);
                        more += record.discard;
                    }
                    *start += more;
                    None
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    handshake(outgoing, &mut data)?;
                    None
                }
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    data.done();
                    Some(Step::Send)
                }
                Ok(ConnectionState::BlockedHandshake) => Some(Step::Read),
                Ok(ConnectionState::WriteTraffic(mut traffic)) => match request.take() {
                    Some(request) => {
                        encode(outgoing, |room| match traffic.encrypt(request, room) {
                            Err(EncryptError::InsufficientSize(size)) => Ok(Err(size.required_size)),
                            done => done.map(Ok).map_err(invalid),
                        })?;
                        Some(Step::Send)
                    }
                    None => Some(Step::Rest),
                },
                Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => Some(Step::Closed),
                Ok(_) => return Err(io::Error::other("a TLS state that was not asked for")),
                Err(error) => {
                    *start = (*start + discard).min(*end);
                    return Err(invalid(error));
                }
            };
            *start = (*start + discard).min(*end);
            if let Some(next) = next {
                return Ok(next);
            }
        }
    }

    /// Tells the kubelet why, if it can be told at once: its log is where the other half of the cause is looked for.
    fn alert(&mut self, records: &mut Records) {
        let Records { incoming, start, end, outgoing } = records;
        outgoing.clear();
        // Once: what waits to be sent comes first, and behind it the same error would be met again.
        let status = self.tls.process_tls_records(&mut incoming[*start..*end]);
        if let Ok(ConnectionState::EncodeTlsData(mut data)) = status.state
            && handshake(outgoing, &mut data).is_ok()
        {
            let _ = self.tcp.try_write(outgoing);
        }
    }

    async fn write(&mut self, records: &mut Records) -> io::Result<()> {
        self.tcp.write_all(&records.outgoing).await?;
        records.outgoing.clear();
        Ok(())
    }

    async fn fill(&mut self, records: &mut Records) -> io::Result<usize> {
        loop {
            match self.tcp.try_read(records.room()?) {
                Ok(size) => {
                    records.end += size;
                    return Ok(size);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.tcp.readable().await?,
                Err(error) => return Err(error),
            }
        }
    }
}

/// Appends a record of the handshake, or an alert.
fn handshake(outgoing: &mut Vec<u8>, data: &mut EncodeTlsData<'_, ClientConnectionData>) -> io::Result<()> {
    encode(outgoing, |room| match data.encode(room) {
        Err(EncodeError::InsufficientSize(size)) => Ok(Err(size.required_size)),
        done => done.map(Ok).map_err(invalid),
    })
}

/// Appends what `write` writes into the room that it is given, or says how much it needs.
fn encode(
    outgoing: &mut Vec<u8>,
    mut write: impl FnMut(&mut [u8]) -> io::Result<Result<usize, usize>>,
) -> io::Result<()> {
    let start = outgoing.len();
    let mut room = 512;
    for _ in 0..2 {
        outgoing.resize(start + room, 0);
        match write(&mut outgoing[start..])? {
            Ok(written) => {
                outgoing.truncate(start + written);
                return Ok(());
            }
            Err(needed) => room = needed,
        }
    }
    Err(io::Error::other("a TLS record that has no size"))
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
