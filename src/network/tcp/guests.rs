//! Those who dial us: strangers until they have proven a member's key, one thread each, as many as the [`Door`] lets in.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded, select};
use parking_lot::{Condvar, Mutex};

use super::door::{ConnectionId, Door, Origin, Wait};
use super::frame::{Frame, Verdict, Why};
use super::link::{Link, LinkError};
use super::pace::Pace;
use super::peer::Peer;
use super::plug::{Plug, Socket};
use super::{ProbeError, Shared, TcpLimits, tls};
use crate::committee::NodeId;
use crate::envelope::PrivateMessage;
use crate::network::{Delivery, Receipt};

/// How long nothing is accepted after the system has failed to hand over a connection, or to give a thread for it.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long a newcomer waits for the place of one that has to leave, which takes a thread's wake-up.
const PLACE_LIMIT: Duration = Duration::from_millis(500);
/// How many threads that have given back their place may still be ending.
const ENDING_THREADS: usize = 8;
/// How long to wait for one of those.
const REAP_PAUSE: Duration = Duration::from_millis(1);
/// How many frames a second are read from a member.
const FRAMES_PER_SECOND: u32 = 50;
/// How many frames are read from a member at once after a rest; more than an engine lets wait.
const FRAMES_BURST: u32 = 100;

/// The connections there are, and whoever waits for one to be gone.
pub(super) struct Guests {
    room: Mutex<Room>,
    left: Condvar,
}

struct Room {
    door: Door,
    plugs: BTreeMap<ConnectionId, Arc<Plug>>,
}

/// A place in the room, which is given back when the thread is done.
struct Place<'a> {
    guests: &'a Guests,
    id: ConnectionId,
}

impl Guests {
    pub(super) fn new(limits: &TcpLimits) -> Self {
        let door = Door::new(limits.strangers, limits.strangers_per_origin);
        Guests { room: Mutex::new(Room { door, plugs: BTreeMap::new() }), left: Condvar::new() }
    }

    /// Whether this member is connected to us.
    pub(super) fn has(&self, member: &NodeId) -> bool {
        self.room.lock().door.has(member)
    }

    /// Lets a stranger in, for which another may have to leave.
    fn enter(&self, origin: Origin, plug: &Arc<Plug>) -> Option<Place<'_>> {
        let id = self.retry(Instant::now() + PLACE_LIMIT, |room| {
            let (id, leaver) = room.door.enter(origin)?;
            room.plugs.insert(id, Arc::clone(plug));
            leaver.into_iter().for_each(|leaver| room.pull(leaver));
            Ok(id)
        });
        id.map(|id| Place { guests: self, id })
    }

    /// Does what may have to wait for somebody to leave, if it can be done in time.
    fn retry<R>(&self, deadline: Instant, mut act: impl FnMut(&mut Room) -> Result<R, Wait>) -> Option<R> {
        let mut room = self.room.lock();
        loop {
            match act(&mut room) {
                Ok(done) => return Some(done),
                Err(Wait::ForRoom) => {}
                Err(Wait::For(leaver)) => room.pull(leaver),
                Err(Wait::Never) => return None,
            }
            if self.left.wait_until(&mut room, deadline).timed_out() {
                return None;
            }
        }
    }
}

impl Room {
    /// Closes a connection; its place is free when its thread is done.
    fn pull(&self, id: ConnectionId) {
        self.plugs.get(&id).into_iter().for_each(|plug| plug.pull());
    }
}

impl Place<'_> {
    /// The stranger is this member; an older connection of its has to leave.
    fn recognise(&self, member: NodeId, deadline: Instant) -> bool {
        self.guests.retry(deadline, |room| room.door.recognise(self.id, member)).is_some()
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut room = self.guests.room.lock();
        room.door.left(self.id);
        room.plugs.remove(&self.id);
        self.guests.left.notify_all();
    }
}

/// The whole life of the thread that accepts; it ends after those of all its connections, whose sockets are closed by whoever
/// has stopped it.
pub(super) fn accept(shared: &Shared, listener: &TcpListener) {
    let mut works = true;
    let limit = 2 * shared.around.limits.strangers + shared.peers.len() + ENDING_THREADS;
    thread::scope(|scope| {
        let mut threads: Vec<ScopedJoinHandle<'_, ()>> = Vec::new();
        while !shared.around.stop.is_stopped() {
            let failed = match listener.accept() {
                Ok((stream, from)) => {
                    while !reap(&mut threads, limit) && rest(shared.around.stop.stopped(), REAP_PAUSE) {}
                    let_in(shared, scope, stream, from).map(|thread| threads.extend(thread)).err()
                }
                Err(error) => Some(error),
            };
            if let Some(error) = failed.as_ref().filter(|_| !shared.around.stop.is_stopped()) {
                if works {
                    log::warn!("no connection can be accepted just now: {error}");
                }
                rest(shared.around.stop.stopped(), ACCEPT_PAUSE);
            }
            works = failed.is_none();
        }
    });
}

/// Joins the threads that are done; whether there may be one more.
fn reap(threads: &mut Vec<ScopedJoinHandle<'_, ()>>, limit: usize) -> bool {
    for thread in threads.extract_if(.., |thread| thread.is_finished()) {
        // It has caught its panics.
        let _ = thread.join();
    }
    threads.len() < limit
}

fn let_in<'scope>(
    shared: &'scope Shared,
    scope: &'scope thread::Scope<'scope, '_>,
    stream: TcpStream,
    from: SocketAddr,
) -> std::io::Result<Option<ScopedJoinHandle<'scope, ()>>> {
    let Some(socket) = shared.around.sockets.plug_in(stream) else { return Ok(None) };
    let Some(place) = shared.guests.enter(Origin::of(from.ip()), socket.plug()) else {
        shared.strangers_refused.fetch_add(1, Ordering::Relaxed);
        return Ok(None);
    };
    let serve = move || {
        if catch_unwind(AssertUnwindSafe(|| serve(shared, &place, socket))).is_err() {
            log::error!("the thread that served {from} has panicked");
        }
    };
    thread::Builder::new().name("dkg-tcp-in".into()).spawn_scoped(scope, serve).map(Some)
}

/// The whole life of a connection's thread. The socket is closed before the place is free.
fn serve(shared: &Shared, place: &Place<'_>, socket: Socket) {
    let deadline = Instant::now() + shared.around.limits.handshake;
    let Some((peer, link)) = prove(shared, socket, deadline) else {
        shared.strangers_refused.fetch_add(1, Ordering::Relaxed);
        return;
    };
    if let Err(Parted { why, by_fault }) = attend(shared, place, peer, link, deadline) {
        log::debug!("a connection of {}: {why}", peer.node_id());
        peer.answering_failed(why.to_string());
        if by_fault {
            peer.refused();
        }
    }
}

/// Lets a stranger prove to be a member.
fn prove(shared: &Shared, socket: Socket, deadline: Instant) -> Option<(&Peer, Link)> {
    let link = Link::open(tls::answer(&shared.server).ok()?, socket, deadline).ok()?;
    let key = link.proven_key()?;
    Some((shared.peers.get(shared.keys.get(key.as_bytes())?)?, link))
}

/// Why a member is not served any more.
struct Parted {
    why: ProbeError,
    /// Whether it has broken the rules.
    by_fault: bool,
}

impl From<LinkError> for Parted {
    fn from(error: LinkError) -> Self {
        Parted { by_fault: error.is_violation(), why: error.into() }
    }
}

/// Serves a member as long as its connection lasts.
fn attend(shared: &Shared, place: &Place<'_>, peer: &Peer, mut link: Link, deadline: Instant) -> Result<(), Parted> {
    let ours = shared.around.hello;
    let hello = match link.read(deadline, shared.around.limits.handshake) {
        Ok(Frame::Hello(hello)) => hello,
        // It has heard of an error of its own, and tells it there.
        Err(LinkError::Closed) => return Ok(()),
        other => return Err(other.err().unwrap_or(LinkError::OutOfPlace).into()),
    };
    if hello != ours {
        if link.write(&Frame::Refused(ours), deadline).is_ok() {
            link.farewell(deadline);
        }
        return Err(Parted { why: ProbeError::of(&ours, &hello), by_fault: true });
    }
    if !place.recognise(peer.node_id(), deadline) {
        return Err(LinkError::TimedOut("the end of its older connection").into());
    }
    peer.came_in();
    link.write(&Frame::Hello(ours), deadline)?;
    match converse(shared, peer, &mut link) {
        LinkError::Closed => Ok(()),
        LinkError::TimedOut(_) => Err(LinkError::TimedOut("a sign of life").into()),
        error => Err(error.into()),
    }
}

/// Answers messages and probes, one after the other, until the connection ends.
fn converse(shared: &Shared, peer: &Peer, link: &mut Link) -> LinkError {
    let limits = &shared.around.limits;
    let mut pace = Pace::new(FRAMES_PER_SECOND, FRAMES_BURST);
    loop {
        let answer = match link.read(Instant::now() + limits.idle, limits.frame) {
            Ok(Frame::Message { id, message }) => {
                Frame::Answer { id, verdict: deliver(shared, peer, link.socket().plug(), message) }
            }
            Ok(Frame::Probe { id }) => Frame::ProbeAnswer {
                id,
                now_ms: now_ms().saturating_add_signed(shared.clock_offset_ms),
                chain: shared.around.hello.chain,
                version: env!("CARGO_PKG_VERSION").into(),
            },
            Ok(_) => return LinkError::OutOfPlace,
            Err(error) => return error,
        };
        if let Err(error) = link.write(&answer, Instant::now() + limits.frame) {
            return error;
        }
        rest(link.socket().plug().pulled(), pace.read(Instant::now()));
    }
}

/// Hands a message to the engine, and waits for its word.
fn deliver(shared: &Shared, peer: &Peer, plug: &Plug, message: PrivateMessage) -> Verdict {
    let Some(inbound) = shared.inbound.lock().clone() else { return Verdict::NotTaken(Why::NotReady) };
    let (sender, receiver) = bounded(1);
    let receipt = Receipt::new(move |taken| {
        // Nobody waits any more if it comes too late.
        let _ = sender.try_send(taken);
    });
    if let Err(error) = inbound.deliver(Delivery { from: peer.node_id(), message, receipt }) {
        peer.refused();
        return Verdict::NotTaken(error.into());
    }
    let taken = select! {
        recv(receiver) -> word => word == Ok(true),
        recv(plug.pulled()) -> _ => false,
        default(shared.around.limits.confirm) => false,
    };
    if taken {
        peer.received();
        Verdict::Taken
    } else {
        Verdict::NotTaken(Why::NotConfirmed)
    }
}

/// Waits, or until all is over.
pub(super) fn rest(over: &Receiver<()>, wait: Duration) -> bool {
    wait.is_zero() || over.recv_timeout(wait) == Err(RecvTimeoutError::Timeout)
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
