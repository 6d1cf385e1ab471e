//! Hex, posts and private envelopes.

use std::sync::{Arc, LazyLock};

use dkg_engine::SecretBytes;
use dkg_engine::bls::{Index, ProvenPublicKey, SecretKey, Signature};
use dkg_engine::chain::BoardMessage;
use dkg_engine::committee::{Committee, Member, NodeId};
use dkg_engine::engine::{Broker, PostFault};
use dkg_engine::envelope::{
    BroadcastMessage, MAX_INSTANCE_BYTES, MAX_POST_BYTES, MAX_PRIVATE_BYTES, PostError, PrivateMessage,
};
use dkg_engine::epoch::{EpochCounter, EpochSetup, View};
use dkg_engine::hex::{decode, decode_array, encode};

use super::bytes::{Choices, assert_silent};

/// Members of the committee whose posts the corpus has.
pub const SIZE: u8 = 3;

/// The staking key of a member.
pub fn staking_key(member: u8) -> SecretKey {
    SecretKey::from_seed(&[member + 1; 32]).unwrap()
}

fn setup() -> &'static EpochSetup {
    static SETUP: LazyLock<EpochSetup> = LazyLock::new(|| {
        let member = |member: u8| Member {
            node_id: NodeId::new([member; 32]),
            staking_key: ProvenPublicKey::vouched_for(staking_key(member).public_key()),
        };
        let committee = Arc::new(Committee::new((0..SIZE).map(member).collect()).unwrap());
        EpochSetup::new("fuzz", EpochCounter(1), committee, View(1), [View(10), View(20), View(30)])
    });
    &SETUP
}

/// A Broker of that committee; `member`'s.
pub fn broker(member: u8) -> Broker {
    Broker::new(setup(), staking_key(member))
}

/// Hex: what decodes encodes to the same in lower case, and what are digits decodes.
pub fn hex(data: &[u8]) {
    let digits = encode(data);
    assert_eq!(digits.len(), 2 * data.len());
    assert_eq!(decode(&digits).as_deref(), Some(data));
    assert_eq!(decode(&digits.to_uppercase()).as_deref(), Some(data));
    let Ok(text) = std::str::from_utf8(data) else { return };
    let fits = text.len() % 2 == 0 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let read = decode(text);
    assert_eq!(read.is_some(), fits);
    if let Some(read) = &read {
        assert_eq!(encode(read), text.to_ascii_lowercase());
    }
    let array = decode_array::<32>(text);
    assert_eq!(array.map(Vec::from), read.filter(|read| read.len() == 32));
    match (text.parse::<NodeId>(), array) {
        (Ok(node), Some(array)) => assert!(*node.as_bytes() == array && node.to_string() == text.to_ascii_lowercase()),
        (Err(error), None) => assert!(error.to_string().len() < 500, "an error as long as what it is about"),
        _ => panic!("a node id is 64 hex digits"),
    }
}

/// Posts: the text of one, read as any member reads it. What is read is written and read again as the same.
pub fn broadcast_post(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let read = BroadcastMessage::from_json(text);
    assert_eq!(read, BroadcastMessage::from_json(text));
    assert_eq!(matches!(read, Err(PostError::TooLong(_))), text.len() > MAX_POST_BYTES);
    if let Ok(message) = &read {
        let written = message.to_json();
        if written.len() <= MAX_POST_BYTES {
            assert_eq!(BroadcastMessage::from_json(&written).as_ref(), Ok(message));
        }
        // Members that are not ours read any JSON; ours must not read what is none.
        assert!(serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok());
    }
    if let Ok(serde_json::Value::Object(fields)) = serde_json::from_str(text) {
        check_plain(&fields, &read);
    }
    for (position, member) in setup().committee.members().iter().enumerate() {
        let post = BoardMessage { node_id: member.node_id, content: text.to_owned() };
        let mut broker = broker(0);
        let opened = broker.open_board(std::slice::from_ref(&post)).pop().unwrap();
        assert_eq!((broker.offset(), opened.node_id), (1, member.node_id));
        match (&read, opened.message) {
            (Ok(message), Ok((index, data))) => {
                assert_eq!((index, &data), (Index::from_position(position).unwrap(), &message.data));
                // There is one good signature for a message and a key.
                let key = staking_key(index.byte());
                let signed = BroadcastMessage::sign(data, &setup().instance, &key);
                let canonical = Signature::from_bytes(&message.signature).unwrap().to_bytes();
                assert!(signed.signature == canonical && message.verify(&key.public_key()));
            }
            (Ok(message), Err(PostFault::OtherInstance(name))) => {
                assert!(name == message.dkg_instance_id && name != setup().instance.as_str());
            }
            (Ok(message), Err(PostFault::BadSignature)) => assert!(!message.verify(member.staking_key.key())),
            (Err(error), Err(PostFault::Malformed(fault))) => assert_eq!(*error, fault),
            (read, opened) => panic!("{read:?} was opened as {opened:?}"),
        }
    }
    let stranger = BoardMessage { node_id: NodeId::new([SIZE; 32]), content: text.to_owned() };
    let opened = broker(0).open_board(&[stranger]).pop().unwrap();
    assert!(matches!(opened.message, Err(PostFault::NotAMember(_))));
}

/// Posts without oddities, which any reader of JSON reads alike: three strings under their own names.
fn check_plain(fields: &serde_json::Map<String, serde_json::Value>, read: &Result<BroadcastMessage, PostError>) {
    let names = ["Data", "DKGInstanceID", "Signature"];
    let texts: Vec<&str> = names.iter().filter_map(|name| fields.get(*name)?.as_str()).collect();
    let [_, instance, _] = texts[..] else { return };
    if fields.len() == names.len()
        && let Ok(read) = read
    {
        assert_eq!(read.dkg_instance_id, instance);
    }
}

/// Private envelopes: the name of the run after its length, then the data.
pub fn private_envelope(data: &[u8]) {
    let mut choices = Choices(data);
    let sender = choices.byte();
    let name = match choices.u16() {
        u16::MAX => setup().instance.as_str().to_owned(),
        length => String::from_utf8_lossy(choices.take(usize::from(length))).into_owned(),
    };
    let body = choices.0;
    let message = PrivateMessage::protocol(SecretBytes::new(body.to_vec()), name.clone());
    assert_eq!(message.fits(), body.len() <= MAX_PRIVATE_BYTES && name.len() <= MAX_INSTANCE_BYTES);
    let shown = format!("{message:?}");
    assert!(shown.chars().count() <= 80 + 60, "a log line as long as what it is about");
    if !name.as_bytes().windows(8).any(|window| body.windows(8).any(|secret| secret == window)) && name.len() < 100 {
        assert_silent(&shown.replace(&name, ""), body);
    }
    let opened = broker(0).open_private(&NodeId::new([sender; 32]), &message);
    let expected = Index::from_byte(sender).filter(|_| sender < SIZE && name == "dkg-fuzz-1");
    assert_eq!(opened, expected);
    let wrapped = broker(0).private(message.data.clone());
    assert!(wrapped.data.expose() == body && wrapped.dkg_instance_id == "dkg-fuzz-1");
}
