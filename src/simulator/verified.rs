//! Signatures that have been verified: the same envelope, by the same key, is verified once for all nodes of a simulation.
//!
//! The verdict depends on nothing but these, so that no node is told anything else than it would find out itself.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::bls::PublicKey;
use crate::engine::Verify;
use crate::envelope::BroadcastMessage;

/// Verdicts that are kept at most: some 300 MB.
const LIMIT: usize = 500_000;

/// Everything that a verification depends on.
type Question = ([u8; 96], String, Vec<u8>, Vec<u8>);

#[derive(Default)]
pub(super) struct Verified(Mutex<BTreeMap<Question, bool>>);

impl Verify for Verified {
    fn verify(&self, message: &BroadcastMessage, key: &PublicKey) -> bool {
        let BroadcastMessage { data, dkg_instance_id, signature } = message.clone();
        let question = (key.to_flow_bytes(), dkg_instance_id, data, signature);
        let mut verdicts = self.0.lock();
        match verdicts.get(&question) {
            Some(verdict) => *verdict,
            None => {
                let verdict = message.verify(key);
                if verdicts.len() < LIMIT {
                    verdicts.insert(question, verdict);
                }
                verdict
            }
        }
    }
}
