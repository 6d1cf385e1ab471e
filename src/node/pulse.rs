//! Since when views stand still, and how long each member has not been heard of. Pure: told the time, a clock that never steps,
//! and what there is to see.

use std::collections::BTreeMap;

use crate::committee::Index;
use crate::epoch::View;

/// What has moved, and when.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    began_ms: u64,
    head: Option<(View, u64)>,
    members: BTreeMap<Index, Life>,
}

#[derive(Debug)]
struct Life {
    sequence: Option<u64>,
    heard_ms: u64,
}

/// One member, as it is seen at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sign {
    pub(super) member: Index,
    /// The number of its last entry in the log.
    pub(super) sequence: Option<u64>,
    /// Whether there is a connection to it or from it.
    pub(super) linked: bool,
}

impl Pulse {
    /// From now on it counts: nobody is silent for longer than that.
    pub(super) fn begin(&mut self, now_ms: u64) {
        *self = Pulse { began_ms: now_ms, ..Pulse::default() };
    }

    /// Takes note of what there is to see. Who is connected, or has a new entry in the log, has been heard of.
    pub(super) fn look(&mut self, now_ms: u64, head: View, signs: impl IntoIterator<Item = Sign>) {
        if self.head.is_none_or(|(view, _)| view != head) {
            self.head = Some((head, now_ms));
        }
        for Sign { member, sequence, linked } in signs {
            let began = self.began_ms;
            let life = self.members.entry(member).or_insert(Life { sequence, heard_ms: began });
            if linked || life.sequence != sequence {
                *life = Life { sequence, heard_ms: now_ms };
            }
        }
    }

    /// For how long no view has become final.
    pub(super) fn still_ms(&self, now_ms: u64) -> u64 {
        self.head.map_or(0, |(_, since)| now_ms.saturating_sub(since))
    }

    /// For how long nothing has been heard of this member.
    pub(super) fn silent_ms(&self, member: Index, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.members.get(&member).map_or(self.began_ms, |life| life.heard_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(byte: u8) -> Index {
        Index::from_byte(byte).expect("an index")
    }

    fn sign(member: u8, sequence: u64, linked: bool) -> Sign {
        Sign { member: index(member), sequence: Some(sequence), linked }
    }

    #[test]
    fn who_is_connected_or_writes_is_heard_of_and_nobody_else() {
        let mut pulse = Pulse::default();
        pulse.begin(1000);
        pulse.look(1000, View(5), [sign(0, 1, true), sign(1, 1, false), sign(2, 1, false)]);
        pulse.look(3000, View(5), [sign(0, 1, true), sign(1, 2, false), sign(2, 1, false)]);
        let silent = |member: u8| pulse.silent_ms(index(member), 4000);
        assert_eq!([silent(0), silent(1), silent(2), silent(3)], [1000, 1000, 3000, 3000]);
    }

    #[test]
    fn views_stand_still_from_the_last_one_on() {
        let mut pulse = Pulse::default();
        pulse.begin(1000);
        assert_eq!(pulse.still_ms(2000), 0);
        pulse.look(2000, View(5), []);
        pulse.look(7000, View(5), []);
        assert_eq!(pulse.still_ms(8000), 6000);
        pulse.look(9000, View(6), []);
        assert_eq!(pulse.still_ms(9500), 500);
    }
}
