//! Protocol messages to and from bytes, as the reference has them on the wire (spec section 3).

use crate::bls::{Index, Scalar};
use crate::secret::SecretBytes;

/// First byte of a private share.
pub(super) const SHARE_TAG: u8 = 0;
/// First byte of a broadcast commitment vector.
pub(super) const VECTOR_TAG: u8 = 1;
/// First byte of a broadcast complaint.
pub(super) const COMPLAINT_TAG: u8 = 2;
/// First byte of a broadcast complaint answer.
pub(super) const ANSWER_TAG: u8 = 3;

/// Bytes of a scalar on the wire.
const SCALAR_BYTES: usize = 32;

/// A broadcast by its tag, the body not yet looked at: whether a body is judged at all depends on the phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broadcast<'a> {
    /// A commitment vector: `t + 1` points of G2.
    Vector(&'a [u8]),
    /// A complaint: one byte, the accused dealer.
    Complaint(&'a [u8]),
    /// A complaint answer: one byte, the complainer, then the share.
    Answer(&'a [u8]),
    /// Nothing at all.
    Empty,
    /// A tag that no broadcast has.
    UnknownTag(u8),
}

impl<'a> Broadcast<'a> {
    /// Sorts a broadcast by its first byte.
    pub fn parse(data: &'a [u8]) -> Self {
        match data.split_first() {
            None => Broadcast::Empty,
            Some((&VECTOR_TAG, body)) => Broadcast::Vector(body),
            Some((&COMPLAINT_TAG, body)) => Broadcast::Complaint(body),
            Some((&ANSWER_TAG, body)) => Broadcast::Answer(body),
            Some((&tag, _)) => Broadcast::UnknownTag(tag),
        }
    }
}

/// A private message with a dealer's share for one member.
pub fn encode_share(share: &Scalar) -> SecretBytes {
    let mut bytes = Vec::with_capacity(1 + SCALAR_BYTES);
    bytes.push(SHARE_TAG);
    bytes.extend_from_slice(&share.to_be_bytes()[..]);
    SecretBytes::new(bytes)
}

/// The share in a private message; `None` where tag, length or scalar are wrong, which all call for a complaint.
pub(super) fn decode_share(message: &[u8]) -> Option<Scalar> {
    match message.split_first() {
        Some((&SHARE_TAG, body)) => Scalar::from_be_bytes(body).ok(),
        _ => None,
    }
}

/// A broadcast commitment vector around its encoded points.
pub fn encode_vector(points: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + points.len());
    bytes.push(VECTOR_TAG);
    bytes.extend_from_slice(points);
    bytes
}

/// A complaint about `accused`.
pub fn encode_complaint(accused: Index) -> Vec<u8> {
    vec![COMPLAINT_TAG, accused.byte()]
}

/// The dealer that a complaint's body accuses; `None` unless it is one byte naming one of `n` members.
pub(super) fn decode_complaint(body: &[u8], n: usize) -> Option<Index> {
    match body {
        [byte] => member(*byte, n),
        _ => None,
    }
}

/// The answer to `complainer`'s complaint: its share, from here on public.
pub fn encode_answer(complainer: Index, share: &Scalar) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(2 + SCALAR_BYTES);
    bytes.push(ANSWER_TAG);
    bytes.push(complainer.byte());
    bytes.extend_from_slice(&share.to_be_bytes()[..]);
    bytes
}

/// Complainer and scalar bytes of an answer's body; `None` unless it is 33 bytes naming one of `n` members.
pub(super) fn split_answer(body: &[u8], n: usize) -> Option<(Index, &[u8])> {
    let (&byte, scalar) = body.split_first()?;
    if scalar.len() != SCALAR_BYTES {
        return None;
    }
    Some((member(byte, n)?, scalar))
}

fn member(byte: u8, n: usize) -> Option<Index> {
    Index::from_byte(byte).filter(|index| usize::from(*index) < n)
}
