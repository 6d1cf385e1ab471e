//! Many runs on several threads.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use dkg_engine::simulator::{Coverage, Outcome, Plan, RunNumber, Scope, Simulated, Violation};

use super::show::Progress;

/// Outcomes that wait to be counted.
const WAITING: usize = 64;

/// What to run.
pub(super) struct Campaign {
    pub(super) scope: Scope,
    pub(super) seed: u64,
    pub(super) runs: u64,
    pub(super) threads: usize,
    pub(super) simulated: Simulated,
}

/// What came of it.
pub(super) struct Found {
    pub(super) coverage: Coverage,
    pub(super) elapsed: Duration,
    /// The run with the lowest number, of those made, that has broken a rule.
    pub(super) broken: Option<(u64, RunNumber, Violation)>,
}

impl Campaign {
    /// Makes all runs, or stops at the first that breaks a rule.
    pub(super) fn run(&self, progress: &Progress) -> Found {
        let started = Instant::now();
        let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
        let (sender, outcomes) = crossbeam_channel::bounded::<(u64, RunNumber, Outcome)>(WAITING);
        let mut found = Found { coverage: Coverage::default(), elapsed: Duration::ZERO, broken: None };
        thread::scope(|scope| {
            for _ in 0..self.threads {
                let (sender, next, stop) = (sender.clone(), &next, &stop);
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        let run = next.fetch_add(1, Ordering::Relaxed);
                        let number = RunNumber::new(self.scope, self.seed, run).filter(|_| run < self.runs);
                        let Some(number) = number else { return };
                        let outcome = self.simulated.run(&Plan::new(number));
                        if sender.send((run, number, outcome)).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(sender);
            for (run, number, outcome) in &outcomes {
                found.coverage.add(&outcome);
                progress.made(found.coverage.runs);
                if let Some(violation) = outcome.violation {
                    // Runs that are on are still waited for: one of them may come before this one.
                    stop.store(true, Ordering::Relaxed);
                    if found.broken.as_ref().is_none_or(|(first, ..)| run < *first) {
                        found.broken = Some((run, number, violation));
                    }
                }
            }
        });
        progress.end();
        found.elapsed = started.elapsed();
        found
    }
}
