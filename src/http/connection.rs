//! One connection: requests in, answers out, each within its limits.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use ureq_proto::http::header::{HeaderName, HeaderValue};
use ureq_proto::http::{Method, Response, StatusCode};
use ureq_proto::server::state::{ProvideResponse, RecvBody};
use ureq_proto::server::{RecvRequestResult, Reply, SendResponseResult};
use ureq_proto::{BodyMode, Error as ProtocolError};

use crate::http::{Answer, Limits, MAX_HEAD_BYTES, Peer, Request};

/// How much is read from a socket at a time.
const READ_BYTES: usize = 16 * 1024;
/// How much of what a client still sends is read and thrown away after a refusal, so that it gets to see it.
const MAX_LINGER_BYTES: usize = 256 * 1024;
/// And for how long; also how long the refusal itself may take to be taken.
const MAX_LINGER: Duration = Duration::from_secs(1);
/// Room for the head of an answer: a handful of headers of our own, none longer than a hash in hex.
const ANSWER_HEAD_BYTES: usize = 4 * 1024;

/// Why a request is not served.
enum Refused {
    /// The client is gone, or has been silent too long between two requests: there is nobody to tell.
    Gone,
    /// It gets this answer, and the connection is closed.
    Told(StatusCode, String),
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::TimedOut | ErrorKind::WouldBlock => {
                Refused::Told(StatusCode::REQUEST_TIMEOUT, "the request took too long to arrive".into())
            }
            _ => Refused::Gone,
        }
    }
}

impl From<ProtocolError> for Refused {
    fn from(error: ProtocolError) -> Self {
        let status = match error {
            ProtocolError::HttpParseTooManyHeaders => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            _ => StatusCode::BAD_REQUEST,
        };
        Refused::Told(status, format!("this is no HTTP request: {error}"))
    }
}

/// What a connection needs of the server.
pub(super) trait Host {
    fn limits(&self) -> &Limits;
    fn is_stopping(&self) -> bool;
    /// A request has arrived in full; until [`answered`](Self::answered) the connection does not make room for others.
    fn received(&self);
    fn answered(&self);
    /// The answer to a request that has arrived in full.
    fn answer(&self, request: &Request) -> Answer;
    /// Something that was no request was refused.
    fn refused(&self);
}

/// Serves a connection to its end.
pub(super) fn serve(stream: &TcpStream, peer: Peer, host: &impl Host) {
    let mut connection = Connection { stream, peer, received: Vec::new(), limits: host.limits() };
    while !host.is_stopping() {
        match connection.receive() {
            Ok((request, reply)) => {
                host.received();
                let sent = connection.send(reply, host.answer(&request), request.method == Method::HEAD);
                host.answered();
                if !matches!(sent, Ok(true)) {
                    return;
                }
            }
            Err(Refused::Gone) => return,
            Err(Refused::Told(status, text)) => {
                host.refused();
                return connection.refuse(status, &text);
            }
        }
    }
}

struct Connection<'a> {
    stream: &'a TcpStream,
    peer: Peer,
    /// What has been received and not been made sense of yet.
    received: Vec<u8>,
    limits: &'a Limits,
}

impl Connection<'_> {
    /// Waits for the next request and reads all of it.
    fn receive(&mut self) -> Result<(Request, Reply<ProvideResponse>), Refused> {
        if self.received.is_empty() {
            let deadline = Instant::now() + self.limits.idle;
            match self.read_more(deadline) {
                Ok(()) => {}
                Err(_) => return Err(Refused::Gone),
            }
        }
        let deadline = Instant::now() + self.limits.transfer;
        let mut reply = Reply::new()?;
        let head = loop {
            match reply.try_request(&self.received)? {
                (used, Some(head)) if used <= MAX_HEAD_BYTES => {
                    self.received.drain(..used);
                    break head;
                }
                (_, None) if self.received.len() <= MAX_HEAD_BYTES => self.read_more(deadline)?,
                _ => {
                    let text = format!("the head of a request may have {MAX_HEAD_BYTES} bytes");
                    return Err(Refused::Told(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, text));
                }
            }
        };
        let (body, reply) = match reply.proceed() {
            None => return Err(Refused::Gone),
            Some(RecvRequestResult::ProvideResponse(reply)) => (Vec::new(), reply),
            Some(RecvRequestResult::RecvBody(reply)) => self.receive_body(reply, deadline)?,
            Some(RecvRequestResult::Send100(reply)) => {
                let mut go_on = [0; 64];
                let (length, reply) = reply.accept(&mut go_on)?;
                // Not before the length has been looked at, if it says one.
                self.check_length(&reply)?;
                self.write_all(go_on.get(..length).unwrap_or_default(), deadline)?;
                self.receive_body(reply, deadline)?
            }
        };
        let (parts, ()) = head.into_parts();
        let request = Request {
            peer: self.peer,
            method: parts.method,
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().unwrap_or_default().to_owned(),
            headers: parts.headers,
            body,
        };
        Ok((request, reply))
    }

    fn too_long(&self) -> Refused {
        let text = format!("the body of a request may have {} bytes", self.limits.body_bytes);
        Refused::Told(StatusCode::PAYLOAD_TOO_LARGE, text)
    }

    fn check_length(&self, reply: &Reply<RecvBody>) -> Result<(), Refused> {
        match reply.body_mode() {
            BodyMode::LengthDelimited(length) if length > self.limits.body_bytes as u64 => Err(self.too_long()),
            _ => Ok(()),
        }
    }

    fn receive_body(
        &mut self,
        mut reply: Reply<RecvBody>,
        deadline: Instant,
    ) -> Result<(Vec<u8>, Reply<ProvideResponse>), Refused> {
        self.check_length(&reply)?;
        let mut body = Vec::new();
        let mut piece = [0; READ_BYTES];
        while !reply.is_ended() {
            let (used, length) = reply.read(&self.received, &mut piece)?;
            self.received.drain(..used);
            body.extend_from_slice(piece.get(..length).unwrap_or_default());
            if body.len() > self.limits.body_bytes {
                return Err(self.too_long());
            }
            if used == 0 && length == 0 && !reply.is_ended() {
                if self.received.len() > MAX_HEAD_BYTES {
                    // A chunk's head that never ends.
                    return Err(Refused::Told(StatusCode::BAD_REQUEST, "this is no HTTP request body".into()));
                }
                self.read_more(deadline)?;
            }
        }
        Ok((body, reply.proceed()?))
    }

    fn read_more(&mut self, deadline: Instant) -> io::Result<()> {
        let mut piece = [0; READ_BYTES];
        self.stream.set_read_timeout(Some(time_left(deadline)?))?;
        let length = loop {
            match (&mut &*self.stream).read(&mut piece) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        if length == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.received.extend_from_slice(piece.get(..length).unwrap_or_default());
        Ok(())
    }

    fn write_all(&self, mut bytes: &[u8], deadline: Instant) -> io::Result<()> {
        while !bytes.is_empty() {
            self.stream.set_write_timeout(Some(time_left(deadline)?))?;
            match (&mut &*self.stream).write(bytes) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Sends an answer; whether the connection can be used again.
    fn send(&self, reply: Reply<ProvideResponse>, answer: Answer, head_only: bool) -> io::Result<bool> {
        let deadline = Instant::now() + self.limits.transfer;
        let (status, body) = (answer.status, &answer.body);
        let mut response = Response::new(());
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert("content-length", HeaderValue::from(body.len()));
        headers.insert("content-type", HeaderValue::from_static(answer.content_type));
        headers.insert("cache-control", HeaderValue::from_static("no-store"));
        for (name, value) in &answer.headers {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
        let mut reply = reply.provide(response).map_err(io::Error::other)?;
        let mut out = vec![0; ANSWER_HEAD_BYTES];
        let length = reply.write(&mut out).map_err(io::Error::other)?;
        if !reply.is_finished() {
            return Err(io::Error::other("the head of an answer is too long"));
        }
        out.truncate(length);
        let cleanup = match reply.proceed() {
            SendResponseResult::Cleanup(cleanup) => cleanup,
            SendResponseResult::SendBody(mut reply) => {
                reply.consume_direct_write(body.len()).map_err(io::Error::other)?;
                reply.proceed()
            }
        };
        if !head_only {
            out.extend_from_slice(body);
        }
        self.write_all(&out, deadline)?;
        Ok(!cleanup.must_close_connection())
    }

    /// Tells why there will be no more, so that the other side gets to see it, and closes.
    fn refuse(&mut self, status: StatusCode, text: &str) {
        let head = format!(
            "HTTP/1.1 {} {}\r\nconnection: close\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\n\r\n",
            status.as_str(),
            status.canonical_reason().unwrap_or_default(),
            text.len() + 1,
        );
        let deadline = Instant::now() + MAX_LINGER;
        // Who does not want to hear it does not.
        if self.write_all(format!("{head}{text}\n").as_bytes(), deadline).is_err()
            || self.stream.shutdown(Shutdown::Write).is_err()
        {
            return;
        }
        // To close while there is something unread resets the connection, and the answer with it.
        let mut thrown_away = 0;
        while thrown_away < MAX_LINGER_BYTES {
            self.received.clear();
            if self.read_more(deadline).is_err() {
                return;
            }
            thrown_away += self.received.len();
        }
    }
}

fn time_left(deadline: Instant) -> io::Result<Duration> {
    match deadline.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(ErrorKind::TimedOut.into()),
        left => Ok(left),
    }
}
