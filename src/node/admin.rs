//! How commands on the same machine talk to a running node: one line of JSON each way, over a socket in its data folder that
//! only its user can open. Signing happens here and nowhere else, since whoever can make a node sign speaks in its name.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Status;
use super::probe::PeerCheck;
use super::signing::SignatureShare;

/// The most bytes of a request or an answer; the status of 254 members has some 200,000.
pub const MAX_ADMIN_BYTES: u64 = 4 << 20;
/// How long either side waits for the other; peers that are asked for a sign of life have some time.
const PATIENCE: Duration = Duration::from_secs(30);

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

/// One line, without its end.
fn read_line(stream: impl Read) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    BufReader::new(stream.take(MAX_ADMIN_BYTES)).read_until(b'\n', &mut line)?;
    if line.pop() == Some(b'\n') {
        Ok(line)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, "the line was cut off, or is too long"))
    }
}

fn write_line(mut stream: impl Write, value: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    stream.write_all(&line)
}

#[cfg(unix)]
pub use unix::{Admin, ask};

#[cfg(unix)]
mod unix {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread::JoinHandle;

    use super::*;

    /// The thread that answers at a node's socket. Dropping it ends it.
    pub struct Admin {
        socket: PathBuf,
        stopped: Arc<AtomicBool>,
        thread: Option<JoinHandle<()>>,
    }

    impl Admin {
        /// Answers at `socket`, whatever an earlier life has left there: the store's lock says that it is over.
        pub(in super::super) fn start(socket: &Path, desk: Arc<dyn Desk>) -> Result<Admin, AdminError> {
            let failed = io_error(socket);
            match fs::remove_file(socket) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
                _ => {}
            }
            let listener = UnixListener::bind(socket).map_err(&failed)?;
            fs::set_permissions(socket, fs::Permissions::from_mode(0o600)).map_err(&failed)?;
            let stopped = Arc::new(AtomicBool::new(false));
            let is_stopped = Arc::clone(&stopped);
            let serve = move || {
                for stream in listener.incoming() {
                    if is_stopped.load(Ordering::SeqCst) {
                        return;
                    }
                    // Whoever asks and does not listen is this user's own business.
                    let _ = stream.and_then(|stream| serve(&stream, &*desk));
                }
            };
            let thread = std::thread::Builder::new().name("dkg-admin".to_owned()).spawn(serve).map_err(&failed)?;
            Ok(Admin { socket: socket.to_owned(), stopped, thread: Some(thread) })
        }
    }

    impl Drop for Admin {
        fn drop(&mut self) {
            self.stopped.store(true, Ordering::SeqCst);
            // Wakes the thread.
            if UnixStream::connect(&self.socket).is_ok()
                && let Some(thread) = self.thread.take()
            {
                let _ = thread.join();
            }
            let _ = fs::remove_file(&self.socket);
        }
    }

    fn serve(stream: &UnixStream, desk: &dyn Desk) -> io::Result<()> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let answer = match serde_json::from_slice(&read_line(stream)?) {
            Ok(request) => desk.answer(request),
            Err(error) => Answer::Refused(format!("the request makes no sense: {error}")),
        };
        write_line(stream, &answer)
    }

    /// Asks the node that runs on the data folder with this socket.
    ///
    /// # Errors
    /// None runs there, or it does not answer.
    pub fn ask(socket: &Path, request: &Request) -> Result<Answer, AdminError> {
        let failed = io_error(socket);
        let stream = UnixStream::connect(socket).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => AdminError::NotRunning(socket.to_owned()),
            _ => failed(error),
        })?;
        let asked = (|| {
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            write_line(&stream, request)?;
            Ok(serde_json::from_slice(&read_line(&stream)?)?)
        })();
        asked.map_err(io_error(socket))
    }
}

#[cfg(not(unix))]
pub use elsewhere::{Admin, ask};

#[cfg(not(unix))]
mod elsewhere {
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
