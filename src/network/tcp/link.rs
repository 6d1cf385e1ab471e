//! Frames over TLS over a socket. Every wait has a moment at which it ends, however many bytes trickle in until then.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use ed25519_dalek::VerifyingKey;
use rustls::{AlertDescription, CertificateError, Connection};

use super::frame::{Frame, FrameBuffer, FrameError};
use super::plug::Socket;
use super::tls;

/// The most reads of the socket for one frame. Who sends a frame in more pieces, or nothing in many, wastes our time.
const READS_PER_FRAME: u32 = 4096;
/// The most plaintext or ciphertext that waits to be written; the longest frame fits in many times.
const WRITE_BUFFER_BYTES: usize = 64 * 1024;

/// How long a connection that is refused stays open at most, for its other side to read why.
const FAREWELL_LIMIT: Duration = Duration::from_secs(1);

/// Why nothing more comes or goes over a link.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum LinkError {
    /// The other side has closed it, or we have.
    #[error("the connection was closed")]
    Closed,
    /// It took too long.
    #[error("{0} took too long")]
    TimedOut(&'static str),
    /// Our key is not one that the other side knows.
    #[error("it does not know our network key")]
    KeyUnknown,
    /// The other side has another key than it should.
    #[error("whoever answers there has another network key than the committee file says")]
    WrongKey,
    /// Not TLS as it should be.
    #[error("TLS: {0}")]
    Tls(String),
    /// Not a frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A frame that is out of place.
    #[error("a frame that has no place there")]
    OutOfPlace,
    /// Too many reads for one frame.
    #[error("a frame in more than {READS_PER_FRAME} pieces")]
    Crumbs,
    /// The operating system says no.
    #[error("{0}")]
    Io(String),
}

impl LinkError {
    /// Whether a connection that lay idle may have ended like this through no fault of the peer as it is now.
    pub(super) fn is_stale(&self) -> bool {
        matches!(self, LinkError::Closed | LinkError::Io(_))
    }

    /// Whether the other side has broken the rules.
    pub(super) fn is_violation(&self) -> bool {
        matches!(
            self,
            LinkError::Frame(_) | LinkError::OutOfPlace | LinkError::Crumbs | LinkError::Tls(_) | LinkError::WrongKey
        )
    }
}

/// A connection with someone.
pub(super) struct Link {
    tls: Connection,
    socket: Socket,
    arriving: FrameBuffer,
}

impl Link {
    /// Proves both keys to each other.
    pub(super) fn open(tls: impl Into<Connection>, socket: Socket, deadline: Instant) -> Result<Link, LinkError> {
        let mut tls = tls.into();
        tls.set_buffer_limit(Some(WRITE_BUFFER_BYTES));
        let mut link = Link { tls, socket, arriving: FrameBuffer::new() };
        let stream = link.socket.plug().stream();
        // Frames are small, and each is waited for.
        stream.set_nodelay(true).map_err(io_error)?;
        match link.prove(deadline) {
            Ok(()) => Ok(link),
            Err(error) => {
                // Who has dialled should hear why not; who was dialled by us finds out that we are gone.
                if matches!(link.tls, Connection::Server(_)) && error.is_violation() {
                    link.farewell(deadline);
                }
                Err(error)
            }
        }
    }

    fn prove(&mut self, deadline: Instant) -> Result<(), LinkError> {
        while self.tls.is_handshaking() {
            self.flush(deadline, "the handshake")?;
            if self.tls.is_handshaking() {
                self.receive(deadline, "the handshake")?;
            }
        }
        self.flush(deadline, "the handshake")
    }

    /// Says no more, and waits a moment for the other side to have read what was said: a socket that is closed while
    /// something lies unread in it takes back what it has sent.
    pub(super) fn farewell(&mut self, deadline: Instant) {
        let deadline = deadline.min(Instant::now() + FAREWELL_LIMIT);
        let mut stream = self.socket.plug().stream();
        let _ = stream.shutdown(Shutdown::Write);
        for _ in 0..READS_PER_FRAME {
            let Ok(left) = left(deadline, "") else { return };
            let timed = stream.set_read_timeout(Some(left));
            if timed.is_err() || !stream.read(&mut [0; 512]).is_ok_and(|count| count > 0) {
                return;
            }
        }
    }

    /// The key of whoever has dialled.
    pub(super) fn proven_key(&self) -> Option<VerifyingKey> {
        tls::proven_key(&self.tls)
    }

    pub(super) fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Writes a frame.
    pub(super) fn write(&mut self, frame: &Frame, deadline: Instant) -> Result<(), LinkError> {
        let bytes = frame.encode()?;
        self.tls.writer().write_all(&bytes).map_err(io_error)?;
        self.flush(deadline, "writing")
    }

    /// Hands a frame over without waiting: what the socket does not take now goes out with what is written next, if the other
    /// side ever reads again.
    pub(super) fn hand_over(&mut self, frame: &Frame) -> Result<(), LinkError> {
        let bytes = frame.encode()?;
        self.tls.writer().write_all(&bytes).map_err(io_error)?;
        let mut stream: &TcpStream = self.socket.plug().stream();
        stream.set_nonblocking(true).map_err(io_error)?;
        let mut written = Ok(1);
        while self.tls.wants_write() && matches!(written, Ok(1..)) {
            written = self.tls.write_tls(&mut stream);
        }
        stream.set_nonblocking(false).map_err(io_error)?;
        match written {
            Ok(0) => Err(LinkError::Closed),
            Ok(_) => Ok(()),
            Err(error) => again(error),
        }
    }

    /// Reads a frame that begins before `deadline`, and is whole `whole` after it has begun.
    pub(super) fn read(&mut self, deadline: Instant, whole: Duration) -> Result<Frame, LinkError> {
        let mut ends = None;
        for _ in 0..READS_PER_FRAME {
            if let Some(frame) = self.take()? {
                return Ok(frame);
            }
            if ends.is_none() && self.arriving.has_begun() {
                ends = Some(deadline.min(Instant::now() + whole));
            }
            self.flush(ends.unwrap_or(deadline), "reading")?;
            self.receive(ends.unwrap_or(deadline), "reading")?;
        }
        Err(LinkError::Crumbs)
    }

    /// A frame that is there already, without waiting for one.
    pub(super) fn poll(&mut self) -> Result<Option<Frame>, LinkError> {
        if let Some(frame) = self.take()? {
            return Ok(Some(frame));
        }
        let mut stream = self.socket.plug().stream();
        stream.set_nonblocking(true).map_err(io_error)?;
        let read = self.tls.read_tls(&mut stream);
        stream.set_nonblocking(false).map_err(io_error)?;
        match read {
            Ok(0) => Err(LinkError::Closed),
            Ok(_) => {
                self.tls.process_new_packets().map_err(|error| tls_error(&error))?;
                self.take()
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(io_error(error)),
        }
    }

    /// The frame that is arriving, if what has been decrypted completes it.
    fn take(&mut self) -> Result<Option<Frame>, LinkError> {
        loop {
            let missing = self.arriving.missing()?;
            if missing == 0 {
                return Ok(self.arriving.take()?);
            }
            let mut bytes = zeroize::Zeroizing::new([0; 512]);
            let room = missing.min(bytes.len());
            let room = bytes.get_mut(..room).unwrap_or_default();
            match self.tls.reader().read(room) {
                Ok(0) => return Err(LinkError::Closed),
                Ok(count) => self.arriving.feed(room.get(..count).unwrap_or_default()).map(drop)?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(LinkError::Closed),
                Err(error) => return Err(io_error(error)),
            }
        }
    }

    /// Waits for something to arrive, and decrypts it.
    fn receive(&mut self, deadline: Instant, what: &'static str) -> Result<(), LinkError> {
        let mut stream = self.socket.plug().stream();
        stream.set_read_timeout(Some(left(deadline, what)?)).map_err(io_error)?;
        match self.tls.read_tls(&mut stream) {
            Ok(0) => Err(LinkError::Closed),
            Ok(_) => match self.tls.process_new_packets() {
                Ok(_) => Ok(()),
                Err(error) => {
                    // The other side should be told why; if it is not, it sees that the connection is closed.
                    let _ = self.flush(deadline, what);
                    Err(tls_error(&error))
                }
            },
            Err(error) => again(error),
        }
    }

    /// Writes what waits to be written.
    fn flush(&mut self, deadline: Instant, what: &'static str) -> Result<(), LinkError> {
        while self.tls.wants_write() {
            let mut stream: &TcpStream = self.socket.plug().stream();
            stream.set_write_timeout(Some(left(deadline, what)?)).map_err(io_error)?;
            match self.tls.write_tls(&mut stream) {
                Ok(0) => return Err(LinkError::Closed),
                Ok(_) => {}
                Err(error) => again(error)?,
            }
        }
        Ok(())
    }
}

/// How long there is left; a socket takes no wait of zero.
fn left(deadline: Instant, what: &'static str) -> Result<Duration, LinkError> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(LinkError::TimedOut(what)) } else { Ok(left.max(Duration::from_millis(1))) }
}

/// A wait that has ended is followed by another, or by the end of all waiting.
fn again(error: io::Error) -> Result<(), LinkError> {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted => Ok(()),
        _ => Err(io_error(error)),
    }
}

fn io_error(error: io::Error) -> LinkError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => LinkError::Closed,
        _ => LinkError::Io(error.to_string()),
    }
}

fn tls_error(error: &rustls::Error) -> LinkError {
    match error {
        rustls::Error::AlertReceived(AlertDescription::AccessDenied) => LinkError::KeyUnknown,
        rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure) => LinkError::WrongKey,
        other => LinkError::Tls(other.to_string().chars().take(200).collect()),
    }
}
