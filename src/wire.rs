//! Our own bytes: what members sign for each other and what is kept, as bincode with every choice pinned.
//!
//! Fixed-width little-endian integers, `u64` lengths, `u32` variant numbers. One value has exactly one encoding:
//! trailing bytes, map keys out of order and the like are refused, so that a hash or a signature over the bytes is one
//! over the value. Nothing is read or written beyond the caller's limit, whatever lengths the bytes announce.

use bincode::Options;
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

/// Why bytes are not a value, or a value cannot become bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// More bytes than the caller allows.
    #[error("more than the {0} bytes that are allowed here")]
    TooLong(usize),
    /// Not an encoding of the type.
    #[error("not a valid encoding: {0}")]
    Malformed(String),
    /// An encoding of a value, but not the one that this crate writes.
    #[error("not the canonical encoding")]
    NotCanonical,
}

fn options(limit: usize) -> impl Options {
    let limit = u64::try_from(limit).unwrap_or(u64::MAX);
    bincode::DefaultOptions::new().with_fixint_encoding().with_limit(limit).reject_trailing_bytes()
}

/// The bytes of `value`.
///
/// # Errors
/// They would be more than `limit`.
pub(crate) fn encode<T: Serialize>(value: &T, limit: usize) -> Result<Vec<u8>, WireError> {
    options(limit).serialize(value).map_err(|error| explain(&error, limit))
}

/// The value behind `bytes`.
///
/// # Errors
/// More than `limit` bytes, or not exactly what [`encode`] writes for some value.
pub(crate) fn decode<T: Serialize + DeserializeOwned>(bytes: &[u8], limit: usize) -> Result<T, WireError> {
    if bytes.len() > limit {
        return Err(WireError::TooLong(limit));
    }
    let value = options(limit).deserialize(bytes).map_err(|error| explain(&error, limit))?;
    // What is decoded may be secret, and this is a copy of it.
    if *Zeroizing::new(encode(&value, limit)?) != bytes {
        return Err(WireError::NotCanonical);
    }
    Ok(value)
}

fn explain(error: &bincode::ErrorKind, limit: usize) -> WireError {
    match error {
        bincode::ErrorKind::SizeLimit => WireError::TooLong(limit),
        other => WireError::Malformed(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Sample {
        Nothing,
        Something { number: u64, name: String, list: Vec<u8>, map: BTreeMap<u8, bool> },
    }

    fn sample() -> Sample {
        Sample::Something { number: 258, name: "é".into(), list: vec![7, 8], map: [(1, true), (2, false)].into() }
    }

    const GOLDEN: &str = "01000000\
        0201000000000000\
        0200000000000000c3a9\
        02000000000000000708\
        0200000000000000\
        01010200";

    #[test]
    fn the_bytes_are_these_and_no_others() {
        assert_eq!(crate::hex::encode(&encode(&sample(), 100).unwrap()), GOLDEN);
        assert_eq!(encode(&Sample::Nothing, 4).unwrap(), [0; 4]);
        assert_eq!(decode::<Sample>(&crate::hex::decode(GOLDEN).unwrap(), 100).unwrap(), sample());
    }

    #[test]
    fn one_value_has_one_encoding() {
        let golden = crate::hex::decode(GOLDEN).unwrap();
        let (head, tail) = golden.split_at(golden.len() - 4);
        let swapped = [head, &tail[2..], &tail[..2]].concat();
        assert_eq!(decode::<Sample>(&swapped, 100), Err(WireError::NotCanonical));
        let twice = [head, &tail[..2], &tail[..2]].concat();
        assert_eq!(decode::<Sample>(&twice, 100), Err(WireError::NotCanonical));
        let trailing = [&golden[..], &[0]].concat();
        assert!(matches!(decode::<Sample>(&trailing, 100), Err(WireError::Malformed(_))));
        for end in 0..golden.len() {
            assert!(decode::<Sample>(&golden[..end], 100).is_err(), "cut off at {end}");
        }
    }

    #[test]
    fn nothing_exceeds_the_limit_whatever_the_bytes_announce() {
        let golden = crate::hex::decode(GOLDEN).unwrap();
        assert_eq!(decode::<Sample>(&golden, golden.len() - 1), Err(WireError::TooLong(golden.len() - 1)));
        assert_eq!(encode(&sample(), golden.len() - 1), Err(WireError::TooLong(golden.len() - 1)));
        let announced = [&u64::MAX.to_le_bytes()[..], &[1, 2, 3]].concat();
        assert!(decode::<Vec<u64>>(&announced, 100).is_err());
    }
}
