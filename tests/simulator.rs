//! The simulator: what it promises, and that its net has no hole where the reference had one.
#![cfg(feature = "simulator")]

use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use dkg_engine::simulator::{
    Coverage, Defect, Fault, FaultSet, LogTap, NumberError, Outcome, Plan, Rule, RunNumber, Scope, Simulated, shrink,
};
use parking_lot::Mutex;

fn all_faults() -> FaultSet {
    FaultSet::all().with(Fault::Crash)
}

fn scope(min_nodes: u8, max_nodes: u8, faults: FaultSet) -> Scope {
    Scope { min_nodes, max_nodes, faults }
}

fn number(scope: Scope, seed: u64, run: u64) -> RunNumber {
    RunNumber::new(scope, seed, run).unwrap()
}

/// Every line of every log level goes past the simulation of its thread.
fn tap_the_log() {
    struct Nowhere;
    impl log::Log for Nowhere {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            false
        }
        fn log(&self, _: &log::Record<'_>) {}
        fn flush(&self) {}
    }
    static TAPPED: Once = Once::new();
    TAPPED.call_once(|| {
        log::set_boxed_logger(Box::new(LogTap(Nowhere))).unwrap();
        log::set_max_level(log::LevelFilter::Trace);
    });
}

/// Makes runs on two threads until one is not to the liking of `look`.
fn run_all(scope: Scope, seed: u64, runs: u64, simulated: Simulated, look: impl Fn(RunNumber, Outcome) -> bool + Sync) {
    tap_the_log();
    let next = AtomicU64::new(0);
    thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| {
                loop {
                    let run = next.fetch_add(1, Ordering::Relaxed);
                    if run >= runs {
                        return;
                    }
                    let number = number(scope, seed, run);
                    if !look(number, simulated.run(&Plan::new(number))) {
                        next.store(runs, Ordering::Relaxed);
                    }
                }
            });
        }
    });
}

/// The first run, from a seed, that the simulator finds a defect in, and the rule it finds broken.
fn first_caught(scope: Scope, defect: Defect, runs: u64) -> (u64, RunNumber, Rule) {
    tap_the_log();
    let simulated = Simulated { defect: Some(defect), timeline: false };
    for run in 0..runs {
        let number = number(scope, 1, run);
        if let Some(violation) = simulated.run(&Plan::new(number)).violation {
            println!("{defect}: caught in run {} ({number}) by {violation}", run + 1);
            // It is the defect that is caught, and nothing else.
            assert_eq!(Simulated::default().run(&Plan::new(number)).violation, None);
            return (run + 1, number, violation.rule);
        }
    }
    panic!("{defect} is not caught in {runs} runs");
}

#[test]
fn every_promise_holds_in_hostile_runs_and_they_hit_every_fault_and_every_verdict() {
    let coverage = Mutex::new(Coverage::default());
    let broken = Mutex::new(Vec::new());
    run_all(scope(3, 7, all_faults()), 20_261_201, 300, Simulated::default(), |number, outcome| {
        coverage.lock().add(&outcome);
        if let Some(violation) = outcome.violation {
            broken.lock().push(format!("dkg simulate --replay {number}: {violation}"));
            return false;
        }
        true
    });
    assert_eq!(broken.into_inner(), [] as [String; 0]);
    let coverage = coverage.into_inner();
    let missed: Vec<_> = all_faults().iter().filter(|fault| coverage.of("fault", fault.name()) == 0).collect();
    assert_eq!(missed, []);
    let verdicts = [
        "VectorMissing",
        "VectorLength",
        "VectorInvalid",
        "ComplaintMalformed",
        "AnswerMalformed",
        "AnswerNotAScalar",
        "AnswerWrong",
        "TooManyComplaints",
        "ComplaintUnanswered",
        "EmptyBroadcast",
        "UnknownTag",
    ];
    let missed: Vec<_> = verdicts.iter().filter(|verdict| coverage.of("verdict", verdict) == 0).collect();
    assert_eq!(missed, [] as [&&str; 0]);
}

#[test]
fn a_number_is_the_same_run_every_time() {
    let simulated = Simulated { defect: None, timeline: true };
    for run in 0..6 {
        let number = number(scope(3, 5, all_faults()), 3, run);
        let again: RunNumber = number.to_string().parse().unwrap();
        assert_eq!(again, number);
        let (first, second) = (simulated.run(&Plan::new(number)), simulated.run(&Plan::new(again)));
        assert!(first.timeline.moments().len() > 30);
        assert_eq!(first.timeline.moments(), second.timeline.moments());
        assert_eq!((first.marks, first.leaks), (second.marks, second.leaks));
    }
}

#[test]
fn what_is_no_number_of_a_run_is_refused() {
    let refused = |text: &str| text.parse::<RunNumber>().unwrap_err();
    assert!(matches!(refused("not hex"), NumberError::NotANumber(_)));
    assert!(matches!(refused(&"f".repeat(33)), NumberError::NotANumber(_)));
    assert!(matches!(refused("0"), NumberError::Impossible(_)), "no members");
    assert!(matches!(refused(&"f".repeat(32)), NumberError::Impossible(_)), "faults that there are not");
    let possible = |min, max| RunNumber::new(scope(min, max, FaultSet::NONE), 0, 0).is_some();
    assert!(possible(2, 254) && !possible(1, 3) && !possible(5, 4) && !possible(3, 255));
}

#[test]
fn without_faults_every_member_has_its_key_and_no_share_gets_out() {
    for run in 0..10 {
        let number = number(scope(2, 6, FaultSet::NONE), 5, run);
        let outcome = Simulated::default().run(&Plan::new(number));
        assert_eq!(outcome.violation, None, "{number}");
        assert!(outcome.leaks.iter().all(|leak| leak.public == 0 && leak.known == 0), "{number}");
        assert!(!outcome.leaks.is_empty() && !outcome.endings.is_empty());
    }
}

#[test]
fn a_broken_rule_is_shrunk_to_the_one_fault_that_it_takes() {
    let scope = scope(3, 7, all_faults());
    let (_, number, rule) = first_caught(scope, Defect::OwnComplaintFirst, 500);
    let simulated = Simulated { defect: Some(Defect::OwnComplaintFirst), timeline: false };
    let shrunk = shrink(&Plan::new(number), &simulated, rule).unwrap();
    let [part] = shrunk.plan.parts() else { panic!("{}", shrunk.plan) };
    assert!(matches!(part.fault, Fault::EarlyAnswers | Fault::UnsolicitedAnswers), "{}", shrunk.plan);
    assert!(shrunk.outcome.violation.is_some_and(|violation| violation.rule == rule));
    assert!(shrunk.outcome.timeline.to_string().contains(part.fault.name()));
    let holds = Simulated::default();
    assert!(shrink(&Plan::new(number), &holds, rule).is_none(), "there is nothing to shrink where no rule is broken");
}

// The defects of the reference, put back one at a time.

#[test]
fn a_failed_run_that_goes_on_listening_is_caught() {
    let (_, _, rule) = first_caught(scope(3, 7, all_faults()), Defect::FailedRunListensOn, 1000);
    assert!(matches!(rule, Rule::Fairness | Rule::Secrecy), "{rule:?}");
}

#[test]
fn a_phase_that_ends_before_its_last_poll_is_caught() {
    let (_, _, rule) = first_caught(scope(3, 7, all_faults()), Defect::TransitionBeforePoll, 100);
    assert!(matches!(rule, Rule::Agreement | Rule::Fairness | Rule::Evidence), "{rule:?}");
}

#[test]
fn a_phase_that_ends_although_its_last_read_has_failed_is_caught() {
    let (_, _, rule) = first_caught(scope(3, 7, all_faults()), Defect::FailedReadIsSkipped, 200);
    assert!(matches!(rule, Rule::Agreement | Rule::Fairness | Rule::Evidence), "{rule:?}");
}

#[test]
fn a_post_that_blinds_its_readers_is_caught() {
    first_caught(scope(3, 7, all_faults()), Defect::GarbageBlinds, 500);
}

#[test]
fn poll_views_that_are_counted_below_zero_are_caught() {
    let (_, _, rule) = first_caught(scope(3, 7, all_faults()), Defect::PollViewsUnderflow, 100);
    assert_eq!(rule, Rule::Liveness);
}

#[test]
fn a_failed_run_that_submits_nothing_is_caught() {
    let (_, _, rule) = first_caught(scope(3, 7, all_faults()), Defect::FailureIsSilent, 1000);
    assert_eq!(rule, Rule::Submission);
}

#[test]
fn a_complaint_that_is_counted_before_the_boards_order_splits_the_view_and_is_caught() {
    let (_, _, rule) = first_caught(scope(3, 7, all_faults()), Defect::OwnComplaintFirst, 500);
    assert_eq!(rule, Rule::Agreement);
}

#[test]
fn shares_in_the_log_are_caught() {
    let (runs, _, rule) = first_caught(scope(3, 7, all_faults()), Defect::SharesInTheLog, 200);
    assert_eq!(rule, Rule::Discretion);
    assert!(runs > 0);
}

#[test]
fn a_store_that_forgets_what_it_has_reported_durable_is_caught() {
    first_caught(scope(3, 7, all_faults()), Defect::UnsyncedStore, 300);
}

// And one of this engine's own.

#[test]
fn senders_that_all_peers_share_are_caught() {
    let (_, _, rule) = first_caught(scope(3, 7, all_faults()), Defect::SharedSenders, 300);
    assert!(matches!(rule, Rule::Fairness | Rule::Secrecy), "{rule:?}");
}

#[test]
fn t_members_that_hold_up_shared_senders_learn_secrets_and_with_lanes_they_do_not() {
    tap_the_log();
    let only_stalls = scope(7, 9, FaultSet::NONE.with(Fault::StalledReceipts));
    let run = |run, defect| {
        Simulated { defect, timeline: false }
            .run(&Plan::new(number(only_stalls, 1, run)))
            .violation
            .map(|what| what.rule)
    };
    assert!((0..40).any(|number| run(number, Some(Defect::SharedSenders)) == Some(Rule::Secrecy)));
    assert!((0..40).all(|number| run(number, None).is_none()));
}
