//! Whether somebody else writes in this member's name: a second process with the same identity. Pure.
//!
//! A process knows what it has written itself. What an earlier life of it has written can still come into the log, but vouches for no
//! more of the log than that life had read; so an entry that vouches for what came after this process had caught up was written
//! neither by it nor by an earlier life, but by somebody who lives, and has the key.

use std::collections::BTreeMap;
use std::fmt;

use sha3::{Digest, Sha3_256};

use crate::chain::log::{Payload, SignedEntry};
use crate::epoch::View;

/// How many of its own entries a process remembers, the latest. More than can be on their way into the log.
const REMEMBERED: usize = 4096;

/// An entry in a member's own name that it did not write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Twin {
    /// Its place in the log.
    pub position: u64,
    /// Its sequence number.
    pub sequence: u64,
    /// What it is.
    pub kind: &'static str,
}

impl fmt::Display for Twin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Twin { position, sequence, kind } = self;
        write!(
            f,
            "entry {position} of the log, {kind} with number {sequence}, bears this member's signature and was not written here"
        )
    }
}

/// What one process knows of the entries in its member's name.
#[derive(Debug, Default)]
pub(super) struct OwnEntries {
    /// What this process has written: hashes, by sequence number.
    written: BTreeMap<u64, [u8; 32]>,
    /// The highest number that is no longer remembered; what is not above it is not judged.
    forgotten: Option<u64>,
    /// How much of the log there was when this process had caught up.
    began: Option<u64>,
    twin: Option<Twin>,
}

impl OwnEntries {
    /// This process has caught up with the log, which has so many entries. Only the first time counts.
    pub(super) fn begin(&mut self, position: u64) {
        self.began.get_or_insert(position);
    }

    /// Takes note of an entry before it goes on its way.
    pub(super) fn wrote(&mut self, sequence: u64, entry: &[u8]) {
        self.written.insert(sequence, Sha3_256::digest(entry).into());
        if self.written.len() > REMEMBERED
            && let Some((sequence, _)) = self.written.pop_first()
        {
            self.forgotten = Some(sequence);
        }
    }

    /// Looks at an entry in the member's name. `is_signed` is asked only where the answer matters.
    pub(super) fn judge(
        &mut self,
        position: u64,
        bytes: &[u8],
        entry: &SignedEntry<'_>,
        is_signed: impl FnOnce() -> bool,
    ) {
        let said = entry.entry();
        let is_old = self.began.is_none_or(|began| said.seen.position <= began);
        let is_forgotten = self.forgotten.is_some_and(|forgotten| said.sequence <= forgotten);
        // A check before a ceremony says nothing else, and says it beside the node.
        let is_check = said.payload == Payload::Tick(View(0));
        if self.twin.is_some() || is_old || is_forgotten || is_check {
            return;
        }
        let hash: [u8; 32] = Sha3_256::digest(bytes).into();
        if self.written.get(&said.sequence) == Some(&hash) || !is_signed() {
            return;
        }
        let kind = match said.payload {
            Payload::Tick(_) => "a tick",
            Payload::Post(_) => "a post",
            Payload::Submit { .. } => "a result",
        };
        self.twin = Some(Twin { position, sequence: said.sequence, kind });
    }

    /// The first entry that somebody else has written.
    pub(super) fn twin(&self) -> Option<&Twin> {
        self.twin.as_ref()
    }
}
