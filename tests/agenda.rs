//! What is due at which view (spec section 2), through `Agenda` alone.

mod cases;
mod support;

use cases::cases;
use dkg_engine::engine::{Action, Agenda};
use dkg_engine::epoch::{EpochSetup, Header, View};
use proptest::prelude::*;
use support::{committee, header, setup};

fn agenda(first: u64, finals: [u64; 3], poll_step: u64) -> Agenda {
    let setup =
        EpochSetup { first_view: View(first), phase_final_views: finals.map(View), ..setup(&committee(2), 1, View(0)) };
    Agenda::new(&setup, &header(first, first), poll_step)
}

fn drain(agenda: &mut Agenda) -> Vec<Action> {
    std::iter::from_fn(|| agenda.take_next()).collect()
}

/// Finalizes one block and takes all that has become due.
fn at(agenda: &mut Agenda, view: u64) -> Vec<Action> {
    agenda.finalized(header(view, view)).unwrap();
    drain(agenda)
}

fn phase_end(view: u64) -> [Action; 2] {
    [Action::FinalPoll(header(view, view)), Action::EndPhase(header(view, view))]
}

/// The views, of all from `first` to the last, at which the board is read without a phase ending.
fn poll_views(first: u64, finals: [u64; 3], poll_step: u64) -> Vec<u64> {
    let mut agenda = agenda(first, finals, poll_step);
    let polled = |view: &u64| at(&mut agenda, *view) == [Action::Poll(header(*view, *view))];
    (first + 1..finals[2]).filter(polled).collect()
}

#[test]
fn polls_are_counted_backwards_from_each_final_view_and_exclude_the_phases_first() {
    assert_eq!(poll_views(100, [125, 150, 160], 10), [105, 115, 130, 140]);
    assert_eq!(poll_views(100, [120, 146, 161], 10), [110, 126, 136, 151], "100 is a first view");
    assert_eq!(poll_views(100, [120, 131, 142], 10), [110], "121 and 132 are first views");
}

#[test]
fn a_step_of_one_polls_at_every_view_but_first_and_final_ones() {
    assert_eq!(poll_views(10, [13, 16, 19], 1), [11, 12, 15, 18]);
    assert_eq!(poll_views(10, [13, 16, 19], 0), [11, 12, 15, 18], "no step counts as one");
}

#[test]
fn a_first_view_below_the_poll_step_is_fine() {
    assert_eq!(poll_views(0, [5, 9, 30], 10), [20]);
    assert_eq!(poll_views(3, [23, 33, 34], 10), [13]);
    assert_eq!(poll_views(0, [2, 4, 6], u64::MAX), Vec::<u64>::new());
}

#[test]
fn a_final_read_comes_right_before_each_phase_end_and_a_run_has_three_phases() {
    let mut agenda = agenda(100, [120, 140, 160], 10);
    for last in [120, 140, 160] {
        assert_eq!(at(&mut agenda, last - 10), [Action::Poll(header(last - 10, last - 10))]);
        assert_eq!(at(&mut agenda, last - 1), []);
        assert_eq!(at(&mut agenda, last), phase_end(last));
    }
    assert_eq!(at(&mut agenda, 161), []);
    assert_eq!(at(&mut agenda, u64::MAX), []);
}

#[test]
fn a_phase_ends_on_the_first_block_at_or_after_its_final_view() {
    let mut agenda = agenda(100, [120, 140, 160], 10);
    assert_eq!(at(&mut agenda, 119).last(), Some(&Action::Poll(header(119, 119))));
    assert_eq!(at(&mut agenda, 127), phase_end(127));
    assert_eq!(at(&mut agenda, 128), []);
}

#[test]
fn phases_that_end_at_one_block_end_in_order_each_behind_its_final_read() {
    let mut two = agenda(100, [120, 140, 160], 10);
    assert_eq!(at(&mut two, 145), [phase_end(145), phase_end(145)].concat());
    assert_eq!(at(&mut two, 160), phase_end(160));
    let mut three = agenda(100, [120, 140, 160], 10);
    assert_eq!(at(&mut three, u64::MAX), phase_end(u64::MAX).repeat(3));
}

#[test]
fn a_skipped_poll_is_made_at_the_next_block_and_only_once() {
    let mut agenda = agenda(100, [160, 180, 200], 10);
    assert_eq!(at(&mut agenda, 137), [Action::Poll(header(137, 137))], "for 110, 120 and 130");
    assert_eq!(at(&mut agenda, 139), []);
    assert_eq!(at(&mut agenda, 140), [Action::Poll(header(140, 140))]);
}

#[test]
fn a_poll_that_waits_gives_way_to_a_later_read_but_a_phase_end_never_does() {
    let mut agenda = agenda(100, [120, 150, 160], 10);
    for view in [110, 120, 130, 140] {
        agenda.finalized(header(view, view)).unwrap();
    }
    assert_eq!(drain(&mut agenda), [&phase_end(120)[..], &[Action::Poll(header(140, 140))]].concat());
}

#[test]
fn views_may_go_to_the_last_there_is() {
    let last = u64::MAX;
    let mut agenda = agenda(last - 40, [last - 20, last - 1, last], 10);
    assert_eq!(at(&mut agenda, last - 30), [Action::Poll(header(last - 30, last - 30))]);
    assert_eq!(at(&mut agenda, last - 20), phase_end(last - 20));
    assert_eq!(at(&mut agenda, last - 11), [Action::Poll(header(last - 11, last - 11))]);
    assert_eq!(at(&mut agenda, last - 1), phase_end(last - 1));
    assert_eq!(at(&mut agenda, last), phase_end(last));
}

/// First view, final views and blocks: dense or with gaps, near zero or near the last view.
fn schedule() -> impl Strategy<Value = (u64, [u64; 3], Vec<u64>)> {
    let blocks = prop_oneof![prop::collection::vec(1u64..4, 0..120), prop::collection::vec(1u64..60, 0..20)];
    (any::<bool>(), 0u64..30, [1u64..40, 1u64..40, 1u64..40], blocks).prop_map(|(high, first, lengths, gaps)| {
        let first = if high { u64::MAX - 150 + first } else { first };
        let mut view = first;
        let finals = lengths.map(|length| {
            view += length;
            view
        });
        let blocks = gaps.into_iter().scan(first, |view, gap| {
            *view = view.checked_add(gap)?;
            Some(*view)
        });
        (first, finals, blocks.collect())
    })
}

proptest! {
    #![proptest_config(cases(512))]

    /// Against the rule as the specification words it, with every poll view written out.
    #[test]
    fn whatever_blocks_come_every_poll_and_phase_end_is_due_at_its_first_block(
        (first, finals, blocks) in schedule(),
        poll_step in 1u64..25,
    ) {
        let mut poll_views = Vec::new();
        let mut phase_first = first;
        for last in finals {
            let steps = (1..).map_while(|count| last.checked_sub(count * poll_step));
            poll_views.extend(steps.take_while(|view| *view > phase_first).map(|view| (phase_first, view, last)));
            phase_first = last.saturating_add(1);
        }
        let mut agenda = agenda(first, finals, poll_step);
        let mut before = first;
        for view in blocks {
            let ending = finals.iter().filter(|last| before < **last && **last <= view).count();
            // A poll of a phase that ends at this block is overtaken by the final read.
            let poll = poll_views.iter().any(|(_, due, last)| before < *due && *due <= view && view < *last);
            let mut expected = phase_end(view).repeat(ending);
            expected.extend(poll.then(|| Action::Poll(header(view, view))));
            prop_assert_eq!(at(&mut agenda, view), expected);
            before = view;
        }
    }

    /// However late the actions are taken: every phase ends once, at its block, right behind the final read of that block.
    #[test]
    fn each_phase_ends_once_right_behind_its_final_read_however_late_actions_are_taken(
        (first, finals, blocks) in schedule(),
        takes in prop::collection::vec(0usize..3, 120),
    ) {
        let mut agenda = agenda(first, finals, 10);
        let mut taken = Vec::new();
        for (view, takes) in blocks.iter().zip(takes) {
            agenda.finalized(header(*view, *view)).unwrap();
            taken.extend((0..takes).filter_map(|_| agenda.take_next()));
        }
        taken.extend(drain(&mut agenda));
        let ends = finals.iter().filter_map(|last| blocks.iter().find(|view| *view >= last));
        let expected: Vec<Action> = ends.flat_map(|view| phase_end(*view)).collect();
        let without_polls: Vec<Action> =
            taken.iter().filter(|action| !matches!(action, Action::Poll(_))).copied().collect();
        prop_assert_eq!(without_polls, expected);
        let views: Vec<View> = taken.iter().map(|action| block(action).view).collect();
        prop_assert!(views.is_sorted());
        for pair in taken.windows(2) {
            prop_assert_eq!(matches!(pair[0], Action::FinalPoll(_)), matches!(pair[1], Action::EndPhase(_)));
        }
    }
}

fn block(action: &Action) -> Header {
    match action {
        Action::Poll(block) | Action::CatchUp(block) | Action::FinalPoll(block) | Action::EndPhase(block) => *block,
    }
}
