//! Committees of real processes: from keys to signatures, and through all that can happen to processes on the way.
#![cfg(feature = "cli")]

mod etcd_room;
mod folder;
mod install;
mod process_room;

use std::fs;

use dkg_engine::node::{PhaseName, Status};
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
