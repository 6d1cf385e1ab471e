//! What is skipped, and why: the rules by which no entry can do harm.

use crate::committee::Index;
use crate::envelope::MAX_POST_BYTES;

/// Why every replica skipped an entry.
///
/// Most rules are checked before the signature, so that nonsense costs little; what they skip may therefore have been
/// written by somebody else than the author it names. See [`is_proven`](Self::is_proven).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum SkipReason {
    /// Not an entry: undecodable, too long, or not in its one canonical form.
    #[error("it is not a well-formed entry")]
    Malformed,
    /// Its author's index is not below the number of members.
    #[error("its author is not a member")]
    UnknownAuthor,
    /// A tick that says nothing new: its view is final already; or its author's last one is not, so that there is one of each
    /// author at most behind every final view; or a run is on, and it is not for the next view. Honest members do that all the
    /// time: their ticks cross on the way.
    #[error("its tick says nothing new")]
    OldTick,
    /// A tick for a view that is further beyond the finalized one than what can be passed over:
    /// [`MAX_JUMP_EPOCHS`](crate::chain::log::MAX_JUMP_EPOCHS).
    #[error("its tick is too far ahead of the chain")]
    TickTooFar,
    /// Its author has used up what one member may write in an epoch.
    #[error("its author is over the quota of this epoch")]
    OverQuota,
    /// Its sequence number is not above that of the author's last entry: repeated, or overtaken by a later one.
    #[error("it is repeated, or a later entry of its author came first")]
    OutOfSequence,
    /// Its author had seen so little of the log that nobody remembers whether it was this log.
    #[error("its author was too far behind")]
    StalePrefix,
    /// Its author did not sign it for this chain.
    #[error("its signature is not its author's, or is for another chain")]
    BadSignature,
    /// Its author vouches for another log than the one it stands in: it lies, or the host showed it another log.
    #[error("its author has seen another log")]
    WrongPrefix,
    /// The contract refused it: no run is going on, a second result, one that does not fit or is of another run, an empty
    /// post.
    #[error("the whiteboard contract refused it")]
    Refused,
}

impl SkipReason {
    /// Whether the author's signature was checked and good: only then is the entry evidence against its author.
    pub fn is_proven(self) -> bool {
        matches!(self, SkipReason::WrongPrefix | SkipReason::Refused)
    }
}

/// An entry that was skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Skip {
    /// The member it names as its author, if it names one.
    pub author: Option<Index>,
    /// Why it was skipped.
    pub reason: SkipReason,
}

/// How much one member may post and submit in one epoch. Ticks need no quota: of each member there is one at most behind every
/// final view.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// How many posts.
    pub posts: usize,
    /// How many results: one, and one more try.
    pub submits: usize,
    /// How many bytes of entries with posts and results.
    pub bytes: usize,
}

impl Quota {
    /// What is allowed for an entry with a complaint or an answer. It takes less than 400 bytes with the longest chain
    /// id.
    const SMALL_POST_BYTES: usize = 768;

    /// What each of `n` members may write in an epoch.
    ///
    /// A run takes a member at most one vector, a complaint about each other member and an answer to each other member,
    /// `2n - 1` posts. The rest is for repetitions after lost connections. With 254 members it comes to 649 KiB each.
    pub fn per_epoch(n: usize) -> Quota {
        let posts = 2 * n + 16;
        Quota { posts, submits: 2, bytes: 4 * MAX_POST_BYTES + posts * Self::SMALL_POST_BYTES }
    }

    /// Whether `more` on top of this stays within `limit`.
    pub(super) fn has_room(&self, more: &Quota, limit: &Quota) -> bool {
        let total = self.plus(more);
        total.posts <= limit.posts && total.submits <= limit.submits && total.bytes <= limit.bytes
    }

    #[must_use]
    pub(super) fn plus(&self, more: &Quota) -> Quota {
        Quota {
            posts: self.posts.saturating_add(more.posts),
            submits: self.submits.saturating_add(more.submits),
            bytes: self.bytes.saturating_add(more.bytes),
        }
    }
}
