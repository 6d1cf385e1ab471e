//! From an address to a socket. Looking a name up cannot be interrupted, and neither can a connection that is being made:
//! both are done by a thread of their own, of which there are few, and which its caller leaves behind when it has waited enough.

use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, select};
use parking_lot::Mutex;

/// How long each address of a name is tried.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);
/// The most addresses of a name that are tried.
const MAX_ADDRESSES: usize = 8;

/// Something that ends once.
pub(crate) struct Stop {
    /// Dropped when it ends.
    running: Mutex<Option<Sender<()>>>,
    stopped: Receiver<()>,
}

impl Stop {
    pub(crate) fn new() -> Self {
        let (running, stopped) = bounded(0);
        Stop { running: Mutex::new(Some(running)), stopped }
    }

    pub(crate) fn stop(&self) {
        drop(self.running.lock().take());
    }

    #[cfg_attr(not(feature = "tcp"), allow(dead_code, reason = "who has another flag does not ask"))]
    pub(crate) fn is_stopped(&self) -> bool {
        self.running.lock().is_none()
    }

    /// What is disconnected when it ends; nothing is ever sent on it.
    pub(crate) fn stopped(&self) -> &Receiver<()> {
        &self.stopped
    }
}

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DialError {
    /// Nobody wants it any more.
    Stopped,
    /// In words.
    Failed(String),
}

/// Who dials, and how many of its threads are at it.
#[derive(Clone, Debug)]
pub(crate) struct Dialling {
    going_on: Arc<AtomicUsize>,
    most: usize,
}

/// Held while a thread dials.
struct Busy(Dialling);

impl Dialling {
    /// At most so many at once, those that were left behind among them.
    pub(crate) fn at_most(most: usize) -> Self {
        Dialling { going_on: Arc::default(), most }
    }

    fn begin(&self) -> Option<Busy> {
        let one_more = |now: usize| (now < self.most).then_some(now + 1);
        self.going_on.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more).ok().map(|_| Busy(self.clone()))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.going_on.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A connection to `address` (`host:port`), within so long and before `stopped`.
pub(crate) fn dial(
    address: &str,
    dialling: &Dialling,
    stopped: &Receiver<()>,
    limit: Duration,
) -> Result<TcpStream, DialError> {
    let wanted = address.to_owned();
    leaving_behind(address, dialling, stopped, limit, move || try_all(&wanted, limit))
}

/// Does `work` on a thread of its own, which is left behind when it takes too long or `stopped` is disconnected.
fn leaving_behind<T: Send + 'static>(
    address: &str,
    dialling: &Dialling,
    stopped: &Receiver<()>,
    limit: Duration,
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, DialError> {
    let failed = |why: String| DialError::Failed(why);
    let busy = dialling.begin().ok_or_else(|| failed(format!("{address} is still being dialled")))?;
    let (sender, receiver) = bounded(1);
    std::thread::Builder::new()
        .name("dkg-dial".into())
        .spawn(move || {
            let _busy = busy;
            // If nobody waits any more, the connection is closed again.
            let _ = sender.send(work());
        })
        .map_err(|error| failed(format!("no thread to dial {address} with: {error}")))?;
    select! {
        recv(receiver) -> dialled => match dialled {
            Ok(result) => result.map_err(failed),
            Err(_) => Err(failed(format!("dialling {address} has failed"))),
        },
        recv(stopped) -> _ => Err(DialError::Stopped),
        default(limit) => Err(failed(format!(
            "{address} has not answered in time, or its name was not found in {} ms", limit.as_millis()
        ))),
    }
}

fn try_all(address: &str, limit: Duration) -> Result<TcpStream, String> {
    let resolved = address.to_socket_addrs().map_err(|error| format!("{address} cannot be looked up: {error}"))?;
    let resolved: Vec<_> = resolved.take(MAX_ADDRESSES).collect();
    // So that one that does not answer leaves time for the others.
    let each = limit.checked_div(u32::try_from(resolved.len()).unwrap_or(1)).unwrap_or(limit).min(CONNECT_LIMIT);
    let mut why = format!("{address} has no address");
    for resolved in resolved {
        match try_one(resolved, each) {
            Ok(stream) => return Ok(stream),
            Err(error) => why = format!("{resolved}: {error}"),
        }
    }
    Err(why)
}

fn try_one(address: SocketAddr, limit: Duration) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, limit.max(Duration::from_millis(1)))?;
    // Where nobody listens on this machine, a socket can happen to reach itself.
    if stream.local_addr()? == stream.peer_addr()? {
        return Err(std::io::ErrorKind::ConnectionRefused.into());
    }
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What hangs until the test is over, as a look-up can.
    fn hanging(until: &Receiver<()>) -> impl FnOnce() -> Result<(), String> + Send + 'static {
        let until = until.clone();
        move || {
            let _ = until.recv();
            Ok(())
        }
    }

    #[test]
    fn a_look_up_that_hangs_holds_nobody_and_is_one_of_few() {
        let (over, until) = bounded(0);
        let (stop, dialling) = (Stop::new(), Dialling::at_most(2));
        let soon = Duration::from_millis(1);
        let dial = |limit| leaving_behind("log:1", &dialling, stop.stopped(), limit, hanging(&until));
        for _ in 0..2 {
            assert!(
                matches!(dial(soon), Err(DialError::Failed(why)) if why.contains("log:1") && why.contains("in time"))
            );
        }
        assert_eq!(dial(soon), Err(DialError::Failed("log:1 is still being dialled".to_owned())));
        let one_more = Dialling::at_most(1);
        let waiting = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                leaving_behind("log:1", &one_more, stop.stopped(), Duration::from_secs(600), hanging(&until))
            });
            stop.stop();
            waiting.join().ok()
        });
        assert_eq!(waiting, Some(Err(DialError::Stopped)));
        // Those that were left behind end, and there is room again.
        drop(over);
        while dialling.begin().is_none() {
            std::thread::yield_now();
        }
    }
}
