//! What the encodings of points of both groups have in common.

/// Why bytes are not a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PointError {
    /// The wrong number of bytes.
    #[error("the point should be {expected} bytes long, not {actual}")]
    Length {
        /// How many bytes such a point has.
        expected: usize,
        /// How many bytes there were.
        actual: usize,
    },
    /// Flag bits that make no sense, or a coordinate that is not below the field's modulus.
    #[error("the bytes are not the encoding of a point")]
    Encoding,
    /// No point of the curve has these coordinates.
    #[error("the point is not on the curve")]
    NotOnCurve,
    /// On the curve, but outside the subgroup of order r.
    #[error("the point is outside the subgroup of order r")]
    NotInSubgroup,
}

/// Whether a compressed point is an encoding of the identity that the reference reads: `c0`, then zeros, then any last
/// byte, at which the reference does not look. We must accept what it accepts, or honest members would disagree.
pub(super) fn is_compressed_identity(bytes: &[u8]) -> bool {
    match bytes {
        [0xc0, middle @ .., _last] => middle.iter().all(|byte| *byte == 0),
        _ => false,
    }
}
