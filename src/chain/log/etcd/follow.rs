//! Following the log: a thread with one long-lived watch, from where the log is known on. What the watch tells is all that
//! counts; that there is nothing to be seen says nothing, since what was created and deleted between two looks is in the log.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::client::{Client, Watch};
use super::left::{self, VALUES_PER_CALL};
use super::order::{Grouping, Misfit, Read, Revision, Tail};
use super::wire::{self, Class, Event, KeyValue, WatchResult};
use crate::chain::log::LogError;
use crate::chain::log::endpoints::{Trouble, clean};

/// The pause after the first trouble with a watch; it doubles from one to the next.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest one is so many times shorter than an answer may take.
const PAUSES_PER_ANSWER: u32 = 8;
/// A piece of a wait that has no end of its own.
const LONG: Duration = Duration::from_secs(3600);

/// What the thread and those who ask have in common.
pub(super) struct Shared {
    pub(super) client: Client,
    state: Mutex<State>,
    /// Told when the state changes.
    changed: Condvar,
}

/// How far the log is known.
pub(super) struct State {
    pub(super) tail: Tail,
    /// At which revision the cluster was when this access began, or what it knew before that was doubted. Nobody hears that the
    /// log ends before something later is known, or the watch has been silent.
    at_start: Option<u64>,
    /// Why there is no watch just now.
    pub(super) trouble: Option<LogError>,
    /// The watch was cut, to begin elsewhere.
    cut: bool,
    /// Changes when the watch has told something.
    moves: u64,
}

impl State {
    /// Whether all is known that was there at the beginning.
    pub(super) fn has_begun(&self) -> bool {
        self.at_start.is_some_and(|revision| revision < self.tail.known())
    }
}

/// Somebody who waits for what the watch tells.
pub(super) struct Waiting {
    /// Given up when it has told nothing for so long.
    patience: Duration,
    /// Whether it may be away for a while.
    bears_trouble: bool,
    moves: u64,
    since: Instant,
}

impl Shared {
    pub(super) fn new(client: Client) -> Self {
        let state = State { tail: Tail::new(), at_start: None, trouble: None, cut: false, moves: 0 };
        Shared { client, state: Mutex::new(state), changed: Condvar::new() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    pub(super) fn shutdown(&self) {
        let state = self.lock();
        self.client.shutdown();
        drop(state);
        self.changed.notify_all();
    }

    /// What was told may not be so: another endpoint is asked, for all from where somebody reads next.
    pub(super) fn distrust(&self) {
        self.client.distrust();
        self.lock().tail.doubt();
    }

    /// Waits until all is known that is there now.
    pub(super) fn know_all(&self) -> Result<MutexGuard<'_, State>, LogError> {
        let now = self.client.ask(|endpoint| self.client.now(endpoint))?;
        let mut state = self.lock();
        state.at_start = state.at_start.max(Some(now));
        let mut waiting = self.wait_for_news(&state);
        while !state.has_begun() {
            self.wait(&mut state, &mut waiting, None)?;
        }
        Ok(state)
    }

    /// What there is from a position on, at most so many entries.
    pub(super) fn read(&self, state: &mut State, from: u64, limit: usize) -> Read {
        if state.tail.is_doubted() {
            state.at_start = None;
        }
        let turns = state.tail.turns();
        let read = state.tail.read(from, limit);
        if state.tail.turns() != turns {
            state.cut = true;
            self.client.cut_watch();
        }
        // There may be room now for what the watch tells next.
        self.changed.notify_all();
        read
    }

    /// For what is in the log for certain, since it was put there: the watch may be away for a moment.
    pub(super) fn wait_for_own(&self, state: &State) -> Waiting {
        let patience = self.client.config.request_timeout;
        Waiting { patience, bears_trouble: true, moves: state.moves, since: Instant::now() }
    }

    /// For what there may be.
    pub(super) fn wait_for_news(&self, state: &State) -> Waiting {
        let patience = self.client.patience();
        Waiting { patience, bears_trouble: false, moves: state.moves, since: Instant::now() }
    }

    /// Waits until the state changes, or the limit is reached.
    ///
    /// # Errors
    /// The access is shut down, there is no watch, or it has told nothing for as long as one is waited for.
    pub(super) fn wait(
        &self,
        state: &mut MutexGuard<'_, State>,
        waiting: &mut Waiting,
        limit: Option<Duration>,
    ) -> Result<(), LogError> {
        self.client.check_open()?;
        if state.moves != waiting.moves {
            (waiting.moves, waiting.since) = (state.moves, Instant::now());
        }
        let left = limit.unwrap_or_else(|| waiting.patience.saturating_sub(waiting.since.elapsed()));
        if let Some(trouble) = state.trouble.as_ref().filter(|_| !waiting.bears_trouble || left.is_zero()) {
            return Err(trouble.clone());
        }
        if left.is_zero() {
            self.client.distrust();
            let (end, seconds) = (state.tail.end(), waiting.patience.as_secs());
            return Err(LogError::Unavailable(format!(
                "the etcd cluster has told nothing beyond position {end} for {seconds} s, and there is more"
            )));
        }
        self.changed.wait_for(state, left.min(LONG));
        self.client.check_open()
    }
}

/// How a watch ended.
enum Ended {
    /// There is reason to begin another at once.
    Again,
    /// The history before this revision is gone.
    Compacted(u64),
}

/// The whole life of the thread.
pub(super) fn run(shared: &Shared) {
    let longest = shared.client.config.request_timeout.checked_div(PAUSES_PER_ANSWER).unwrap_or(FIRST_PAUSE);
    let mut pause = FIRST_PAUSE;
    while shared.client.check_open().is_ok() {
        let moves = shared.lock().moves;
        let outcome = shared.open().and_then(|(watch, turns)| match shared.follow(watch, turns)? {
            Ended::Again => Ok(()),
            Ended::Compacted(revision) => shared.take_what_is_left(revision, turns),
        });
        let mut state = shared.lock();
        if state.moves != moves {
            pause = FIRST_PAUSE;
        }
        let Err(error) = outcome else { continue };
        if std::mem::take(&mut state.cut) {
            continue;
        }
        state.trouble = Some(error);
        shared.changed.notify_all();
        if shared.client.check_open().is_ok() {
            shared.changed.wait_for(&mut state, pause.min(longest));
        }
        pause = pause.saturating_mul(2).min(longest);
    }
}

impl Shared {
    /// Begins a watch where the log is known to, at an endpoint that can reach more than half of the cluster.
    fn open(&self) -> Result<(Watch, u64), LogError> {
        let client = &self.client;
        let (from, turns) = {
            let mut state = self.lock();
            state.cut = false;
            (state.tail.next(), state.tail.turns())
        };
        let opened = client.ask(|endpoint| {
            let now = client.now(endpoint)?;
            if now.saturating_add(1) < from { Ok((now, None)) } else { Ok((now, Some(client.watch(endpoint, from)?))) }
        })?;
        let (now, Some(watch)) = opened else { return Err(self.gone_back(from, opened.0)) };
        let mut state = self.lock();
        state.trouble = None;
        if state.tail.turns() == turns {
            state.at_start.get_or_insert(now);
        }
        self.changed.notify_all();
        Ok((watch, turns))
    }

    /// What was told came from another cluster, from one that was restored, or was not so.
    fn gone_back(&self, from: u64, now: u64) -> LogError {
        self.client.distrust();
        let mut state = self.lock();
        state.at_start = None;
        state.tail.forget_after(now);
        LogError::Unavailable(format!(
            "the etcd cluster has gone back from revision {} to {now}: it was restored from an older copy and has lost \
             entries, or somebody on the way to it tells what is not so; what it has is read anew",
            from.saturating_sub(1)
        ))
    }

    /// Takes what a watch tells, until it ends.
    fn follow(&self, mut watch: Watch, turns: u64) -> Result<Ended, LogError> {
        let mut grouping = Grouping::default();
        loop {
            let line = match watch.next() {
                Ok(Some(line)) => line.result,
                Ok(None) => {
                    let mut state = self.lock();
                    if state.tail.turns() == turns {
                        state.at_start = Some(0);
                        self.changed.notify_all();
                    }
                    return Ok(Ended::Again);
                }
                Err(trouble) => return Err(self.watch_failed(trouble)),
            };
            if line.canceled {
                return self.cancelled(&line);
            }
            let more = line.fragment;
            for event in line.events {
                let over = grouping.take(event).map_err(LogError::Unavailable)?;
                if !self.tell(over, turns)? {
                    return Ok(Ended::Again);
                }
            }
            if !more && !self.tell(grouping.end(), turns)? {
                return Ok(Ended::Again);
            }
        }
    }

    fn watch_failed(&self, trouble: Trouble) -> LogError {
        self.client.distrust();
        match trouble {
            Trouble::Log(error) => error,
            Trouble::Endpoint(text) | Trouble::Refusal(text) => LogError::Unavailable(text),
        }
    }

    fn cancelled(&self, line: &WatchResult) -> Result<Ended, LogError> {
        if line.compact_revision > 0 {
            return Ok(Ended::Compacted(line.compact_revision));
        }
        let said = clean(&line.cancel_reason);
        // etcd says the same of a token that is too old as of a right that was taken away.
        let status = if said.contains("permission denied") { 403 } else { 400 };
        if matches!(wire::class(status, &said), Class::LoginIsOld | Class::NoRight) {
            self.client.log_out();
        }
        Err(self.watch_failed(self.client.trouble(status, &said)))
    }

    /// Takes what happened at one revision, as soon as there is room. `false` if the watch has to begin elsewhere.
    fn tell(&self, revision: Option<Revision>, turns: u64) -> Result<bool, LogError> {
        let Some(revision) = revision else { return Ok(true) };
        let mut state = self.lock();
        while state.tail.turns() == turns && !state.tail.make_room() {
            self.client.check_open()?;
            self.changed.wait(&mut state);
        }
        if state.tail.turns() != turns {
            return Ok(false);
        }
        let taken = state.tail.take(revision);
        if taken.is_err() {
            state.at_start = None;
        }
        state.moves = state.moves.wrapping_add(1);
        self.changed.notify_all();
        taken.map(|()| true).map_err(told_otherwise)
    }

    /// Takes the keys that are there, where the history is gone.
    fn take_what_is_left(&self, compacted: u64, turns: u64) -> Result<(), LogError> {
        log::warn!(
            "the history of the etcd cluster has been compacted up to revision {compacted}: entries that were deleted \
             before are missing here; keep its port for the members, and automatic compaction off"
        );
        loop {
            let (from, mut position) = {
                let state = self.lock();
                (state.tail.next(), state.tail.position())
            };
            let (piece, more) = left::piece(&self.client, from, compacted)?;
            let mut grouping = Grouping::default();
            for chunk in piece.chunks(VALUES_PER_CALL) {
                let first = position;
                position = position.saturating_add(chunk.len() as u64);
                let wanted: Vec<_> = {
                    let state = self.lock();
                    (first..).zip(chunk).filter(|(position, _)| !state.tail.is_read(*position)).collect()
                };
                if let Some((position, left)) = wanted.iter().find(|(_, left)| left.version != 1) {
                    let key = clean(&String::from_utf8_lossy(&left.key));
                    return Err(LogError::Unavailable(format!(
                        "the entry at position {position} was overwritten in etcd (key {key}), and the history that would \
                         tell what it was has been compacted; whoever may write that key did it"
                    )));
                }
                let keys: Vec<_> = wanted.iter().map(|(_, left)| *left).collect();
                let values = if keys.is_empty() { Vec::new() } else { left::values(&self.client, &keys, compacted)? };
                // Those that nobody wants come first.
                let unwanted = chunk.len().saturating_sub(values.len());
                let values = std::iter::repeat_n(None, unwanted).chain(values.into_iter().map(Some));
                for (left, value) in chunk.iter().zip(values) {
                    let over = match value {
                        None => grouping.take_unknown(left.created, left.key.clone()),
                        Some(value) => {
                            let (created, key) = (left.created, left.key.clone());
                            let kv =
                                KeyValue { key, value, create_revision: created, mod_revision: created, version: 1 };
                            grouping.take(Event { kind: String::new(), kv }).map_err(LogError::Unavailable)?
                        }
                    };
                    if !self.tell(over, turns)? {
                        return Ok(());
                    }
                }
            }
            if !self.tell(grouping.end(), turns)? {
                return Ok(());
            }
            if !more {
                let mut state = self.lock();
                if state.tail.turns() != turns {
                    return Ok(());
                }
                let passed = state.tail.pass(compacted);
                if passed.is_err() {
                    state.at_start = None;
                }
                state.moves = state.moves.wrapping_add(1);
                self.changed.notify_all();
                return passed.map_err(told_otherwise);
            }
        }
    }
}

fn told_otherwise(Misfit { position }: Misfit) -> LogError {
    LogError::Unavailable(format!(
        "what the etcd cluster shows of the log before position {position} is not what it showed before: entries were deleted \
         and the history compacted, it was restored from another copy, or somebody on the way to it tells what is not so; what \
         it has is read anew"
    ))
}

/// The thread that follows, once somebody asks for anything.
pub(super) struct Thread {
    handle: Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl Thread {
    pub(super) fn new() -> Self {
        Thread { handle: Mutex::new(None) }
    }

    /// Starts it if it does not run.
    pub(super) fn start(&self, shared: &Arc<Shared>) -> Result<(), LogError> {
        shared.client.check_open()?;
        let mut handle = self.handle.lock();
        if handle.as_ref().is_none_or(std::thread::JoinHandle::is_finished) {
            let shared = Arc::clone(shared);
            let thread = std::thread::Builder::new().name("dkg-etcd-watch".to_owned()).spawn(move || run(&shared));
            let thread = thread.map_err(|error| LogError::Unavailable(format!("no thread to watch with: {error}")))?;
            *handle = Some(thread);
        }
        Ok(())
    }

    /// Waits for its end.
    pub(super) fn join(&self) {
        if let Some(handle) = self.handle.lock().take() {
            // What it may have panicked with has been told by the panic hook; nobody waits for more from it.
            let _ = handle.join();
        }
    }
}
