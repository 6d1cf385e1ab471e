//! Hex, as people and JSON see bytes.
//!
//! What is written or read may be secret: no buffer in here grows, since what is outgrown is not wiped, and what has been read of
//! a text that turns out to be no hex is wiped.

use zeroize::Zeroizing;

/// The bytes as lower-case hex without a prefix.
pub fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    append(bytes, &mut text);
    text
}

/// [`encode`], to the end of a text that has room for it.
pub(crate) fn append(bytes: &[u8], text: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.for_each(|digit| text.push(char::from(DIGITS[usize::from(digit)])));
}

/// The bytes behind hex of either case; `None` for an odd length or another character.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Zeroizing::new(vec![0; text.len() / 2]);
    decode_into(text, &mut bytes)?;
    Some(std::mem::take(&mut *bytes))
}

/// Exactly `N` bytes behind hex of either case.
pub fn decode_array<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    decode_into(text, &mut bytes)?;
    Some(bytes)
}

/// Fills `bytes`; `None` if the text is not so many digits.
fn decode_into(text: &str, bytes: &mut [u8]) -> Option<()> {
    if text.len() != 2 * bytes.len() {
        return None;
    }
    let digit = |c: u8| u8::try_from(char::from(c).to_digit(16)?).ok();
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(())
}
