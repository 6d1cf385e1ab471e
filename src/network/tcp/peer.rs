//! The way to one peer: a connection that is kept, and what is known about the peer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use rustls::ClientConfig;

use super::frame::{Frame, Hello, Verdict};
use super::link::{Link, LinkError};
use super::pace::Backoff;
use super::plug::Sockets;
use super::{PeerStatus, ProbeAnswer, ProbeError, TcpLimits, TcpPeer, tls};
use crate::address::Address;
use crate::committee::NodeId;
use crate::dial::{DialError, Dialling, Stop, dial};
use crate::envelope::PrivateMessage;

/// The most late answers that are looked at when a connection is looked after.
const FRAMES_PER_LOOK: usize = 4;

/// What dialling takes, whoever is dialled.
pub(super) struct Surroundings {
    pub(super) hello: Hello,
    pub(super) limits: TcpLimits,
    pub(super) sockets: Arc<Sockets>,
    pub(super) stop: Stop,
}

/// One other member.
pub(super) struct Peer {
    node_id: NodeId,
    address: Address,
    tls: Arc<ClientConfig>,
    lane: Mutex<Lane>,
    backoff: Mutex<Backoff>,
    dialling: Dialling,
    sent: AtomicU64,
    received: AtomicU64,
    refused: AtomicU64,
    standing: Mutex<Standing>,
}

/// How things stand: under one lock, so that whoever sees a connection gone sees why.
#[derive(Default)]
struct Standing {
    /// Whether there is a connection that was dialled.
    connected: bool,
    /// What went wrong last with those that were dialled, unless it went well since.
    dialling: Option<ProbeError>,
    /// The same for those that came from the peer.
    answering: Option<String>,
}

/// The connection that was dialled; whoever has the lane talks.
struct Lane {
    link: Option<Link>,
    /// The number of the next message or probe.
    next: u64,
    /// When the peer was heard last.
    heard: Instant,
    /// When it was asked for a sign of life that has not come yet.
    asked: Option<Instant>,
}

impl Peer {
    pub(super) fn new(peer: TcpPeer, tls: Arc<ClientConfig>, limits: &TcpLimits) -> Self {
        Peer {
            node_id: peer.node_id,
            address: peer.address,
            tls,
            lane: Mutex::new(Lane { link: None, next: 0, heard: Instant::now(), asked: None }),
            backoff: Mutex::new(Backoff::new(limits.redial, limits.max_redial)),
            dialling: Dialling::at_most(1),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            standing: Mutex::default(),
        }
    }

    pub(super) fn node_id(&self) -> NodeId {
        self.node_id
    }

    /// What is known about it.
    pub(super) fn status(&self, inbound: bool) -> PeerStatus {
        let standing = self.standing.lock();
        PeerStatus {
            node_id: self.node_id,
            address: self.address.to_string(),
            inbound,
            outbound: standing.connected,
            last_error: standing.dialling.as_ref().map(ToString::to_string).or_else(|| standing.answering.clone()),
            sent: self.sent.load(Ordering::Relaxed),
            received: self.received.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }

    /// It has connected to us and is who it should be: it is there, so it may be dialled.
    pub(super) fn came_in(&self) {
        self.backoff.lock().succeeded();
        self.standing.lock().answering = None;
    }

    /// A message of its is taken.
    pub(super) fn received(&self) {
        self.received.fetch_add(1, Ordering::Relaxed);
    }

    /// A message of its is not let in.
    pub(super) fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection of its ended like this.
    pub(super) fn answering_failed(&self, why: String) {
        self.standing.lock().answering = Some(why);
    }

    /// Sends it a message, and waits for its word.
    pub(super) fn send(&self, around: &Surroundings, message: &PrivateMessage) -> Result<(), ProbeError> {
        if !message.fits() {
            return Err(ProbeError::Unreachable("the message is larger than any honest one".into()));
        }
        let deadline = Instant::now() + around.limits.send;
        // Somebody may be dialling it, or probing it.
        let mut lane = self.lane(deadline)?;
        let message = |id| Frame::Message { id, message: message.clone() };
        match self.ask(&mut lane, around, false, deadline, &message)? {
            Frame::Answer { verdict: Verdict::Taken, .. } => {
                self.sent.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Frame::Answer { verdict: Verdict::NotTaken(why), .. } => Err(ProbeError::Unreachable(why.to_string())),
            _ => Err(self.lost(&mut lane, LinkError::OutOfPlace.into())),
        }
    }

    /// Asks it for a sign of life, also if it was just not reached.
    pub(super) fn probe(&self, around: &Surroundings, limit: Duration) -> Result<ProbeAnswer, ProbeError> {
        let deadline = Instant::now() + limit;
        let mut lane = self.lane(deadline)?;
        let connected = match lane.link {
            Some(_) => Ok(()),
            None => self.dial(&mut lane, around, deadline),
        };
        let asked = Instant::now();
        let answer = connected.and_then(|()| self.ask(&mut lane, around, true, deadline, &|id| Frame::Probe { id }))?;
        match answer {
            Frame::ProbeAnswer { now_ms, chain, version, .. } => {
                let round_trip_ms = u64::try_from(asked.elapsed().as_millis()).unwrap_or(u64::MAX);
                Ok(ProbeAnswer { version, chain, now_ms, round_trip_ms })
            }
            _ => Err(self.lost(&mut lane, LinkError::OutOfPlace.into())),
        }
    }

    /// Whether it is not connected, and it is time to dial it; not while somebody talks to it.
    pub(super) fn wants_a_call(&self) -> bool {
        let idle = self.lane.try_lock().is_some_and(|lane| lane.link.is_none());
        idle && self.backoff.lock().left(Instant::now()).is_zero()
    }

    /// Dials it if it is not connected and it is time to; does nothing while somebody else talks to it.
    pub(super) fn call(&self, around: &Surroundings) {
        let Some(mut lane) = self.lane.try_lock() else { return };
        if lane.link.is_none() && self.backoff.lock().left(Instant::now()).is_zero() {
            // It is remembered, and tried again later.
            let _ = self.dial(&mut lane, around, Instant::now() + around.limits.send);
        }
    }

    /// Looks after a connection that nobody uses just now: notices that it is closed, and asks for signs of life. Never waits.
    pub(super) fn look_after(&self, around: &Surroundings) {
        let Some(mut lane) = self.lane.try_lock() else { return };
        if let Err(error) = lane.look(&around.limits) {
            let closed = error.is_stale();
            let error = self.lost(&mut lane, error.into());
            if closed {
                // It may just have been started anew.
                self.backoff.lock().succeeded();
            }
            log::debug!("the connection to {} is lost: {error}", self.node_id);
        }
    }

    fn lane(&self, deadline: Instant) -> Result<MutexGuard<'_, Lane>, ProbeError> {
        self.lane.try_lock_until(deadline).ok_or(ProbeError::Busy)
    }

    /// Asks a question over the kept connection, or over a new one if that has gone stale.
    fn ask(
        &self,
        lane: &mut Lane,
        around: &Surroundings,
        at_once: bool,
        deadline: Instant,
        question: &dyn Fn(u64) -> Frame,
    ) -> Result<Frame, ProbeError> {
        if around.stop.is_stopped() {
            return Err(ProbeError::ShutDown);
        }
        if lane.link.is_some() {
            match lane.exchange(&around.limits, deadline, question) {
                Ok(answer) => return Ok(answer),
                Err(error) if error.is_stale() => self.hang_up(lane),
                Err(error) => return Err(self.lost(lane, error.into())),
            }
        }
        let wait = if at_once { Duration::ZERO } else { self.backoff.lock().left(Instant::now()) };
        if !wait.is_zero() {
            let why = self.standing.lock().dialling.clone();
            return Err(why.unwrap_or_else(|| ProbeError::Unreachable("it was not reached a moment ago".into())));
        }
        self.dial(lane, around, deadline)?;
        lane.exchange(&around.limits, deadline, question).map_err(|error| self.lost(lane, error.into()))
    }

    /// Makes a new connection.
    fn dial(&self, lane: &mut Lane, around: &Surroundings, deadline: Instant) -> Result<(), ProbeError> {
        match self.connect(around, deadline) {
            Ok(link) => {
                *lane = Lane { link: Some(link), heard: Instant::now(), asked: None, ..*lane };
                self.backoff.lock().succeeded();
                let mut standing = self.standing.lock();
                (standing.connected, standing.dialling) = (true, None);
                Ok(())
            }
            Err(_) if around.stop.is_stopped() => Err(ProbeError::ShutDown),
            Err(error) => Err(self.lost(lane, error)),
        }
    }

    fn connect(&self, around: &Surroundings, deadline: Instant) -> Result<Link, ProbeError> {
        let limit = deadline.saturating_duration_since(Instant::now());
        let dialled = dial(self.address.as_str(), &self.dialling, around.stop.stopped(), limit);
        let stream = dialled.map_err(|error| match error {
            DialError::Stopped => ProbeError::ShutDown,
            DialError::Failed(why) => ProbeError::Unreachable(why),
        })?;
        let socket = around.sockets.plug_in(stream).ok_or(ProbeError::ShutDown)?;
        let deadline = deadline.min(Instant::now() + around.limits.handshake);
        let tls = tls::dial(&self.tls).map_err(|error| ProbeError::Unreachable(error.to_string()))?;
        let mut link = Link::open(tls, socket, deadline)?;
        link.write(&Frame::Hello(around.hello), deadline)?;
        match link.read(deadline, around.limits.handshake)? {
            Frame::Hello(hello) if hello == around.hello => Ok(link),
            Frame::Hello(hello) | Frame::Refused(hello) => Err(ProbeError::of(&around.hello, &hello)),
            _ => Err(LinkError::OutOfPlace.into()),
        }
    }

    /// Remembers why there is no connection any more.
    fn lost(&self, lane: &mut Lane, error: ProbeError) -> ProbeError {
        lane.close();
        self.backoff.lock().failed(Instant::now());
        let mut standing = self.standing.lock();
        (standing.connected, standing.dialling) = (false, Some(error.clone()));
        error
    }

    fn hang_up(&self, lane: &mut Lane) {
        lane.close();
        self.standing.lock().connected = false;
    }
}

impl Lane {
    /// Asks, and waits for the answer to this question; late answers to others are passed over.
    fn exchange(
        &mut self,
        limits: &TcpLimits,
        deadline: Instant,
        question: &dyn Fn(u64) -> Frame,
    ) -> Result<Frame, LinkError> {
        let asked = self.number();
        let link = self.link.as_mut().ok_or(LinkError::Closed)?;
        let deadline = deadline.min(Instant::now() + limits.answer);
        link.write(&question(asked), deadline)?;
        loop {
            let frame = link.read(deadline, limits.frame)?;
            let (Frame::Answer { id, .. } | Frame::ProbeAnswer { id, .. }) = &frame else {
                return Err(LinkError::OutOfPlace);
            };
            self.heard = Instant::now();
            self.asked = None;
            match id.cmp(&asked) {
                std::cmp::Ordering::Less => {}
                std::cmp::Ordering::Equal => return Ok(frame),
                std::cmp::Ordering::Greater => return Err(LinkError::OutOfPlace),
            }
        }
    }

    fn look(&mut self, limits: &TcpLimits) -> Result<(), LinkError> {
        let id = self.number();
        let Some(link) = self.link.as_mut() else { return Ok(()) };
        let now = Instant::now();
        for _ in 0..FRAMES_PER_LOOK {
            match link.poll()? {
                None => break,
                Some(Frame::Answer { .. } | Frame::ProbeAnswer { .. }) => {
                    self.heard = now;
                    self.asked = None;
                }
                Some(_) => return Err(LinkError::OutOfPlace),
            }
        }
        match self.asked {
            Some(asked) if now.saturating_duration_since(asked) >= limits.answer => {
                Err(LinkError::TimedOut("a sign of life"))
            }
            None if now.saturating_duration_since(self.heard) >= limits.ping => {
                self.asked = Some(now);
                link.hand_over(&Frame::Probe { id })
            }
            _ => Ok(()),
        }
    }

    fn close(&mut self) {
        self.link = None;
        self.asked = None;
    }

    fn number(&mut self) -> u64 {
        self.next = self.next.wrapping_add(1);
        self.next
    }
}
