//! The thread that accepts connections, and those that serve them.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use ureq_proto::http::StatusCode;

use crate::http::connection::{Host, serve};
use crate::http::{Answer, Limits, Peer, Rates, Request, Seating, Seats, Service};
use crate::listen::listen;

/// How much memory the stack of a connection's thread may come to.
const STACK_BYTES: usize = 512 * 1024;
/// How long a connection may take to make room for another.
const MAX_LEAVE: Duration = Duration::from_millis(500);
/// How long the accepting thread pauses when the system has no more sockets to give.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What has happened to a server since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct HttpCounts {
    /// Connections at present.
    pub(crate) connections: usize,
    /// Connections accepted.
    pub(crate) accepted: u64,
    /// Idle connections closed to make room for others.
    pub(crate) displaced: u64,
    /// Connections turned away because nobody could make room.
    pub(crate) turned_away: u64,
    /// What was no request: garbage, too long, too slow.
    pub(crate) malformed: u64,
    /// Requests over their peer's rate.
    pub(crate) over_rate: u64,
}

/// A running server. Dropping it stops it.
pub(crate) struct HttpServer {
    shared: Arc<Shared>,
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    service: Arc<dyn Service>,
    limits: Limits,
    started: Instant,
    stopping: AtomicBool,
    rates: Mutex<Rates>,
    room: Mutex<Room>,
    /// Told when somebody has left.
    left: Condvar,
    accepted: AtomicU64,
    displaced: AtomicU64,
    turned_away: AtomicU64,
    malformed: AtomicU64,
    over_rate: AtomicU64,
}

struct Room {
    seats: Seats,
    streams: HashMap<u64, Arc<TcpStream>>,
}

impl HttpServer {
    /// Listens there (port 0: any free port) and serves from now on. `name` is for the threads.
    ///
    /// # Errors
    /// The address cannot be listened on, or the operating system gives no thread.
    pub(crate) fn start(
        name: &'static str,
        (listen_at, setting): (SocketAddr, &str),
        limits: Limits,
        service: Arc<dyn Service>,
    ) -> io::Result<Self> {
        let listener = listen(listen_at, setting)?;
        let address = listener.local_addr()?;
        let seats = Seats::new(limits.connections, limits.connections_per_peer);
        let shared = Arc::new(Shared {
            service,
            started: Instant::now(),
            stopping: AtomicBool::new(false),
            rates: Mutex::new(Rates::new(limits.requests_per_second, limits.burst)),
            room: Mutex::new(Room { seats, streams: HashMap::new() }),
            left: Condvar::new(),
            limits,
            accepted: AtomicU64::new(0),
            displaced: AtomicU64::new(0),
            turned_away: AtomicU64::new(0),
            malformed: AtomicU64::new(0),
            over_rate: AtomicU64::new(0),
        });
        let accepting = Arc::clone(&shared);
        let thread =
            std::thread::Builder::new().name(name.into()).spawn(move || accept(&accepting, &listener, name))?;
        Ok(HttpServer { shared, address, thread: Some(thread) })
    }

    /// Where it listens.
    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// What has happened so far.
    pub(crate) fn counts(&self) -> HttpCounts {
        self.shared.counts()
    }

    /// Accepts nobody any more, closes all connections, and returns when all their threads have ended: at once, but for
    /// requests that the service is still answering.
    pub(crate) fn stop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        let Some(thread) = self.thread.take() else { return };
        // Wakes the accepting thread; if it cannot be reached any more it is not waiting either.
        drop(TcpStream::connect_timeout(&reachable(self.address), MAX_LEAVE));
        let mut room = self.shared.room.lock();
        // The answers that are under way still go out, unless their receivers are slow to take them.
        let mut how = Shutdown::Read;
        while room.seats.taken() > 0 {
            room.streams.values().for_each(|stream| drop(stream.shutdown(how)));
            if self.shared.left.wait_for(&mut room, MAX_LEAVE).timed_out() {
                how = Shutdown::Both;
            }
        }
        drop(room);
        if thread.join().is_err() {
            log::error!("a thread that accepts connections panicked");
        }
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Where a socket that listens on all addresses can be reached.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
    }
    address
}

fn accept(shared: &Arc<Shared>, listener: &TcpListener, name: &'static str) {
    loop {
        let accepted = listener.accept();
        if shared.stopping.load(Ordering::SeqCst) {
            return;
        }
        match accepted {
            Ok((stream, from)) => {
                shared.accepted.fetch_add(1, Ordering::Relaxed);
                let peer = Peer::from(from.ip());
                let stream = Arc::new(stream);
                match shared.seat(peer, &stream) {
                    Some(guest) => start(guest, stream, name),
                    None => drop(shared.turned_away.fetch_add(1, Ordering::Relaxed)),
                }
            }
            Err(error) => {
                // The other side was gone again, or the process has too many files open: the next one may do.
                log::debug!("a connection could not be accepted: {error}");
                std::thread::sleep(ACCEPT_PAUSE);
            }
        }
    }
}

fn start(guest: Guest, stream: Arc<TcpStream>, name: &'static str) {
    // Without it small answers wait for the other side's acknowledgements.
    let _ = stream.set_nodelay(true);
    let builder = std::thread::Builder::new().name(format!("{name}-serve")).stack_size(STACK_BYTES);
    if let Err(error) = builder.spawn(move || serve(&stream, guest.peer, &guest)) {
        log::warn!("no thread for a connection: {error}");
    }
}

impl Shared {
    fn counts(&self) -> HttpCounts {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        HttpCounts {
            connections: self.room.lock().seats.taken(),
            accepted: load(&self.accepted),
            displaced: load(&self.displaced),
            turned_away: load(&self.turned_away),
            malformed: load(&self.malformed),
            over_rate: load(&self.over_rate),
        }
    }

    /// A place for a connection, if need be after somebody else has left.
    fn seat(self: &Arc<Self>, peer: Peer, stream: &Arc<TcpStream>) -> Option<Guest> {
        let deadline = Instant::now() + MAX_LEAVE;
        let mut room = self.room.lock();
        loop {
            match room.seats.take(peer) {
                Seating::Seated(number) => {
                    room.streams.insert(number, Arc::clone(stream));
                    return Some(Guest { shared: Arc::clone(self), number, peer });
                }
                Seating::After(number) => {
                    if let Some(stream) = room.streams.remove(&number) {
                        self.displaced.fetch_add(1, Ordering::Relaxed);
                        drop(stream.shutdown(Shutdown::Both));
                    }
                    if self.left.wait_until(&mut room, deadline).timed_out() {
                        return None;
                    }
                }
                Seating::Full => return None,
            }
        }
    }
}

/// One connection's place; it is free again when this is dropped, also if its thread panics.
struct Guest {
    shared: Arc<Shared>,
    number: u64,
    peer: Peer,
}

impl Guest {
    fn set_serving(&self, serving: bool) {
        self.shared.room.lock().seats.set_serving(self.number, serving);
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut room = self.shared.room.lock();
        room.seats.leave(self.number);
        room.streams.remove(&self.number);
        drop(room);
        self.shared.left.notify_all();
    }
}

impl Host for Guest {
    fn limits(&self) -> &Limits {
        &self.shared.limits
    }

    fn is_stopping(&self) -> bool {
        self.shared.stopping.load(Ordering::SeqCst)
    }

    fn received(&self) {
        self.set_serving(true);
    }

    fn answered(&self) {
        self.set_serving(false);
    }

    fn answer(&self, request: &Request) -> Answer {
        let now_ms = u64::try_from(self.shared.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        if self.shared.rates.lock().allow(request.peer, now_ms) {
            return self.shared.service.answer(request, &|| self.shared.counts());
        }
        self.shared.over_rate.fetch_add(1, Ordering::Relaxed);
        let limits = &self.shared.limits;
        let text = format!("too many requests: {} a second from one address are served", limits.requests_per_second);
        Answer::text(StatusCode::TOO_MANY_REQUESTS, text).with("retry-after", "1")
    }

    fn refused(&self) {
        self.shared.malformed.fetch_add(1, Ordering::Relaxed);
    }
}
