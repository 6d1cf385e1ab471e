//! Who waits for an entry: so many in all and so many of one peer, so that there is always a thread left for appends.

use std::collections::HashMap;

use parking_lot::Mutex;

use crate::http::Peer;

/// All that wait.
pub(super) struct Polls {
    most: usize,
    most_per_peer: usize,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    all: usize,
    peers: HashMap<Peer, usize>,
}

/// One that waits, until this is dropped.
pub(super) struct Poll<'a> {
    polls: &'a Polls,
    peer: Peer,
}

impl Polls {
    pub(super) fn new(most: usize, most_per_peer: usize) -> Self {
        Polls { most, most_per_peer, waiting: Mutex::default() }
    }

    /// `None` if too many wait already.
    pub(super) fn start(&self, peer: Peer) -> Option<Poll<'_>> {
        let mut waiting = self.waiting.lock();
        let of_peer = waiting.peers.get(&peer).copied().unwrap_or(0);
        if waiting.all >= self.most || of_peer >= self.most_per_peer {
            return None;
        }
        waiting.all += 1;
        waiting.peers.insert(peer, of_peer + 1);
        Some(Poll { polls: self, peer })
    }

    pub(super) fn count(&self) -> usize {
        self.waiting.lock().all
    }
}

impl Drop for Poll<'_> {
    fn drop(&mut self) {
        let mut waiting = self.polls.waiting.lock();
        waiting.all = waiting.all.saturating_sub(1);
        match waiting.peers.get(&self.peer).map_or(0, |count| count.saturating_sub(1)) {
            0 => drop(waiting.peers.remove(&self.peer)),
            left => drop(waiting.peers.insert(self.peer, left)),
        }
    }
}
