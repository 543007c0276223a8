//! A TLS session with one kubelet that owns no read buffers. Thousands of connections are idle between scrapes, and
//! the buffers of a usual TLS stream (4 kB and more) would be most of their memory.
//!
//! Data is read into [`RecordBuffers`] from a pool. Only the rest of an incomplete record, which is mostly empty,
//! stays with the session.

#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::buffers::BufferLease;

/// How much to read at a time: more than a gzipped body of 30 pods.
const READ_SIZE: usize = 8 * 1024;
/// The longest handshake message (2¹⁶ bytes here) followed by the longest record (RFC 8446, 5.2).
const MAX_BUFFERED: usize = 0xffff + 5 + (1 << 14) + 256;

/// A connection whose handshake is complete.
pub(super) struct TlsSession {
    /// Boxed, so that a target moves cheaply.
    tls: Box<UnbufferedClientConnection>,
    tcp: TcpStream,
    /// The received part of an incomplete record.
    unread: Vec<u8>,
}

/// Buffers for received TLS records and for records to send.
#[derive(Default)]
pub(super) struct RecordBuffers {
    incoming: Vec<u8>,
    /// The range of `incoming` that is not processed yet.
    start: usize,
    end: usize,
    outgoing: Vec<u8>,
}

/// What the caller must do next.
enum NextStep {
    /// Send the content of `outgoing`.
    Send,
    /// Read more data.
    Read,
    /// Nothing: requests can be sent, and all received data is decrypted.
    Idle,
    /// The kubelet closed its side.
    Closed,
}

impl RecordBuffers {
    /// Clears the buffers for another session.
    pub(super) fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
        self.outgoing.clear();
    }

    /// Returns the allocated size in bytes.
    pub(super) fn capacity(&self) -> usize {
        self.incoming.capacity() + self.outgoing.capacity()
    }

    /// Returns the free space after the received data.
    fn free_space(&mut self) -> io::Result<&mut [u8]> {
        if self.start > 0 {
            self.incoming.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.end >= MAX_BUFFERED {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a TLS message is too long"));
        }
        if self.incoming.len() < self.end + READ_SIZE {
            self.incoming.resize(self.end + READ_SIZE, 0);
        }
        Ok(&mut self.incoming[self.end..])
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if !bytes.is_empty() {
            while self.free_space()?.len() < bytes.len() {
                self.incoming.resize(self.incoming.len() + READ_SIZE, 0);
            }
            self.free_space()?[..bytes.len()].copy_from_slice(bytes);
            self.end += bytes.len();
        }
        Ok(())
    }
}

impl TlsSession {
    /// Performs the TLS handshake. Buffers are leased only once data arrives, as many kubelets may be waited for.
    pub(super) async fn open(
        tcp: TcpStream,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
        lease: &mut BufferLease<'_>,
    ) -> io::Result<Self> {
        let tls = UnbufferedClientConnection::new(config, name).map_err(invalid)?;
        let mut session = Self { tls: Box::new(tls), tcp, unread: Vec::new() };
        let mut hello = RecordBuffers::default();
        while let NextStep::Send = session.step(&mut hello, &mut Vec::new(), &mut None)? {
            session.write(&mut hello).await?;
        }
        drop(hello);
        session.wait_readable().await?;
        lease.take().await.map_err(io::Error::other)?.records.clear();
        let mut early = Vec::new();
        loop {
            let records = &mut lease.buffers().records;
            match session.step(records, &mut early, &mut None)? {
                NextStep::Send => session.write(records).await?,
                NextStep::Read => {
                    let records = &mut lease.make_room().await.map_err(io::Error::other)?.records;
                    if session.fill(records).await? == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                NextStep::Idle if early.is_empty() => break,
                NextStep::Idle => {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "a response before a request"));
                }
                NextStep::Closed => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        session.release(&lease.buffers().records);
        Ok(session)
    }

    /// Returns the kubelet's certificate chain, leaf first.
    pub(super) fn peer_certificates(&self) -> &[CertificateDer<'static>] {
        self.tls.peer_certificates().unwrap_or_default()
    }

    /// Sends a request.
    pub(super) async fn send(&mut self, request: &[u8]) -> io::Result<()> {
        let (mut records, mut unsolicited) = (RecordBuffers::default(), Vec::new());
        let mut request = Some(request);
        records.append(&std::mem::take(&mut self.unread))?;
        while request.is_some() {
            match self.step(&mut records, &mut unsolicited, &mut request)? {
                NextStep::Send => self.write(&mut records).await?,
                NextStep::Read | NextStep::Idle | NextStep::Closed => {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
        }
        self.release(&records);
        if unsolicited.is_empty() { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// Waits until the socket is readable or closed.
    pub(super) async fn wait_readable(&self) -> io::Result<()> {
        self.tcp.readable().await
    }

    /// Starts reading into `records`: restores what was left of an incomplete record.
    pub(super) fn resume(&mut self, records: &mut RecordBuffers) -> io::Result<()> {
        records.clear();
        records.append(&std::mem::take(&mut self.unread))
    }

    /// Ends reading into `records`, which another session may use from now on.
    pub(super) fn release(&mut self, records: &RecordBuffers) {
        self.unread = records.incoming[records.start..records.end].to_vec();
    }

    /// Appends received data to `plain`. Returns the number of bytes, 0 at the end of the stream.
    pub(super) async fn read(
        &mut self,
        records: &mut RecordBuffers,
        plain: &mut Vec<u8>,
    ) -> io::Result<usize> {
        let before = plain.len();
        loop {
            match self.step(records, plain, &mut None)? {
                NextStep::Send => self.write(records).await?,
                NextStep::Closed => return Ok(plain.len() - before),
                NextStep::Read | NextStep::Idle => {
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

    /// Processes received data until the caller must act. Encrypts the request as soon as the session allows.
    fn step(
        &mut self,
        records: &mut RecordBuffers,
        plain: &mut Vec<u8>,
        request: &mut Option<&[u8]>,
    ) -> io::Result<NextStep> {
        let done = self.advance(records, plain, request);
        if done.is_err() {
            self.alert(records);
        }
        done
    }

    fn advance(
        &mut self,
        records: &mut RecordBuffers,
        plain: &mut Vec<u8>,
        request: &mut Option<&[u8]>,
    ) -> io::Result<NextStep> {
        loop {
            let RecordBuffers { incoming, start, end, outgoing } = &mut *records;
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
                    append_handshake(outgoing, &mut data)?;
                    None
                }
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    data.done();
                    Some(NextStep::Send)
                }
                Ok(ConnectionState::BlockedHandshake) => Some(NextStep::Read),
                Ok(ConnectionState::WriteTraffic(mut traffic)) => match request.take() {
                    Some(request) => {
                        append_encoded(outgoing, |room| match traffic.encrypt(request, room) {
                            Err(EncryptError::InsufficientSize(size)) => Ok(Err(size.required_size)),
                            done => done.map(Ok).map_err(invalid),
                        })?;
                        Some(NextStep::Send)
                    }
                    None => Some(NextStep::Idle),
                },
                Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => Some(NextStep::Closed),
                Ok(_) => return Err(io::Error::other("an unexpected TLS state")),
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

    /// Sends the TLS alert if the socket accepts it at once, so that the kubelet's log shows the cause, too.
    fn alert(&mut self, records: &mut RecordBuffers) {
        let RecordBuffers { incoming, start, end, outgoing } = records;
        outgoing.clear();
        // Only once: pending data comes first, and after it the same error would occur again.
        let status = self.tls.process_tls_records(&mut incoming[*start..*end]);
        if let Ok(ConnectionState::EncodeTlsData(mut data)) = status.state
            && append_handshake(outgoing, &mut data).is_ok()
        {
            let _ = self.tcp.try_write(outgoing);
        }
    }

    async fn write(&mut self, records: &mut RecordBuffers) -> io::Result<()> {
        self.tcp.write_all(&records.outgoing).await?;
        records.outgoing.clear();
        Ok(())
    }

    async fn fill(&mut self, records: &mut RecordBuffers) -> io::Result<usize> {
        loop {
            match self.tcp.try_read(records.free_space()?) {
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

/// Appends a handshake record or an alert.
fn append_handshake(
    outgoing: &mut Vec<u8>,
    data: &mut EncodeTlsData<'_, ClientConnectionData>,
) -> io::Result<()> {
    append_encoded(outgoing, |room| match data.encode(room) {
        Err(EncodeError::InsufficientSize(size)) => Ok(Err(size.required_size)),
        done => done.map(Ok).map_err(invalid),
    })
}

/// Appends what `write` writes into the space it receives; `write` returns the size it needs if that is too small.
fn append_encoded(
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
    Err(io::Error::other("the size of a TLS record is unknown"))
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
