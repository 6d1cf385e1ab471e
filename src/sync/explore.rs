//! Runs a test under many schedules, half of them chosen at random, half with few but well-placed preemptions (PCT, the
//! Probabilistic Concurrency Testing of Burckhardt et al., ASPLOS 2010).
//!
//! ```text
//! RUSTFLAGS="--cfg shuttle" cargo test --no-default-features --lib --test shuttle
//! ```
//!
//! A test that fails has printed its seed, and the schedule it failed under. To see it fail again, put
//! `SHUTTLE_RANDOM_SEED=<seed>` (all schedules of the test, in the same order) or `DKG_SCHEDULE=<schedule>` (that one alone)
//! before the command, with the name of the test behind it. `DKG_SCHEDULES=<factor>` runs so many times as many.

use std::env;

use rand::TryRng;
use shuttle::rand::{Rng, thread_rng};
use shuttle::scheduler::{PctScheduler, RandomScheduler, ReplayScheduler, Scheduler};
use shuttle::sync::{Condvar, Mutex};
use shuttle::{Config, MaxSteps, Runner};

/// Decisions in one schedule at most. One that takes more goes round in circles.
const STEPS: usize = 200_000;
/// Stack of each thread: the curve arithmetic and the log's formatting need more than the scheduler's default.
const STACK_BYTES: usize = 1 << 20;
/// Preemptions that PCT places in a schedule, and one.
const DEPTH: usize = 4;

/// Runs `body` under so many schedules.
pub(crate) fn explore(schedules: usize, body: fn()) {
    let mut config = Config::new();
    config.stack_size = STACK_BYTES;
    config.max_steps = MaxSteps::FailAfter(STEPS);
    config.silence_warnings = true;
    config.ungraceful_shutdown_config.immediately_return_on_panic = true;
    if let Ok(schedule) = env::var("DKG_SCHEDULE") {
        Runner::new(ReplayScheduler::new_from_encoded(schedule.trim()), config).run(body);
        return;
    }
    let number = |name| env::var(name).ok().and_then(|number| number.parse().ok());
    let seed = number("SHUTTLE_RANDOM_SEED").unwrap_or_else(|| rand::rngs::SysRng.try_next_u64().unwrap());
    let schedules = schedules * number("DKG_SCHEDULES").unwrap_or(1) as usize;
    eprintln!("{schedules} schedules, SHUTTLE_RANDOM_SEED={seed}");
    let run = |scheduler: Box<dyn Scheduler + Send>| Runner::new(scheduler, config.clone()).run(body);
    let run = run(Box::new(RandomScheduler::new_from_seed(seed, schedules.div_ceil(2))))
        + run(Box::new(PctScheduler::new_from_seed(seed, DEPTH, schedules / 2)));
    assert_eq!(run, schedules);
}

/// A number below `limit`, of the schedule's choice.
pub(crate) fn choose(limit: usize) -> usize {
    thread_rng().gen_range(0..limit)
}

/// A value that can be waited for, without a deadline: what never comes is a deadlock.
#[derive(Default)]
pub(crate) struct Watched<T> {
    value: Mutex<T>,
    changed: Condvar,
}

impl<T> Watched<T> {
    pub(crate) fn update<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let result = change(&mut self.value.lock().unwrap());
        self.changed.notify_all();
        result
    }

    pub(crate) fn wait<R>(&self, mut ready: impl FnMut(&T) -> Option<R>) -> R {
        let mut value = self.value.lock().unwrap();
        loop {
            match ready(&value) {
                Some(result) => return result,
                None => value = self.changed.wait(value).unwrap(),
            }
        }
    }
}
