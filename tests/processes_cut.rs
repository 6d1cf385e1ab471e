//! A member of a committee of real processes whose wires are cut for a whole phase of a run, and mended: see `wires`
//! for how.
#![cfg(feature = "cli")]

mod folder;
mod process_room;

use dkg_engine::node::{PhaseName, SeenMember, Status};
use dkg_engine::store::HealthStatus;
use process_room::*;

/// Phases so long that whoever waits for an answer from the other side of a cut gives up meanwhile, and that who comes
/// back in one has the time to do what it has to do in it.
const PACE: Pace = Pace { view_ms: 100, setup: 30, phase: 150, epoch: 600 };
const N: usize = 5;
const ALL: [usize; N] = [0, 1, 2, 3, 4];
const OTHERS: [usize; N - 1] = [0, 1, 2, 3];
/// Who is cut off.
const CUT: usize = 4;

/// A committee that follows its chain, before its first run.
fn committee() -> Committee {
    let mut committee = Committee::with_wires(N, PACE, 4);
    committee.start_log();
    ALL.iter().for_each(|member| committee.start(*member));
    committee.wait_until("the first views, and all links", &ALL, |status| {
        let joined = |seen: &SeenMember| seen.link.as_ref().is_none_or(|link| link.inbound && link.outbound);
        status.chain.head.view > 0 && status.seen.iter().all(joined)
    });
    assert_eq!(committee.status(0).unwrap().chain.epoch.phase, PhaseName::Staking, "the machine is too slow for this");
    committee
}

fn has_reached(status: &Status, phase: usize) -> bool {
    status.chain.head.view > status.chain.epoch.phase_finals[phase - 1]
}

/// Who complains about whom, by indices.
fn complaints(status: &Status) -> Vec<(usize, usize)> {
    status.chain.run.complaints.iter().map(|(by, of)| (usize::from(*by), usize::from(*of))).collect()
}

/// Every member has a share of the next epoch's key, which these dealers have made; and they can sign with it.
#[track_caller]
fn assert_all_have_the_key_of(committee: &mut Committee, dealers: &[usize]) {
    committee.wait_until("the key of epoch 1 on every member", &ALL, |status| {
        let next = status.keys.as_ref().and_then(|keys| keys.next.as_ref());
        next.is_some_and(|key| key.epoch.0 == 1 && key.status == HealthStatus::Safe)
    });
    let mut dealers: Vec<usize> = dealers.iter().map(|dealer| committee.index(*dealer)).collect();
    dealers.sort_unstable();
    for member in ALL {
        let status = committee.status(member).unwrap();
        let qualified: Vec<usize> =
            status.run_here.qualified.iter().flatten().map(|index| usize::from(*index)).collect();
        assert_eq!(qualified, dealers, "member {member}: {}", summary(&status));
        assert_eq!(status.run_here.has_share, Some(true), "member {member}: {}", summary(&status));
    }
    committee.wait_until("epoch 1", &ALL, is_safe_in(1));
    assert_agreement(committee, &ALL);
    assert_signs(committee, &[CUT, 0, 1], 1);
}

#[test]
fn a_member_that_is_cut_off_from_all_while_shares_are_dealt_is_named_and_gets_its_share_late_or_by_complaining() {
    let mut committee = committee();
    let cut = committee.index(CUT);
    committee.wires().cut(CUT, Cut::Everything);
    committee.wait_until("the complaint phase", &OTHERS, |status| has_reached(status, 1));
    for member in OTHERS {
        let status = committee.status(member).unwrap();
        let missing: Vec<usize> = status.chain.run.missing.iter().map(|index| usize::from(*index)).collect();
        assert_eq!(missing, [cut], "{}", summary(&status));
    }
    committee.wait_until("everybody to see that the links are dead", &OTHERS, link_is_dead(cut));
    committee.wait_until("who is cut off to see it", &[CUT], |status| {
        !has_reached(status, 1) && status.log.reading.is_some()
    });
    let shown = String::from_utf8(dkg(committee.path(), &["status", "--config", "m0/node.toml"]).stdout).unwrap();
    assert!(shown.contains(&format!("not dealt: {cut}")), "{shown}");

    committee.wires().mend(CUT);
    committee.wait_until("the end of complaining", &ALL, |status| has_reached(status, 2));
    // What did not come in the moment between the mending and the end of phase 1 as who was cut off reads it in the
    // log, it has complained about; nobody else has complained, and everybody knows the same.
    let complained = complaints(&committee.status(0).unwrap());
    println!("complaints: {complained:?}");
    assert!(complained.iter().all(|(by, of)| *by == cut && *of != cut), "{complained:?}");
    committee.wait_until("answers to all complaints", &ALL, |status| {
        complaints(status) == complained && status.chain.run.answers.len() == complained.len()
    });
    assert_all_have_the_key_of(&mut committee, &OTHERS);
    let status = committee.status(0).unwrap();
    assert!(status.seen.iter().all(|seen| seen.link.as_ref().is_none_or(|link| link.outbound)), "{:?}", status.seen);
}

#[test]
fn a_dealer_whose_links_alone_are_cut_is_complained_about_by_all_and_has_the_key_without_having_dealt() {
    let mut committee = committee();
    let cut = committee.index(CUT);
    committee.wires().cut(CUT, Cut::Peers);
    committee.wait_until("everybody to see that the links are dead", &OTHERS, link_is_dead(cut));
    committee.wait_until("the complaints of all about the dealer that is cut off, and its own", &ALL, |status| {
        let expected = |index: usize| if index == cut { None } else { Some([(cut, index), (index, cut)]) };
        let mut expected: Vec<_> = (0..N).filter_map(expected).flatten().collect();
        expected.sort_unstable();
        complaints(status) == expected
    });
    for member in OTHERS {
        let status = committee.status(member).unwrap();
        assert!(status.chain.run.missing.is_empty(), "its commitments are there: {}", summary(&status));
        assert_eq!(status.seen[cut].share_received, Some(false));
        assert_eq!(status.seen[committee.index((member + 1) % 4)].share_received, Some(true));
    }
    committee.wires().mend(CUT);
    assert_all_have_the_key_of(&mut committee, &OTHERS);
}

#[test]
fn members_that_are_cut_off_while_others_complain_and_answer_have_the_key_and_have_dealt() {
    let mut committee = committee();
    committee.wait_until("the end of dealing", &ALL, |status| has_reached(status, 1));
    // One for the second phase, another for the third.
    for (phase, cut) in [(2, CUT), (3, 2)] {
        let others: Vec<usize> = ALL.into_iter().filter(|member| *member != cut).collect();
        let (view, index) = (committee.status(cut).unwrap().chain.clock.view, committee.index(cut));
        committee.wires().cut(cut, Cut::Everything);
        committee.wait_until("the phase's end", &others, |status| has_reached(status, phase));
        let status = committee.status(others[0]).unwrap();
        for member in &status.chain.members {
            let is_cut = usize::from(member.index) == index;
            assert_eq!(member.last_tick < view + 20, is_cut, "{:?}", status.chain.members);
        }
        assert!(!has_reached(&committee.status(cut).unwrap(), phase));
        committee.wires().mend(cut);
    }
    assert_all_have_the_key_of(&mut committee, &ALL);
}

/// Whether a node has noticed that its link to this member carries nothing.
fn link_is_dead(index: usize) -> impl Fn(&Status) -> bool {
    move |status| status.seen[index].link.as_ref().is_some_and(|link| !link.outbound && link.last_error.is_some())
}
