//! From an address to a socket. Looking a name up cannot be interrupted, and neither can a connection that is being made:
//! both are done by a thread of their own, at most one a peer, which its caller leaves behind when it has waited enough.

use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{bounded, select};

use super::ProbeError;
use super::plug::Stop;
use crate::address::Address;

/// How long each address of a peer is tried.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);
/// The most addresses of a name that are tried.
const MAX_ADDRESSES: usize = 8;

/// Whether a peer is being dialled.
#[derive(Clone, Default)]
pub(super) struct Dialling(Arc<AtomicBool>);

/// Held while a peer is being dialled.
struct Busy(Dialling);

impl Dialling {
    fn begin(&self) -> Option<Busy> {
        (!self.0.swap(true, Ordering::AcqRel)).then(|| Busy(self.clone()))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.0.store(false, Ordering::Release);
    }
}

/// A connection to this address.
pub(super) fn dial(
    address: &Address,
    dialling: &Dialling,
    stop: &Stop,
    deadline: Instant,
) -> Result<TcpStream, ProbeError> {
    let unreachable = |why: String| ProbeError::Unreachable(why);
    let busy = dialling.begin().ok_or_else(|| unreachable(format!("{address} is still being dialled")))?;
    let (sender, receiver) = bounded(1);
    let wanted = address.clone();
    std::thread::Builder::new()
        .name("dkg-tcp-dial".into())
        .spawn(move || {
            let _busy = busy;
            // If nobody waits any more, the connection is closed again.
            let _ = sender.send(try_all(&wanted));
        })
        .map_err(|error| unreachable(format!("no thread to dial {address} with: {error}")))?;
    select! {
        recv(receiver) -> dialled => match dialled {
            Ok(result) => result.map_err(unreachable),
            Err(_) => Err(unreachable(format!("dialling {address} has failed"))),
        },
        recv(stop.stopped()) -> _ => Err(ProbeError::ShutDown),
        default(deadline.saturating_duration_since(Instant::now())) => {
            Err(unreachable(format!("{address} has not answered in time")))
        }
    }
}

fn try_all(address: &Address) -> Result<TcpStream, String> {
    let resolved =
        address.as_str().to_socket_addrs().map_err(|error| format!("{address} cannot be looked up: {error}"))?;
    let mut why = format!("{address} has no address");
    for resolved in resolved.take(MAX_ADDRESSES) {
        match try_one(resolved) {
            Ok(stream) => return Ok(stream),
            Err(error) => why = format!("{resolved}: {error}"),
        }
    }
    Err(why)
}

fn try_one(address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, CONNECT_LIMIT)?;
    // Where nobody listens on this machine, a socket can happen to reach itself.
    if stream.local_addr()? == stream.peer_addr()? {
        return Err(std::io::ErrorKind::ConnectionRefused.into());
    }
    Ok(stream)
}
