//! Committees of real processes: from keys to signatures, and through all that can happen to processes on the way.
#![cfg(feature = "cli")]

mod etcd_room;
mod folder;
mod install;
mod process_room;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use dkg_engine::node::{Answer, Finding, Level, PhaseName, Request, Stage, Status, Subject, admin_socket, ask};
use etcd_room::Cluster;
use process_room::*;
use rand::rngs::{StdRng, SysRng};
use rand::{RngExt, SeedableRng, TryRng};

fn random(name: &str) -> StdRng {
    let seed = match std::env::var("DKG_PROCESS_SEED") {
        Ok(seed) => seed.parse().expect("DKG_PROCESS_SEED is a number"),
        Err(_) => SysRng.try_next_u64().unwrap(),
    };
    println!("{name}: DKG_PROCESS_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

#[test]
fn five_processes_come_from_keygen_to_a_verified_signature_over_a_log_server() {
    let mut committee = Committee::new(5, Pace::BRISK, Log::Http, 3);
    let all: Vec<usize> = (0..5).collect();
    committee.start_log();
    all.iter().for_each(|member| committee.start(*member));
    committee.wait_until("the key of epoch 1", &all, is_safe_in(1));
    assert_agreement(&committee, &all);
    assert_signs(&committee, &[4, 0, 2], 1);
    assert_exports_while_it_runs(&committee, 3);
    for member in all {
        assert!(committee.stop(member), "member {member} ends cleanly when it is asked to");
    }
    // A member whose node does not run signs from its store, with the same share.
    let sign = ["sign", "--config", "m0/node.toml", "--message", "round 1", "--epoch"];
    let share = dkg_ok(committee.path(), &[&sign[..], &["1"]].concat());
    assert_eq!(share, fs::read_to_string(committee.path().join("share-0.json")).unwrap());
    let refused = dkg(committee.path(), &[&sign[..], &["9"]].concat());
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("epoch 9"), "{refused:?}");
    let refused = dkg(committee.path(), &[&sign[..], &["0"]].concat());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("this is the first"), "{refused:?}");
    // The public keys are kept for good, and what was signed can be combined and verified with them.
    let result = ["combine", "--result", "m0/data/results/1.json", "--message", "round 1"];
    dkg_ok(committee.path(), &[&result[..], &["share-4.json", "share-0.json", "share-2.json"]].concat());
}

/// A share goes out of a running node's store, under the backup's own passphrase, and comes back.
fn assert_exports_while_it_runs(committee: &Committee, member: usize) {
    let home = committee.home(member);
    let at = |name: &str| home.join(name).to_str().unwrap().to_owned();
    fs::write(at("backup.pass"), "the backup's own").unwrap();
    fs::set_permissions(at("backup.pass"), fs::Permissions::from_mode(0o600)).unwrap();
    let whose =
        ["--chain", "processes", "--member", committee.node_id(member), "--key-file", &at("node.key"), "--json"];
    let backup = ["--backup-passphrase-file", &at("backup.pass")];
    let (store, file) = (at("data/store"), at("backup.json"));
    let export =
        |epoch| [&["keys", "export", "--store", &store, "--epoch", epoch, "--to", &file][..], &whose, &backup].concat();
    let refused = dkg(committee.path(), &export("9"));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("epoch 9 has no key share"), "{refused:?}");
    dkg_ok(committee.path(), &export("1"));
    let new = at("restored");
    let import = ["keys", "import", "--create", "--store", &new, "--from", &file];
    let imported = dkg_ok(committee.path(), &[&import[..], &whose, &backup].concat());
    let share = fs::read_to_string(committee.path().join("status.json")).unwrap();
    let key = serde_json::from_str::<serde_json::Value>(&imported).unwrap()["public_key"].clone();
    assert!(share.contains(key.as_str().unwrap()), "{imported}");
}

#[test]
fn with_too_few_members_up_all_that_is_shown_says_halted_and_whom_to_start() {
    let mut committee = Committee::new(3, Pace::BRISK, Log::Http, 2);
    committee.start_log();
    (0..3).for_each(|member| committee.start(member));
    committee.wait_until("all to be well", &[0, 1, 2], |status| status.verdict.level == Level::Ok);
    committee.kill(1);
    committee.kill(2);
    let halted = |finding: &Finding| (finding.level, finding.about) == (Level::Halted, Subject::Members);
    committee.wait_until("the end of views", &[0], |status| status.verdict.findings.iter().any(halted));
    let told = format!("1 of the 2 members that views need are up (not heard of: member {}", {
        let mut down = [committee.index(1), committee.index(2)];
        down.sort_unstable();
        down[0]
    });
    let shown = dkg(committee.path(), &["status", "--config", "m0/node.toml"]);
    let text = String::from_utf8(shown.stdout).unwrap();
    assert!(text.starts_with("HALTED\n") && text.contains(&told), "{text}");
    assert_eq!(shown.status.code(), Some(1));
    let page = format!("{}:7080", committee.ip(0));
    let healthz = String::from_utf8(get(&page, "/healthz").unwrap()).unwrap();
    assert!(healthz.starts_with("HTTP/1.1 503 ") && healthz.contains(&told), "{healthz}");
    let metrics = String::from_utf8(get(&page, "/metrics").unwrap()).unwrap();
    for gauge in ["dkg_verdict{level=\"halted\"} 1", "dkg_trouble 1", "dkg_members_down 2"] {
        assert!(metrics.contains(gauge), "{gauge}: {metrics}");
    }
    committee.start(1);
    committee.wait_until("views again", &[0, 1], |status| status.verdict.level == Level::Degraded);
    // Whoever holds the socket for commands holds up no stop.
    let socket = admin_socket(&committee.home(0).join("data"));
    let _silent: Vec<_> = (0..20).map(|_| UnixStream::connect(&socket).unwrap()).collect();
    let asked = Instant::now();
    assert!(committee.stop(0));
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
}

#[test]
fn of_a_member_that_runs_twice_one_falls_silent_until_it_is_the_only_one() {
    let mut committee = Committee::new(3, Pace::BRISK, Log::Http, 2);
    committee.start_log();
    (0..3).for_each(|member| committee.start(member));
    committee.wait_until("views", &[0, 1, 2], |status| status.chain.head.view > 0);
    // Somebody starts a copy of the third, on another machine, with a folder of its own.
    let twin = committee.path().join("twin");
    fs::create_dir(&twin).unwrap();
    for name in ["identity.json", "node.key"] {
        fs::copy(committee.home(2).join(name), twin.join(name)).unwrap();
    }
    let text =
        "committee = \"../committee.toml\"\nidentity = \"identity.json\"\ndata = \"data\"\nkey_file = \"node.key\"\n";
    let listen = format!("listen = \"{}:7001\"\n", committee.ip(2));
    fs::write(twin.join("node.toml"), format!("{text}{listen}")).unwrap();
    let other = Alone::start(&twin, &[]);
    // Who sees the other first falls silent, and may have said nothing yet that the other could see.
    let homes = [committee.home(2), twin];
    let stage = |home: &Path| match ask(&admin_socket(&home.join("data")), &Request::Status) {
        Ok(Answer::Status(status)) => Ok(*status),
        other => Err(format!("{other:?}")),
    };
    let is_held = |home: &&PathBuf| stage(home).is_ok_and(|status| status.stage == Stage::Held);
    let held =
        wait_for("one of the two to fall silent", || homes.iter().find(is_held).ok_or_else(|| "neither".to_owned()));
    let verdict = stage(held).unwrap().verdict;
    assert!(verdict.level == Level::Halted && verdict.to_string().contains("this member runs twice"), "{verdict}");
    let refused = dkg(held, &["sign", "--epoch", "1", "--message", "a"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("this member runs twice"), "{refused:?}");
    drop(other);
    committee.kill(2);
    // A restart by whoever looks after it changes nothing.
    let again = Alone::start(held, &[]);
    wait_for("the node to be held again", || {
        stage(held).and_then(|s| if is_held(&held) { Ok(()) } else { Err(summary(&s)) })
    });
    drop(again);
    let _only = Alone::start(held, &["--sole-owner"]);
    let runs = |status: &Status| status.stage == Stage::Running && status.seen.iter().all(|seen| !seen.is_down);
    wait_for("it to run", || stage(held).and_then(|s| if runs(&s) { Ok(()) } else { Err(summary(&s)) }));
}

/// A node beside the committee's.
struct Alone(Child);

impl Alone {
    fn start(home: &Path, more: &[&str]) -> Alone {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dkg"));
        command.current_dir(home).args(["node", "--create"]).args(more).stdout(Stdio::null()).stderr(Stdio::null());
        Alone(command.spawn().unwrap())
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn with_t_members_down_for_a_whole_run_the_others_make_the_key_and_name_both() {
    let mut committee = Committee::new(5, Pace::BRISK, Log::Http, 3);
    committee.start_log();
    let up = [0, 2, 4];
    up.iter().for_each(|member| committee.start(*member));
    committee.wait_until("the complaint phase", &up, |status| status.chain.epoch.phase == PhaseName::Complaining);
    let mut missing = [committee.index(1), committee.index(3)];
    missing.sort_unstable();
    let named = |status: &Status| status.chain.run.missing.iter().map(|index| usize::from(*index)).collect::<Vec<_>>();
    assert_eq!(named(&committee.status(0).unwrap()), missing);
    committee.wait_until("the key of epoch 1", &up, is_safe_in(1));
    let out = committee.status(2).unwrap().events;
    for member in missing {
        let told = format!("dealer {member} is disqualified");
        assert!(out.iter().any(|event| event.what.contains(&told)), "{told}: {out:?}");
    }
    assert_agreement(&committee, &up);
    assert_signs(&committee, &up, 1);
    // Who comes back now takes part in the next run.
    committee.start(1);
    committee.start(3);
    committee.wait_until("the key of epoch 2", &[0, 1, 2, 3, 4], is_safe_in(2));
}

#[test]
fn members_and_the_log_server_killed_at_any_moment_come_back_and_every_epoch_has_its_key() {
    const KILLS: usize = 50;
    let mut random = random("kills");
    // Whoever is killed has to be back before a phase ends.
    let mut committee = Committee::new(5, Pace { phase: 60, epoch: 220, ..Pace::BRISK }, Log::Http, 3);
    let all: Vec<usize> = (0..5).collect();
    committee.start_log();
    all.iter().for_each(|member| committee.start(*member));
    for kill in 0..KILLS {
        // Up to t members at once, and the log now and then.
        let victim = random.random_range(0..5);
        committee.kill(victim);
        let second = random.random_range(0..5);
        if random.random_ratio(1, 4) && committee.is_up(second) {
            committee.kill(second);
        }
        if kill % 5 == 4 {
            committee.kill_log();
            committee.start_log();
        }
        let mut gone: Vec<usize> = all.iter().copied().filter(|member| !committee.is_up(*member)).collect();
        gone.drain(..).for_each(|member| committee.start(member));
        // The chain goes on a little, so that the kills are spread over the whole run.
        let view = committee.status(all[(victim + 1) % 5]).map_or(0, |status| status.chain.head.view);
        let steps = random.random_range(1..5);
        committee.wait_until("the next views", &all, |status| status.chain.head.view >= view + steps);
    }
    let last = committee.status(0).unwrap().chain.epoch.counter + 1;
    committee.wait_until("the next epoch's key", &all, is_safe_in(last));
    assert_agreement(&committee, &all);
    assert_signs(&committee, &[1, 2, 3], last);
    for member in all {
        let status = committee.status(member).unwrap();
        let epochs: Vec<u64> = status.results.iter().map(|result| result.epoch).collect();
        assert!((1..=last).all(|epoch| epochs.contains(&epoch)), "member {member} knows the keys of {epochs:?}");
    }
}

#[test]
fn with_t_members_down_and_t_clocks_off_by_minutes_the_others_make_their_keys_and_say_who_is_missing() {
    let mut committee = Committee::new(7, Pace::BRISK, Log::Http, 3);
    committee.start_log();
    // One clock is ahead, one behind, and one member is down for the whole run.
    committee.configure(0, "clock_offset_ms = 200000\n");
    committee.configure(1, "clock_offset_ms = -200000\n");
    let up: Vec<usize> = (0..6).collect();
    up.iter().for_each(|member| committee.start(*member));
    let missing = committee.index(6);
    committee.wait_until("the complaint phase", &[3], |status| status.chain.epoch.phase == PhaseName::Complaining);
    let status = committee.status(3).unwrap();
    let named: Vec<usize> = status.chain.run.missing.iter().map(|index| usize::from(*index)).collect();
    assert_eq!(named, [missing]);
    let shown = dkg(committee.path(), &["status", "--config", "m3/node.toml"]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains(&format!("not dealt: {missing}")), "{shown}");
    committee.wait_until("the key of epoch 1", &up, is_safe_in(1));
    assert_agreement(&committee, &up);
    assert_signs(&committee, &[0, 1, 2, 3], 1);
}

#[test]
fn five_processes_make_their_keys_over_three_members_of_etcd_while_its_leader_dies_and_another_is_cut_off() {
    let mut cluster = Cluster::new(3);
    // A phase takes longer than a cluster needs for another leader.
    let pace = Pace { view_ms: 200, setup: 10, phase: 70, epoch: 240 };
    let mut committee = Committee::new(5, pace, Log::Etcd(cluster.endpoints()), 3);
    let all: Vec<usize> = (0..5).collect();
    all.iter().for_each(|member| committee.start(*member));
    committee.wait_until("the run", &all, |status| status.chain.epoch.phase == PhaseName::Sharing);
    let leader = wait_for("a leader", || cluster.leader().ok_or_else(|| "none".to_owned()));
    cluster.kill(leader);
    wait_for("another leader", || cluster.leader().ok_or_else(|| "none".to_owned()));
    cluster.start(leader);
    committee.wait_until("the complaint phase", &all, |status| status.chain.epoch.phase == PhaseName::Complaining);
    // The one that everybody may be talking to, for a while.
    let cut_off = (leader + 1) % 3;
    cluster.freeze(cut_off, true);
    let view = committee.status(0).unwrap().chain.head.view;
    committee.wait_until("more views", &all, |status| status.chain.head.view > view + 3);
    cluster.freeze(cut_off, false);
    committee.wait_until("the key of epoch 1", &all, is_safe_in(1));
    assert_agreement(&committee, &all);
    assert_signs(&committee, &[3, 1, 4], 1);
}
