//! `dkg simulate`, as a user runs it.
#![cfg(feature = "cli")]

use std::process::{Command, Output};

use serde_json::Value;

fn dkg(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dkg")).arg("simulate").args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output.stdout)))
}

#[test]
fn the_runs_asked_for_are_made_and_what_they_hit_is_counted() {
    let output = dkg(&["--runs", "12", "--seed", "4", "--nodes", "3..4", "--faults", "silent,cut-off", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "");
    let summary = json(&output);
    assert_eq!((&summary["runs"], &summary["seed"]), (&12.into(), &4.into()));
    assert_eq!(summary["broken"], Value::Null);
    let faults: Vec<&String> = summary["hits"]["fault"].as_object().unwrap().keys().collect();
    assert_eq!(faults, ["cut-off", "silent"]);
    assert!(summary["hits"]["key"]["completed -> key_committed"].as_u64() > Some(0));
    let margins = summary["margins"].as_object().unwrap();
    assert_eq!(margins.values().map(|runs| runs.as_u64().unwrap()).sum::<u64>(), 12);
}

#[test]
fn a_seed_finds_the_same_whatever_the_number_of_threads() {
    let found = |threads| {
        let mut summary = json(&dkg(&["--runs", "10", "--seed", "8", "--crashes", "--json", "--threads", threads]));
        summary["seconds"] = Value::Null;
        summary
    };
    assert_eq!(found("1"), found("3"));
}

#[test]
fn a_broken_rule_ends_the_command_with_1_and_the_command_it_prints_shows_the_smallest_run() {
    let output = dkg(&["--runs", "50", "--seed", "1", "--defect", "transition-before-poll"]);
    assert_eq!(output.status.code(), Some(1));
    let told = text(&output.stdout);
    assert!(told.contains("BREAKS A RULE"), "{told}");
    let command = told.lines().find_map(|line| line.strip_prefix("To see it again: dkg simulate ")).unwrap();
    let replay = dkg(&command.split(' ').collect::<Vec<_>>());
    assert_eq!(replay.status.code(), Some(1), "{command}");
    let timeline = text(&replay.stdout);
    assert!(timeline.contains("VIOLATION") && timeline.contains("BROKEN: "), "{timeline}");
    assert!(timeline.contains("chain  the run for epoch 1 begins"), "{timeline}");
    // The whole of the first report's timeline is seen again.
    let seen =
        |text: &str| text.lines().filter(|line| line.contains(" chain  view ")).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(seen(&timeline), seen(&told));
}

#[test]
fn a_replayed_run_that_breaks_nothing_ends_with_0_and_shows_what_got_out() {
    let broken = json(&dkg(&["--runs", "50", "--seed", "1", "--json", "--defect", "transition-before-poll"]));
    let number = broken["broken"]["number"].as_str().unwrap();
    let output = dkg(&["--replay", number]);
    assert_eq!(output.status.code(), Some(0), "it was the defect alone");
    let told = text(&output.stdout);
    assert!(told.contains("epoch  dealer  public  known  margin") && told.contains("no rule was broken"), "{told}");
    let replay = json(&dkg(&["--replay", number, "--json", "--keep", "none"]));
    assert_eq!((&replay["faults"], &replay["broken"]), (&Value::Array(Vec::new()), &Value::Null));
    assert!(replay["timeline"].as_array().unwrap().len() > 30);
}

#[test]
fn bad_usage_says_what_is_wrong_and_ends_with_2() {
    for (arguments, complaint) in [
        (&["--nodes", "1..3"][..], "a committee has 2 to 254 members"),
        (&["--nodes", "5..4"], "5 is more than 4"),
        (&["--faults", "silent,nonsense"], "there is no fault 'nonsense'"),
        (&["--defect", "nonsense"], "there is no defect 'nonsense'"),
        (&["--replay", "xyz"], "is not the number of a run"),
        (&["--replay", "0"], "another version of this program"),
        (&["--keep", "1"], "--replay"),
        (&["--runs", "0"], "0"),
    ] {
        let output = dkg(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let told = text(&output.stderr);
        assert!(told.contains(complaint), "{arguments:?}: {told}");
    }
}
