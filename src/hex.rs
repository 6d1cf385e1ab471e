//! Hex as people and JSON see it, in constant time: some of what is written this way is secret.

/// The bytes as lower-case hex without a prefix.
pub fn encode(bytes: &[u8]) -> String {
    base16ct::lower::encode_string(bytes)
}

/// The bytes behind hex of either case; `None` for an odd length or another character.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    base16ct::mixed::decode_vec(text).ok()
}

/// Exactly `N` bytes behind hex of either case.
pub fn decode_array<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N {
        return None;
    }
    decode(text)?.try_into().ok()
}
