//! What a run comes out with.

use super::fault::Disqualification;
use crate::bls::{Index, PublicKey, SecretKey};

/// The end of a run, as one member sees it. Everything but [`OurShare`] is the same for all honest members.
pub struct Outcome {
    /// The dealers whose secrets make up the key, ascending.
    pub qualified: Vec<Index>,
    /// The others, ascending, each with its reason.
    pub disqualified: Vec<(Index, Disqualification)>,
    /// The keys, or why there are none.
    pub result: Result<Keys, Failure>,
}

/// The keys of a successful run.
pub struct Keys {
    /// The group public key.
    pub group_key: PublicKey,
    /// One public key share per member, in order of index.
    pub key_shares: Vec<PublicKey>,
    /// Members whose public key share is the identity: they cannot sign, though the run succeeds for the others.
    pub identity_shares: Vec<Index>,
    /// Our private share.
    pub share: OurShare,
}

/// Whether we came out with a private share.
pub enum OurShare {
    /// A share that matches our public key share.
    Held(SecretKey),
    /// No valid share of these qualified dealers: our complaint never reached the board in time, say. The public result
    /// stands; no private share is kept rather than a wrong one.
    Missing(Vec<Index>),
    /// The sum of valid shares does not match our public key share: a fault of this machine, and no share is kept.
    Inconsistent,
    /// We have dealt, and are disqualified in our own eyes, since our own broadcasts never came back. Either they did not reach
    /// the board in time, and everybody else holds us for disqualified too; or the host does not hand this member its own
    /// broadcasts, and **these keys, the public ones too, are others than everybody else's**. A host that hands back all that
    /// the board holds goes on with [`handed_all`](Self::handed_all); any other host stores and submits none of this.
    Unheard {
        /// Which of our broadcasts is missing.
        why: Disqualification,
        /// What we have if it is the board that lacks them.
        otherwise: Box<OurShare>,
    },
}

impl OurShare {
    /// What we have, where this member was handed all that the board holds, its own broadcasts included.
    pub fn handed_all(self) -> OurShare {
        match self {
            OurShare::Unheard { otherwise, .. } => *otherwise,
            share => share,
        }
    }
}

/// Why a run has no keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// More dealers are out than may be malicious.
    #[error("{disqualified} of {size} dealers are disqualified, and at most {threshold} may be")]
    TooManyDisqualified {
        /// Disqualified dealers.
        disqualified: usize,
        /// The threshold `t`.
        threshold: usize,
        /// All members.
        size: usize,
    },
    /// Too few dealers are left to make a key that no `t` of them know.
    #[error("{qualified} qualified dealers are left, and more than {threshold} are needed")]
    TooFewQualified {
        /// Qualified dealers.
        qualified: usize,
        /// The threshold `t`.
        threshold: usize,
    },
    /// Our private share is zero.
    #[error("our private share is zero, which signs nothing")]
    ShareIsZero,
    /// The group key is the identity.
    #[error("the group key is the identity, which anyone could sign for")]
    GroupKeyIsIdentity,
}
