//! The envelopes protocol messages travel in, byte for byte as the reference has them (spec section 4).

use std::fmt;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::bls::{DKG_MESSAGE_TAG, PublicKey, SecretKey, Signature};
use crate::epoch::InstanceId;
use crate::secret::SecretBytes;

/// The most bytes one post can have, and of one post that are looked at: 64 KiB.
///
/// The longest honest post is the commitment vector of 254 members in uncompressed points: `1 + 127 * 192` bytes, 32,516
/// as base64, and less than 300 for the rest of the envelope.
pub const MAX_POST_BYTES: usize = 64 * 1024;
/// The most bytes a private message's data may have; a share has 33.
pub const MAX_PRIVATE_BYTES: usize = 1024;
/// The most bytes an instance id in a private message may have.
pub const MAX_INSTANCE_BYTES: usize = 512;
/// How deep arrays and objects of a post may be nested, the envelope itself included: the reference's reader goes no deeper.
pub const MAX_POST_NESTING: usize = 10_000;

/// What a message on a private channel is. A word of the transport: a reference member would take a tag that it does not
/// know for a bad share. A host on Flow's own network sends protocol messages only, and drops the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PrivateKind {
    /// A message of the protocol: a share.
    Protocol,
    /// The sender lacks the receiver's share and asks for it (spec section 7). It has no data.
    ShareRequest,
}

/// A message on a private channel. The channel says who sent it; the message itself is not signed.
#[derive(Clone)]
pub struct PrivateMessage {
    /// What it is.
    pub kind: PrivateKind,
    /// The protocol message; a share, if the sender is honest.
    pub data: SecretBytes,
    /// The run it belongs to.
    pub dkg_instance_id: String,
}

impl PrivateMessage {
    /// A message of the protocol.
    pub fn protocol(data: SecretBytes, instance: impl Into<String>) -> Self {
        PrivateMessage { kind: PrivateKind::Protocol, data, dkg_instance_id: instance.into() }
    }

    /// A request for a share.
    pub fn share_request(instance: impl Into<String>) -> Self {
        let kind = PrivateKind::ShareRequest;
        PrivateMessage { kind, data: SecretBytes::new(Vec::new()), dkg_instance_id: instance.into() }
    }

    /// Whether it says the same as another, in a time that does not depend on what it says.
    pub fn ct_eq(&self, other: &PrivateMessage) -> bool {
        self.kind == other.kind && self.dkg_instance_id == other.dkg_instance_id && self.data.ct_eq(&other.data)
    }

    /// Whether it is small enough to be kept.
    pub fn fits(&self) -> bool {
        self.data.len() <= MAX_PRIVATE_BYTES && self.dkg_instance_id.len() <= MAX_INSTANCE_BYTES
    }
}

impl fmt::Debug for PrivateMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateMessage({:?}, {} bytes for {:.80})", self.kind, self.data.len(), self.dkg_instance_id)
    }
}

/// A broadcast, signed with the sender's staking key over the run's name and the data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BroadcastMessage {
    /// The protocol message.
    pub data: Vec<u8>,
    /// The run it belongs to.
    pub dkg_instance_id: String,
    /// 48 bytes, if the sender is honest.
    pub signature: Vec<u8>,
}

impl BroadcastMessage {
    /// Signs `data` for one run.
    pub fn sign(data: Vec<u8>, instance: &InstanceId, key: &SecretKey) -> Self {
        let signature = key.sign(&fingerprint(&data, instance.as_str()), &DKG_MESSAGE_TAG);
        let dkg_instance_id = instance.as_str().to_owned();
        BroadcastMessage { data, dkg_instance_id, signature: signature.to_bytes().to_vec() }
    }

    /// Whether `key` has signed this.
    pub fn verify(&self, key: &PublicKey) -> bool {
        Signature::from_bytes(&self.signature).is_ok_and(|signature| {
            key.verify(&fingerprint(&self.data, &self.dkg_instance_id), &DKG_MESSAGE_TAG, &signature)
        })
    }

    /// The JSON that is posted: `{"Data":"<base64>","DKGInstanceID":"…","Signature":"<base64>"}`.
    pub fn to_json(&self) -> String {
        let post = Post {
            data: STANDARD.encode(&self.data),
            instance: &self.dkg_instance_id,
            signature: STANDARD.encode(&self.signature),
        };
        // A struct of three strings has a JSON form.
        serde_json::to_string(&post).unwrap_or_default()
    }

    /// Reads a post exactly as the reference's reader does (Go's `encoding/json`): members beside us must not see more or
    /// less than we do, or whoever posts could divide us.
    ///
    /// Fields may come in any order and case, once or several times (the last counts, though all must be readable), and be
    /// missing. Null empties data and signature and leaves the run's name as it is. Binary is base64, in which line breaks
    /// and surplus bits are passed over, or an array of numbers. A null in such an array stands for what an earlier value of
    /// the same field has left in that place of the reference's memory, or for zero. Unknown fields are passed over.
    ///
    /// # Errors
    /// The text is too long, nested deeper than [`MAX_POST_NESTING`], no JSON object of such values, or not base64 where it
    /// has to be.
    pub fn from_json(text: &str) -> Result<Self, PostError> {
        if text.len() > MAX_POST_BYTES {
            return Err(PostError::TooLong(text.len()));
        }
        // Well-formed to the last byte, which reading strings as bytes does not ask for: that lets control characters pass.
        let well_formed = serde_json::from_str::<IgnoredAny>(text).is_ok() && nesting(text) <= MAX_POST_NESTING;
        if !well_formed {
            return Err(PostError::NotAnEnvelope);
        }
        let Fields { data, instance, signature } = serde_json::from_str(text).map_err(|_| PostError::NotAnEnvelope)?;
        let (Some(data), Some(signature)) = (data.into_bytes(), signature.into_bytes()) else {
            return Err(PostError::NotBase64);
        };
        Ok(BroadcastMessage { data, dkg_instance_id: instance, signature })
    }
}

/// Why a post is no envelope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PostError {
    /// Too long.
    #[error("it has {0} bytes, and at most {MAX_POST_BYTES} are read")]
    TooLong(usize),
    /// Not the JSON of an envelope.
    #[error("it is not the JSON of an envelope")]
    NotAnEnvelope,
    /// Data or signature are not base64.
    #[error("its data or signature is not base64")]
    NotBase64,
}

/// An envelope as it is written.
#[derive(Serialize)]
struct Post<'a> {
    #[serde(rename = "Data")]
    data: String,
    #[serde(rename = "DKGInstanceID")]
    instance: &'a str,
    #[serde(rename = "Signature")]
    signature: String,
}

/// An envelope as it is read.
#[derive(Default)]
struct Fields {
    data: Binary,
    instance: String,
    signature: Binary,
}

/// A binary field as the reference keeps it while it reads: a later array is written over the memory of the value before.
#[derive(Default)]
struct Binary {
    memory: Vec<u8>,
    /// How much of the memory the last value has.
    length: usize,
    /// Some value of the field was not base64.
    unreadable: bool,
}

impl Binary {
    fn set(&mut self, bytes: Vec<u8>) {
        self.length = bytes.len();
        self.memory = bytes;
    }

    fn into_bytes(mut self) -> Option<Vec<u8>> {
        self.memory.truncate(self.length);
        (!self.unreadable).then_some(self.memory)
    }
}

/// A string as bytes: the reference takes halves of surrogate pairs for a character like any other.
struct Text(Vec<u8>);

impl Text {
    /// The string as names are compared: without regard to case, where the Kelvin sign and the long s are K and S too.
    fn folded(&self) -> String {
        let fold = |character| match character {
            '\u{212a}' => 'k',
            '\u{17f}' => 's',
            other => other.to_ascii_lowercase(),
        };
        String::from_utf8_lossy(&self.0).chars().map(fold).collect()
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an envelope")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Fields::default();
                while let Some(name) = map.next_key::<Text>()? {
                    match name.folded().as_str() {
                        "data" => map.next_value_seed(&mut fields.data)?,
                        "signature" => map.next_value_seed(&mut fields.signature)?,
                        "dkginstanceid" => {
                            if let Some(Text(value)) = map.next_value()? {
                                fields.instance = String::from_utf8_lossy(&value).into_owned();
                            }
                        }
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(fields)
            }
        }

        deserializer.deserialize_map(Object)
    }
}

impl<'de> DeserializeSeed<'de> for &mut Binary {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for &mut Binary {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("base64")
    }

    fn visit_none<E>(self) -> Result<(), E> {
        self.set(Vec::new());
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_bytes(self)
    }

    fn visit_bytes<E>(self, text: &[u8]) -> Result<(), E> {
        const LENIENT: GeneralPurpose =
            GeneralPurpose::new(&alphabet::STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));
        let text: Vec<u8> = text.iter().filter(|byte| !matches!(byte, b'\r' | b'\n')).copied().collect();
        match LENIENT.decode(text) {
            Ok(bytes) => self.set(bytes),
            Err(_) => self.unreadable = true,
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut numbers: A) -> Result<(), A::Error> {
        self.length = 0;
        while let Some(byte) = numbers.next_element::<Option<u8>>()? {
            match (self.memory.get_mut(self.length), byte) {
                (Some(place), Some(byte)) => *place = byte,
                (Some(_), None) => {}
                (None, byte) => self.memory.push(byte.unwrap_or(0)),
            }
            self.length += 1;
        }
        if self.length == 0 {
            // An empty array gets memory of its own.
            self.memory.clear();
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;

        impl Visitor<'_> for Bytes {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Text, E> {
                Ok(Text(bytes.to_vec()))
            }
        }

        deserializer.deserialize_bytes(Bytes)
    }
}

/// How deep the arrays and objects of a JSON text are nested.
fn nesting(text: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut in_string, mut escaped) = (false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_string,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// What is signed: the RLP encoding of the list `[data, instance id]`.
fn fingerprint(data: &[u8], instance: &str) -> Vec<u8> {
    let mut items = rlp_string(data);
    items.extend(rlp_string(instance.as_bytes()));
    let mut list = rlp_header(0xc0, items.len());
    list.extend(items);
    list
}

/// A byte string in RLP (Ethereum yellow paper, appendix B).
fn rlp_string(bytes: &[u8]) -> Vec<u8> {
    match bytes {
        [byte] if *byte < 0x80 => vec![*byte],
        _ => {
            let mut encoded = rlp_header(0x80, bytes.len());
            encoded.extend_from_slice(bytes);
            encoded
        }
    }
}

/// The header of a string (`offset` 0x80) or list (0xc0) of `length` bytes.
fn rlp_header(offset: u8, length: usize) -> Vec<u8> {
    match u8::try_from(length) {
        Ok(short) if short < 56 => vec![offset + short],
        _ => {
            let bytes = length.to_be_bytes();
            let significant = bytes.iter().skip_while(|byte| **byte == 0).copied();
            // At most 8 bytes of length: 55 + 8 + 0xc0 is 0xff.
            let mut header = vec![offset + 55];
            header.extend(significant);
            header[0] += u8::try_from(header.len() - 1).unwrap_or(8);
            header
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signed_bytes_are_the_rlp_of_data_and_instance_id() {
        assert_eq!(fingerprint(&[0x02, 0x01], "dkg-a-1"), b"\xcb\x82\x02\x01\x87dkg-a-1");
        assert_eq!(fingerprint(&[], ""), [0xc2, 0x80, 0x80]);
        assert_eq!(fingerprint(&[0x7f], "a"), [0xc2, 0x7f, b'a']);
        let long = fingerprint(&[7; 300], "x");
        assert_eq!(long[..6], [0xf9, 0x01, 0x30, 0xb9, 0x01, 0x2c]);
        assert_eq!(fingerprint(&[9; 60], "xy")[..5], [0xf8, 65, 0xb8, 60, 9]);
    }
}
