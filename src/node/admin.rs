//! How commands on the same machine talk to a running node: one line of JSON each way, over a socket in its data folder that
//! only its user can open. Signing happens here and nowhere else, since whoever can make a node sign speaks in its name.

use std::io;
#[cfg(unix)]
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Status;
use super::probe::PeerCheck;
use super::signing::SignatureShare;
use crate::store::Backup;

/// The most bytes of a request or an answer; the status of 254 members has some 200,000.
pub const MAX_ADMIN_BYTES: u64 = 4 << 20;
/// The most clients that a node serves at once, a thread each. Commands ask one thing and go; who comes when all are taken is told so
/// at once.
const ADMIN_CLIENTS: usize = 8;
/// How long a whole request may take, from the connection on to the end of its answer. Asking all peers for a sign of life takes some
/// seconds of it.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);
/// How long a command waits for its answer.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long a node that stops waits for the threads of requests whose connections it has closed.
const LEAVE_LIMIT: Duration = Duration::from_millis(500);
/// How long accepting pauses when the system has no more to give.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What is asked of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Show what there is to see.
    Status,
    /// Ask every other member for a sign of life.
    Probe,
    /// Sign with the key of an epoch.
    Sign {
        /// The epoch.
        epoch: u64,
        /// The message, in hex.
        message: String,
        /// The domain tag.
        tag: String,
    },
    /// Back an epoch's share up.
    Export {
        /// The epoch.
        epoch: u64,
    },
    /// Tell what entries there are in the node's copy of the log, from a position on, a bounded piece at a time.
    Copy {
        /// The position.
        from: u64,
    },
}

/// What a node answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// What there is to see.
    Status(Box<Status>),
    /// Who is there.
    Probed(Vec<PeerCheck>),
    /// A share of a signature.
    Signed(Box<SignatureShare>),
    /// A backup under what opens the node's store: whoever can reach the socket and nothing more has nothing in it.
    Exported(Box<Backup>),
    /// A piece of the node's copy of the log.
    Copied {
        /// How many entries the copy has.
        end: u64,
        /// How many of them more than `t` members have vouched for.
        vouched: u64,
        /// The SHA3-256 digests of the piece's entries, in hex.
        digests: Vec<String>,
    },
    /// Why not.
    Refused(String),
}

/// Who answers.
pub(super) trait Desk: Send + Sync {
    fn answer(&self, request: Request) -> Answer;
}

/// Why a node did not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdminError {
    /// No node runs on this folder.
    #[error("no node runs on {}; start it with `dkg node`", .0.display())]
    NotRunning(PathBuf),
    /// The connection to it fails.
    #[error("the node at {}: {reason}", socket.display())]
    Io {
        /// Its socket.
        socket: PathBuf,
        /// What fails.
        reason: String,
    },
}

fn io_error(path: &Path) -> impl Fn(io::Error) -> AdminError {
    let path = path.to_owned();
    move |error| AdminError::Io { socket: path.clone(), reason: error.to_string() }
}

#[cfg(unix)]
pub use unix::{Admin, ask};

#[cfg(unix)]
mod unix {
    use std::collections::HashMap;
    use std::fs;
    use std::net::Shutdown;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::thread::JoinHandle;
    use std::time::Instant;

    use parking_lot::{Condvar, Mutex};

    use super::super::socket;
    use super::*;

    /// The threads that answer at a node's socket. Dropping it ends them.
    pub struct Admin {
        socket: PathBuf,
        room: Arc<Room>,
        thread: Option<JoinHandle<()>>,
    }

    /// Those who are being served.
    #[derive(Default)]
    struct Room {
        seats: Mutex<Seats>,
        /// Told when somebody has left.
        left: Condvar,
    }

    #[derive(Default)]
    struct Seats {
        closed: bool,
        next: u64,
        taken: HashMap<u64, Arc<UnixStream>>,
    }

    /// One client's place; it is free again when this is dropped, also if its thread panics.
    struct Seat {
        room: Arc<Room>,
        number: u64,
    }

    impl Room {
        /// A place for this client, if there is one.
        fn seat(self: &Arc<Self>, stream: &Arc<UnixStream>) -> Option<Seat> {
            let mut seats = self.seats.lock();
            if seats.closed || seats.taken.len() >= ADMIN_CLIENTS {
                return None;
            }
            let number = seats.next;
            seats.next += 1;
            seats.taken.insert(number, Arc::clone(stream));
            Some(Seat { room: Arc::clone(self), number })
        }

        fn is_closed(&self) -> bool {
            self.seats.lock().closed
        }

        /// Lets nobody in any more, and ends all connections.
        fn close(&self) {
            let mut seats = self.seats.lock();
            seats.closed = true;
            // Who is gone already is gone.
            seats.taken.values().for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
        }

        /// Waits until all have left, but not for long: who asks other members for a sign of life ends by itself.
        fn wait_until_empty(&self) {
            let deadline = Instant::now() + LEAVE_LIMIT;
            let mut seats = self.seats.lock();
            while !seats.taken.is_empty() && !self.left.wait_until(&mut seats, deadline).timed_out() {}
        }
    }

    impl Drop for Seat {
        fn drop(&mut self) {
            self.room.seats.lock().taken.remove(&self.number);
            self.room.left.notify_all();
        }
    }

    impl Admin {
        /// Answers at `socket`, whatever an earlier life has left there: the store's lock says that it is over.
        pub(in super::super) fn start(socket: &Path, desk: Arc<dyn Desk>) -> Result<Admin, AdminError> {
            Admin::with_limit(socket, desk, REQUEST_LIMIT)
        }

        fn with_limit(socket: &Path, desk: Arc<dyn Desk>, limit: Duration) -> Result<Admin, AdminError> {
            let failed = io_error(socket);
            match fs::remove_file(socket) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
                _ => {}
            }
            let listener = socket::bind(socket).map_err(&failed)?;
            fs::set_permissions(socket, fs::Permissions::from_mode(0o600)).map_err(&failed)?;
            let room = Arc::new(Room::default());
            let accepting = Arc::clone(&room);
            let accept = move || accept(&listener, &accepting, &desk, limit);
            let thread = std::thread::Builder::new().name("dkg-admin".to_owned()).spawn(accept).map_err(&failed)?;
            Ok(Admin { socket: socket.to_owned(), room, thread: Some(thread) })
        }
    }

    impl Drop for Admin {
        fn drop(&mut self) {
            self.room.close();
            // Wakes the thread.
            if socket::connect(&self.socket).is_ok()
                && let Some(thread) = self.thread.take()
            {
                let _ = thread.join();
            }
            self.room.wait_until_empty();
            let _ = fs::remove_file(&self.socket);
        }
    }

    fn accept(listener: &UnixListener, room: &Arc<Room>, desk: &Arc<dyn Desk>, limit: Duration) {
        loop {
            let accepted = listener.accept();
            if room.is_closed() {
                return;
            }
            match accepted {
                Ok((stream, _)) => admit(stream, room, desk, limit),
                Err(error) => {
                    log::warn!("a command could not be let in: {error}");
                    std::thread::sleep(ACCEPT_PAUSE);
                }
            }
        }
    }

    /// Gives a client a thread, or tells it that there is none.
    fn admit(stream: UnixStream, room: &Arc<Room>, desk: &Arc<dyn Desk>, limit: Duration) {
        let stream = Arc::new(stream);
        let Some(seat) = room.seat(&stream) else {
            let busy = format!("this node is answering {ADMIN_CLIENTS} commands already; try again in a moment");
            // So short an answer has room in the socket, whether the client listens or not.
            let _ = Line::until(&stream, Instant::now() + ACCEPT_PAUSE).write(&Answer::Refused(busy));
            return;
        };
        let (desk, deadline) = (Arc::clone(desk), Instant::now() + limit);
        let serve = move || {
            let _seat = seat;
            // Whoever asks and does not listen is this user's own business.
            let _ = serve(&stream, &*desk, deadline);
        };
        if let Err(error) = std::thread::Builder::new().name("dkg-admin-serve".to_owned()).spawn(serve) {
            log::warn!("no thread for a command: {error}");
        }
    }

    fn serve(stream: &UnixStream, desk: &dyn Desk, deadline: Instant) -> io::Result<()> {
        let mut line = Line::until(stream, deadline);
        let answer = match serde_json::from_slice(&line.read()?) {
            Ok(request) => desk.answer(request),
            Err(error) => Answer::Refused(format!("the request makes no sense: {error}")),
        };
        line.write(&answer)
    }

    /// Lines over a connection, all by one deadline, however slowly the bytes come and go.
    struct Line<'a> {
        stream: &'a UnixStream,
        deadline: Instant,
    }

    impl<'a> Line<'a> {
        fn until(stream: &'a UnixStream, deadline: Instant) -> Self {
            Line { stream, deadline }
        }

        fn time_left(&self) -> io::Result<Duration> {
            match self.deadline.saturating_duration_since(Instant::now()) {
                Duration::ZERO => Err(io::ErrorKind::TimedOut.into()),
                left => Ok(left),
            }
        }

        /// One line, without its end.
        fn read(&mut self) -> io::Result<Vec<u8>> {
            let mut line = Vec::new();
            BufReader::new(self.take(MAX_ADMIN_BYTES)).read_until(b'\n', &mut line)?;
            if line.pop() == Some(b'\n') {
                Ok(line)
            } else {
                Err(io::Error::new(io::ErrorKind::InvalidData, "the line was cut off, or is too long"))
            }
        }

        fn write(&mut self, value: &impl Serialize) -> io::Result<()> {
            let mut line = serde_json::to_vec(value)?;
            line.push(b'\n');
            self.write_all(&line)
        }
    }

    impl Read for &mut Line<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.stream.set_read_timeout(Some(self.time_left()?))?;
            let mut stream = self.stream;
            stream.read(buffer)
        }
    }

    impl Write for Line<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.stream.set_write_timeout(Some(self.time_left()?))?;
            let mut stream = self.stream;
            stream.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Asks the node that runs on the data folder with this socket.
    ///
    /// # Errors
    /// None runs there, or it does not answer.
    pub fn ask(socket: &Path, request: &Request) -> Result<Answer, AdminError> {
        let failed = io_error(socket);
        let stream = socket::connect(socket).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => AdminError::NotRunning(socket.to_owned()),
            _ => failed(error),
        })?;
        let asked = (|| {
            let mut line = Line::until(&stream, Instant::now() + PATIENCE);
            // A node that is too busy to listen has said so, and closed.
            let written = line.write(request);
            let answer = line.read().or_else(|error| written.and(Err(error)))?;
            Ok(serde_json::from_slice(&answer)?)
        })();
        asked.map_err(io_error(socket))
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        struct Parrot;

        impl super::super::Desk for Parrot {
            fn answer(&self, request: Request) -> Answer {
                Answer::Refused(format!("{request:?}"))
            }
        }

        /// A socket of this test's own, with a short path.
        fn socket(name: &str) -> PathBuf {
            std::env::temp_dir().join(format!("dkg-{name}-{}.sock", std::process::id()))
        }

        fn said(socket: &Path) -> String {
            match ask(socket, &Request::Status) {
                Ok(Answer::Refused(text)) => text,
                other => panic!("{other:?}"),
            }
        }

        #[test]
        fn silent_clients_keep_neither_a_command_waiting_nor_a_stop() {
            let socket = socket("silent");
            let admin = Admin::start(&socket, Arc::new(Parrot)).expect("a socket");
            assert_eq!(said(&socket), "Status");
            let begun = Instant::now();
            let silent: Vec<_> = (0..ADMIN_CLIENTS).map(|_| UnixStream::connect(&socket).expect("a seat")).collect();
            let text = said(&socket);
            assert!(text.contains("answering 8 commands already"), "{text}");
            drop(admin);
            assert!(begun.elapsed() < REQUEST_LIMIT / 4, "{:?}", begun.elapsed());
            // Their connections are closed.
            for mut stream in silent {
                assert!(matches!(stream.read(&mut [0; 1]), Ok(0) | Err(_)));
            }
            assert_eq!(ask(&socket, &Request::Status).err(), Some(AdminError::NotRunning(socket)));
        }

        #[test]
        fn who_trickles_has_one_deadline_for_all_of_it_and_its_place_is_free_then() {
            let socket = socket("trickle");
            let limit = Duration::from_millis(200);
            let admin = Admin::with_limit(&socket, Arc::new(Parrot), limit).expect("a socket");
            let begun = Instant::now();
            let clients: Vec<_> = (0..ADMIN_CLIENTS).map(|_| UnixStream::connect(&socket).expect("a seat")).collect();
            for mut client in clients {
                client.set_read_timeout(Some(limit / 20)).expect("a timeout");
                // A blank after each pause, for as long as the other side listens.
                let is_open = |client: &mut UnixStream| match client.read(&mut [0; 1]) {
                    Err(error) => error.kind() == io::ErrorKind::WouldBlock,
                    Ok(_) => false,
                };
                while is_open(&mut client) && client.write_all(b" ").is_ok() {}
            }
            assert!(begun.elapsed() < limit * 20, "{:?}", begun.elapsed());
            admin.room.wait_until_empty();
            assert_eq!(said(&socket), "Status");
        }
    }
}

#[cfg(not(unix))]
pub use elsewhere::{Admin, ask};

#[cfg(not(unix))]
mod elsewhere {
    use super::super::socket;
    use super::*;

    /// There are no such sockets on this system: a node runs without.
    pub struct Admin;

    impl Admin {
        pub(in super::super) fn start(_: &Path, _: Arc<dyn Desk>) -> Result<Admin, AdminError> {
            Ok(Admin)
        }
    }

    /// There are no such sockets on this system.
    ///
    /// # Errors
    /// Always.
    pub fn ask(socket: &Path, _: &Request) -> Result<Answer, AdminError> {
        Err(AdminError::NotRunning(socket.to_owned()))
    }
}
