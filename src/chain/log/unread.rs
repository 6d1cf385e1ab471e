//! What a member has written and not yet read back: kept until its own replica has taken it, and written again where every replica
//! skips it. Pure.
//!
//! A host that has taken an entry may still put it where it does not count: behind so many others that nobody remembers any more what
//! its author had seen, or behind a later one of its author; or it damages or loses it. A vector that is lost so would cost its dealer
//! the run.

use std::collections::BTreeMap;

use crate::chain::log::{Payload, SkipReason};

/// How often one payload is written again at most. A host that lets it come to that lets nothing through.
const MAX_TIMES: u32 = 16;

/// One entry, by what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Written {
    payload: Payload,
    /// Where the host says that it stands, once it has said so.
    position: Option<u64>,
    /// How often it has been written again.
    again: u32,
    /// It has come, and every replica has skipped it.
    skipped: bool,
}

/// A payload to be written again, with how often it has been already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lost {
    pub(super) payload: Payload,
    pub(super) again: u32,
}

/// The posts and results of one member that are on their way, by sequence number.
#[derive(Debug)]
pub(super) struct Unread {
    limit: usize,
    written: BTreeMap<u64, Written>,
    /// Those that are to be written again, in their order.
    lost: Vec<Lost>,
}

impl Unread {
    /// With room for so many.
    pub(super) fn new(limit: usize) -> Self {
        Unread { limit, written: BTreeMap::new(), lost: Vec::new() }
    }

    /// Whether there is room for one more.
    pub(super) fn has_room(&self) -> bool {
        self.written.len() + self.lost.len() < self.limit
    }

    /// An entry goes on its way.
    pub(super) fn wrote(&mut self, sequence: u64, payload: Payload, again: u32) {
        self.written.insert(sequence, Written { payload, position: None, again, skipped: false });
    }

    /// The host has taken it, and says where it stands.
    pub(super) fn taken(&mut self, sequence: u64, position: u64) {
        if let Some(written) = self.written.get_mut(&sequence) {
            written.position = Some(position);
        }
    }

    /// The host has not said that it took it; whoever wanted it written knows.
    pub(super) fn not_taken(&mut self, sequence: u64) {
        self.written.remove(&sequence);
    }

    /// Whether this is on its way already.
    pub(super) fn has(&self, payload: &Payload) -> bool {
        let on_its_way = self.written.values().filter(|written| written.position.is_some());
        on_its_way
            .map(|written| &written.payload)
            .chain(self.lost.iter().map(|lost| &lost.payload))
            .any(|p| p == payload)
    }

    /// An entry in the member's name has been read.
    pub(super) fn read(&mut self, sequence: u64, payload: &Payload, skipped: Option<SkipReason>) {
        let Some(written) = self.written.get_mut(&sequence).filter(|written| written.payload == *payload) else {
            return;
        };
        match skipped {
            Some(SkipReason::StalePrefix | SkipReason::OutOfSequence | SkipReason::BadSignature) => {
                written.skipped = true
            }
            // It counts; or it does not, and would not the next time.
            _ => drop(self.written.remove(&sequence)),
        }
    }

    /// The log has been read up to this position: what has to be written again. The rest is given up, and returned too.
    pub(super) fn take_lost(&mut self, read_to: u64) -> (Vec<Lost>, Vec<Payload>) {
        let is_lost =
            |written: &Written| written.position.is_some_and(|position| written.skipped || position < read_to);
        let lost = self.written.extract_if(.., |_, written| is_lost(written));
        self.lost.extend(lost.map(|(_, Written { payload, again, .. })| Lost { payload, again: again + 1 }));
        let (again, given_up) =
            std::mem::take(&mut self.lost).into_iter().partition::<Vec<_>, _>(|l| l.again <= MAX_TIMES);
        (again, given_up.into_iter().map(|lost| lost.payload).collect())
    }

    /// These could not be written just now.
    pub(super) fn keep(&mut self, lost: impl IntoIterator<Item = Lost>) {
        self.lost.extend(lost);
    }
}
