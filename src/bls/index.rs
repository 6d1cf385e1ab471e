//! A participant's place in the committee.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A participant's DKG index, 0 to 253. Its Shamir abscissa is the index plus one, so that no share is the secret
/// itself (the polynomial's value at 0).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Index(u8);

/// A byte that is not a DKG index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not a DKG index: they go from 0 to 253")]
pub struct NotAnIndex(pub u8);

impl Index {
    /// How many indices there are: abscissas 1 to 254 travel as one byte.
    const COUNT: u8 = 254;

    /// The index written as this byte; `None` above 253.
    pub const fn from_byte(byte: u8) -> Option<Index> {
        if byte < Self::COUNT { Some(Index(byte)) } else { None }
    }

    /// The index of the member at this position in the committee's order; `None` above 253.
    pub fn from_position(position: usize) -> Option<Index> {
        u8::try_from(position).ok().and_then(Index::from_byte)
    }

    /// The index as it is written in messages.
    pub const fn byte(self) -> u8 {
        self.0
    }

    /// Where this participant's share lies on a polynomial: the index plus one, 1 to 254.
    pub const fn abscissa(self) -> u8 {
        self.0 + 1
    }

    /// The indices of a committee of `n`, in order. There are no more than 254 of them, however large `n` is.
    pub fn all(n: usize) -> impl Iterator<Item = Index> + Clone {
        (0..Self::COUNT).take(n).map(Index)
    }
}

impl fmt::Display for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<Index> for u8 {
    fn from(index: Index) -> u8 {
        index.0
    }
}

impl From<Index> for usize {
    fn from(index: Index) -> usize {
        usize::from(index.0)
    }
}

impl TryFrom<u8> for Index {
    type Error = NotAnIndex;

    fn try_from(byte: u8) -> Result<Self, NotAnIndex> {
        Index::from_byte(byte).ok_or(NotAnIndex(byte))
    }
}
