//! The thread that follows the log for one member: applies entries, tells the engine, and ticks.

use std::io;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, Sender, TryRecvError};
use parking_lot::Mutex;

use crate::chain::log::intake::take;
use crate::chain::log::{
    AppendError, Applied, Author, ChainEvent, ChainNode, Forked, LogChain, LogError, LogErrorClass, LogHost, Payload,
    Situation, Skip, SkipReason, Ticker, TickerStep,
};
use crate::epoch::{ProtocolEvents, View};

/// How long a follower waits before it asks again a host that it could not reach; twice as long each time.
const RETRY_WAIT: Duration = Duration::from_millis(250);
/// The longest of these waits: short beside any phase, so that a member is there again soon after its host.
const MAX_RETRY_WAIT: Duration = Duration::from_secs(1);

/// A member's clock. The protocol reads none; this one only says when to tick.
pub trait Clock: Send + Sync {
    /// Milliseconds of Unix time.
    fn now_ms(&self) -> u64;

    /// Milliseconds of time that has passed since any moment, the same at every call: whoever sets the clock does not change
    /// it.
    fn steady_ms(&self) -> u64;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    fn steady_ms(&self) -> u64 {
        static FIRST: OnceLock<Instant> = OnceLock::new();
        u64::try_from(FIRST.get_or_init(Instant::now).elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// How far a member has come with its own work: see [`Ticker`].
pub trait Pace: Send + Sync {
    /// The latest view whose block has been worked off, with all that was due by then. [`View`]`(u64::MAX)` for a member
    /// with no work to wait for.
    fn caught_up(&self) -> View;
}

impl<F: Fn() -> View + Send + Sync> Pace for F {
    fn caught_up(&self) -> View {
        self()
    }
}

/// Why a member no longer follows the log. Of a log's errors only those of the class [`Broken`](LogErrorClass::Broken) end a
/// [`Follower`]; the others are told and waited out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FollowError {
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The log has forked.
    #[error(transparent)]
    Forked(#[from] Forked),
    /// The host shows another log than before where too few members had vouched for it, and that part of this member's copy
    /// was given up ([`OwnCopy::give_up`](crate::chain::log::OwnCopy::give_up)). Some of what was told is not so: whoever was
    /// told has to begin anew where a new [`ChainNode`] comes to when it catches up, as after a crash.
    #[error(
        "the log's host shows another log than before from position {position} on; {entries} entries were given up and are \
         read anew"
    )]
    GaveUp {
        /// The first position that was given up.
        position: u64,
        /// How many entries were.
        entries: u64,
    },
    /// The receiver of the events panicked.
    #[error("the follower's thread panicked; what it was telling may be half done")]
    Panicked,
}

/// A running thread that follows the log for one member. Dropping it stops it.
pub struct Follower {
    log: Arc<dyn LogHost>,
    /// Closed to stop the thread.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<Result<(), FollowError>>>,
    failure: Arc<Mutex<Option<FollowError>>>,
}

impl Follower {
    /// Starts to follow the log where `node`'s replica stands.
    ///
    /// The replica is not locked while `events` is told something; `events` may block for a moment, but must let go
    /// when it is itself stopped. `seed` is for the delays of the ticks; members need different ones.
    ///
    /// # Errors
    /// The operating system gives no thread.
    pub fn start(
        node: &ChainNode,
        clock: Arc<dyn Clock>,
        pace: Arc<dyn Pace>,
        events: Arc<dyn ProtocolEvents>,
        seed: u64,
    ) -> io::Result<Follower> {
        let (stop, stopped) = crossbeam_channel::bounded(0);
        let follow = Follow::new(node, clock, pace, events, seed);
        let failure = Arc::new(Mutex::new(None));
        let reported = Arc::clone(&failure);
        let name = format!("dkg-chain-{}", node.author().index());
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            let report = Report { failure: reported, log: Arc::clone(&follow.log) };
            let outcome = run(follow, &stopped);
            if let Err(error) = &outcome {
                report.failed(error.clone());
            }
            outcome
        })?;
        Ok(Follower { log: Arc::clone(node.log()), stop: Some(stop), thread: Some(thread), failure })
    }

    /// Why the thread has given up, if it has.
    pub fn failure(&self) -> Option<FollowError> {
        self.failure.lock().clone()
    }

    /// Shuts the member's access to the log down and joins the thread (unless called on it, by the receiver of the events).
    ///
    /// # Errors
    /// The thread had given up before.
    pub fn stop(mut self) -> Result<(), FollowError> {
        self.end()
    }

    fn end(&mut self) -> Result<(), FollowError> {
        drop(self.stop.take());
        self.log.shutdown();
        match self.thread.take() {
            None => Ok(()),
            // The receiver of the events has dropped the follower on its own thread, which ends by itself.
            Some(thread) if thread.thread().id() == std::thread::current().id() => Ok(()),
            Some(thread) => thread.join().unwrap_or(Err(FollowError::Panicked)),
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        // Whoever wants to know why it had given up calls `stop` or `failure`; the log has it too.
        let _ = self.end();
    }
}

/// What the thread does when it ends, also when the receiver of its events made it panic: say why, and let go of the
/// log. Who no longer follows must not make the host keep entries for it, nor go on writing.
struct Report {
    failure: Arc<Mutex<Option<FollowError>>>,
    log: Arc<dyn LogHost>,
}

impl Report {
    fn failed(&self, error: FollowError) {
        log::error!("this node no longer follows the chain: {error}");
        *self.failure.lock() = Some(error);
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.failed(FollowError::Panicked);
        }
        self.log.shutdown();
    }
}

/// The whole life of the thread: read, apply and tell; when there is nothing to read, tick or wait.
fn run(mut follow: Follow, stopped: &Receiver<()>) -> Result<(), FollowError> {
    let is_stopped = || stopped.try_recv() == Err(TryRecvError::Disconnected);
    let mut told: Option<String> = None;
    let mut retry_wait = RETRY_WAIT;
    while !is_stopped() {
        let turn = follow.turn(&is_stopped).and_then(|next| match next {
            Next::Turn => Ok(()),
            Next::Wait { position, timeout } => Ok(follow.log.wait(position, timeout)?),
        });
        match turn {
            Ok(()) => (told, retry_wait) = (None, RETRY_WAIT),
            Err(FollowError::Log(LogError::ShutDown)) => break,
            Err(FollowError::Log(error)) if error.may_pass() => {
                let text = error.to_string();
                if told.as_ref() != Some(&text) {
                    log::warn!("{text}; trying again until it can");
                    told = Some(text);
                }
                // Nobody sends on this channel: it times out, or is closed, which the loop's head sees.
                let _ = stopped.recv_timeout(retry_wait);
                retry_wait = retry_wait.saturating_mul(2).min(MAX_RETRY_WAIT);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// What a follower does next.
pub(crate) enum Next {
    /// There may be more to read.
    Turn,
    /// Nothing, until the log goes on at this position, or for so long.
    Wait { position: u64, timeout: Duration },
}

/// One member following the log: all that its thread does, but for the waiting.
pub(crate) struct Follow {
    log: Arc<dyn LogHost>,
    replica: Arc<Mutex<LogChain>>,
    author: Arc<Author>,
    chain: [u8; 32],
    ticker: Ticker,
    clock: Arc<dyn Clock>,
    pace: Arc<dyn Pace>,
    events: Arc<dyn ProtocolEvents>,
}

impl Follow {
    pub(crate) fn new(
        node: &ChainNode,
        clock: Arc<dyn Clock>,
        pace: Arc<dyn Pace>,
        events: Arc<dyn ProtocolEvents>,
        seed: u64,
    ) -> Self {
        let (config, position) = {
            let replica = node.replica().lock();
            (Arc::clone(replica.config()), replica.prefix().position)
        };
        node.author().begin(position);
        Follow {
            chain: *config.identity(),
            log: Arc::clone(node.log()),
            replica: Arc::clone(node.replica()),
            author: Arc::clone(node.author()),
            ticker: Ticker::new(config, seed),
            clock,
            pace,
            events,
        }
    }

    /// Reads, applies and tells what there is; when there is nothing to read, ticks if it is time.
    pub(crate) fn turn(&mut self, is_stopped: &dyn Fn() -> bool) -> Result<Next, FollowError> {
        let (author, chain) = (&self.author, &self.chain);
        let taken = take(&*self.log, &self.replica, &mut |position, entry, applied| {
            author.look_at(position, entry, applied.skipped.map(|skip| skip.reason), chain);
        });
        for applied in taken.applied {
            self.tell(applied);
            if is_stopped() {
                return Ok(Next::Turn);
            }
        }
        // Where there is more to read it makes no sense to say anything yet; otherwise the wait ends when there is.
        if taken.outcome? {
            return Ok(Next::Turn);
        }
        self.author.write_again()?;
        self.tick()
    }

    fn tell(&self, applied: Applied) {
        match applied.skipped {
            None | Some(Skip { reason: SkipReason::OldTick, .. }) => {}
            Some(Skip { author: Some(author), reason }) if author == self.author.index() => {
                log::warn!("an entry in this node's own name was skipped by everybody: {reason}");
            }
            Some(Skip { author: Some(author), reason }) => {
                log::debug!("an entry in the name of member {author} was skipped: {reason}");
            }
            Some(Skip { author: None, reason }) => log::debug!("an entry in nobody's name was skipped: {reason}"),
        }
        for event in applied.events {
            match event {
                ChainEvent::Protocol(event) => self.events.on_event(event),
                ChainEvent::EpochFailed { epoch } => log::warn!("epoch {epoch} has ended without new keys"),
                ChainEvent::EpochsPassedOver { first, last } => {
                    log::warn!("epochs {first} to {last} were passed over: the chain stood still while they were due");
                }
            }
        }
    }

    /// Ticks if it is time, or says how long to wait until it is.
    fn tick(&mut self) -> Result<Next, FollowError> {
        let (now_ms, steady_ms) = (self.clock.now_ms(), self.clock.steady_ms());
        let caught_up = self.pace.caught_up();
        let (position, situation) = {
            let replica = self.replica.lock();
            let (finalized, paced) = (replica.header().view, replica.is_paced());
            let ticked = replica.last_tick(self.author.index());
            (replica.prefix().position, Situation { now_ms, steady_ms, finalized, paced, ticked, caught_up })
        };
        match self.ticker.step(situation) {
            TickerStep::Wait(timeout) => Ok(Next::Wait { position, timeout }),
            TickerStep::Tick(view) => match self.author.append(Payload::Tick(view)) {
                // Ticks of honest members cross all the time; what makes this one old is about to be read.
                Ok(_) | Err(AppendError::Log(LogError::NothingNew)) => {
                    self.ticker.sent(view, steady_ms);
                    Ok(Next::Turn)
                }
                Err(AppendError::Log(error)) if error.class() != LogErrorClass::Entry => Err(error.into()),
                Err(AppendError::Forked(forked)) => Err(forked.into()),
                Err(error) => {
                    // Not for a tick, which is short and free; and if so, the others' ticks carry the chain on.
                    log::error!("could not tick view {view}: {error}");
                    self.ticker.sent(view, steady_ms);
                    Ok(Next::Turn)
                }
            },
        }
    }
}
