//! Small committees, exhaustively; and the search itself on trial, in worlds that break a rule.

#![cfg(feature = "simulator")]

use std::time::Duration;

use dkg_engine::bls::Index;
use dkg_engine::simulator::exhaustive::{
    Faults, Faulty, Flaw, Menu, Pages, Report, Search, SearchError, search, search_all,
};

/// Longer than any of these searches takes.
const LONG: Duration = Duration::from_secs(3600);

fn index(position: usize) -> Index {
    Index::from_position(position).unwrap()
}

fn faulty(member: usize, menu: Menu, posts: usize) -> Faults {
    Faults { faulty: Some(Faulty { member: index(member), menu, posts }), ..Faults::default() }
}

/// Polls in phase 1 alone: that is where what a member reads early meets what it receives.
fn polled_once(size: usize, faults: Faults) -> Search {
    Search { polls: [true, false, false], ..Search::new(size, faults) }
}

fn all_is_well(report: &Report) {
    println!("{report}");
    assert!(report.violation.is_none(), "{report}");
    assert!(report.complete, "{report}");
    assert!(report.ends > 0, "{report}");
}

#[test]
fn three_members_agree_whatever_the_order_of_messages_blocks_and_pages() {
    let searches =
        [Search::new(3, Faults::default()), Search { pages: Pages::AnySplit, ..polled_once(3, Faults::default()) }];
    search_all(&searches, LONG, all_is_well).unwrap();
}

#[test]
fn one_of_three_members_may_crash_or_be_cut_off_at_any_point() {
    // Who is killed goes on with the run, from wherever it was: that makes many more states.
    let unpolled = |faults| Search { polls: [false; 3], ..Search::new(3, faults) };
    let searches = [
        unpolled(Faults { crash: Some(index(0)), ..Faults::default() }),
        unpolled(Faults { crash: Some(index(2)), ..Faults::default() }),
        polled_once(3, Faults { cut_off: Some(index(1)), ..Faults::default() }),
    ];
    search_all(&searches, LONG, all_is_well).unwrap();
}

#[test]
fn one_of_three_members_may_do_as_it_likes() {
    let searches = [
        Search { polls: [false; 3], ..Search::new(3, faulty(1, Menu::Everything, 1)) },
        Search { polls: [false; 3], ..Search::new(3, faulty(0, Menu::Answering, 2)) },
        Search { polls: [false; 3], ..Search::new(3, faulty(2, Menu::Accusing, 2)) },
    ];
    search_all(&searches, LONG, all_is_well).unwrap();
}

/// Two of three are more than the protocol bears: nobody is promised a key, but nobody comes to a wrong one.
#[test]
fn with_a_faulty_and_a_crashing_member_in_three_the_third_still_agrees_with_whoever_ends() {
    let faults = Faults { crash: Some(index(2)), ..faulty(0, Menu::Dealing, 1) };
    all_is_well(&search(&Search { polls: [false; 3], ..Search::new(3, faults) }).unwrap());
}

#[test]
fn a_search_of_four_members_stops_at_its_limit_and_says_that_it_is_not_complete() {
    let report = search(&Search { state_limit: 40, ..Search::new(4, Faults::default()) }).unwrap();
    assert!(report.violation.is_none() && !report.complete, "{report}");
    assert!((40..60).contains(&report.states), "{report}");
    let report = search(&Search { time_limit: Duration::ZERO, ..Search::new(4, Faults::default()) }).unwrap();
    assert!(!report.complete, "{report}");
}

#[test]
fn an_impossible_search_is_an_error() {
    for size in [0, 1, 9, 255, usize::MAX] {
        assert_eq!(search(&Search::new(size, Faults::default())).unwrap_err(), SearchError::Committee(size));
    }
    let stranger = Faults { crash: Some(index(3)), ..Faults::default() };
    assert_eq!(search(&Search::new(3, stranger)).unwrap_err(), SearchError::Stranger(index(3)));
}

fn found(flaw: Flaw, faults: Faults, what: &str) {
    let report = search(&Search { flaw: Some(flaw), polls: [false; 3], ..Search::new(3, faults) }).unwrap();
    println!("{flaw:?}: {report}");
    let trace = report.violation.expect("a broken rule");
    assert!(trace.what.contains(what), "{trace}");
    assert!(!trace.steps.is_empty(), "{trace}");
}

/// The poll at the end of a phase comes after the transition, as it were.
#[test]
fn a_phase_that_ends_before_its_messages_have_come_is_found() {
    found(Flaw::LatePages, Faults::default(), "honest dealer");
}

/// The reference's split view: see the transcripts.
#[test]
fn a_member_that_counts_its_own_complaint_before_the_boards_order_is_found() {
    found(Flaw::OwnComplaintFirst, faulty(0, Menu::Answering, 2), "come to different results");
}

#[test]
fn a_member_that_deals_a_second_time_is_found() {
    let crash = Faults { crash: Some(index(1)), ..Faults::default() };
    found(Flaw::ForgetfulStore, crash, "two different things for one purpose");
}
