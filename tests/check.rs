//! `dkg check`: what is not ready before a ceremony is named, and nothing else.
#![cfg(feature = "cli")]

mod folder;
mod process_room;

use std::fs;
use std::process::Output;

use dkg_engine::node::Checked;
use process_room::*;

fn read(output: &Output) -> (bool, Checked) {
    let checked = serde_json::from_slice(&output.stdout);
    (output.status.success(), checked.unwrap_or_else(|error| panic!("{error}: {output:?}")))
}

fn check(committee: &Committee, member: usize, wait: &str) -> (bool, Checked) {
    let config = format!("m{member}/node.toml");
    read(&dkg(committee.path(), &["check", "--json", "--config", &config, "--wait", wait]))
}

fn problems(checked: &Checked) -> Vec<(&str, &str)> {
    let bad = checked.items.iter().filter(|item| !item.ok);
    bad.map(|item| (item.what.as_str(), item.detail.as_str())).collect()
}

#[test]
fn members_that_check_at_once_find_each_other_and_all_is_ready() {
    let mut committee = Committee::new(3, Pace::BRISK, Log::Http, 600);
    committee.start_log();
    let committee = &committee;
    std::thread::scope(|scope| {
        let checks: Vec<_> = (0..3).map(|member| scope.spawn(move || check(committee, member, "60"))).collect();
        for (ok, checked) in checks.into_iter().map(|check| check.join().unwrap()) {
            assert!(ok && checked.ok && checked.missing.is_empty(), "{checked:?}");
            assert!(checked.peers.iter().all(|peer| peer.version.as_deref() == Some(env!("CARGO_PKG_VERSION"))));
        }
    });
}

#[test]
fn a_member_that_is_not_there_a_log_that_is_down_and_a_port_that_is_taken_are_named() {
    let mut committee = Committee::new(3, Pace::BRISK, Log::Http, 600);
    committee.start_log();
    committee.start(1);
    let (ok, checked) = check(&committee, 0, "0");
    let missing = committee.index(2);
    assert!(!ok && problems(&checked).is_empty(), "{checked:?}");
    assert_eq!(checked.missing.iter().map(|index| usize::from(*index)).collect::<Vec<_>>(), [missing]);

    let (_, of_the_running) = check(&committee, 1, "0");
    assert!(problems(&of_the_running).is_empty(), "beside the node that runs: {of_the_running:?}");
    // Somebody changes the file under the running node.
    let (file, text) =
        (committee.path().join("committee.toml"), fs::read_to_string(committee.path().join("committee.toml")).unwrap());
    fs::write(&file, text.replace("poll_step = 10", "poll_step = 5")).unwrap();
    let (ok, changed) = check(&committee, 1, "0");
    let told = problems(&changed);
    assert!(!ok && matches!(told[..], [("node", why)] if why.contains("follows another committee file")), "{told:?}");
    assert!(told[0].1.contains(&of_the_running.committee) && told[0].1.contains(&changed.committee), "{told:?}");
    fs::write(&file, text).unwrap();
    committee.kill_log();
    let (_, checked) = check(&committee, 0, "0");
    let told = problems(&checked);
    assert!(matches!(told[..], [("log", why)] if why.contains("7500")), "{told:?}");

    let _taken = std::net::TcpListener::bind(format!("{}:7000", committee.ip(0))).unwrap();
    let (_, checked) = check(&committee, 0, "0");
    assert!(problems(&checked).iter().any(|(what, why)| *what == "port" && why.contains("7000")), "{checked:?}");
}

#[test]
fn a_wrong_clock_and_another_committee_file_are_told_from_absence() {
    let mut committee = Committee::new(3, Pace::BRISK, Log::Http, 600);
    committee.start_log();
    committee.configure(1, "clock_offset_ms = 60000\n");
    committee.start(1);
    // The third has a file in which somebody has changed something.
    let text = fs::read_to_string(committee.path().join("committee.toml")).unwrap();
    fs::write(committee.home(2).join("other.toml"), text.replace("poll_step = 10", "poll_step = 5")).unwrap();
    let config = committee.home(2).join("node.toml");
    let changed = fs::read_to_string(&config).unwrap().replace("../committee.toml", "other.toml");
    fs::write(&config, changed).unwrap();
    let committee = &committee;
    std::thread::scope(|scope| {
        let other = scope.spawn(|| check(committee, 2, "20"));
        let checked = wait_for("the third member", || {
            let (ok, checked) = check(committee, 0, "0");
            assert!(!ok);
            let told = format!("{checked:?}");
            if told.contains("another committee file") { Ok(checked) } else { Err(told) }
        });
        let peer = |member: usize| {
            let index = committee.index(member);
            checked.peers.iter().find(|peer| usize::from(peer.index) == index).unwrap()
        };
        let told = peer(1).problem.clone().unwrap();
        assert!(told.contains("ms ahead of ours"), "{told}");
        assert!(peer(1).clock_ms.is_some_and(|ms| (50_000..70_000).contains(&ms)), "{:?}", peer(1));
        assert!(peer(2).problem.as_ref().unwrap().contains("another committee file"));
        let (_, theirs) = other.join().unwrap();
        assert!(matches!(problems(&theirs)[..], [("log", why)] if why.contains("another chain")), "{theirs:?}");
    });
}

#[test]
fn a_host_without_what_a_copy_has_is_named_beside_the_node_and_without_it() {
    let mut committee = Committee::new(3, Pace::BRISK, Log::Http, 3);
    committee.start_log();
    committee.start(1);
    let copy = |committee: &Committee| {
        let (ok, checked) = check(committee, 1, "0");
        assert!(!ok, "members are missing");
        checked.items.into_iter().find(|item| item.what == "copy").unwrap()
    };
    let same = wait_for("a tick in the copy", || {
        let item = copy(&committee);
        if item.detail.contains(" 0 entries") { Err(format!("{item:?}")) } else { Ok(item) }
    });
    assert!(same.ok, "{same:?}");
    committee.kill_log();
    fs::remove_dir_all(committee.path().join("log")).unwrap();
    committee.start_log();
    let beside = copy(&committee);
    committee.kill(1);
    for told in [beside, copy(&committee)] {
        assert!(!told.ok && told.detail.contains("the host has 0 of the "), "{told:?}");
    }
}

#[test]
fn a_check_without_its_files_says_which_one_is_missing() {
    let committee = Committee::new(3, Pace::BRISK, Log::Http, 600);
    let output = dkg(committee.path(), &["check", "--config", "nowhere.toml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("nowhere.toml"));
    fs::remove_file(committee.home(0).join("identity.json")).unwrap();
    let output = dkg(committee.path(), &["check", "--config", "m0/node.toml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("identity.json"));
}
