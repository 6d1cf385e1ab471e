//! Which page of the whiteboard is read next, from which client, when a try is made again and when it is given up: the
//! poller's decisions, without its thread. Pure.

use std::time::Instant;

use super::retry::{Failover, WhiteboardConfig};
use super::step::{Input, ReadRequest};
use crate::chain::{BoardMessage, ClientError};
use crate::epoch::Header;

/// Messages asked for in one call and taken in in one step: few enough that a node of the largest committee is done with the
/// step at once, and enough for their vectors to be checked together.
pub const READ_PAGE: usize = 32;

/// The one read of the board that is on, if any, and the choice of client.
pub(crate) struct Poller {
    config: WhiteboardConfig,
    clients: Failover,
    reading: Option<Reading>,
}

/// A read that is on.
struct Reading {
    request: ReadRequest,
    next_index: u64,
    /// Failed calls since a page has come.
    failures: u32,
    /// Those of them since somebody last got through to the board.
    in_a_row: u32,
    tried_at: Option<Instant>,
    due: Instant,
}

/// A call to make: at most [`READ_PAGE`] messages, of this client.
pub(crate) struct ReadCall {
    pub(crate) client: usize,
    pub(crate) from_index: u64,
    pub(crate) as_of: Header,
}

impl Poller {
    pub(crate) fn new(clients: usize, config: WhiteboardConfig) -> Self {
        Poller { config, clients: Failover::new(clients), reading: None }
    }

    /// Begins a read; one that is on is abandoned.
    pub(crate) fn read(&mut self, request: ReadRequest, now: Instant) {
        let next_index = request.from_index;
        self.reading = Some(Reading { request, next_index, failures: 0, in_a_row: 0, tried_at: None, due: now });
    }

    /// Somebody has got through to the board: a read that waits is tried again no later than a first wait after its last try.
    pub(crate) fn way_is_free(&mut self) {
        if let Some(reading) = &mut self.reading {
            reading.in_a_row = 0;
            if let Some(tried_at) = reading.tried_at {
                reading.due = reading.due.min(tried_at + self.config.base_wait);
            }
        }
    }

    /// What is being read is of no use any more.
    pub(crate) fn abandon(&mut self) {
        self.reading = None;
    }

    /// When there is a call to make; `None` if nothing is being read.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.reading.as_ref().map(|reading| reading.due)
    }

    /// The call to make now.
    pub(crate) fn due(&self, now: Instant) -> Option<ReadCall> {
        let reading = self.reading.as_ref().filter(|reading| reading.due <= now)?;
        let client = self.clients.current();
        Some(ReadCall { client, from_index: reading.next_index, as_of: reading.request.as_of })
    }

    /// What to tell the reactor after a call; `random` spreads the next try.
    pub(crate) fn tried(
        &mut self,
        result: Result<Vec<BoardMessage>, ClientError>,
        now: Instant,
        random: u64,
    ) -> Option<Input> {
        if result.is_ok() {
            self.clients.succeeded();
        } else {
            self.clients.failed();
        }
        let reading = self.reading.as_mut()?;
        let read = reading.request.id;
        match result {
            Ok(messages) => {
                (reading.failures, reading.in_a_row) = (0, 0);
                (reading.tried_at, reading.due) = (None, now);
                reading.next_index = reading.next_index.saturating_add(messages.len() as u64);
                let last = messages.len() < READ_PAGE;
                if last {
                    self.reading = None;
                }
                Some(Input::Page { read, messages, last })
            }
            Err(error) => {
                reading.failures = reading.failures.saturating_add(1);
                reading.in_a_row = reading.in_a_row.saturating_add(1);
                reading.tried_at = Some(now);
                let retries = if reading.request.must_succeed { None } else { Some(self.config.read_retries) };
                let policy = self.config.policy(retries, self.config.max_wait);
                let again = policy.wait(reading.failures, random);
                match again.and_then(|_| policy.retry_at(reading.in_a_row, now, random)) {
                    Some(due) => {
                        log::debug!("reading the whiteboard as of {:?}: {error}; trying again", reading.request.as_of);
                        reading.due = due;
                        None
                    }
                    None => {
                        log::warn!("reading the whiteboard as of {:?} given up: {error}", reading.request.as_of);
                        self.reading = None;
                        Some(Input::ReadGivenUp(read))
                    }
                }
            }
        }
    }
}
