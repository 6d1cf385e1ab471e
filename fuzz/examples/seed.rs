//! Makes the seed corpus from the reference's vectors (`DKG_VECTORS`, or the repository's), and from cases made by hand.
//!
//! Files that are there under other names, what a fuzzer has found above all, are left alone.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use dkg_engine::SecretBytes;
use dkg_engine::bls::{DKG_MESSAGE_TAG, G2Point, Index, Scalar, VectorEncoding};
use dkg_engine::chain::DkgResult;
use dkg_engine::chain::log::{Entry, MAX_ENTRY_BYTES, Payload, Prefix};
use dkg_engine::envelope::{BroadcastMessage, MAX_INSTANCE_BYTES, MAX_POST_NESTING, MAX_PRIVATE_BYTES, PrivateMessage};
use dkg_engine::epoch::{EpochCounter, InstanceId, View};
use dkg_engine::hex;
use dkg_engine::network::InboundError;
use dkg_engine::network::tcp::frame::{Frame, Hello, Verdict};
use dkg_engine::network::tcp::{MAX_FRAME_BYTES, PROTOCOL_VERSION};
use dkg_engine::protocol::{encode_answer, encode_complaint, encode_share, encode_vector};
use dkg_engine::store::seal::{Argon2Cost, SealedKey};
use dkg_engine::store::{Backup, RecordId};
use dkg_engine_fuzz::targets::member::polynomial;
use dkg_engine_fuzz::targets::{curve, log, sealed, store, text};
use serde_json::{Value, json};

fn main() {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let vectors = std::env::var_os("DKG_VECTORS").map_or_else(|| home.join("../tests/vectors"), PathBuf::from);
    let corpus = Corpus(home.join("corpus"));
    let encoded = read(&vectors.join("encodings.json"));
    encodings(&corpus, &encoded);
    signatures(&corpus, &read(&vectors.join("bls_sign.json")));
    vectors_of_points(&corpus, &read(&vectors.join("poly.json")), &encoded);
    transcripts(&corpus, &vectors);
    messages(&corpus);
    texts(&corpus);
    records(&corpus);
    journals(&corpus);
    seals(&corpus);
    keystores(&corpus);
    results(&corpus);
    logs(&corpus);
    links(&corpus);
}

/// The folder of corpora.
struct Corpus(PathBuf);

impl Corpus {
    fn put(&self, target: &str, name: &str, bytes: impl AsRef<[u8]>) {
        let folder = self.0.join(target);
        std::fs::create_dir_all(&folder).unwrap();
        let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
        let name: String = name.chars().map(plain).take(60).collect();
        std::fs::write(folder.join(name), bytes).unwrap();
    }
}

fn read(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap()
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn bytes(value: &Value, name: &str) -> Vec<u8> {
    hex::decode(value[name].as_str().unwrap_or_default()).unwrap()
}

fn at(position: usize) -> Index {
    Index::from_position(position).unwrap()
}

fn encodings(corpus: &Corpus, file: &Value) {
    for (kind, target) in [("g1", "signature"), ("g2", "g2_point"), ("scalars", "scalar")] {
        for case in list(file, kind) {
            corpus.put(target, case["note"].as_str().unwrap(), bytes(case, "hex"));
        }
    }
    for (number, case) in list(file, "g2_flow_versus_standard").iter().enumerate() {
        corpus.put("g2_point", &format!("order flow {number}"), bytes(case, "flow_hex"));
        corpus.put("g2_point", &format!("order standard {number}"), bytes(case, "standard_hex"));
    }
    // What is just below and just above a bound, and bits where none may be.
    let order = curve::ORDER;
    for (name, last) in [("below the order", 0), ("the order", 1), ("above the order", 2)] {
        let mut scalar = order;
        scalar[31] = last;
        corpus.put("scalar", name, scalar);
    }
    let one: Vec<u8> = (0..32).map(|place| u8::from(place == 31)).collect();
    corpus.put("scalar", "one", &one);
    corpus.put("scalar", "all ff", [0xff; 32]);
    corpus.put("scalar", "short by one", &one[1..]);
    corpus.put("scalar", "long by one", [&[0], &one[..]].concat());
    corpus.put("scalar", "empty", []);
    corpus.put("signature", "empty", []);
    corpus.put("g2_point", "empty", []);
    let modulus =
        hex::decode("1a0111ea397fe69a4b1ba7b6434bacd764774b84f38512bf6730d2a0f6b0f6241eabfffeb153ffffb9feffffffffaaab");
    let modulus = modulus.unwrap();
    for (name, difference) in [("the modulus", 0), ("below the modulus", 1)] {
        let mut x = modulus.clone();
        x[47] -= difference;
        x[0] |= 0x80;
        corpus.put("signature", name, &x);
        corpus.put("g2_point", &format!("{name} first"), [&x[..], &[0; 48]].concat());
        x[0] &= 0x1f;
        corpus.put("g2_point", &format!("{name} second"), [&[0x80], &[0; 47][..], &x].concat());
    }
    let zero = |flags: u8| [&[flags], &[0; 47][..]].concat();
    corpus.put("signature", "x is zero", zero(0x80));
    corpus.put("signature", "x is zero and negative", zero(0xa0));
    let generator = G2Point::generator().to_standard_bytes();
    for flags in 0..8 {
        let mut point = generator;
        point[0] = point[0] & 0x1f | flags << 5;
        corpus.put("g2_point", &format!("generator with flags {flags}"), point);
        let mut point = G2Point::generator().to_flow_bytes();
        point[48] = point[48] & 0x1f | flags << 5;
        corpus.put("g2_point", &format!("generator with flags {flags} in the second half"), point);
    }
}

fn signatures(corpus: &Corpus, file: &Value) {
    for (number, case) in list(file, "sign").iter().enumerate().take(8) {
        corpus.put("signature", &format!("signed {number}"), bytes(case, "signature"));
        corpus.put("signature", &format!("hashed {number}"), bytes(case, "hash_to_g1"));
        corpus.put("g2_point", &format!("public key {number}"), bytes(case, "public_key"));
    }
    let key = curve::signer();
    let good = key.sign(curve::MESSAGE, &DKG_MESSAGE_TAG).to_bytes();
    corpus.put("signature", "good", good);
    corpus.put("signature", "good proof", key.prove_possession().to_bytes());
    let mut negative = good;
    negative[0] ^= 0x20;
    corpus.put("signature", "good negated", negative);
    // The good signature plus the points of order 3, (0, 2) and (0, -2): every pairing takes them for the good one.
    for (name, sum) in [
        (
            "good plus a point of order 3",
            "a6e0d295f414e5f561a46835b196ea08fc4181413063c8c6f863d2c0c3fe485d10998e165d7674b988371aedd0225807",
        ),
        (
            "good minus a point of order 3",
            "b3b0f2dc0d9ae1a5741d5f1a81e69f573f2cd4d23681cf2f081de6e114126b70e1829cb482db797a43b44778a13d61b8",
        ),
    ] {
        corpus.put("signature", name, hex::decode(sum).unwrap());
    }
}

fn vectors_of_points(corpus: &Corpus, file: &Value, encodings: &Value) {
    let put = |name: &str, points: u8, bytes: &[u8]| corpus.put("commitment_vector", name, [&[points], bytes].concat());
    for case in list(file, "cases") {
        let message = bytes(case, "verification_vector_message");
        let points = message.len() / 96;
        if (1..6).contains(&points) {
            put(&format!("of degree {}", points - 1), points as u8, &message[1..]);
        }
    }
    let commitment = polynomial(0, 1).commit();
    let uncompressed = commitment.encode(VectorEncoding::Uncompressed);
    let compressed = commitment.encode(VectorEncoding::Compressed);
    put("uncompressed", 2, &uncompressed);
    put("compressed where one uncompressed is due", 1, &compressed);
    put("none due", 0, &compressed);
    put("nothing", 1, &[]);
    put("short by one", 2, &uncompressed[1..]);
    put("long by one", 2, &[&compressed[..], &[0]].concat());
    let identity = [&[0x40], &[0; 191][..]].concat();
    put("identity uncompressed", 1, &identity);
    put("identity uncompressed with its last byte set", 1, &[&identity[..191], &[1]].concat());
    put("identity compressed", 1, &[&[0xc0], &[0; 95][..]].concat());
    put("identity compressed with its last byte set", 1, &[&[0xc0], &[0; 94][..], &[7]].concat());
    put("zeros", 1, &[0; 192]);
    for flags in 1..8 {
        let mut point = uncompressed[..192].to_vec();
        point[0] |= flags << 5;
        put(&format!("uncompressed with flags {flags}"), 1, &point);
    }
    let mut off = uncompressed.clone();
    off[383] ^= 1;
    put("second off the curve", 2, &off);
    let outside =
        list(encodings, "g2").iter().find(|case| case["verdict"] == "not in G2").map(|case| bytes(case, "hex"));
    let outside = outside.expect("the vectors have a point outside of G2");
    put("outside the subgroup", 1, &outside);
    put("second outside the subgroup", 2, &[&compressed[..96], &outside].concat());
}

fn transcripts(corpus: &Corpus, folder: &Path) {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.file_name().unwrap().to_string_lossy().starts_with("dkg_"));
    files.sort();
    let mut shapes = BTreeSet::new();
    for path in files {
        let transcript = read(&path);
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let number = |value: &Value, name: &str| usize::try_from(value[name].as_i64().unwrap_or(-1)).ok();
        let [size, threshold, observer] = ["n", "t", "observer"].map(|name| number(&transcript, name).unwrap());
        let start = list(&transcript, "events").iter().find(|event| event["type"] == "start");
        let seed = start.map(|event| bytes(event, "seed")).unwrap_or_default();
        let mut input = vec![(size - 2) as u8, (threshold - 1) as u8, observer as u8, 0];
        input.extend(&seed);
        let complete = input.len() == 52 && size <= 10;
        for (position, event) in list(&transcript, "events").iter().enumerate() {
            let from = number(event, "from").filter(|from| *from < size).unwrap_or(size) as u8;
            let data = bytes(event, "hex");
            let kind = event["type"].as_str().unwrap();
            if let "private" | "broadcast" = kind {
                // One message of a shape is enough: a fuzzer finds the others.
                let private = kind == "private";
                if shapes.insert((
                    private,
                    data.len(),
                    data.first().copied(),
                    data.get(1).copied().filter(|_| data.len() < 40 && !private),
                )) {
                    let input = [&[u8::from(private)], &data[..]].concat();
                    corpus.put("protocol_message", &format!("{kind} {} {position}", &name[4..]), input);
                }
                input.extend([u8::from(!private), from]);
                input.extend((data.len() as u16).to_le_bytes());
                input.extend(&data);
            }
            match kind {
                "next_timeout" => input.extend([14, 0]),
                "force_disqualify" => input.extend([15, size as u8, number(event, "index").unwrap_or(size) as u8]),
                _ => {}
            }
            input.extend([13, 0]);
            if position % 3 == 2 {
                input.extend([11, 0, 13, 0]);
            }
        }
        if complete {
            corpus.put("participant", &name[4..], input);
        }
    }
}

/// Real messages to a run of three, and real ones with something wrong.
fn messages(corpus: &Corpus) {
    let dealing = polynomial(1, 1);
    let compressed = encode_vector(&dealing.commit().encode(VectorEncoding::Compressed));
    let uncompressed = encode_vector(&dealing.commit().encode(VectorEncoding::Uncompressed));
    let share = encode_share(&dealing.share(at(0))).expose().to_vec();
    let other = encode_share(&dealing.share(at(2))).expose().to_vec();
    let answer = encode_answer(at(0), &dealing.share(at(0)));
    let order = [&[0], &curve::ORDER[..]].concat();
    let cases: [(&str, u8, &[u8]); 17] = [
        ("empty broadcast", 0, &[]),
        ("empty private", 1, &[]),
        ("right share", 1, &share),
        ("right share after its vector", 3, &share),
        ("wrong share after its vector", 3, &other),
        ("share of r", 1, &order),
        ("share of zero", 3, &[0; 33]),
        ("share too long", 1, &[&share[..], &[0]].concat()),
        ("share with another tag", 1, &[&[1], &share[1..]].concat()),
        ("vector", 0, &compressed),
        ("vector uncompressed", 0, &uncompressed),
        ("vector again", 2, &compressed),
        ("complaint about the last", 0, &encode_complaint(at(2))),
        ("complaint about one too many", 0, &encode_complaint(at(3))),
        ("complaint about itself", 0, &encode_complaint(at(1))),
        ("answer", 2, &answer),
        ("answer to one too many", 0, &[&[3, 3], &answer[2..]].concat()),
    ];
    for (name, kind, message) in cases {
        corpus.put("protocol_message", name, [&[kind], message].concat());
    }
    // A run of two to five among real dealers: deal, complain, answer, in and out of order.
    let run = |name: &str, size: u8, threshold: u8, operations: &[u8]| {
        let shape = [size - 2, threshold - 1, 0, 1];
        corpus.put("participant", name, [&shape[..], &[3; 48], operations].concat());
    };
    let dealt = |size: u8| -> Vec<u8> { (1..size).flat_map(|dealer| [2, dealer, 4, dealer]).chain([13, 0]).collect() };
    let phase = [14, 0, 13, 0];
    run("honest of two", 2, 1, &[&dealt(2)[..], &phase, &phase].concat());
    run("honest of five", 5, 2, &[&dealt(5)[..], &phase, &phase].concat());
    run("nobody speaks", 3, 1, &[]);
    run("wrong share then answer", 4, 1, &[&[13, 0, 9, 1, 5, 4, 1, 11, 0, 13, 0, 7, 1, 0][..], &dealt(4)].concat());
    run("answer then complaint", 4, 1, &[&dealt(4)[..], &[7, 1, 2, 6, 2, 1, 8, 3, 2, 9, 6, 2, 3], &phase].concat());
    run("odd points", 3, 1, &[&dealt(3)[..2], &[10, 1, 2, 0, 1, 10, 2, 2, 3], &[0x55; 96], &[1], &phase].concat());
    run("complaints of all", 4, 1, &[&dealt(4)[..], &[6, 1, 0, 6, 2, 0, 6, 3, 0], &phase, &phase].concat());
    run(
        "strangers and exclusion",
        3,
        1,
        &[&dealt(3)[..], &[0, 3, 1, 0, 9, 1, 3, 1, 0, 2, 15, 3, 1, 15, 3, 3]].concat(),
    );
}

fn texts(corpus: &Corpus) {
    let post = |name: &str, text: &str| corpus.put("broadcast_post", name, text);
    let instance = InstanceId::new("fuzz", EpochCounter(1));
    let signed =
        |member: u8, data: Vec<u8>| BroadcastMessage::sign(data, &instance, &text::staking_key(member)).to_json();
    let json = signed(0, encode_complaint(at(1)));
    post("good", &json);
    post("good of another", &signed(2, encode_vector(&polynomial(2, 1).commit().encode(VectorEncoding::Compressed))));
    post("good answer", &signed(1, encode_answer(at(0), &polynomial(1, 1).share(at(0)))));
    post("other run", &json.replace("dkg-fuzz-1", "dkg-fuzz-2"));
    post("other case", &json.replace("Data", "dATA").replace("DKGInstanceID", "dkginstanceid"));
    post("kelvin and long s", &json.replace("DKG", "D\u{212a}G").replace("Signature", "\u{17f}ignature"));
    post("escaped", &json.replace("Data", r"D\u0061ta").replace('=', r"\u003d").replace("dkg-", r"dkg\u002d"));
    post("unknown fields", &json.replacen('{', r#"{"x":{"Data":[1,{"":null}]},"\ud800":-1.5e999,"#, 1));
    post("twice", &json.replacen('{', r#"{"Data":"////","Signature":"","DKGInstanceID":"x","#, 1));
    post("nulls", &json.replace('}', r#","Data":null,"DKGInstanceID":null,"Signature":null}"#));
    post("numbers", r#"{"Data":[2,1,255,null],"DKGInstanceID":"dkg-fuzz-1","Signature":[0]}"#);
    post("numbers out of range", r#"{"Data":[256]}"#);
    post("nulls over what was there before", r#"{"Data":"AgE=","Data":[null,7,null]}"#);
    post("nulls over a longer array", r#"{"Data":[1,2,3],"Data":[9],"Data":[9,null,null]}"#);
    post("nulls after an empty array", r#"{"Data":[1,2,3],"Data":[],"Data":[null,null]}"#);
    post("line breaks in base64", r#"{"Data":"Ag\nE\r=\n"}"#);
    post("surplus bits", r#"{"Data":"AgF="}"#);
    post("not base64", r#"{"Data":"A-_="}"#);
    post("empty object", "{}");
    post("empty", "");
    post("null", "null");
    post("array", "[]");
    post("trailing", &format!("{json},"));
    post("byte order mark", &format!("\u{feff}{json}"));
    for (name, depth) in [("nested as deep as may be", MAX_POST_NESTING - 1), ("nested too deep", MAX_POST_NESTING)] {
        post(name, &format!(r#"{{"x":{}{},"Data":"AgE="}}"#, "[".repeat(depth), "]".repeat(depth)));
    }
    corpus.put("broadcast_post", "no text", [0xff, 0xfe]);

    let private = |name: &str, sender: u8, run: &[u8], data: &[u8]| {
        let length = (run.len() as u16).to_le_bytes();
        corpus.put("private_envelope", name, [&[sender], &length[..], run, data].concat());
    };
    let share = encode_share(&polynomial(1, 1).share(at(0)));
    private("share", 1, b"dkg-fuzz-1", share.expose());
    private("of a stranger", 3, b"dkg-fuzz-1", share.expose());
    private("other run", 1, b"dkg-fuzz-2", share.expose());
    private("longest", 1, &[b'x'; MAX_INSTANCE_BYTES], &[7; MAX_PRIVATE_BYTES]);
    private("data too long", 1, b"dkg-fuzz-1", &[7; MAX_PRIVATE_BYTES + 1]);
    private("name too long", 1, &[b'x'; MAX_INSTANCE_BYTES + 1], &[]);
    corpus.put("private_envelope", "our run", [&[2, 0xff, 0xff], share.expose()].concat());
    corpus.put("private_envelope", "empty", []);

    let node = "0123456789abcdefABCDEF0123456789".repeat(2);
    for (name, digits) in [
        ("node id", &node[..]),
        ("short by one", &node[1..]),
        ("short by two", &node[2..]),
        ("odd character", "0123456g"),
        ("sign", "+1-1"),
        ("two bytes a character", "\u{e9}\u{e9}"),
        ("empty", ""),
    ] {
        corpus.put("hex", name, digits);
    }
}

fn records(corpus: &Corpus) {
    for (name, record) in store::lived() {
        corpus.put("stored_record", name, [&[0], &record[..]].concat());
        let body = &record[..record.len() - 32];
        corpus.put("stored_record", &format!("{name} body"), [&[1], body].concat());
        corpus.put("stored_record", &format!("{name} cut"), [&[1], &body[..body.len() - 1]].concat());
        // Version, epoch, state, and whether there is a share: each with another value.
        for place in [0, 2, 10, 14, 15] {
            let mut other = body.to_vec();
            let place = place.min(other.len() - 1);
            other[place] = other[place].wrapping_add(1);
            corpus.put("stored_record", &format!("{name} otherwise at {place}"), [&[1], &other[..]].concat());
        }
    }
    let (_, mut flipped) = store::lived().swap_remove(2);
    let last_of_share = flipped.len() - 36;
    flipped[last_of_share] ^= 1;
    corpus.put("stored_record", "completed with a bit flipped", [&[0], &flipped[..]].concat());
    corpus.put("stored_record", "empty", []);
    corpus.put("stored_record", "checksum alone", [1]);
    corpus.put("stored_record", "too long", vec![1; dkg_engine::store::MAX_RECORD_BYTES]);

    // An operation is four bytes: which, on which record of those made so far, with which key, with which index. Records
    // 0 to 2 are there from the start, and each operation that is legal makes the next.
    let life = |name: &str, steps: &[[u8; 4]]| corpus.put("key_states", name, steps.concat());
    let (start, complete, fail, commit, other_epoch, recover, write) = (0, 1, 2, 3, 4, 5, 6);
    let run = [[start, 0, 0, 0], [complete, 3, 0, 0], [write, 3, 0, 0], [write, 4, 0, 0]];
    life("committed", &[&run[..], &[[commit, 4, 0, 0], [write, 5, 0, 0], [write, 5, 0, 0]]].concat());
    life("other evidence", &[&run[..], &[[commit, 4, 1, 0], [other_epoch, 4, 0, 1]]].concat());
    life(
        "overwritten",
        &[&run[..], &[[complete, 3, 1, 0], [write, 5, 0, 0], [start, 0, 0, 0], [write, 6, 0, 0]]].concat(),
    );
    life("failed", &[&run[..], &[[fail, 4, 0, 1], [write, 5, 0, 0], [fail, 5, 0, 2], [write, 6, 0, 0]]].concat());
    life(
        "started after a failure",
        &[&run[..], &[[fail, 4, 0, 1], [start, 5, 0, 0], [write, 5, 0, 0], [write, 3, 0, 0]]].concat(),
    );
    let recovered = [[commit, 4, 0, 0], [write, 5, 0, 0], [recover, 1, 0, 0], [write, 6, 0, 0], [commit, 6, 0, 0]];
    life("recovered", &[&run[..], &recovered].concat());
    life(
        "recovered over a share",
        &[
            &run[..],
            &[
                [commit, 4, 0, 0],
                [write, 5, 0, 0],
                [start, 1, 0, 0],
                [complete, 6, 1, 0],
                [write, 6, 0, 0],
                [write, 7, 0, 0],
                [recover, 7, 0, 0],
                [write, 8, 0, 0],
            ],
        ]
        .concat(),
    );
    corpus.put(
        "key_states",
        "batch",
        [&run.concat()[..8], &[write, 3, 0, 1, 4], &[commit, 4, 0, 0, write, 3, 0, 2, 4, 5]].concat(),
    );
    corpus.put("key_states", "batch out of order", [&run.concat()[..8], &[write, 4, 0, 1, 3]].concat());
    corpus.put("key_states", "empty", []);
}

fn journals(corpus: &Corpus) {
    let put = |name: &str, how: u8, bytes: &[u8]| corpus.put("journal", name, [&[how], bytes].concat());
    let share = |message: &[u8]| [&(message.len() as u64).to_le_bytes()[..], message].concat();
    let (dealing, message) = (RecordId::dealing(store::EPOCH), RecordId::share(store::EPOCH, store::DEALER));
    for (name, kind, id, value) in [
        ("dealing", 0, dealing, store::dealing_value(Some(&[7; 48]))),
        ("no dealing", 0, dealing, store::dealing_value(None)),
        ("short seed", 0, dealing, store::dealing_value(Some(&[7; 3]))),
        ("share", 1, message, share(encode_share(&Scalar::zero()).expose())),
        ("empty share", 1, message, share(&[])),
        ("longest share", 1, message, share(&[1; MAX_PRIVATE_BYTES])),
    ] {
        let record = store::journal_record(id, &value);
        let body = &record[..record.len() - 32];
        put(name, kind, &record);
        put(&format!("{name} value"), kind | 4, &value);
        put(&format!("{name} value cut"), kind | 4, &value[..value.len() - 1]);
        put(&format!("{name} value and a byte"), kind | 4, &[&value[..], &[0]].concat());
        put(&format!("{name} cut"), kind | 2, &body[..body.len() - 1]);
        put(&format!("{name} as the other kind"), kind ^ 1, &record);
        // The version, the epoch, the kind, the dealer, and what the value begins with.
        for place in [0, 9, 10, 11, 12] {
            let mut other = body.to_vec();
            other[place] = other[place].wrapping_add(1);
            put(&format!("{name} otherwise at {place}"), kind | 2, &other);
        }
        let mut flipped = record.clone();
        flipped[20] ^= 1;
        put(&format!("{name} with a bit flipped"), kind, &flipped);
    }
    put("neither some nor none", 4, &[&[9; 32][..], &[2]].concat());
    put("endless seed", 4, &[&[9; 32][..], &[1], &[0xff; 8]].concat());
    put("endless share", 5, &[0xff; 8]);
    put("empty share record", 1, &[]);
    put("checksum alone", 3, &[]);
    put("too long", 5, &share(&[1; dkg_engine::store::MAX_RECORD_BYTES]));
}

fn seals(corpus: &Corpus) {
    let cheap = Argon2Cost::new(8, 1, 1).unwrap();
    let key = sealed::data_key();
    let put = |name: &str, kind: u8, bytes: &[u8]| corpus.put("sealed", name, [&[kind], bytes].concat());
    for (name, plain) in [("nothing", &[][..]), ("a share", &[3; 32])] {
        let bytes = key.seal(sealed::CONTEXT, &SecretBytes::new(plain.to_vec())).unwrap();
        put(&format!("{name} sealed"), 0, &bytes);
        put(&format!("{name} sealed and cut"), 0, &bytes[..bytes.len() - 1]);
        put(&format!("{name} sealed for elsewhere"), 0, &key.seal(b"", &SecretBytes::new(plain.to_vec())).unwrap());
    }
    put("no bytes", 0, &[]);
    put("nonce alone", 0, &[0; 24]);

    let backup = Backup::seal(&sealed::owner(), &sealed::completed(), &sealed::key_file()).unwrap();
    let by_file = serde_json::to_value(&backup).unwrap();
    // A backup is made at the standard cost; its data key can be sealed anew at another one.
    let opened: SealedKey = serde_json::from_value(by_file["sealed_by"].clone()).unwrap();
    let opened = opened.open(&sealed::key_file()).unwrap();
    let lock = SealedKey::seal_at(&opened, &sealed::passphrase(), cheap).unwrap();
    let mut by_passphrase = by_file.clone();
    by_passphrase["sealed_by"] = serde_json::to_value(lock).unwrap();
    let put_backup = |name: &str, value: &Value| corpus.put("backup_file", name, value.to_string());
    for (name, good) in [("by key file", &by_file), ("by passphrase", &by_passphrase)] {
        put_backup(name, good);
        put(name, 1, good["sealed_by"].to_string().as_bytes());
        put(&format!("{name} cut"), 1, &good["sealed_by"].to_string().as_bytes()[1..]);
        for (field, other) in [
            ("format", json!("other")),
            ("version", json!(2)),
            ("chain", json!("other")),
            ("chain", json!("x".repeat(20_000))),
            ("member", json!("none")),
            ("epoch", json!(6)),
            ("epoch", json!(-1)),
            ("index", json!(254)),
            ("index", json!(255)),
            ("public_key_share", json!("00")),
            ("state", json!("failed")),
            ("state", json!("other")),
            ("share", json!("")),
            ("share", json!("zz")),
            ("sealed_by", json!(null)),
            ("unknown", json!(1)),
        ] {
            let mut damaged = good.clone();
            damaged[field] = other.clone();
            put_backup(&format!("{name} {field} {other}"), &damaged);
        }
        for cost in [[8, 1, 1], [9, 1, 1], [7, 1, 1], [8, 0, 1], [8, 1, 0], [64, 1, 4], [1 << 18, 1, 1]] {
            costs(&put, &put_backup, name, good, cost);
        }
        let most = u64::from(u32::MAX);
        for cost in [[most, 1, 1], [8, most, 1], [8, 1, most], [(1 << 18) + 1, 1, 1], [8, 17, 1], [64, 1, 5]] {
            costs(&put, &put_backup, name, good, cost);
        }
    }
    corpus.put("backup_file", "empty", []);
    corpus.put("backup_file", "not text", [0xff; 9]);
    corpus.put("backup_file", "deeply nested", "[".repeat(1000));
    corpus.put("backup_file", "header alone", r#"{"format":"dkg-key-backup","version":1}"#);
    let mut long = by_file.to_string();
    long.push_str(&" ".repeat(dkg_engine::store::MAX_BACKUP_BYTES));
    corpus.put("backup_file", "too long", long);
}

fn costs(put: &dyn Fn(&str, u8, &[u8]), put_backup: &dyn Fn(&str, &Value), name: &str, good: &Value, cost: [u64; 3]) {
    let mut other = good.clone();
    if let Some(lock) = other["sealed_by"]["lock"].get_mut("Passphrase") {
        let [memory_kib, passes, lanes] = cost;
        lock["cost"] = json!({ "memory_kib": memory_kib, "passes": passes, "lanes": lanes });
        let name = format!("{name} at {cost:?}");
        put_backup(&name, &other);
        put(&name, 1, other["sealed_by"].to_string().as_bytes());
    }
}

fn keystores(corpus: &Corpus) {
    let numbers = |from: u8| hex::encode(&(from..from + 32).collect::<Vec<u8>>());
    let keystore = |kdf: Value, checksum: &str| {
        json!({
            "crypto": {
                "kdf": kdf,
                "checksum": { "function": "sha256", "params": {}, "message": checksum },
                "cipher": { "function": "aes-128-ctr", "params": { "iv": "00".repeat(16) }, "message": numbers(64) },
            },
            "description": "fuzz", "pubkey": "00", "path": "", "uuid": "", "version": 4,
        })
    };
    // The checksums were computed apart from this program, at costs as low as there are.
    let scrypt = json!({ "dklen": 32, "n": 16, "p": 1, "r": 1, "salt": numbers(0) });
    let pbkdf2 = json!({ "dklen": 32, "c": 1, "prf": "hmac-sha256", "salt": numbers(0) });
    for (name, params, checksum) in [
        ("scrypt", scrypt, "3e4c9ebf91c0843c45e697020dea199c17f513d74174efe9582915431472bb69"),
        ("pbkdf2", pbkdf2, "4774e50d1720756e2d69b1b2562204860ee80763775235d9cd5390b423152a48"),
    ] {
        let good = keystore(json!({ "function": name, "params": params, "message": "" }), checksum);
        let put = |what: &str, value: &Value| corpus.put("keystore", &format!("{name} {what}"), value.to_string());
        put("good", &good);
        corpus.put("keystore", &format!("{name} cut"), &good.to_string()[1..]);
        for (field, other) in [
            ("n", json!(0)),
            ("n", json!(3)),
            ("n", json!(1u64 << 63)),
            ("n", json!(-1)),
            ("r", json!(0)),
            ("r", json!(u32::MAX)),
            ("p", json!(0)),
            ("p", json!(17)),
            ("c", json!(0)),
            ("c", json!(10_000_001)),
            ("prf", json!("hmac-sha512")),
            ("dklen", json!(16)),
            ("dklen", json!(u32::MAX)),
            ("salt", json!("0")),
            ("salt", json!("")),
        ] {
            let mut damaged = good.clone();
            damaged["crypto"]["kdf"]["params"][field] = other.clone();
            put(&format!("{field} {other}"), &damaged);
        }
        let mut endless = good.clone();
        endless["crypto"]["kdf"]["params"]["r"] = json!(0);
        endless["crypto"]["kdf"]["params"]["n"] = json!(1u64 << 62);
        put("endless for nothing", &endless);
        for (part, field, other) in [
            ("cipher", "message", json!("")),
            ("cipher", "message", json!("0")),
            ("cipher", "function", json!("aes-256-ctr")),
            ("checksum", "message", json!("00")),
            ("kdf", "function", json!("argon2")),
        ] {
            let mut damaged = good.clone();
            damaged["crypto"][part][field] = other.clone();
            put(&format!("{part} {field} {other}"), &damaged);
        }
        let mut other = good.clone();
        other["version"] = json!(3);
        put("version 3", &other);
    }
    for (name, text) in [
        ("standard scrypt", include_str!("../../tests/keystores/scrypt.json")),
        ("standard pbkdf2", include_str!("../../tests/keystores/pbkdf2.json")),
    ] {
        corpus.put("keystore", name, text);
    }
    corpus.put("keystore", "empty", []);
    corpus.put("keystore", "deeply nested", "[".repeat(1000));
}

fn results(corpus: &Corpus) {
    // Size, then the result: a group key, so many shares, so many indices. A key of kind 2 is one byte 96 times.
    let result = |size: u8, keys: &[u8], indices: &[[u8; 2]]| -> Vec<u8> {
        let mut bytes = vec![size - 2, 1, 2, 0xab, size];
        bytes.extend(keys);
        bytes.push(indices.len() as u8);
        bytes.extend(indices.concat());
        bytes
    };
    let put = |name: &str, bytes: Vec<u8>| corpus.put("contract_result", name, bytes);
    let keys = [2, 1, 2, 2, 2, 3];
    put("complete", result(3, &keys, &[[0, 0], [1, 1], [2, 2]]));
    put("permuted", result(3, &keys, &[[0, 2], [1, 0], [2, 1]]));
    put("index twice", result(3, &keys, &[[0, 0], [1, 1], [2, 1]]));
    put("index too large", result(3, &keys, &[[0, 0], [1, 1], [2, 3]]));
    put("stranger", result(3, &keys, &[[0, 0], [1, 1], [3, 2]]));
    put("one too many", result(3, &keys, &[[0, 0], [1, 1], [2, 2], [3, 3]]));
    put("one too few", result(3, &keys, &[[0, 0], [1, 1]]));
    let mut digits = [0xab; 97];
    digits[0] = 1;
    put("upper case", [&[0, 1][..], &digits, &[2], &digits, &digits, &[2, 0, 0, 1, 1]].concat());
    for (name, length) in [("long by one", 193), ("short by one", 191), ("text of the right length", 192)] {
        let text = [&[length][..], &vec![b'a'; usize::from(length)]].concat();
        put(name, [&[0, 1][..], &text, &[2, 2, 1, 2, 2, 2, 0, 0, 1, 1]].concat());
    }
    let odd = [&[192][..], &[b'g'; 192]].concat();
    put("no digits", [&[0, 1][..], &odd, &[2, 2, 1, 2, 2, 2, 0, 0, 1, 1]].concat());
    put("empty", vec![0, 0]);

    // Calls: which, by whom, and what it takes.
    let calls = |name: &str, calls: &[&[u8]]| corpus.put("whiteboard", name, calls.concat());
    let (start, post, submit, end, force_end, percentage) = (0, 1, 3, 5, 6, 7);
    let begin: &[u8] = &[start, 0, 0b1111];
    let one: &[u8] = &[submit, 0, 2, 0];
    calls("completed", &[begin, &[post, 1, 2, b'h', b'i'], one, &[submit, 1, 1, 0], &[end, 0], &[start, 0, 0b11]]);
    calls("two results", &[begin, one, &[submit, 1, 2, 1], &[submit, 2, 2, 1], &[submit, 3, 2, 0], &[end, 0]]);
    calls(
        "empty results",
        &[begin, &[submit, 0, 2, 3], &[submit, 1, 2, 3], &[submit, 2, 2, 3], &[end, 0], &[force_end, 0]],
    );
    calls(
        "percentage",
        &[
            &[percentage, 0, 0, 0xe1, 0xf5, 5],
            &[percentage, 0, 0xff, 0xe0, 0xf5, 5],
            begin,
            one,
            &[submit, 1, 2, 0],
            &[end, 0],
        ],
    );
    calls(
        "refused",
        &[
            &[post, 0, 1, b'x'],
            begin,
            begin,
            &[post, 5, 1, b'x'],
            &[post, 0, 0],
            &[post, 0, 255, 0],
            &[post, 0, 255, 1],
            one,
            one,
            &[submit, 6, 2, 0],
        ],
    );
    calls("too few", &[&[start, 0, 1], &[end, 0]]);
    let arbitrary = result(2, &keys[..4], &[[0, 0], [1, 1]]);
    calls(
        "arbitrary result",
        &[&[start, 0, 0b11], &[submit, 0, 0], &arbitrary[1..], &[submit, 1, 0], &arbitrary[1..], &[end, 0]],
    );
}

fn links(corpus: &Corpus) {
    let hello = Hello { protocol: PROTOCOL_VERSION, chain: log::CHAIN };
    let share = PrivateMessage::protocol(encode_share(&polynomial(1, 1).share(at(0))), "dkg-fuzz-1");
    let longest =
        PrivateMessage::protocol(SecretBytes::new(vec![7; MAX_PRIVATE_BYTES]), "x".repeat(MAX_INSTANCE_BYTES));
    let sign_of_life = |version: &str| {
        let version = version.to_owned();
        Frame::ProbeAnswer { id: 4, now_ms: 1_700_000_000_000, chain: log::CHAIN, version }
    };
    let refused = Verdict::NotTaken(InboundError::Full.into());
    let frames = [
        ("hello", Frame::Hello(hello)),
        ("refused", Frame::Refused(hello)),
        ("share", Frame::Message { id: 1, message: share }),
        ("share request", Frame::Message { id: 2, message: PrivateMessage::share_request("dkg-fuzz-1") }),
        ("longest message", Frame::Message { id: u64::MAX, message: longest }),
        ("taken", Frame::Answer { id: 1, verdict: Verdict::Taken }),
        ("not taken", Frame::Answer { id: 1, verdict: refused }),
        ("probe", Frame::Probe { id: 3 }),
        ("sign of life", sign_of_life("0.1.0")),
        ("sign of life without a version", sign_of_life("")),
    ];
    // The first byte is the size of the pieces.
    let put = |name: &str, bytes: &[u8]| corpus.put("link_frame", name, [&[7], bytes].concat());
    let mut conversation = Vec::new();
    for (name, frame) in &frames {
        let bytes = frame.encode().unwrap();
        put(name, &bytes);
        put(&format!("{name} cut"), &bytes[..bytes.len() - 1]);
        // One byte more or less than the kind takes, and the length says so.
        let length = |more: i32| (bytes.len() as i32 - 4 + more).to_le_bytes();
        put(&format!("{name} and a byte"), &[&length(1)[..], &bytes[4..], &[0xff]].concat());
        put(&format!("{name} less a byte"), &[&length(-1)[..], &bytes[4..bytes.len() - 1]].concat());
        conversation.extend_from_slice(&bytes);
    }
    put("conversation", &conversation);
    corpus.put("link_frame", "conversation byte by byte", [&[1], &conversation[..]].concat());
    put("no frame", &[0; 4]);
    put("longest frame announced", &(MAX_FRAME_BYTES as u32).to_le_bytes());
    put("frame too long", &(MAX_FRAME_BYTES as u32 + 1).to_le_bytes());
    put("longest length", &[0xff; 4]);
    put("unknown kind", &[1, 0, 0, 0, 6]);
    put("unknown verdict", &[10, 0, 0, 0, 3, 1, 0, 0, 0, 0, 0, 0, 0, 7]);
    put("unknown kind of message", &[12, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0]);
    put("run that is no text", &[13, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0xff]);
    put("run that is longer than the frame", &[12, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
    corpus.put("link_frame", "empty", []);
}

fn logs(corpus: &Corpus) {
    let genesis = Prefix::genesis(&log::CHAIN);
    let instance = InstanceId::new("fuzz", EpochCounter(1));
    let payloads = [
        ("tick", Payload::Tick(View(7))),
        ("tick of the last view", Payload::Tick(View(u64::MAX))),
        ("post", Payload::Post("{}".into())),
        ("empty post", Payload::Post(String::new())),
        ("longest post", Payload::Post("x".repeat(4096))),
        ("empty result", Payload::Submit { instance: instance.clone(), result: DkgResult::Empty }),
        (
            "result",
            Payload::Submit {
                instance,
                result: DkgResult::Complete {
                    group_key: "ab".repeat(96),
                    key_shares: vec!["cd".repeat(96); 2],
                    index_map: (0..2)
                        .map(|member| (dkg_engine::committee::NodeId::new([member; 32]), at(usize::from(member))))
                        .collect(),
                },
            },
        ),
    ];
    for (name, payload) in payloads {
        let entry = Entry { author: at(0), sequence: 1, payload, seen: genesis.extended(b"an entry") };
        let bytes = entry.sign(&log::CHAIN, &log::network_key(0)).unwrap();
        corpus.put("log_entry", name, &bytes);
        corpus.put("log_entry", &format!("{name} cut"), &bytes[..bytes.len() - 1]);
        corpus.put("log_entry", &format!("{name} and a byte"), [&bytes[..], &[0]].concat());
        let mut damaged = bytes.clone();
        damaged[0] = 254;
        corpus.put("log_entry", &format!("{name} of nobody"), &damaged);
        damaged[0] = 1;
        corpus.put("log_entry", &format!("{name} of another"), &damaged);
        if name == "result" {
            // Two pairs of node id and index, then a prefix and a signature.
            let map = bytes.len() - 64 - 40 - 66..bytes.len() - 64 - 40;
            let mut swapped = bytes.clone();
            swapped[map].rotate_left(33);
            corpus.put("log_entry", "result with its map out of order", &swapped);
        }
    }
    corpus.put("log_entry", "empty", []);
    corpus.put("log_entry", "signature alone", [0; 64]);
    corpus.put(
        "log_entry",
        "longest post announced",
        [&[0][..], &[0; 8], &[1, 0, 0, 0], &[0xff; 8], &[0; 104]].concat(),
    );
    corpus.put("log_entry", "too long", vec![0; MAX_ENTRY_BYTES + 1]);

    // An entry is its kind, its author, what the kind takes, and an oddity with what that takes.
    let put = |name: &str, entries: &[&[u8]]| corpus.put("log_chain", name, entries.concat());
    let (tick, post, empty, submit) = (2, 9, 12, 13);
    let view = |views: u8| [[tick, 0, views, 0, 0], [tick, 1, views, 0, 0]].concat();
    let results: Vec<u8> = (0..3).flat_map(|author| [submit, author, 1, 0]).collect();
    put("an epoch", &[&view(1), &[post, 0, 2, 0, b'h', b'i', 0], &view(2), &view(2), &view(2), &results, &view(2)]);
    put("results before the end", &[&view(1), &results, &view(3), &view(3), &view(2), &view(8)]);
    put("no result", &[&view(1), &[empty, 0, 0, empty, 1, 0], &view(7), &view(8)]);
    put("fallback", &[&view(1), &results, &view(6), &view(2), &view(2), &view(6), &view(2)]);
    let lies: Vec<u8> = (0..3).flat_map(|author| [tick, author, 1, 0, 3]).collect();
    put("forked", &[&view(1), &lies, &view(2)]);
    put("repeated", &[&view(1), &[1, 0, 0, 1, 0, 1], &view(1)]);
    put(
        "damaged and foreign",
        &[&[tick, 0, 1, 0, 8, 5, 0, 1, tick, 1, 1, 0, 7, tick, 2, 1, 0, 6, 200, 0, 0, 3, 0, 1, 2, 3]],
    );
    put("out of sequence", &[&[tick, 0, 1, 0, 1], &[0xff; 8], &[tick, 0, 2, 0, 0, tick, 0, 3, 0, 1], &[0xff; 8]]);
    put("old ticks", &[&view(5), &[8, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0], &[8, 2, 5, 0, 0, 0, 0, 0, 0, 0, 0], &view(1)]);
    put("far ahead", &[&[tick, 0, 9, 0, 0, tick, 0, 8, 0, 0, 8, 1], &[0xff; 8], &[0]]);
    put("keys that are none", &[&view(1), &[submit, 0, 3, 0, submit, 1, 3, 0, submit, 2, 3, 0], &view(7), &view(7)]);
    put("empty", &[]);

    let config = |name: &str, change: &dyn Fn(&mut Sketch)| {
        let mut sketch = Sketch::default();
        change(&mut sketch);
        corpus.put("chain_config", name, sketch.bytes());
    };
    config("sound", &|_| ());
    config("no name", &|sketch| sketch.name = String::new());
    config("longest name", &|sketch| sketch.name = "x".repeat(64));
    config("name too long", &|sketch| sketch.name = "x".repeat(65));
    config("name with a space", &|sketch| sketch.name = "a b".into());
    config("no duration", &|sketch| sketch.numbers[1] = 0);
    config("phases fill the epoch", &|sketch| sketch.numbers[2] = 14);
    config("longest epoch", &|sketch| sketch.numbers[2] = u64::from(u32::MAX));
    config("epoch too long", &|sketch| sketch.numbers[2] = 1 << 32);
    config("late setup", &|sketch| sketch.numbers[3] = u64::MAX);
    config("no phases", &|sketch| sketch.numbers[4] = 0);
    config("endless phases", &|sketch| sketch.numbers[4] = u64::MAX / 3 + 1);
    config("no polls", &|sketch| sketch.numbers[5] = 0);
    config("one member", &|sketch| sketch.members.truncate(1));
    config("node twice", &|sketch| sketch.members[1][0] = 0);
    config("staking key twice", &|sketch| sketch.members[1][1] = 0);
    config("network key twice", &|sketch| sketch.members[1][2] = 0);
    config("identity key", &|sketch| sketch.members[1][1] = 8);
    config("weak key", &|sketch| sketch.members[2] = [&[2, 2, 8, 1][..], &[0; 31]].concat());
}

/// A committee file's content on the way to an input.
struct Sketch {
    name: String,
    numbers: [u64; 6],
    members: Vec<Vec<u8>>,
}

impl Default for Sketch {
    fn default() -> Self {
        let members = (0..3).map(|member| vec![member; 3]).collect();
        Sketch { name: "a-Chain_1.0".into(), numbers: [1_000_000, 100, 20, 5, 3, 1], members }
    }
}

impl Sketch {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![self.name.len() as u8];
        bytes.extend(self.name.as_bytes());
        bytes.extend(self.numbers.iter().flat_map(|number| number.to_le_bytes()));
        bytes.extend([0, self.members.len() as u8]);
        bytes.extend(self.members.concat());
        bytes.extend([1, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0]);
        bytes
    }
}
