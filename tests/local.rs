//! `dkg local` as its users see it: what it prints, what it exits with, and that faulty members change nothing.
#![cfg(feature = "cli")]

use std::process::Command;

use dkg_engine::bls::{PublicKey, RANDOM_BEACON_TAG, Signature, combine};
use dkg_engine::committee::Index;
use dkg_engine::hex;
use serde_json::Value;

/// What one use of the command left behind.
struct Used {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn dkg(args: &[&str]) -> Used {
    let output = Command::new(env!("CARGO_BIN_EXE_dkg")).arg("local").args(args).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Used { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// The exit code and the runs; stdout must be exactly one JSON object, and nothing that members do to each other an error.
fn runs(args: &[&str]) -> (Option<i32>, Vec<Value>) {
    let used = dkg(&[&["--json"], args].concat());
    assert!(args.contains(&"--seed") || used.stderr.is_empty(), "{args:?}: {}", used.stderr);
    let report: Value = serde_json::from_str(&used.stdout).unwrap_or_else(|error| panic!("{error}: {}", used.stdout));
    (used.code, report["runs"].as_array().unwrap().clone())
}

/// The only run of a command that exits with 0.
fn completed(args: &[&str]) -> Value {
    let (code, runs) = runs(args);
    assert_eq!((code, runs.len()), (Some(0), 1), "{args:?}: {runs:?}");
    check_completed(&runs[0]);
    runs[0].clone()
}

/// Recomputes what a completed run claims.
fn check_completed(run: &Value) {
    assert_eq!((&run["outcome"], &run["failure"]), (&"completed".into(), &Value::Null), "{run}");
    let (n, t) = (number(&run["n"]), number(&run["t"]));
    let group_key = PublicKey::from_standard_bytes(&bytes(&run["group_public_key"])).unwrap();
    assert_eq!(group_key, flow_key(&run["group_public_key_flow"]));
    let key_shares: Vec<PublicKey> = array(&run["public_key_shares_flow"]).iter().map(flow_key).collect();
    assert_eq!(key_shares.len(), n);
    assert!(number(&run["matching_submissions"]) > t);

    let signature = &run["signature"];
    assert_eq!(signature["tag"], RANDOM_BEACON_TAG.as_str());
    let message = signature["message"].as_str().unwrap().as_bytes();
    let shares: Vec<(Index, Signature)> = array(&signature["shares"])
        .iter()
        .map(|share| (index(&share["index"]), Signature::from_bytes(&bytes(&share["value"])).unwrap()))
        .collect();
    assert_eq!(shares.len(), t + 1);
    assert_eq!(
        array(&signature["signers"]).iter().map(index).collect::<Vec<_>>(),
        shares.iter().map(|s| s.0).collect::<Vec<_>>()
    );
    for (signer, share) in &shares {
        assert!(key_shares[usize::from(*signer)].verify(message, &RANDOM_BEACON_TAG, share));
    }
    let combined = combine(n, t, &shares).unwrap();
    assert_eq!(hex::encode(&combined.to_bytes()), signature["value"].as_str().unwrap());
    assert!(group_key.verify(message, &RANDOM_BEACON_TAG, &combined));
    assert_eq!(signature["valid"], true);

    let members = array(&run["members"]);
    assert_eq!(members.len(), n);
    for (place, member) in members.iter().enumerate() {
        assert_eq!(number(&member["index"]), place);
        assert_eq!(bytes(&member["node_id"]).len(), 32);
        if member["behaviour"] == "honest" {
            assert_eq!(member["state"], "key_committed");
        }
    }
    let mut dealers: Vec<usize> = array(&run["qualified"]).iter().map(number).collect();
    dealers.extend(array(&run["disqualified"]).iter().map(|out| number(&out["dealer"])));
    dealers.sort_unstable();
    assert_eq!(dealers, (0..n).collect::<Vec<_>>());
}

fn array(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

fn number(value: &Value) -> usize {
    usize::try_from(value.as_u64().unwrap()).unwrap()
}

fn index(value: &Value) -> Index {
    Index::from_position(number(value)).unwrap()
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

fn flow_key(value: &Value) -> PublicKey {
    PublicKey::from_flow_bytes(&bytes(value)).unwrap()
}

#[test]
fn a_committee_makes_a_key_and_signs_with_it() {
    let run = completed(&["--message", "to be signed"]);
    assert_eq!((&run["chain_id"], &run["epoch"]), (&"local".into(), &1.into()));
    assert_eq!((number(&run["n"]), number(&run["t"])), (5, 2));
    assert_eq!(array(&run["qualified"]).len(), 5);
    assert!(array(&run["members"]).iter().all(|member| member["behaviour"] == "honest"));
    assert_eq!(run["signature"]["message"], "to be signed");
    assert!(run["elapsed_ms"].is_u64());
    let mut fields: Vec<&str> = run.as_object().unwrap().keys().map(String::as_str).collect();
    fields.sort_unstable();
    let expected = "chain_id disqualified elapsed_ms epoch exposures failure group_public_key group_public_key_flow \
                    matching_submissions members n outcome public_key_shares_flow qualified signature t";
    assert_eq!(fields, expected.split(' ').collect::<Vec<_>>());
}

#[test]
fn the_smallest_committee_makes_a_key() {
    assert_eq!(number(&completed(&["--nodes", "2"])["t"]), 1);
}

/// Each fault with what becomes of its player as a dealer: `Some` part of the reason why it is out, or `None`.
const VERDICTS: [(&str, Option<&str>); 12] = [
    ("silent", Some("no commitment vector")),
    ("no-vector", Some("no commitment vector")),
    ("bad-vector", Some("commitment vector is invalid")),
    ("late-vector", Some("no commitment vector")),
    ("unanswered", Some("left the complaint of member 0 unanswered")),
    ("bad-answer", Some("answer to member 0 does not match")),
    ("withhold-share", None),
    ("bad-share", None),
    ("false-complaint", None),
    ("early-answer", None),
    ("garbage-post", None),
    ("flood", None),
];

fn check_faults(last: &str, last_but_one: &str) {
    let run = completed(&["--fault", &format!("{last}=1"), "--fault", &format!("{last_but_one}=1")]);
    for (member, fault) in [(4, last), (3, last_but_one)] {
        assert_eq!(run["members"][member]["behaviour"], fault);
        let (_, expected) = VERDICTS.iter().find(|(name, _)| *name == fault).unwrap();
        let out = array(&run["disqualified"]).iter().find(|out| number(&out["dealer"]) == member);
        let reason = out.map(|out| out["reason"].as_str().unwrap());
        match expected {
            None => assert_eq!(reason, None, "{fault}"),
            Some(part) => assert!(reason.is_some_and(|reason| reason.contains(part)), "{fault}: {reason:?}"),
        }
        // Up to t = 2 of its shares had to be published.
        let exposure = array(&run["exposures"]).iter().find(|exposure| number(&exposure["dealer"]) == member);
        let public = exposure.map(|exposure| number(&exposure["public"]));
        match fault {
            "withhold-share" | "bad-share" => assert!(matches!(public, Some(1 | 2)), "{fault}: {public:?}"),
            _ => assert_eq!(public.is_none(), expected.is_some(), "{fault}: {public:?}"),
        }
    }
    let honest_out = array(&run["disqualified"]).iter().any(|out| number(&out["dealer"]) < 3);
    assert!(!honest_out, "{run}");
}

#[test]
fn with_t_members_at_any_fault_the_run_completes_with_the_expected_verdicts() {
    for pair in VERDICTS.chunks(2) {
        check_faults(pair[0].0, pair[1].0);
    }
}

#[test]
fn faults_of_different_nature_mix() {
    check_faults("flood", "silent");
    check_faults("early-answer", "bad-answer");
}

#[test]
fn a_flood_leaves_the_next_epoch_alone() {
    let (code, runs) = runs(&["--fault", "flood=2", "--epochs", "2"]);
    assert_eq!((code, runs.len()), (Some(0), 2));
    for run in runs {
        check_completed(&run);
        assert_eq!(array(&run["disqualified"]).len(), 0);
    }
}

fn check_failed(run: &Value, part_of_the_reason: &str) {
    assert_eq!(run["outcome"], "failed");
    assert!(run["failure"].as_str().unwrap().contains(part_of_the_reason), "{}", run["failure"]);
    for absent in ["group_public_key", "group_public_key_flow", "signature"] {
        assert_eq!(run[absent], Value::Null);
    }
    assert_eq!(array(&run["public_key_shares_flow"]).len(), 0);
    assert_eq!(run["matching_submissions"], 0);
    assert_eq!(array(&run["members"]).len(), 5);
}

#[test]
fn with_more_than_t_dealers_disqualified_every_run_fails_cleanly_and_says_why() {
    let (code, runs) = runs(&["--fault", "no-vector=3", "--epochs", "2"]);
    assert_eq!((code, runs.len()), (Some(1), 2));
    for run in runs {
        check_failed(&run, "3 of 5 dealers are disqualified");
        assert_eq!(array(&run["disqualified"]).len(), 3);
        assert!(array(&run["members"]).iter().all(|member| member["state"] == "failed"));
    }
}

#[test]
fn with_more_than_t_members_silent_the_run_fails_and_a_committee_of_two_can_spare_nobody() {
    let (code, runs_of_five) = runs(&["--fault", "silent=3"]);
    assert_eq!(code, Some(1));
    check_failed(&runs_of_five[0], "3 of 5 dealers are disqualified");
    let (code, runs_of_two) = runs(&["--nodes", "2", "--fault", "silent=1"]);
    assert_eq!((code, &runs_of_two[0]["outcome"]), (Some(1), &"failed".into()));
    assert!(runs_of_two[0]["failure"].as_str().unwrap().contains("1 qualified dealers are left"));
}

#[test]
fn each_epoch_makes_new_keys() {
    let (code, runs) = runs(&["--epochs", "2"]);
    assert_eq!((code, runs.len()), (Some(0), 2));
    runs.iter().for_each(check_completed);
    assert_eq!((&runs[0]["epoch"], &runs[1]["epoch"]), (&1.into(), &2.into()));
    assert_ne!(runs[0]["group_public_key"], runs[1]["group_public_key"]);
}

#[test]
fn one_seed_makes_one_key_and_without_it_keys_differ() {
    let [first, again, other, none] = [&["--seed", "2a"][..], &["--seed", "2a"], &["--seed", "2b"], &[]].map(completed);
    for same in ["group_public_key", "public_key_shares_flow", "signature"] {
        assert_eq!(first[same], again[same]);
        assert_ne!(first[same], other[same]);
        assert_ne!(first[same], none[same]);
    }
}

#[test]
fn a_seed_is_warned_of_even_when_scripts_read() {
    let used = dkg(&["--seed", "2a", "--json"]);
    assert!(used.stderr.contains("tests only"), "{}", used.stderr);
}

#[test]
fn people_see_the_phases_the_members_the_key_and_the_check() {
    let used = dkg(&["--fault", "unanswered=1"]);
    assert_eq!(used.code, Some(0));
    for part in ["sharing", "complaining", "answering", "dealt 5, complaints 1"] {
        assert!(used.stderr.contains(part), "{part}: {}", used.stderr);
    }
    for part in ["behaviour", "unanswered", "out: it left the complaint", "group key", "verifies under the group key"] {
        assert!(used.stdout.contains(part), "{part}: {}", used.stdout);
    }
    let control = |text: &str| text.chars().any(|c| c.is_control() && c != '\n');
    assert!(!control(&used.stdout) && !control(&used.stderr));
}

#[test]
fn bad_usage_exits_with_2_and_prints_nothing_on_stdout() {
    let cases: [&[&str]; 10] = [
        &["--nodes", "1"],
        &["--nodes", "255"],
        &["--epochs", "0"],
        &["--view-ms", "0"],
        &["--phase-views", "1"],
        &["--seed", "abc"],
        &["--seed", ""],
        &["--fault", "silent"],
        &["--fault", "rude=1"],
        &["--fault", "silent=3", "--fault", "flood=2"],
    ];
    for args in cases {
        let used = dkg(args);
        assert_eq!((used.code, used.stdout.as_str()), (Some(2), ""), "{args:?}");
        assert!(used.stderr.contains("error:"), "{args:?}: {}", used.stderr);
    }
}
