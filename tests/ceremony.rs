//! The commands before and after a run: keygen, committee, combine and verify, with all that they refuse.
#![cfg(feature = "cli")]

mod folder;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use dkg_engine::bls::{Index, PublicKey, SecretKey, VectorEncoding};
use dkg_engine::chain::log::{CommitteeFile, MemberFile};
use dkg_engine::node::identity::Identity;
use dkg_engine::node::signing::{PublicResult, SignatureShare, combine};
use dkg_engine::protocol::{OurShare, Output as Said, Parameters, Participant};
use dkg_engine::store::Unlock;
use dkg_engine::{SecretBytes, hex};
use folder::Folder;
use serde_json::Value;

fn dkg(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dkg"));
    command.args(args).current_dir(folder).env_remove("DKG_PASSPHRASE").stdin(std::process::Stdio::null());
    command.output().unwrap()
}

#[track_caller]
fn ok(folder: &Path, args: &[&str]) -> String {
    let output = dkg(folder, args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What a command complains of that ends with this code.
#[track_caller]
fn refused(folder: &Path, code: i32, args: &[&str]) -> String {
    let output = dkg(folder, args);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {output:?}");
    String::from_utf8(output.stderr).unwrap()
}

fn keygen(folder: &Path, number: usize) {
    let name = |end: &str| format!("{number}.{end}");
    let (identity, key, public) = (name("json"), name("key"), name("toml"));
    let address = format!("10.0.0.{number}:7000");
    ok(folder, &["keygen", "--identity", &identity, "--key-file", &key, "--address", &address, "--public", &public]);
}

/// Reads what the system tells everybody of a process.
#[cfg(target_os = "linux")]
fn told_of(process: u32, what: &str) -> String {
    String::from_utf8_lossy(&fs::read(format!("/proc/{process}/{what}")).unwrap()).into_owned()
}

#[cfg(target_os = "linux")]
#[test]
fn a_running_nodes_passphrase_is_not_in_its_environment_and_it_leaves_no_core_file() {
    use std::io::{BufRead, BufReader};
    use std::process::Stdio;
    let folder = Folder::new();
    let path = folder.path();
    secret(&path.join("passphrase"), "open sesame\n");
    for (identity, public, address) in [("1.json", "1.toml", "127.0.0.1:7000"), ("2.json", "2.toml", "127.0.0.2:7000")]
    {
        let keygen = ["keygen", "--passphrase-file", "passphrase", "--identity", identity, "--public", public];
        ok(path, &[&keygen[..], &["--address", address]].concat());
    }
    // Nobody keeps its log: the node waits for it.
    let new = ["committee", "new", "--chain", "test", "--log-http", "http://127.0.0.1:1", "1.toml", "2.toml"];
    ok(path, &new);
    let config = "committee = \"committee.toml\"\nidentity = \"1.json\"\ndata = \"data\"\nlisten = \"127.0.0.1:0\"\n";
    fs::write(path.join("node.toml"), config).unwrap();
    let mut node = Command::new(env!("CARGO_BIN_EXE_dkg"));
    node.args(["node", "--create", "--json"]).current_dir(path).env("DKG_PASSPHRASE", "open sesame");
    let mut node = node.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(node.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let (environment, limits, name) =
        (told_of(node.id(), "environ"), told_of(node.id(), "limits"), told_of(node.id(), "comm"));
    node.kill().unwrap();
    node.wait().unwrap();
    assert!(line.contains("127.0.0.1"), "it has opened its keys and listens: {line}");
    assert!(!environment.contains("sesame"), "{environment}");
    assert_eq!(name, "dkg\n");
    let core = limits.lines().find(|limit| limit.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().filter(|word| *word == "0").count(), 2, "{core}");
}

/// A file that is its owner's alone.
fn secret(file: &Path, text: &str) {
    fs::write(file, text).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
}

const NEW: [&str; 6] = ["committee", "new", "--chain", "test", "--log-http", "http://10.0.0.9:7500"];

#[test]
fn keygen_makes_keys_that_only_their_owner_can_open_and_a_public_part_that_anybody_can_check() {
    let folder = Folder::new();
    let path = folder.path();
    keygen(path, 1);
    let member = MemberFile::read(&path.join("1.toml")).unwrap();
    let identity = Identity::open(&path.join("1.json"), &Unlock::KeyFile(path.join("1.key"))).unwrap();
    assert_eq!(identity.public("10.0.0.1:7000".parse().ok()), member);
    // By passphrase, with a node id of its own, on stdout.
    secret(&path.join("passphrase"), "open sesame\n");
    let node_id = "17".repeat(32);
    let base = ["--passphrase-file", "passphrase", "--address", "[::1]:1", "--node-id", &node_id];
    let printed = ok(path, &[&["keygen", "--identity", "2.json"], &base[..]].concat());
    let member = MemberFile::parse(&printed).unwrap();
    assert_eq!(member.node_id.to_string(), node_id);
    let passphrase = Unlock::Passphrase(SecretBytes::new(b"open sesame".to_vec()));
    assert_eq!(Identity::open(&path.join("2.json"), &passphrase).unwrap().public("[::1]:1".parse().ok()), member);
    let json: Value =
        serde_json::from_str(&ok(path, &[&["keygen", "--json", "--identity", "3.json"], &base[..]].concat())).unwrap();
    assert_eq!(json["node_id"], node_id.as_str());
    let told = refused(path, 1, &[&["keygen", "--identity", "2.json"], &base[..]].concat());
    assert!(told.contains("2.json") && told.contains("not overwritten"), "{told}");
    for (address, named) in [("nowhere", "nowhere"), ("host:0", "host:0"), ("a b:1", "a b:1"), ("127.1:1", "IPv4")] {
        let args = ["keygen", "--identity", "4.json", "--key-file", "4.key", "--address", address];
        assert!(refused(path, 2, &args).contains(named));
        assert!(!path.join("4.key").exists() && !path.join("4.json").exists(), "nothing was begun");
    }
    let told = refused(path, 2, &["keygen", "--identity", "4.json", "--address", "h:1"]);
    assert!(told.contains("--key-file") && told.contains("DKG_PASSPHRASE"), "{told}");
}

#[test]
fn a_committee_file_is_made_of_its_members_shown_and_checked_and_never_written_over() {
    let folder = Folder::new();
    let path = folder.path();
    (1..=3).for_each(|number| keygen(path, number));
    let members = ["1.toml", "2.toml", "3.toml"];
    let shown: Value = serde_json::from_str(&ok(path, &[&NEW[..], &["--json"], &members].concat())).unwrap();
    let file = CommitteeFile::read(&path.join("committee.toml")).unwrap();
    assert_eq!(shown["hash"], hex::encode(file.chain().identity()).as_str());
    assert_eq!((&shown["n"], &shown["t"]), (&3.into(), &1.into()));
    let again: Value = serde_json::from_str(&ok(path, &["committee", "show", "--json"])).unwrap();
    assert_eq!(again, shown);
    let people = ok(path, &["committee", "show", "committee.toml"]);
    assert!(people.contains(shown["hash"].as_str().unwrap()) && people.contains("any 2 sign"), "{people}");

    let checked = ok(path, &[&["committee", "check", "committee.toml"], &members[..]].concat());
    assert!(checked.contains(shown["hash"].as_str().unwrap()), "{checked}");
    let told = refused(path, 1, &[&NEW[..], &members].concat());
    assert!(told.contains("committee.toml") && told.contains("not overwritten"), "{told}");

    // Somebody else's public part, and one that was changed on its way.
    keygen(path, 4);
    let moved = fs::read_to_string(path.join("2.toml")).unwrap().replace("10.0.0.2", "10.0.0.7");
    fs::write(path.join("moved.toml"), moved).unwrap();
    let output = dkg(path, &["committee", "check", "committee.toml", "4.toml", "moved.toml", "--json"]);
    let checked: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    let problems: Vec<_> = checked["problems"].as_array().unwrap().iter().map(|told| told.as_str().unwrap()).collect();
    assert!(problems[0].contains("4.toml") && problems[0].contains("not in the committee"), "{problems:?}");
    assert!(problems[1].contains("moved.toml") && problems[1].contains("another address"), "{problems:?}");
}

#[test]
fn a_committee_that_cannot_work_is_refused_with_the_reason() {
    let folder = Folder::new();
    let path = folder.path();
    (1..=2).for_each(|number| keygen(path, number));
    let with = |more: &[&'static str]| [&NEW[..], &["1.toml", "2.toml"], more].concat();
    assert!(refused(path, 1, &with(&["1.toml"])).contains("twice"));
    assert!(refused(path, 1, &with(&["--epoch-views", "300"])).contains("too short"));
    assert!(refused(path, 1, &with(&["--view-ms", "0"])).contains("view duration"));
    assert!(refused(path, 1, &with(&["nowhere.toml"])).contains("nowhere.toml"));
    assert!(refused(path, 2, &with(&["--genesis", "tomorrow"])).contains("tomorrow"));
    assert!(refused(path, 2, &with(&["--genesis", "+10y"])).contains("+10m"));
    assert!(refused(path, 2, &["committee", "new", "--chain", "x", "1.toml", "2.toml"]).contains("--log-http"));
    let forged = fs::read_to_string(path.join("1.toml")).unwrap();
    let stolen = fs::read_to_string(path.join("2.toml")).unwrap();
    let proof = |text: &str| text.lines().find(|line| line.starts_with("staking_key_proof")).unwrap().to_owned();
    fs::write(path.join("forged.toml"), forged.replace(&proof(&forged), &proof(&stolen))).unwrap();
    let told = refused(path, 1, &[&NEW[..], &["forged.toml", "2.toml"]].concat());
    assert!(told.contains("forged.toml") && told.contains("staking_key_proof"), "{told}");
    assert!(!path.join("committee.toml").exists());
    let dated = with(&["--genesis", "2030-01-02T03:04:05Z", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&ok(path, &dated)).unwrap()["genesis_ms"], 1_893_553_445_000_u64);
}

#[test]
fn a_node_whose_files_do_not_belong_together_does_not_start_and_says_which() {
    let folder = Folder::new();
    let path = folder.path();
    (1..=3).for_each(|number| keygen(path, number));
    ok(path, &[&NEW[..], &["1.toml", "2.toml"]].concat());
    let start = |identity: &str, key: &str, more: &str| {
        let text = format!(
            "committee = \"committee.toml\"\nidentity = \"{identity}\"\nkey_file = \"{key}\"\ndata = \"data\"\n{more}"
        );
        fs::write(path.join("node.toml"), text).unwrap();
        refused(path, 1, &["node", "--create"])
    };
    let told = start("3.json", "3.key", "");
    assert!(told.contains("3.json") && told.contains("committee.toml") && told.contains("not in"), "{told}");
    let told = start("1.json", "2.key", "");
    assert!(told.contains("1.json"), "{told}");
    let stranger = "17".repeat(32);
    let told = start("1.json", "1.key", &format!("[peers]\n{stranger} = \"h:1\"\n"));
    assert!(told.contains(&stranger) && told.contains("[peers]"), "{told}");
    let told = start("1.json", "1.key", "[log]\nusername = \"u\"\npassword_file = \"p\"\n");
    assert!(told.contains("username"), "{told}");
    fs::remove_dir_all(path.join("data")).unwrap();
    let told = refused(path, 1, &["node"]);
    assert!(told.contains("data") && told.contains("--create"), "{told}");
}

/// The keys of an epoch, made by a committee in this process: what is public, and the private shares.
fn keys() -> (PublicResult, Vec<SecretKey>) {
    let (size, threshold, fresh) = (5, 2, [7; 32]);
    let (mut members, mut board, mut private) = (Vec::new(), Vec::new(), Vec::new());
    for me in Index::all(size) {
        let parameters = Parameters { size, threshold, me, encoding: VectorEncoding::Compressed };
        let (member, dealt) = Participant::start(parameters, &SecretBytes::new(vec![me.byte() + 1; 32])).unwrap();
        members.push(member);
        for said in dealt {
            match said {
                Said::SendShare { to, message } => private.push((me, to, message)),
                Said::Broadcast(data) => board.push((me, data)),
                _ => {}
            }
        }
    }
    let mut shares = Vec::new();
    let mut group: Option<(PublicKey, Vec<PublicKey>)> = None;
    for (me, mut member) in Index::all(size).zip(members) {
        for (from, _, message) in private.iter().filter(|(_, to, _)| *to == me) {
            member.take_private(*from, message.expose()).unwrap();
        }
        for (from, data) in &board {
            member.take_broadcast(*from, data).unwrap();
        }
        member.end_phase(&fresh).unwrap();
        member.end_phase(&fresh).unwrap();
        let keys = member.finish(&fresh).unwrap().0.result.unwrap();
        let OurShare::Held(share) = keys.share else { panic!("no share") };
        shares.push(share);
        group = Some((keys.group_key, keys.key_shares));
    }
    let (group, key_shares) = group.unwrap();
    let result = PublicResult {
        chain_id: "test".into(),
        epoch: 4,
        n: size,
        t: threshold,
        group_public_key: hex::encode(&group.to_standard_bytes()),
        group_public_key_flow: hex::encode(&group.to_flow_bytes()),
        public_key_shares_flow: key_shares.iter().map(|key| hex::encode(&key.to_flow_bytes())).collect(),
    };
    (result, shares)
}

const TAG: &str = "FLOW-Random_Beacon-V00-CS00-with-";

fn share(keys: &[SecretKey], index: usize, message: &str) -> SignatureShare {
    let signature = keys[index].sign(message.as_bytes(), &dkg_engine::bls::Tag::new(TAG));
    SignatureShare {
        chain_id: "test".into(),
        epoch: 4,
        index: Index::from_position(index).unwrap(),
        tag: TAG.into(),
        message: hex::encode(message.as_bytes()),
        signature: hex::encode(&signature.to_bytes()),
    }
}

#[test]
fn any_three_of_five_shares_make_one_signature_and_bad_ones_are_named_and_do_no_harm() {
    let (result, keys) = keys();
    let good = |index| share(&keys, index, "hello");
    let signature = combine(&result, b"hello", TAG, &[good(4), good(0), good(2)]).unwrap();
    assert_eq!(combine(&result, b"hello", TAG, &[good(1), good(2), good(3)]).unwrap().signature, signature.signature);
    let forged = SignatureShare { index: Index::from_position(1).unwrap(), ..good(3) };
    let elsewhere = SignatureShare { epoch: 5, ..good(3) };
    let other = share(&keys, 3, "other");
    let nonsense = SignatureShare { signature: "zz".into(), ..good(2) };
    let unknown = SignatureShare { index: Index::from_position(9).unwrap(), ..good(2) };
    let bad = [forged, elsewhere, other, nonsense, unknown];
    let with_bad = [&bad[..], &[good(0), good(0), good(2), good(4)]].concat();
    let combined = combine(&result, b"hello", TAG, &with_bad).unwrap();
    assert_eq!(combined.signature, signature.signature);
    let refused: Vec<(usize, u8)> =
        combined.refused.iter().map(|refused| (refused.share, refused.index.byte())).collect();
    assert_eq!(refused, [(0, 1), (1, 3), (2, 3), (3, 2), (4, 9), (6, 0)], "the one that came twice among them");
    let error = combine(&result, b"hello", TAG, &[&bad[..], &[good(0), good(2)]].concat()).unwrap_err().to_string();
    assert!(error.contains("shares of 3 members are needed") && error.contains("of members 0 and 2;"), "{error}");
    let mut wrong = result.clone();
    wrong.t = 1;
    assert!(combine(&wrong, b"hello", TAG, &[good(0), good(1)]).is_err(), "a result whose numbers do not fit");
}

#[test]
fn hex_in_shares_and_results_may_be_of_either_case() {
    let (result, keys) = keys();
    let upper = |text: &str| text.to_uppercase();
    let shares: Vec<_> = (0..3)
        .map(|index| share(&keys, index, "jkl"))
        .map(|said| SignatureShare { message: upper(&said.message), signature: upper(&said.signature), ..said })
        .collect();
    let result = PublicResult { group_public_key: upper(&result.group_public_key), ..result };
    assert_eq!(combine(&result, b"jkl", TAG, &shares).unwrap().refused, []);
}

#[test]
fn a_message_may_begin_with_a_hyphen_and_its_hex_not_with_0x() {
    let folder = Folder::new();
    let (result, _) = keys();
    let base = ["verify", "--group-key", &result.group_public_key, "--signature", &"00".repeat(48)];
    let printed = dkg(folder.path(), &[&base[..], &["--message", "-5"]].concat());
    assert_eq!(String::from_utf8_lossy(&printed.stdout), "NOT valid\n", "{printed:?}");
    let told = refused(folder.path(), 2, &[&base[..], &["--message-hex", "0x2d35"]].concat());
    assert!(told.contains("leave the 0x out"), "{told}");
}

#[test]
fn a_good_share_counts_though_a_bad_one_in_the_same_name_came_before() {
    let (result, keys) = keys();
    let good = |index| share(&keys, index, "hello");
    let forged = SignatureShare { index: Index::from_position(1).unwrap(), ..good(3) };
    let shares = [forged.clone(), forged, good(0), good(1), good(0), good(2)];
    let combined = combine(&result, b"hello", TAG, &shares).unwrap();
    let alone = combine(&result, b"hello", TAG, &[good(0), good(1), good(2)]).unwrap();
    assert_eq!(combined.signature, alone.signature);
    let refused: Vec<usize> = combined.refused.iter().map(|refused| refused.share).collect();
    assert_eq!(refused, [0, 1, 4]);
}

#[test]
fn combine_names_the_files_with_bad_shares() {
    let folder = Folder::new();
    let path = folder.path();
    let (result, keys) = keys();
    let write = |name: &str, value: &Value| fs::write(path.join(name), value.to_string()).unwrap();
    write("result.json", &serde_json::to_value(&result).unwrap());
    for index in 0..4 {
        // That of member 1 is of another message than it says.
        let said = share(&keys, index, if index == 1 { "hallo" } else { "hello" });
        let said = SignatureShare { message: hex::encode(b"hello"), ..said };
        write(&format!("s{index}.json"), &serde_json::to_value(said).unwrap());
    }
    let args = ["--result", "result.json", "--message", "hello", "s0.json", "s1.json", "s2.json"];
    let told = refused(path, 1, &[&["combine"], &args[..]].concat());
    assert!(told.contains("s1.json: the share of member 1 does not verify"), "{told}");
    let whose =
        "shares of 3 members are needed, and there are those of members 0 and 2; members 1, 3 and 4 could still sign";
    assert!(told.contains(whose), "{told}");
    assert!(!told.contains("s0.json") && !told.contains("s2.json"), "{told}");

    let output = dkg(path, &[&["combine"], &args[..], &["s3.json"]].concat());
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), told.lines().count()), (Some(0), 1), "{told}");
    assert!(told.contains("s1.json"), "{told}");
    let combined: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(combined["signers"], serde_json::json!([0, 2, 3]));
    assert_eq!((&combined["refused"][0]["share"], &combined["refused"][0]["index"]), (&1.into(), &1.into()));
}

#[test]
fn combine_and_verify_work_on_files_and_their_exit_codes_tell() {
    let folder = Folder::new();
    let path = folder.path();
    let (result, keys) = keys();
    let write = |name: &str, value: &Value| fs::write(path.join(name), value.to_string()).unwrap();
    write("result.json", &serde_json::to_value(&result).unwrap());
    for index in 0..5 {
        write(&format!("s{index}.json"), &serde_json::to_value(share(&keys, index, "hello")).unwrap());
    }
    let base = ["--result", "result.json", "--message", "hello"];
    let signature = ok(path, &[&["combine", "s1.json", "s2.json", "s4.json"], &base[..]].concat());
    fs::write(path.join("signature.json"), &signature).unwrap();
    let verify = |message: &str| {
        let output =
            dkg(path, &["verify", "signature.json", "--result", "result.json", "--message", message, "--json"]);
        (output.status.code(), serde_json::from_slice::<Value>(&output.stdout).unwrap()["valid"].clone())
    };
    assert_eq!((verify("hello"), verify("hallo")), ((Some(0), true.into()), (Some(1), false.into())));
    let parsed: Value = serde_json::from_str(&signature).unwrap();
    let by_key =
        ["verify", "--group-key", &result.group_public_key, "--signature", parsed["signature"].as_str().unwrap()];
    assert_eq!(ok(path, &[&by_key[..], &["--message-hex", "68656c6c6f"]].concat()), "valid\n");
    fs::write(path.join("message"), "hello").unwrap();
    assert_eq!(ok(path, &[&by_key[..], &["--message-file", "message"]].concat()), "valid\n");
    assert!(refused(path, 1, &[&by_key[..], &["--message", "hello", "--tag", "other"]].concat()).is_empty());

    let told = refused(path, 1, &[&["combine", "s1.json", "s2.json"], &base[..]].concat());
    let whose =
        "shares of 3 members are needed, and there are those of members 1 and 2; members 0, 3 and 4 could still sign";
    assert!(told.contains(whose), "{told}");
    let told = refused(path, 1, &[&["combine", "s1.json", "nowhere.json"], &base[..]].concat());
    assert!(told.contains("nowhere.json"), "{told}");
    fs::write(path.join("s9.json"), "{").unwrap();
    assert!(refused(path, 1, &[&["combine", "s9.json"], &base[..]].concat()).contains("s9.json"));
    assert!(refused(path, 2, &["verify", "--group-key", "00", "--signature", "00", "--message", "x"]).contains("192"));
    assert_eq!(
        dkg(path, &["verify", "signature.json", "--message", "x"]).status.code(),
        Some(2),
        "no key to verify with"
    );
    assert!(refused(path, 2, &[&by_key[..], &["--message-hex", "xyz"]].concat()).contains("hex"));
    let told = refused(path, 1, &["sign", "--config", "nowhere.toml", "--epoch", "1", "--message", "x"]);
    assert!(told.contains("nowhere.toml"), "{told}");
}

#[test]
fn verify_says_in_what_a_signature_differs_from_what_was_asked_about() {
    let folder = Folder::new();
    let path = folder.path();
    let (result, keys) = keys();
    let shares: Vec<_> = (0..3).map(|index| share(&keys, index, "hello")).collect();
    let signature = combine(&result, b"hello", TAG, &shares).unwrap();
    fs::write(path.join("signature.json"), serde_json::to_string(&signature).unwrap()).unwrap();
    fs::write(path.join("result.json"), serde_json::to_string(&result).unwrap()).unwrap();
    let later = PublicResult { epoch: 5, ..result.clone() };
    fs::write(path.join("later.json"), serde_json::to_string(&later).unwrap()).unwrap();
    fs::write(path.join("message"), "hello\n").unwrap();
    let told = |args: &[&str]| {
        let output = dkg(path, &[&["verify", "signature.json"], args].concat());
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    let by = |args: &[&'static str]| [&["--result", "result.json"], args].concat();
    for (args, said) in [
        (by(&["--message", "hallo"]), "it is of another message: \"hello\""),
        (by(&["--message", "hello", "--tag", "other"]), "it was made under the tag"),
        (by(&["--message-file", "message"]), "it is valid for the message without the newline at its end"),
        (by(&["--message-file", "message"]), "message ends in a newline, which belongs to the message"),
        (vec!["--result", "later.json", "--message", "hello"], "no public keys of epoch 4 (of these: 5)"),
    ] {
        let told = told(&args);
        assert!(told.contains(said), "{args:?}: {told}");
    }
    let flow = ["verify", "signature.json", "--group-key", &result.group_public_key_flow, "--message", "hello"];
    let told = refused(path, 2, &flow);
    assert!(told.contains("in the order of Flow") && told.contains("Usage: dkg verify"), "{told}");
}

#[test]
fn a_file_in_another_ones_place_is_called_what_it_is() {
    let folder = Folder::new();
    let path = folder.path();
    (1..=2).for_each(|number| keygen(path, number));
    ok(path, &[&NEW[..], &["1.toml", "2.toml"]].concat());
    let (result, keys) = keys();
    fs::write(path.join("share.json"), serde_json::to_string(&share(&keys, 0, "x")).unwrap()).unwrap();
    fs::write(path.join("result.json"), serde_json::to_string(&result).unwrap()).unwrap();
    let config = |committee: &str, identity: &str| {
        format!("committee = \"{committee}\"\nidentity = \"{identity}\"\nkey_file = \"1.key\"\ndata = \"data\"\n")
    };
    fs::write(path.join("node.toml"), config("committee.toml", "1.json")).unwrap();
    fs::write(path.join("no-committee.toml"), config("1.toml", "1.json")).unwrap();
    fs::write(path.join("no-identity.toml"), config("committee.toml", "1.toml")).unwrap();
    let combine = |share, result| ["combine", share, "--result", result, "--message", "x"];
    for (args, file, is, wanted) in [
        (&["committee", "show", "1.json"][..], "1.json", "a member's sealed keys", "a committee file"),
        (&["committee", "check", "node.toml"], "node.toml", "a node's configuration", "a committee file"),
        (&["committee", "check", "committee.toml", "1.json"], "1.json", "sealed keys", "a member's public part"),
        (&["status", "--config", "committee.toml"], "committee.toml", "a committee file", "a node's configuration"),
        (&["check", "--config", "1.key"], "1.key", "a key file", "a node's configuration"),
        (&["node", "--config", "no-committee.toml"], "1.toml", "a member's public part", "a committee file"),
        (&["node", "--config", "no-identity.toml"], "1.toml", "a member's public part", "a member's sealed keys"),
        (&combine("result.json", "result.json"), "result.json", "an epoch's public keys", "share of a signature"),
        (&combine("share.json", "share.json"), "share.json", "one member's share", "an epoch's public keys"),
    ] {
        let told = refused(path, 1, args);
        let (before, after) = told.split_once("what is needed here is").unwrap_or_else(|| panic!("{args:?}: {told}"));
        assert!(before.contains(file) && before.contains(is) && after.contains(wanted), "{args:?}: {told}");
    }
    let told = refused(path, 1, &["status", "--config", "elsewhere/node.toml"]);
    assert!(told.contains("there is no elsewhere/node.toml") && told.contains("--config FILE"), "{told}");
    fs::write(path.join("node.toml"), "committee = \"committee.toml\"\nidentiy = \"1.json\"\n").unwrap();
    let told = refused(path, 1, &["status"]);
    assert!(told.contains("line 2") && told.contains("identiy"), "{told}");
}
