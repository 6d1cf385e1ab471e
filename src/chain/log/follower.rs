//! The thread that follows the log for one member: applies entries, tells the engine, and ticks.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError};
use parking_lot::Mutex;

use crate::chain::log::node::READ_BATCH;
use crate::chain::log::{
    AppendError, Applied, Author, ChainEvent, ChainNode, Forked, LogChain, LogError, LogHost, Payload, Ticker,
    TickerStep,
};
use crate::epoch::{ProtocolEvents, View};

/// How long a follower waits before it asks again a host that it could not reach.
const RETRY_WAIT: Duration = Duration::from_millis(250);

/// A member's clock. The protocol reads none; this one only says when to tick.
pub trait Clock: Send + Sync {
    /// Milliseconds of Unix time.
    fn now_ms(&self) -> u64;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
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

/// Why a member no longer follows the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FollowError {
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The log has forked.
    #[error(transparent)]
    Forked(#[from] Forked),
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
        let config = Arc::clone(node.replica().lock().config());
        let follow = Follow {
            log: Arc::clone(node.log()),
            replica: Arc::clone(node.replica()),
            author: Arc::clone(node.author()),
            ticker: Ticker::new(config, seed),
            clock,
            pace,
            events,
            stopped,
        };
        let failure = Arc::new(Mutex::new(None));
        let failed = Arc::clone(&failure);
        let name = format!("dkg-chain-{}", node.author().index());
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            let outcome = follow.run();
            if let Err(error) = &outcome {
                log::error!("this node no longer follows the chain: {error}");
                *failed.lock() = Some(error.clone());
            }
            outcome
        })?;
        Ok(Follower { log: Arc::clone(node.log()), stop: Some(stop), thread: Some(thread), failure })
    }

    /// Why the thread has given up, if it has.
    pub fn failure(&self) -> Option<FollowError> {
        self.failure.lock().clone()
    }

    /// Shuts the member's access to the log down and joins the thread.
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

/// What the thread works with.
struct Follow {
    log: Arc<dyn LogHost>,
    replica: Arc<Mutex<LogChain>>,
    author: Arc<Author>,
    ticker: Ticker,
    clock: Arc<dyn Clock>,
    pace: Arc<dyn Pace>,
    events: Arc<dyn ProtocolEvents>,
    stopped: Receiver<()>,
}

impl Follow {
    /// The whole life of the thread: read, apply and tell; when there is nothing to read, tick or wait.
    fn run(mut self) -> Result<(), FollowError> {
        while !self.is_stopped() {
            match self.turn() {
                Ok(()) => {}
                Err(FollowError::Log(LogError::ShutDown)) => break,
                Err(FollowError::Log(error @ (LogError::Unavailable(_) | LogError::Full(_)))) => {
                    log::warn!("{error}; trying again");
                    let timeout = self.stopped.recv_timeout(RETRY_WAIT);
                    debug_assert_ne!(timeout, Ok(()), "nobody sends on this channel");
                    if timeout == Err(RecvTimeoutError::Disconnected) {
                        break;
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn turn(&mut self) -> Result<(), FollowError> {
        let from = self.replica.lock().prefix().position;
        let entries = self.log.read(from, READ_BATCH)?;
        for entry in &entries {
            let applied = self.replica.lock().apply(entry)?;
            self.tell(applied);
            if self.is_stopped() {
                return Ok(());
            }
        }
        if entries.len() == READ_BATCH {
            return Ok(());
        }
        self.tick()
    }

    fn tell(&self, applied: Applied) {
        if let Some(skip) = applied.skipped {
            log::debug!("skipped an entry in the name of member {:?}: {}", skip.author, skip.reason);
        }
        for event in applied.events {
            match event {
                ChainEvent::Protocol(event) => self.events.on_event(event),
                ChainEvent::EpochFailed { epoch } => log::warn!("epoch {epoch} has ended without new keys"),
            }
        }
    }

    /// Ticks if it is time, or waits until it is or the log goes on.
    fn tick(&mut self) -> Result<(), FollowError> {
        let (position, finalized, ticked) = {
            let replica = self.replica.lock();
            (replica.prefix().position, replica.header().view, replica.last_tick(self.author.index()))
        };
        let now_ms = self.clock.now_ms();
        match self.ticker.step(now_ms, finalized, ticked, self.pace.caught_up()) {
            TickerStep::Wait(timeout) => Ok(self.log.wait(position, timeout)?),
            TickerStep::Tick(view) => match self.author.append(Payload::Tick(view)) {
                Ok(_) => {
                    self.ticker.sent(view, now_ms);
                    Ok(())
                }
                Err(AppendError::Log(error)) => Err(error.into()),
                Err(AppendError::Forked(forked)) => Err(forked.into()),
                Err(error) => {
                    // Not for a tick, which is short and free; and if so, the others' ticks carry the chain on.
                    log::error!("could not tick view {view}: {error}");
                    self.ticker.sent(view, now_ms);
                    Ok(())
                }
            },
        }
    }

    fn is_stopped(&self) -> bool {
        self.stopped.try_recv() == Err(TryRecvError::Disconnected)
    }
}
