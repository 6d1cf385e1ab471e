//! A committee of fifty real processes on this machine, from their keys to a verified signature, and what it costs. Linux
//! only. Under `cargo bench` the processes are optimized.

#[path = "../tests/folder/mod.rs"]
mod folder;
#[path = "../tests/process_room/mod.rs"]
mod process_room;

use std::time::Instant;

use dkg_engine::node::PhaseName;
use process_room::*;

const N: usize = 50;
/// More than t of them.
const SIGNERS: usize = 25;
/// Views and phases in which two processors do the work of fifty machines.
const PACE: Pace = Pace { view_ms: 1000, setup: 4, phase: 16, epoch: 60 };
/// Seconds until everybody has been started.
const START: u64 = 10;

fn main() {
    let began = Instant::now();
    let mut committee = Committee::new(N, PACE, Log::Http, START);
    println!("{:.1?}: keys", began.elapsed());
    committee.start_log();
    (0..N).for_each(|member| committee.start(member));
    println!("{:.1?}: all started", began.elapsed());
    // One is asked all the time, and the others when it has what they should have.
    committee.wait_until("the run", &[0], |status| status.chain.epoch.phase == PhaseName::Sharing);
    println!("{:.1?}: the run", began.elapsed());
    committee.wait_until("the end of dealing", &[0], |status| status.chain.epoch.phase == PhaseName::Complaining);
    let status = committee.status(0).unwrap();
    println!("{:.1?}: dealt, missing {:?}", began.elapsed(), status.chain.run.missing);
    committee.wait_until("the key of epoch 1", &[0], is_safe_in(1));
    let all: Vec<usize> = (0..N).collect();
    committee.wait_until("everybody's key of epoch 1", &all, is_safe_in(1));
    println!("{:.1?}: the key of epoch 1", began.elapsed());
    for name in ["VmHWM", "VmRSS", "Threads"] {
        let of_nodes: Vec<u64> = all.iter().map(|member| committee.vital(Some(*member), name)).collect();
        let (most, sum) = (of_nodes.iter().max().unwrap(), of_nodes.iter().sum::<u64>());
        println!("{name}: {most} at most, {sum} in all; log server {}", committee.vital(None, name));
    }
    assert_agreement(&committee, &all);
    assert_signs(&committee, &all[..SIGNERS], 1);
    println!("{:.1?}: signed", began.elapsed());
}
