//! Reading the whiteboard and posting on it: two threads, so that neither holds up the other.
//!
//! Each keeps its own choice of client and its own backoff. What is read next, when a try is due and when it is given up is
//! decided in [`Reading`] and [`Posting`]; the threads wait and call the client.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::lifecycle::{Inbox, Mailbox, Received};
use super::mail::{PollerInput, PublisherInput, ReactorInput};
use super::retry::{Failover, MAX_WAIT, RetryPolicy};
use super::step::{Input, ReadRequest};
use crate::chain::{ClientError, DkgContractClient, DkgResult};
use crate::epoch::InstanceId;

/// Messages asked for in one call, and judged in one step: few enough that a node of the largest committee is done with
/// them in well under a second, and can stop.
pub const READ_PAGE: usize = 32;
/// Posts and submissions that wait at most: a member of the largest committee makes at most one vector, 253 complaints and
/// 126 answers in a run.
pub const POST_LIMIT: usize = 1024;

/// How a node deals with a whiteboard that does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WhiteboardConfig {
    /// Tries after the first to post or submit.
    pub post_retries: u32,
    /// Tries after the first to read within a phase. The read at a phase's end goes on until it succeeds.
    pub read_retries: u32,
    /// The first wait; each further one is twice as long.
    pub base_wait: Duration,
    /// How far a wait may stray from that, in percent.
    pub jitter_percent: u32,
    /// The longest wait between two tries of a read that must succeed.
    pub max_read_wait: Duration,
}

impl Default for WhiteboardConfig {
    fn default() -> Self {
        WhiteboardConfig {
            post_retries: 10,
            read_retries: 3,
            base_wait: Duration::from_secs(1),
            jitter_percent: 25,
            max_read_wait: Duration::from_secs(16),
        }
    }
}

impl WhiteboardConfig {
    fn policy(self, retries: Option<u32>, max_wait: Duration) -> RetryPolicy {
        RetryPolicy { retries, base_wait: self.base_wait, jitter_percent: self.jitter_percent, max_wait }
    }
}

/// A read that is on.
struct Reading {
    request: ReadRequest,
    next_index: u64,
    failures: u32,
    due: Instant,
}

/// What to tell the reactor after a try.
enum Told {
    Nothing,
    Page(Input),
    /// As `Page`; and the read has ended.
    Last(Input),
}

impl Reading {
    fn new(request: ReadRequest) -> Self {
        Reading { request, next_index: request.from_index, failures: 0, due: Instant::now() }
    }

    fn tried(
        &mut self,
        result: Result<Vec<crate::chain::BoardMessage>, ClientError>,
        config: WhiteboardConfig,
        now: Instant,
    ) -> Told {
        let read = self.request.id;
        match result {
            Ok(messages) => {
                self.failures = 0;
                self.due = now;
                self.next_index = self.next_index.saturating_add(messages.len() as u64);
                let last = messages.len() < READ_PAGE;
                let page = Input::Page { read, messages, last };
                if last { Told::Last(page) } else { Told::Page(page) }
            }
            Err(error) => {
                self.failures = self.failures.saturating_add(1);
                let retries = if self.request.must_succeed { None } else { Some(config.read_retries) };
                match config.policy(retries, config.max_read_wait).retry_at(self.failures, now) {
                    Some(due) => {
                        log::debug!("reading the whiteboard as of {:?}: {error}; trying again", self.request.as_of);
                        self.due = due;
                        Told::Nothing
                    }
                    None => {
                        log::warn!("reading the whiteboard as of {:?} given up: {error}", self.request.as_of);
                        Told::Last(Input::ReadGivenUp(read))
                    }
                }
            }
        }
    }
}

/// The poller's thread.
pub(super) fn poll(
    inbox: &Inbox<PollerInput>,
    clients: &[Arc<dyn DkgContractClient>],
    config: WhiteboardConfig,
    reactor: &Mailbox<ReactorInput>,
) {
    let mut failover = Failover::new(clients.len());
    let mut reading: Option<Reading> = None;
    loop {
        match inbox.receive(reading.as_ref().map(|reading| reading.due)) {
            Received::Message(PollerInput::Read(request)) => reading = Some(Reading::new(request)),
            Received::Message(PollerInput::Abandon) => reading = None,
            Received::Woken => {}
            Received::Stopped => return,
        }
        let now = Instant::now();
        let Some(current) = reading.as_mut().filter(|reading| reading.due <= now) else { continue };
        let Some(client) = clients.get(failover.current()) else { continue };
        let result = client.read_broadcast(current.next_index, &current.request.as_of, READ_PAGE);
        if inbox.is_stopped() {
            return;
        }
        if result.is_ok() {
            failover.succeeded()
        } else {
            failover.failed()
        }
        let (input, ended) = match current.tried(result, config, Instant::now()) {
            Told::Nothing => continue,
            Told::Page(input) => (input, false),
            Told::Last(input) => (input, true),
        };
        if ended {
            reading = None;
        }
        if reactor.send(ReactorInput::Board(input)).is_err() {
            return;
        }
    }
}

/// Something to put on the board.
enum Publication {
    Post(String),
    Submission(DkgResult),
}

/// What waits to be posted, in the order in which it was made.
#[derive(Default)]
struct Posting {
    waiting: VecDeque<(InstanceId, Publication)>,
    failures: u32,
    due: Option<Instant>,
}

impl Posting {
    fn add(&mut self, instance: InstanceId, publication: Publication) {
        if self.waiting.len() >= POST_LIMIT {
            log::error!("{instance}: {POST_LIMIT} posts wait for the whiteboard; one more is dropped");
        } else {
            self.waiting.push_back((instance, publication));
        }
    }

    /// Posts of a run that has ended are of no use; its result is.
    fn end_run(&mut self, instance: &InstanceId) {
        let before = self.waiting.len();
        self.waiting.retain(|(other, what)| other != instance || matches!(what, Publication::Submission(_)));
        if self.waiting.len() != before {
            self.next();
        }
    }

    /// When to try next; `None` if there is nothing to post.
    fn next_due(&self, now: Instant) -> Option<Instant> {
        self.waiting.front().map(|_| self.due.unwrap_or(now))
    }

    fn front_due(&self, now: Instant) -> Option<&Publication> {
        self.waiting.front().filter(|_| self.due.is_none_or(|due| due <= now)).map(|(_, publication)| publication)
    }

    fn next(&mut self) {
        self.failures = 0;
        self.due = None;
    }

    fn tried(&mut self, result: Result<(), ClientError>, config: WhiteboardConfig, now: Instant) {
        let given_up = match result {
            Ok(()) => None,
            Err(ClientError::Refused(reason)) => Some(format!("the whiteboard refused: {reason}")),
            Err(ClientError::Unavailable(reason)) => {
                self.failures = self.failures.saturating_add(1);
                self.due = config.policy(Some(config.post_retries), MAX_WAIT).retry_at(self.failures, now);
                if self.due.is_some() {
                    log::debug!("posting on the whiteboard: {reason}; trying again");
                    return;
                }
                Some(format!("{reason}, {} times", self.failures))
            }
        };
        self.next();
        if let (Some((instance, publication)), Some(reason)) = (self.waiting.pop_front(), given_up) {
            let what = match publication {
                Publication::Post(_) => "a broadcast",
                Publication::Submission(_) => "the result",
            };
            log::error!("{instance}: {what} could not be posted: {reason}");
        }
    }
}

/// The publisher's thread.
pub(super) fn publish(inbox: &Inbox<PublisherInput>, clients: &[Arc<dyn DkgContractClient>], config: WhiteboardConfig) {
    let mut failover = Failover::new(clients.len());
    let mut posting = Posting::default();
    loop {
        match inbox.receive(posting.next_due(Instant::now())) {
            Received::Message(PublisherInput::Post { instance, content }) => {
                posting.add(instance, Publication::Post(content));
            }
            Received::Message(PublisherInput::Submit { instance, result }) => {
                posting.add(instance, Publication::Submission(result));
            }
            Received::Message(PublisherInput::EndRun(instance)) => posting.end_run(&instance),
            Received::Woken => {}
            Received::Stopped => return,
        }
        let Some(publication) = posting.front_due(Instant::now()) else { continue };
        let Some(client) = clients.get(failover.current()) else { continue };
        let result = match publication {
            Publication::Post(content) => client.broadcast(content),
            Publication::Submission(result) => client.submit_result(result),
        };
        if inbox.is_stopped() {
            return;
        }
        match &result {
            Err(ClientError::Unavailable(_)) => failover.failed(),
            Ok(()) | Err(ClientError::Refused(_)) => failover.succeeded(),
        }
        posting.tried(result, config, Instant::now());
    }
}
