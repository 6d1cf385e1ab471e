//! From a message to a point of G1: KMAC128 as expand_message, then the simplified SWU map.

use std::borrow::Cow;

use cshake::CShake128;
use cshake::digest::{ExtendableOutput, Update, XofReader};

use super::g1::E1Point;

/// Ends the KMAC key of every signature: the name of the ciphersuite.
const SIGNATURE_SUITE: &str = "BLS_SIG_BLS12381G1_XOF:KMAC128_SSWU_RO_POP_";
/// The whole KMAC key of proofs of possession, which no tag followed by the signature suite can equal.
const POSSESSION_SUITE: &str = "BLS_POP_BLS12381G1_XOF:KMAC128_SSWU_RO_POP_";

/// The tag under which staking keys sign broadcasts (spec section 4).
pub const DKG_MESSAGE_TAG: Tag = Tag(Cow::Borrowed("FLOW-DKG_Message-V00-CS00-with-"));
/// The tag under which the shares of the group key sign the random beacon (spec section 4).
pub const RANDOM_BEACON_TAG: Tag = Tag(Cow::Borrowed("FLOW-Random_Beacon-V00-CS00-with-"));

/// What a signature is for. A signature made under one tag is worth nothing under another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tag(Cow<'static, str>);

impl Tag {
    /// The tag with this text. Any text will do; every use of a key needs its own.
    pub fn new(text: impl Into<Cow<'static, str>>) -> Tag {
        Tag(text.into())
    }

    /// The tag's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The first step of hashing to the curve: 128 bytes made of the message by KMAC128, under the tag.
///
/// This is NIST SP 800-185's KMAC128 with key `tag || suite`, customization `H2C` and an output of 1024 bits, but for
/// one deviation of the reference (spec section 4): a padded key that ends exactly on the sponge's rate is followed by
/// one more block of zeros.
pub fn expand_message(message: &[u8], tag: &Tag) -> [u8; 128] {
    kmac128(&[tag.0.as_bytes(), SIGNATURE_SUITE.as_bytes()].concat(), message)
}

/// The point of G1 that a message hashes to under a tag, compressed. What signatures are made of; public so that it can
/// be compared with other implementations.
pub fn hash_to_g1(message: &[u8], tag: &Tag) -> [u8; 48] {
    hash_to_point(message, tag).encode()
}

/// The point of G1 that a message hashes to under a tag.
pub(super) fn hash_to_point(message: &[u8], tag: &Tag) -> E1Point {
    E1Point::from_expanded(&expand_message(message, tag))
}

/// The point of G1 whose multiple proves possession of the key with these bytes.
pub(super) fn hash_key_to_point(key: &[u8]) -> E1Point {
    E1Point::from_expanded(&kmac128(POSSESSION_SUITE.as_bytes(), key))
}

/// The rate of cSHAKE128 in bytes, to which the key is padded.
const RATE: usize = 168;

fn kmac128(key: &[u8], message: &[u8]) -> [u8; 128] {
    let mut padded_key = Vec::with_capacity(2 * RATE + key.len());
    left_encode(RATE as u64, &mut padded_key);
    left_encode(8 * key.len() as u64, &mut padded_key);
    padded_key.extend_from_slice(key);
    // Always at least one byte, where NIST's bytepad adds none to an aligned input: the reference's deviation.
    let padding = RATE - padded_key.len() % RATE;
    padded_key.resize(padded_key.len() + padding, 0);

    let mut sponge = CShake128::new_with_function_name(b"KMAC", b"H2C");
    sponge.update(&padded_key);
    sponge.update(message);
    // right_encode of the output's length, 1024 bits.
    sponge.update(&[0x04, 0x00, 0x02]);
    let mut expanded = [0; 128];
    sponge.finalize_xof().read(&mut expanded);
    expanded
}

/// The number without leading zero bytes, preceded by how many bytes it has (SP 800-185 section 2.3.1).
fn left_encode(number: u64, out: &mut Vec<u8>) {
    let bytes = number.to_be_bytes();
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count().min(bytes.len() - 1);
    let digits = &bytes[zeros..];
    out.push(digits.len() as u8);
    out.extend_from_slice(digits);
}
