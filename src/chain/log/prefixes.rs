//! The hashes of the log's recent prefixes, which members vouch for in their entries.

use std::collections::VecDeque;

use crate::chain::log::Prefix;

/// How many positions back a replica remembers the log's hash. An entry whose author has seen less is skipped as stale:
/// with 254 members, who tick 128 times a view if all are honest, it is more than 60 views behind; and more than 30 if the others
/// tick every view too, which is all they can ([`SkipReason::OldTick`](crate::chain::log::SkipReason::OldTick)). What a host
/// takes that every replica skips counts as well; an author notices, and writes again what was skipped.
pub const PREFIX_WINDOW: usize = 8192;

/// How a prefix compares with the log at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    /// It is a prefix of this log.
    Equal,
    /// It is none: it differs, or is longer than the log was when it was vouched for.
    Different,
    /// It is too far back to tell.
    Forgotten,
}

/// The log's hash at its end and at the last [`PREFIX_WINDOW`] positions before.
#[derive(Clone, Debug)]
pub(super) struct Prefixes {
    end: Prefix,
    /// The hashes before the end, the latest at the back.
    earlier: VecDeque<[u8; 32]>,
}

impl Prefixes {
    pub(super) fn new(genesis: Prefix) -> Self {
        Prefixes { end: genesis, earlier: VecDeque::new() }
    }

    pub(super) fn end(&self) -> Prefix {
        self.end
    }

    pub(super) fn push(&mut self, entry: &[u8]) {
        if self.earlier.len() == PREFIX_WINDOW {
            self.earlier.pop_front();
        }
        self.earlier.push_back(self.end.hash);
        self.end = self.end.extended(entry);
    }

    pub(super) fn compare(&self, claimed: &Prefix) -> Comparison {
        let Some(back) = self.end.position.checked_sub(claimed.position) else {
            return Comparison::Different;
        };
        let known = match usize::try_from(back) {
            Ok(0) => Some(&self.end.hash),
            Ok(back) => self.earlier.len().checked_sub(back).and_then(|place| self.earlier.get(place)),
            Err(_) => None,
        };
        match known {
            None => Comparison::Forgotten,
            Some(hash) if *hash == claimed.hash => Comparison::Equal,
            Some(_) => Comparison::Different,
        }
    }
}
