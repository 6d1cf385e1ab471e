//! The committee file (spec section 9): what it says, what is refused, and what its hash covers.
#![cfg(feature = "committee-file")]

use dkg_engine::address::Endpoint;
use dkg_engine::bls::{SecretKey, VectorEncoding};
use dkg_engine::chain::log::{ChainSpec, CommitteeFile, LogPlace, MAX_COMMITTEE_FILE_BYTES, MemberFile, Schedule};
use dkg_engine::committee::{Index, NodeId};
use dkg_engine::epoch::View;
use ed25519_dalek::SigningKey;

fn member(number: u8) -> MemberFile {
    let staking_key = SecretKey::from_seed(&[number + 1; 32]).unwrap();
    MemberFile {
        node_id: NodeId::new([number; 32]),
        staking_key: staking_key.public_key(),
        staking_key_proof: staking_key.prove_possession(),
        network_key: SigningKey::from_bytes(&[number + 1; 32]).verifying_key(),
        address: Some(format!("10.0.0.{}:7000", number + 1).parse().unwrap()),
    }
}

fn endpoint(text: &str) -> Endpoint {
    text.parse().unwrap()
}

fn spec() -> ChainSpec {
    ChainSpec {
        chain_id: "beacon".into(),
        genesis_ms: 1_796_126_400_250,
        view_ms: 1000,
        schedule: Schedule { views_in_epoch: 600, setup_first_view: 60, views_per_phase: 120, poll_step: 10 },
        members: Vec::new(),
        vector_encoding: VectorEncoding::Uncompressed,
        log: LogPlace::Http(vec![endpoint("http://10.0.0.9:7500"), endpoint("https://log.example.org:443")]),
    }
}

fn file() -> CommitteeFile {
    CommitteeFile::new(spec(), (0..4).map(member).collect()).unwrap()
}

/// What is wrong with the file when this piece of it is another one.
fn refused(from: &str, to: &str) -> String {
    let text = file().text();
    assert!(text.contains(from), "{from} is not in the file");
    CommitteeFile::parse(&text.replacen(from, to, 1)).expect_err(to).to_string()
}

#[track_caller]
fn assert_names(error: &str, parts: &[&str]) {
    for part in parts {
        assert!(error.contains(part), "'{part}' is not in: {error}");
    }
}

#[test]
fn a_committee_file_is_read_as_it_was_written() {
    for log in [
        spec().log,
        LogPlace::Etcd { endpoints: vec![endpoint("http://[::1]:2379")], prefix: "dkg/beacon/".into() },
        LogPlace::Local,
    ] {
        for vector_encoding in [VectorEncoding::Uncompressed, VectorEncoding::Compressed] {
            let spec = ChainSpec { log: log.clone(), vector_encoding, ..spec() };
            let written = CommitteeFile::new(spec, (0..4).rev().map(member).collect()).unwrap();
            let read = CommitteeFile::parse(&written.text()).unwrap();
            assert_eq!(read.chain(), written.chain());
            assert_eq!(read.members(), (0..4).map(member).collect::<Vec<_>>(), "in order of index");
            assert_eq!(read.text(), written.text());
            assert_eq!(*read.chain().log(), log);
        }
    }
    let file = file();
    let chain = file.chain();
    assert_eq!(chain.begins_at(View(0)), 1_796_126_400_250);
    assert_eq!(chain.address(Index::from_position(2).unwrap()), member(2).address.as_ref());
    let one = member(1);
    assert_eq!(MemberFile::parse(&one.text()), Ok(one));
}

#[test]
fn every_field_that_is_wrong_is_named_with_its_member() {
    let two = member(2).node_id.to_string();
    let text = file().text();
    let of_two = |line: &str| {
        let member = &text[text.find(&two).unwrap()..];
        let start = member.find(line).unwrap();
        member[start..].lines().next().unwrap().to_owned()
    };
    for (field, value) in [
        ("staking_key", "zz"),
        ("staking_key", "00"),
        ("staking_key_proof", "1234"),
        ("network_key", "1234"),
        ("staking_key_proof", &hex(&member(1).staking_key_proof.to_bytes())),
    ] {
        let error = refused(&of_two(&format!("{field} =")), &format!("{field} = \"{value}\""));
        assert_names(&error, &[&two, "number 3", field]);
    }
    assert_names(&refused(&of_two("address ="), "address = \"\""), &[&two, "address"]);
    assert_names(&refused(&of_two("address ="), "address = \"nowhere\""), &[&two, "nowhere", "host:port"]);
    assert_names(&refused(&of_two("address ="), "address = \"10.0.0.1:7000\""), &[&two, "same address"]);
    assert_names(&refused(&of_two("address ="), "address = \"10.0.0.3:0\""), &["10.0.0.3:0"]);
    assert_names(&refused(&format!("node_id = \"{two}\""), "node_id = \"22\""), &["number 3", "node_id", "22"]);
    assert_names(&refused(&of_two("address ="), "adress = \"10.0.0.3:7000\""), &["adress"]);
    let one = member(1).node_id.to_string();
    assert_names(&refused(&two, &one), &[&one, "twice"]);
}

#[test]
fn members_addresses_are_told_apart_however_they_are_spelled() {
    for (ours, theirs, named) in [
        ("Node.example.org:7000", "node.EXAMPLE.org.:07000", "same address"),
        ("[::ffff:10.0.0.3]:7000", "10.0.0.3:7000", "same address"),
        ("0.0.0.0:7000", "10.0.0.3:7000", "nobody can be reached"),
        ("0177.0.0.1:7000", "10.0.0.3:7000", "IPv4"),
        ("127.1:7000", "10.0.0.3:7000", "IPv4"),
        ("256.1.1.1:7000", "10.0.0.3:7000", "IPv4"),
    ] {
        let text = file().text().replace("10.0.0.3:7000", theirs).replace("10.0.0.2:7000", ours);
        assert_names(&CommitteeFile::parse(&text).expect_err(ours).to_string(), &[named]);
    }
    // What is spelled in another way is another file, though it leads to the same place.
    let text = file().text().replace("10.0.0.2:7000", "Node.example.org:7000");
    let other = text.replace("Node.example.org", "node.example.org");
    let [one, other] = [text, other].map(|text| *CommitteeFile::parse(&text).unwrap().chain().identity());
    assert_ne!(one, other);
}

#[test]
fn the_identity_of_a_committee_is_what_it_was_in_every_version() {
    assert_eq!(hex(file().chain().identity()), "848824a12cb5031351528483763a4edbbd5ae96ba9658c5bea0b6faa0f7053a5");
}

fn hex(bytes: &[u8]) -> String {
    dkg_engine::hex::encode(bytes)
}

#[test]
fn every_number_of_the_schedule_has_a_range_and_the_error_its_reason() {
    let most = u64::MAX;
    assert_names(&refused("views_per_phase = 120", "views_per_phase = 1"), &["phase of 1 view", "before any member"]);
    assert_names(&refused("view_ms = 1000", &format!("view_ms = {}", i64::MAX)), &["ms is too long", "a day"]);
    assert_names(&refused("view_ms = 1000", "view_ms = 86400001"), &["86400001", "a day"]);
    assert_names(&refused("poll_step = 10", "poll_step = 4294967296"), &["poll step", "4294967296"]);
    let accepts = |spec: ChainSpec| CommitteeFile::new(spec, (0..4).map(member).collect()).is_ok();
    assert!(accepts(ChainSpec { view_ms: 86_400_000, ..spec() }));
    assert!(accepts(ChainSpec { schedule: Schedule { views_per_phase: 2, ..spec().schedule }, ..spec() }));
    assert!(!accepts(ChainSpec { view_ms: most, ..spec() }));
    assert!(!accepts(ChainSpec { schedule: Schedule { poll_step: most, ..spec().schedule }, ..spec() }));
}

#[test]
fn the_genesis_is_the_same_time_with_quotes_and_without() {
    let text = file().text();
    let line = text.lines().find(|line| line.starts_with("genesis")).unwrap();
    let bare = text.replacen(line, &line.replace('"', ""), 1);
    let read = CommitteeFile::parse(&bare).unwrap();
    assert!(bare.contains("genesis = 20") && read.text() == text);
    // A time without its zone is another one everywhere.
    for local in ["2026-12-01T12:00:00", "2026-12-01", "12:00:00", "20261201"] {
        assert_names(&refused(line, &format!("genesis = {local}")), &["genesis"]);
    }
}

#[test]
fn what_is_wrong_with_the_chain_is_said_in_words() {
    assert_names(&refused("chain_id = \"beacon\"", "chain_id = \"a b\""), &["a b", "chain id"]);
    assert_names(&refused("genesis = \"20", "genesis = \"noon"), &["genesis"]);
    assert_names(&refused("genesis = \"20", "genesis = \"19"), &["genesis", "1970"]);
    assert_names(&refused("view_ms = 1000", "view_ms = 0"), &["view duration"]);
    assert_names(&refused("views_in_epoch = 600", "views_in_epoch = 300"), &["300", "too short"]);
    assert_names(&refused("kind = \"http\"", "kind = \"paper\""), &["paper"]);
    assert_names(&refused("\"http://10.0.0.9:7500\", ", "\"ftp://10.0.0.9:7500\", "), &["ftp://10.0.0.9:7500"]);
    assert_names(&refused("\"http://10.0.0.9:7500\", ", "\"http://10.0.0.9:7500/log\", "), &["7500/log"]);
    assert_names(&refused("[schedule]", "[plan]"), &["plan"]);
    assert_names(&refused("view_ms = 1000\n", "view_ms = 1000\nview_ms = 1000\n"), &["view_ms"]);
    let many = |kind: &dyn Fn(usize) -> String| (0..17).map(kind).collect::<Vec<_>>().join(", ");
    let endpoints = many(&|number| format!("\"http://10.0.0.9:{}\"", 7500 + number));
    assert_names(&refused("\"http://10.0.0.9:7500\"", &endpoints), &["18 endpoints", "16"]);
    let etcd = "kind = \"etcd\"\nprefix = \"a b\"";
    assert_names(&refused("kind = \"http\"", etcd), &["a b", "prefix"]);
    let alone = CommitteeFile::new(spec(), vec![member(0)]).unwrap_err().to_string();
    assert_names(&alone, &["not 1"]);
}

#[test]
fn a_file_that_is_too_long_is_refused_before_it_is_read_in_full() {
    let long = format!("# {}\n", "x".repeat(usize::try_from(MAX_COMMITTEE_FILE_BYTES).unwrap()));
    assert_names(&CommitteeFile::parse(&long).unwrap_err().to_string(), &["bytes"]);
    let members = "[[member]]\nnode_id = \"x\"\nstaking_key = \"\"\nstaking_key_proof = \"\"\nnetwork_key = \"\"\n";
    let start = file().text();
    let start = start.split("\n[[member]]").next().unwrap();
    let many = CommitteeFile::parse(&format!("{start}\n{}", members.repeat(255))).unwrap_err().to_string();
    assert_names(&many, &["255 members"]);
}

#[test]
fn the_hash_covers_everything_that_the_file_says() {
    let hash = |text: &str| *CommitteeFile::parse(text).unwrap().chain().identity();
    let text = file().text();
    let mut seen = vec![hash(&text)];
    for (from, to) in [
        ("chain_id = \"beacon\"", "chain_id = \"other\""),
        (".25Z", ".251Z"),
        ("view_ms = 1000", "view_ms = 1001"),
        ("vectors = \"uncompressed\"", "vectors = \"compressed\""),
        ("views_in_epoch = 600", "views_in_epoch = 601"),
        ("setup_first_view = 60", "setup_first_view = 61"),
        ("views_per_phase = 120", "views_per_phase = 119"),
        ("poll_step = 10", "poll_step = 11"),
        ("kind = \"http\"", "kind = \"etcd\"\nprefix = \"a\""),
        ("kind = \"http\"", "kind = \"etcd\"\nprefix = \"b\""),
        ("http://10.0.0.9:7500", "http://10.0.0.9:7501"),
        ("address = \"10.0.0.3:7000\"", "address = \"10.0.0.3:7001\""),
        (&member(3).node_id.to_string(), &"07".repeat(32)),
    ] {
        assert!(text.contains(from), "{from}");
        seen.push(hash(&text.replacen(from, to, 1)));
    }
    for other in [member(9).staking_key, member(8).staking_key] {
        let mut members: Vec<_> = (0..4).map(member).collect();
        let owner = (8..10).map(member).find(|member| member.staking_key == other).unwrap();
        (members[2].staking_key, members[2].staking_key_proof) = (other, owner.staking_key_proof);
        members[2].network_key =
            if other == member(9).staking_key { members[2].network_key } else { owner.network_key };
        seen.push(*CommitteeFile::new(spec(), members).unwrap().chain().identity());
    }
    let count = seen.len();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), count, "two files that differ have one hash");

    let shuffled = CommitteeFile::new(spec(), [2, 0, 3, 1].map(member).to_vec()).unwrap();
    assert_eq!(hash(&format!("# a remark\n{}", shuffled.text())), hash(&text), "order and remarks do not count");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = CommitteeFile::read("no/such/committee.toml".as_ref()).unwrap_err().to_string();
    assert_names(&error, &["no/such/committee.toml", "cannot be read"]);
    let error = MemberFile::read("no/such/member.toml".as_ref()).unwrap_err().to_string();
    assert_names(&error, &["no/such/member.toml"]);
}
