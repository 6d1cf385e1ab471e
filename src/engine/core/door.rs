//! What a host says of its chain, judged before it counts. A node whose phases end at other blocks than everybody's ends with
//! another key, so that what cannot be is refused here, in words; nothing is guessed.

use super::Standing;
use crate::envelope::MAX_INSTANCE_BYTES;
use crate::epoch::{EpochCounter, EpochSetup, Header, ProtocolEvent};

/// Why this cannot be a setup that was told in epoch `current`.
pub(super) fn fault_of_setup(current: EpochCounter, setup: &EpochSetup) -> Option<String> {
    let [first, second, third] = setup.phase_final_views;
    if current.next() != Some(setup.epoch) {
        return Some(format!("its setup came in epoch {current}, and a run makes the keys of the epoch after"));
    }
    if !(setup.first_view <= first && first < second && second < third) {
        return Some(format!(
            "its setup phase begins with view {} and its phases end with views {first}, {second} and {third}; each has to end \
             after the one before",
            setup.first_view
        ));
    }
    let name = setup.instance.as_str().len();
    if name > MAX_INSTANCE_BYTES {
        return Some(format!(
            "the run's name has {name} bytes, and at most {MAX_INSTANCE_BYTES} travel with a message; the chain id is too long"
        ));
    }
    None
}

/// Why these cannot be the blocks that have ended the phases of a run so far.
pub(super) fn fault_of_ends(setup: &EpochSetup, ends: &[Header], head: &Header) -> Option<String> {
    if ends.len() > setup.phase_final_views.len() {
        return Some(format!("the chain tells of {} phases that are over, and a run has three", ends.len()));
    }
    for (position, (end, last)) in ends.iter().zip(setup.phase_final_views).enumerate() {
        let phase = position + 1;
        if end.view < last {
            return Some(format!(
                "phase {phase} cannot have ended with the block of view {}, before view {last}",
                end.view
            ));
        }
        if end.view > head.view {
            return Some(format!(
                "phase {phase} cannot have ended with the block of view {}, when view {} is the latest",
                end.view, head.view
            ));
        }
    }
    let order = |pair: &[Header]| pair[0].view <= pair[1].view && pair[0].height <= pair[1].height;
    if !ends.windows(2).all(order) {
        return Some("the blocks that have ended its phases are not in order".to_owned());
    }
    None
}

/// What contradicts in an event what the host has said before, which stands; and of which epoch that is.
pub(super) fn contradiction(standing: &Standing, event: &ProtocolEvent) -> Option<(EpochCounter, String)> {
    let (current, epoch) = match event {
        ProtocolEvent::EpochSetupPhaseStarted { current, setup, .. } => (*current, setup.epoch),
        ProtocolEvent::EpochCommittedPhaseStarted { current, commit, .. }
        | ProtocolEvent::EpochFallbackExited { current, commit, .. } => (*current, commit.epoch),
        ProtocolEvent::BlockFinalized(_) => return None,
    };
    if current < standing.current {
        return Some((epoch, format!("an event of epoch {current} comes after one of epoch {}", standing.current)));
    }
    match (event, &standing.next) {
        (ProtocolEvent::EpochCommittedPhaseStarted { commit, .. }, Some(before))
            if commit.epoch == before.epoch && commit != before =>
        {
            Some((epoch, "other keys were committed for it before".to_owned()))
        }
        _ => None,
    }
}
