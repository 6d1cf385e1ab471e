//! Sockets that can be closed from elsewhere, at once, whatever their threads are waiting for.

use std::collections::BTreeMap;
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;

use crossbeam_channel::Receiver;
use parking_lot::Mutex;

use crate::dial::Stop;

/// A socket, and the way to close it under its thread's hands.
pub(super) struct Plug {
    stream: TcpStream,
    stop: Stop,
}

impl Plug {
    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// What is disconnected when the plug is pulled.
    pub(super) fn pulled(&self) -> &Receiver<()> {
        self.stop.stopped()
    }

    /// Ends all reading, writing and waiting on this connection.
    pub(super) fn pull(&self) {
        // It may be closed already. First, so that whoever stops waiting finds it closed.
        let _ = self.stream.shutdown(Shutdown::Both);
        self.stop.stop();
    }
}

/// All sockets of a network.
#[derive(Default)]
pub(super) struct Sockets {
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    shut_down: bool,
    next: u64,
    plugs: BTreeMap<u64, Arc<Plug>>,
}

/// A socket as long as it is in use. Dropping this closes it.
pub(super) struct Socket {
    plug: Arc<Plug>,
    number: u64,
    sockets: Arc<Sockets>,
}

impl Sockets {
    /// Takes a socket in; `None` if all are closed for good.
    pub(super) fn plug_in(self: &Arc<Self>, stream: TcpStream) -> Option<Socket> {
        let mut open = self.open.lock();
        if open.shut_down {
            return None;
        }
        let number = open.next;
        open.next += 1;
        let plug = Arc::new(Plug { stream, stop: Stop::new() });
        open.plugs.insert(number, Arc::clone(&plug));
        Some(Socket { plug, number, sockets: Arc::clone(self) })
    }

    /// Closes all sockets, and takes in no more.
    pub(super) fn shut_down(&self) {
        let mut open = self.open.lock();
        open.shut_down = true;
        open.plugs.values().for_each(|plug| plug.pull());
    }
}

impl Socket {
    pub(super) fn plug(&self) -> &Arc<Plug> {
        &self.plug
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.plug.pull();
        self.sockets.open.lock().plugs.remove(&self.number);
    }
}
