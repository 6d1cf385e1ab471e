//! How much of a dealer's secret has got out.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::bls::Index;

/// How much of one dealer's secret has got out in a run, as the board and the members' silence tell it.
///
/// Any `t + 1` shares of a dealer make its secret known. Who complains gets its own answered in public. And who has said nothing
/// may all the same have taken what it was sent: up to `t` members that do, and hide, need as many answers fewer. What a
/// malicious member that talks like everybody else knows, nobody can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Exposure {
    /// The dealer.
    pub dealer: Index,
    /// Its shares that stand on the board, or will when it answers the complaints that stand there.
    pub public: usize,
    /// Members, beside those that these shares are for, of which there is neither a vector on the board nor a share for us.
    pub silent: usize,
    /// How many shares more would make its secret known if the silent members have taken theirs and work together; 0 where it
    /// is known to them then.
    pub left: usize,
}

impl Exposure {
    pub(super) fn new(dealer: Index, threshold: usize, public: usize, silent: usize) -> Self {
        Exposure { dealer, public, silent, left: (threshold + 1).saturating_sub(public + silent) }
    }

    /// Whether one answer more may be too many, or one that has been called for already.
    pub fn is_close(&self) -> bool {
        self.public > 0 && self.left <= 1
    }
}

impl fmt::Display for Exposure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Exposure { dealer, public, silent, left } = self;
        match left {
            0 => write!(f, "member {dealer}'s secret is public once its complaints are answered")?,
            1 => write!(f, "member {dealer}'s secret is one answer from being public")?,
            left => write!(f, "member {dealer}'s secret is {left} answers from being public")?,
        }
        let shares = if *public == 1 { "share" } else { "shares" };
        write!(f, ": {public} {shares} of it on the board or called for")?;
        match silent {
            0 => Ok(()),
            1 => write!(f, ", and one member that has said nothing may hold its own"),
            silent => write!(f, ", and {silent} members that have said nothing may hold theirs"),
        }
    }
}
