//! Envelopes (spec section 4), and the Broker that opens them one by one.

mod cases;
mod support;

use cases::cases;
use dkg_engine::SecretBytes;
use dkg_engine::bls::{DKG_MESSAGE_TAG, Index, Signature};
use dkg_engine::chain::BoardMessage;
use dkg_engine::committee::NodeId;
use dkg_engine::engine::{Broker, Opened, PostFault};
use dkg_engine::envelope::{
    BroadcastMessage, MAX_INSTANCE_BYTES, MAX_POST_BYTES, MAX_POST_NESTING, MAX_PRIVATE_BYTES, PostError,
    PrivateMessage,
};
use dkg_engine::epoch::{EpochCounter, InstanceId, View};
use dkg_engine::protocol::{encode_complaint, encode_vector};
use proptest::prelude::*;
use support::{committee, node_id, setup, staking_key};

const SIZE: usize = 4;

fn at(position: usize) -> Index {
    Index::from_position(position).unwrap()
}

fn instance() -> InstanceId {
    InstanceId::new("test", EpochCounter(1))
}

fn broker(member: usize) -> Broker {
    Broker::new(&setup(&committee(SIZE), 1, View(10)), staking_key(member))
}

fn post(from: NodeId, content: impl Into<String>) -> BoardMessage {
    BoardMessage { node_id: from, content: content.into() }
}

fn opened(broker: &mut Broker, posts: &[BoardMessage]) -> Vec<Result<(Index, Vec<u8>), PostFault>> {
    broker.open_board(posts).into_iter().map(|Opened { message, .. }| message).collect()
}

/// An envelope of three fixed fields, which nobody has signed.
fn plain() -> BroadcastMessage {
    BroadcastMessage { data: vec![2, 1], dkg_instance_id: "dkg-a-1".into(), signature: vec![255; 4] }
}

#[test]
fn a_post_is_this_json_to_the_byte() {
    assert_eq!(plain().to_json(), r#"{"Data":"AgE=","DKGInstanceID":"dkg-a-1","Signature":"/////w=="}"#);
}

#[test]
fn a_signed_broadcast_comes_back_from_its_json_and_verifies() {
    let signed = BroadcastMessage::sign(vec![2, 1], &instance(), &staking_key(0));
    assert_eq!(signed.signature.len(), 48);
    let read = BroadcastMessage::from_json(&signed.to_json()).unwrap();
    assert_eq!(read, signed);
    assert!(read.verify(&staking_key(0).public_key()));
}

#[test]
fn what_is_signed_is_the_rlp_list_of_data_and_instance_id_under_the_tag_of_dkg_messages() {
    let signed = BroadcastMessage::sign(vec![2, 1], &InstanceId::new("a", EpochCounter(1)), &staking_key(0));
    let signature = Signature::from_bytes(&signed.signature).unwrap();
    assert!(staking_key(0).public_key().verify(b"\xcb\x82\x02\x01\x87dkg-a-1", &DKG_MESSAGE_TAG, &signature));
}

#[test]
fn a_signature_is_good_for_its_data_its_run_and_its_key_and_for_nothing_else() {
    let signed = BroadcastMessage::sign(vec![2, 1], &instance(), &staking_key(0));
    let own = staking_key(0).public_key();
    let changed = |change: fn(&mut BroadcastMessage)| {
        let mut message = signed.clone();
        change(&mut message);
        message.verify(&own)
    };
    assert!(changed(|_| ()));
    assert!(!signed.verify(&staking_key(1).public_key()));
    assert!(!changed(|message| message.data[1] = 0));
    assert!(!changed(|message| message.data.push(0)));
    assert!(!changed(|message| message.data.clear()));
    assert!(!changed(|message| message.dkg_instance_id = "dkg-test-2".into()));
    assert!(!changed(|message| message.signature.clear()));
    assert!(!changed(|message| message.signature.truncate(47)));
    assert!(!changed(|message| message.signature.push(0)));
    assert!(!changed(|message| message.signature = staking_key(0).sign(b"", &DKG_MESSAGE_TAG).to_bytes().to_vec()));
}

#[test]
fn fields_are_read_in_any_order_and_case() {
    for text in [
        r#"{"Signature":"/////w==","DKGInstanceID":"dkg-a-1","Data":"AgE="}"#,
        r#"{"dATA":"AgE=","dkginstanceid":"dkg-a-1","SIGNATURE":"/////w=="}"#,
        " {\n\"Data\" : \"AgE=\",\t\"DKGInstanceID\":\"dkg-a-1\",\"Signature\":\"/////w==\"}\r\n",
        r#"{"D\u0061ta":"AgE\u003d","DKGInstanceID":"dkg\u002da-1","Signature":"\/\/\/\/\/w=="}"#,
        // Go's reader folds the Kelvin sign and the long s too.
        "{\"Data\":\"AgE=\",\"D\u{212a}GInſtanceID\":\"dkg-a-1\",\"ſignature\":\"/////w==\"}",
    ] {
        assert_eq!(BroadcastMessage::from_json(text), Ok(plain()), "{text}");
    }
}

#[test]
fn unknown_fields_are_passed_over_and_missing_ones_empty() {
    let nothing = BroadcastMessage { data: vec![], dkg_instance_id: String::new(), signature: vec![] };
    assert_eq!(BroadcastMessage::from_json("{}"), Ok(nothing.clone()));
    assert_eq!(BroadcastMessage::from_json(r#"{"Data2":{"x":[1,{"Data":"AgE="}]},"":null}"#), Ok(nothing.clone()));
    assert_eq!(BroadcastMessage::from_json(r#"{"\ud800":1,"Data":""}"#), Ok(nothing.clone()), "half a surrogate pair");
    let only_data = BroadcastMessage { data: vec![2, 1], ..nothing };
    assert_eq!(BroadcastMessage::from_json(r#"{"Data":"AgE="}"#), Ok(only_data));
}

#[test]
fn of_a_field_that_comes_twice_the_last_value_counts_and_all_must_be_readable() {
    let with = |before: &str, after: &str| {
        let text = format!(r#"{{{before}"Data":"AgE=","DKGInstanceID":"dkg-a-1","Signature":"/////w=="{after}}}"#);
        BroadcastMessage::from_json(&text)
    };
    assert_eq!(with(r#""data":"////","DkgInstanceId":"x","Signature":"","#, ""), Ok(plain()));
    assert_eq!(with("", r#","DATA":"////""#), Ok(BroadcastMessage { data: vec![255; 3], ..plain() }));
    assert_eq!(with("", r#","DKGInstanceID":"x""#).unwrap().dkg_instance_id, "x");
    assert_eq!(with(r#""Data":"?","#, ""), Err(PostError::NotBase64));
    assert_eq!(with(r#""Data":1,"#, ""), Err(PostError::NotAnEnvelope));
}

#[test]
fn null_empties_binary_fields_and_leaves_the_runs_name_as_it_is() {
    let text = r#"{"Data":"AgE=","DKGInstanceID":"dkg-a-1","Signature":"/////w==","#;
    let with = |after: &str| BroadcastMessage::from_json(&format!("{text}{after}}}"));
    assert_eq!(with(r#""DKGInstanceID":null"#), Ok(plain()));
    assert_eq!(with(r#""Data":null"#), Ok(BroadcastMessage { data: vec![], ..plain() }));
    assert_eq!(with(r#""Signature":null"#), Ok(BroadcastMessage { signature: vec![], ..plain() }));
    assert_eq!(with(r#""Data":null,"Data":"AgE=""#), Ok(plain()));
}

#[test]
fn binary_is_base64_or_an_array_of_numbers() {
    let data = |value: &str| BroadcastMessage::from_json(&format!(r#"{{"Data":{value}}}"#)).map(|read| read.data);
    for same in [r#""AgE=""#, r#""Ag\nE\r=\n""#, "[2,1]", "[ 2 , 1 ]"] {
        assert_eq!(data(same), Ok(vec![2, 1]), "{same}");
    }
    // The surplus bits of the last digit are not looked at.
    assert_eq!(data(r#""AgF=""#), Ok(vec![2, 1]));
    assert_eq!(data("[]"), Ok(vec![]));
    for other in ["AgE", "AgE==", "Ag=E", "A-_=", " AgE=", "AgE=AgE=", r"\ud800"] {
        assert_eq!(data(&format!("\"{other}\"")), Err(PostError::NotBase64), "{other}");
    }
    for other in ["2", "true", "{}", "[256]", "[-1]", "[1.0]", r#"["2"]"#, "[[2]]"] {
        assert_eq!(data(other), Err(PostError::NotAnEnvelope), "{other}");
    }
}

/// Go's reader writes an array over the memory of the value before, and a null leaves its place as it is. What is expected
/// here is what it answers; whoever posts could else sign what it reads and divide us from members that run it.
#[test]
fn a_null_in_an_array_keeps_what_an_earlier_value_of_the_field_has_left_there() {
    let data = |fields: &str| BroadcastMessage::from_json(&format!("{{{fields}}}")).map(|read| read.data);
    for (fields, expected) in [
        (r#""Data":[null,null]"#, vec![0, 0]),
        (r#""Data":"AgE=","Data":[null,null]"#, vec![2, 1]),
        (r#""Data":"AgE=","data":[null,7,null]"#, vec![2, 7, 0]),
        (r#""Data":[1,2,3],"Data":[9],"Data":[9,null,null]"#, vec![9, 2, 3]),
        (r#""Data":[1,2,3],"Data":[9]"#, vec![9]),
        (r#""Data":[1,2,3],"Data":[],"Data":[null,null]"#, vec![0, 0]),
        (r#""Data":[1,2,3],"Data":null,"Data":[null,null]"#, vec![0, 0]),
        (r#""Data":[1,2,3],"Data":"","Data":[null,null]"#, vec![0, 0]),
        (r#""Data":"AQIDBAUG","Data":"Bw==","Data":[null,null,null,null]"#, vec![7, 0, 0, 0]),
        (r#""Signature":[1,2],"Data":[null,null]"#, vec![0, 0]),
    ] {
        assert_eq!(data(fields), Ok(expected), "{fields}");
    }
}

/// No reader of JSON takes a control character in a string; found by the fuzz target `broadcast_post`.
#[test]
fn a_control_character_in_a_string_makes_a_post_no_envelope() {
    for control in ["\0", "\t", "\n", "\r", "\u{1f}"] {
        for text in [
            format!(r#"{{"Data":"Ag{control}E="}}"#),
            format!(r#"{{"Da{control}ta":"AgE="}}"#),
            format!(r#"{{"DKGInstanceID":"dkg{control}"}}"#),
            format!(r#"{{"x":"{control}"}}"#),
        ] {
            assert_eq!(BroadcastMessage::from_json(&text), Err(PostError::NotAnEnvelope), "{text:?}");
        }
    }
    let delete = BroadcastMessage::from_json("{\"DKGInstanceID\":\"\u{7f}\"}").unwrap();
    assert_eq!(delete.dkg_instance_id, "\u{7f}", "which is none by JSON's rules");
}

/// Go's reader refuses what is nested deeper, also where nobody looks at it.
#[test]
fn a_post_nested_deeper_than_the_reference_reads_is_no_envelope() {
    let nested = |depth: usize, open: &str, close: &str| {
        let inside = MAX_POST_NESTING - 1 + depth;
        let text = format!(r#"{{"x\"[":{}1{},"Data":"AgE="}}"#, open.repeat(inside), close.repeat(inside));
        BroadcastMessage::from_json(&text).map(|read| read.data)
    };
    assert_eq!(MAX_POST_NESTING, 10_000);
    assert_eq!(nested(0, "[", "]"), Ok(vec![2, 1]));
    assert_eq!(nested(1, "[", "]"), Err(PostError::NotAnEnvelope));
    assert_eq!(nested(0, r#"{"":"#, "}"), Ok(vec![2, 1]));
    assert_eq!(nested(1, r#"{"":"#, "}"), Err(PostError::NotAnEnvelope));
    let beside = format!(r#"{{"x":"{}","y":[{}],"Data":"AgE="}}"#, "[{".repeat(9000), "[],".repeat(10_001) + "1");
    assert_eq!(
        BroadcastMessage::from_json(&beside).map(|read| read.data),
        Ok(vec![2, 1]),
        "beside each other is not inside"
    );
}

#[test]
fn what_is_no_json_object_is_no_envelope() {
    let json = plain().to_json();
    for text in ["", "[]", "\"\"", "7", "{", "garbage", "{\"Data\":}", r#"{"DKGInstanceID":5}"#, r#"{Data:"AgE="}"#] {
        assert_eq!(BroadcastMessage::from_json(text), Err(PostError::NotAnEnvelope), "{text}");
    }
    for text in [format!("{json}{json}"), format!("{json},"), format!("\u{feff}{json}"), json.replace('"', "'")] {
        assert_eq!(BroadcastMessage::from_json(&text), Err(PostError::NotAnEnvelope), "{text}");
    }
}

#[test]
fn a_post_has_64_kib_at_most_and_the_longest_honest_one_fits() {
    let padded = |bytes: usize| {
        let json = plain().to_json();
        format!("{}{json}", " ".repeat(bytes - json.len()))
    };
    assert_eq!(BroadcastMessage::from_json(&padded(MAX_POST_BYTES)), Ok(plain()));
    assert_eq!(BroadcastMessage::from_json(&padded(MAX_POST_BYTES + 1)), Err(PostError::TooLong(MAX_POST_BYTES + 1)));
    // The vector of 254 members, in uncompressed points.
    let vector = encode_vector(&[7; 127 * 192]);
    let posted = broker(1).broadcast(vector.clone());
    assert_eq!(opened(&mut broker(0), &[post(node_id(1), posted)]), [Ok((at(1), vector))]);
}

#[test]
fn a_private_message_fits_up_to_its_limits() {
    let fits = |data: usize, instance: usize| {
        PrivateMessage::protocol(SecretBytes::new(vec![0; data]), "x".repeat(instance)).fits()
    };
    assert!(fits(MAX_PRIVATE_BYTES, MAX_INSTANCE_BYTES));
    assert!(!fits(MAX_PRIVATE_BYTES + 1, 1));
    assert!(!fits(33, MAX_INSTANCE_BYTES + 1));
}

#[test]
fn one_garbage_post_blinds_nobody() {
    let mut reader = broker(0);
    let good = |member: usize| post(node_id(member), broker(member).broadcast(encode_complaint(at(0))));
    let signed_by = |member: usize, instance: &str| {
        let (_, epoch) = instance.rsplit_once('-').unwrap();
        let instance = InstanceId::new("test", EpochCounter(epoch.parse().unwrap()));
        BroadcastMessage::sign(encode_complaint(at(0)), &instance, &staking_key(member)).to_json()
    };
    let mut forged = BroadcastMessage::from_json(&good(2).content).unwrap();
    forged.data = encode_complaint(at(1));
    let bad = [
        (post(node_id(SIZE), signed_by(SIZE, "dkg-test-1")), PostFault::NotAMember(node_id(SIZE))),
        (post(node_id(2), "garbage"), PostFault::Malformed(PostError::NotAnEnvelope)),
        (post(node_id(2), ""), PostFault::Malformed(PostError::NotAnEnvelope)),
        (post(node_id(2), "x".repeat(70_000)), PostFault::Malformed(PostError::TooLong(70_000))),
        (post(node_id(2), r#"{"Data":"?"}"#), PostFault::Malformed(PostError::NotBase64)),
        (post(node_id(2), "{}"), PostFault::OtherInstance(String::new())),
        (post(node_id(2), signed_by(2, "dkg-test-2")), PostFault::OtherInstance("dkg-test-2".into())),
        (post(node_id(2), forged.to_json()), PostFault::BadSignature),
        (post(node_id(2), good(3).content), PostFault::BadSignature),
        (post(node_id(2), r#"{"DKGInstanceID":"dkg-test-1"}"#), PostFault::BadSignature),
    ];
    let mut board = vec![good(1)];
    let mut expected = vec![Ok((at(1), encode_complaint(at(0))))];
    for (bad, fault) in bad {
        board.extend([bad, good(3)]);
        expected.extend([Err(fault), Ok((at(3), encode_complaint(at(0))))]);
    }
    assert_eq!(reader.offset(), 0);
    let everything = reader.open_board(&board);
    for (opened, posted) in everything.iter().zip(&board) {
        assert_eq!(opened.node_id, posted.node_id, "a fault is its poster's");
    }
    assert_eq!(everything.into_iter().map(|opened| opened.message).collect::<Vec<_>>(), expected);
    assert_eq!(reader.offset(), board.len() as u64);
    reader.open_board(&board[..3]);
    assert_eq!(reader.offset(), board.len() as u64 + 3);
}

#[test]
fn our_own_broadcasts_are_read_like_everybodys() {
    let mut broker = broker(1);
    let posted = broker.broadcast(encode_complaint(at(3)));
    assert_eq!(opened(&mut broker, &[post(node_id(1), posted)]), [Ok((at(1), encode_complaint(at(3))))]);
}

#[test]
fn private_messages_of_strangers_and_of_other_runs_are_refused() {
    let receiver = broker(0);
    let message = broker(1).private(SecretBytes::new(vec![0; 33]));
    assert_eq!(message.dkg_instance_id, "dkg-test-1");
    assert_eq!(receiver.open_private(&node_id(1), &message), Some(at(1)));
    assert_eq!(receiver.open_private(&node_id(SIZE), &message), None);
    for other in ["dkg-test-2", "dkg-other-1", "DKG-test-1", ""] {
        let other = PrivateMessage { dkg_instance_id: other.into(), ..message.clone() };
        assert_eq!(receiver.open_private(&node_id(1), &other), None);
    }
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn every_broadcast_comes_back_from_its_json(
        data in prop::collection::vec(any::<u8>(), 0..300),
        chain in ".{0,40}",
        signature in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        let dkg_instance_id = InstanceId::new(&chain, EpochCounter(1)).to_string();
        let message = BroadcastMessage { data, dkg_instance_id, signature };
        prop_assert_eq!(BroadcastMessage::from_json(&message.to_json()), Ok(message));
    }

    /// Text that is nearly an envelope: one piece of it is cut out, or something is put in.
    #[test]
    fn no_text_makes_the_reader_panic_or_read_what_it_does_not_write_back(
        from in any::<prop::sample::Index>(),
        length in 0usize..12,
        inserted in r#"[{}\[\]":,\\nulDatSigre0-9A-Z/=\x00-\x20]{0,8}|.{0,4}"#,
    ) {
        let json = plain().to_json();
        let from = from.index(json.len());
        let end = json.len().min(from + length);
        let text = format!("{}{inserted}{}", &json[..from], &json[end..]);
        if let Ok(read) = BroadcastMessage::from_json(&text) {
            prop_assert_eq!(BroadcastMessage::from_json(&read.to_json()), Ok(read));
        }
    }
}
