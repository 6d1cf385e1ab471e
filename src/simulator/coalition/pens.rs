//! What the coalition does on a log chain beside the protocol.

use super::super::chance::{Draw, dice};
use super::super::fault::Fault;
use super::super::identity::identity;
use super::super::plan::Plan;
use crate::bls::Index;
use crate::chain::log::{ChainConfig, Entry, Payload, Prefix};
use crate::epoch::View;
use chacha20::ChaCha20Rng;
use rand::RngExt;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The coalition's pens, and the log as it has seen it.
pub(in super::super) struct Pens {
    config: Arc<ChainConfig>,
    prefix: Prefix,
    seen: usize,
    sequences: BTreeMap<usize, u64>,
    dice: ChaCha20Rng,
}

impl Pens {
    pub(in super::super) fn new(plan: &Plan, config: &Arc<ChainConfig>) -> Self {
        Pens {
            config: Arc::clone(config),
            prefix: Prefix::genesis(config.identity()),
            seen: 0,
            sequences: BTreeMap::new(),
            dice: dice(plan.seed(), Draw::Script, u64::MAX, 0),
        }
    }

    /// Reads one more entry.
    pub(in super::super) fn read(&mut self, entry: &[u8]) {
        self.prefix = self.prefix.extended(entry);
        self.seen += 1;
    }

    /// How many entries have been read.
    pub(in super::super) fn seen(&self) -> usize {
        self.seen
    }

    /// An entry of a member.
    pub(in super::super) fn write(&mut self, member: usize, payload: Payload) -> Option<Vec<u8>> {
        self.write_seen(member, payload, self.prefix)
    }

    fn write_seen(&mut self, member: usize, payload: Payload, seen: Prefix) -> Option<Vec<u8>> {
        let sequence = self.sequences.entry(member).or_default();
        *sequence += 1;
        let entry = Entry { author: Index::from_position(member)?, sequence: *sequence, payload, seen };
        entry.sign(self.config.identity(), &identity(member)?.network_key).ok()
    }

    /// What a member appends when its clock has reached a view.
    pub(in super::super) fn tick(&mut self, member: usize, view: View, faults: &[Fault]) -> Vec<Vec<u8>> {
        let mut entries = Vec::new();
        let mut reached = view.0;
        if faults.contains(&Fault::ClockTricks) {
            match self.dice.random_range(0..3) {
                0 => return entries,
                1 => reached += self.dice.random_range(1..2 * self.config.schedule().views_in_epoch),
                _ => reached = reached.saturating_sub(self.dice.random_range(1..10)),
            }
        }
        entries.extend(self.write(member, Payload::Tick(View(reached))));
        if faults.contains(&Fault::LogTricks) && self.dice.random_ratio(1, 4) {
            let lie = Prefix { position: self.prefix.position, hash: [7; 32] };
            let forged = self.write((member + 1) % self.config.committee().size(), Payload::Tick(view));
            let tricks = [
                self.write_seen(member, Payload::Tick(View(view.0 + 1)), lie),
                entries.first().cloned(),
                Some(vec![0xff; 90]),
                forged.map(|mut entry| {
                    if let Some(byte) = entry.last_mut() {
                        *byte ^= 1;
                    }
                    entry
                }),
            ];
            entries.extend(tricks.into_iter().flatten());
        }
        entries
    }
}
