//! The one place that knows bincode: fixed-width little-endian integers, a size limit, nothing left over.
//!
//! The format is pinned by golden bytes in the tests, so that the library behind it can be replaced.

use bincode::Options;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Why bytes could not be written or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireError {
    /// Too large to write.
    #[error("it has more than {0} bytes")]
    TooLarge(usize),
    /// Not the encoding of what was expected.
    #[error("its bytes do not decode")]
    Malformed,
    /// Another encoding of the same value: only one is accepted.
    #[error("its bytes are not in canonical form")]
    NotCanonical,
}

/// The encoding of `value`, of at most `limit` bytes.
pub(crate) fn encode<T: Serialize>(value: &T, limit: usize) -> Result<Vec<u8>, WireError> {
    options(limit).serialize(value).map_err(|_| WireError::TooLarge(limit))
}

/// The value that encodes to exactly these bytes, of which there may be at most `limit`.
pub(crate) fn decode<T: Serialize + DeserializeOwned>(bytes: &[u8], limit: usize) -> Result<T, WireError> {
    if bytes.len() > limit {
        return Err(WireError::TooLarge(limit));
    }
    let value = options(limit).deserialize(bytes).map_err(|_| WireError::Malformed)?;
    if encode(&value, limit)? == bytes { Ok(value) } else { Err(WireError::NotCanonical) }
}

fn options(limit: usize) -> impl Options {
    bincode::DefaultOptions::new().with_fixint_encoding().reject_trailing_bytes().with_limit(limit as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_pinned_to_the_byte() {
        let value = (1u16, Some([2u8; 2]), "ab".to_owned(), vec![3u64]);
        let golden =
            [1, 0, 1, 2, 2, 2, 0, 0, 0, 0, 0, 0, 0, b'a', b'b', 1, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(encode(&value, 64).as_deref(), Ok(&golden[..]));
        assert_eq!(decode(&golden, 64), Ok(value));
    }

    #[test]
    fn trailing_bytes_and_oversized_lengths_are_refused() {
        assert_eq!(decode::<u16>(&[1, 0, 0], 64), Err(WireError::Malformed));
        assert_eq!(decode::<String>(&[255; 8], 64), Err(WireError::Malformed));
        assert_eq!(decode::<u16>(&[1; 65], 64), Err(WireError::TooLarge(64)));
        assert_eq!(encode(&[0u8; 32], 31), Err(WireError::TooLarge(31)));
    }
}
