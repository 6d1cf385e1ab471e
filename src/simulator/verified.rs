//! Signatures of one run that have been verified: the same envelope, by the same key, is verified once for all nodes.
//!
//! The verdict depends on nothing but these, so that no node is told anything else than it would find out itself.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::bls::PublicKey;
use crate::engine::Verify;
use crate::envelope::BroadcastMessage;

/// Everything that a verification depends on.
type Question = ([u8; 96], String, Vec<u8>, Vec<u8>);

#[derive(Default)]
pub(super) struct Verified(Mutex<BTreeMap<Question, bool>>);

impl Verify for Verified {
    fn verify(&self, message: &BroadcastMessage, key: &PublicKey) -> bool {
        let BroadcastMessage { data, dkg_instance_id, signature } = message.clone();
        let question = (key.to_flow_bytes(), dkg_instance_id, data, signature);
        *self.0.lock().entry(question).or_insert_with(|| message.verify(key))
    }
}
