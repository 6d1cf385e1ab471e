//! What `--json` prints. The field names are a contract with scripts; keys and signatures are hex.

use dkg_engine::protocol::Exposure;
use serde::Serialize;

/// The one object on stdout.
#[derive(Serialize)]
pub(super) struct Report {
    pub(super) runs: Vec<Run>,
}

/// One epoch's run.
#[derive(Serialize)]
pub(super) struct Run {
    pub(super) chain_id: String,
    /// The epoch the keys are for.
    pub(super) epoch: u64,
    pub(super) n: usize,
    pub(super) t: usize,
    pub(super) outcome: Outcome,
    /// Why it failed.
    pub(super) failure: Option<String>,
    /// In the standard encoding.
    pub(super) group_public_key: Option<String>,
    /// In the reference's byte order.
    pub(super) group_public_key_flow: Option<String>,
    /// In order of index, in the reference's byte order.
    pub(super) public_key_shares_flow: Vec<String>,
    pub(super) qualified: Vec<u8>,
    pub(super) disqualified: Vec<Disqualified>,
    /// How much of each qualified dealer's secret has got out.
    pub(super) exposures: Vec<Exposure>,
    /// How many members have submitted what the chain agreed on.
    pub(super) matching_submissions: usize,
    pub(super) members: Vec<Member>,
    pub(super) signature: Option<Signature>,
    /// From the first block of the setup phase until every member knew its outcome; absent if an earlier life has seen the
    /// beginning.
    pub(super) elapsed_ms: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    Completed,
    Failed,
}

#[derive(Serialize)]
pub(super) struct Disqualified {
    pub(super) dealer: u8,
    pub(super) reason: String,
}

#[derive(Serialize)]
pub(super) struct Member {
    pub(super) index: u8,
    pub(super) node_id: String,
    /// `honest`, or the kind of fault it plays.
    pub(super) behaviour: &'static str,
    /// What its store says of the epoch's key.
    pub(super) state: &'static str,
    /// For people only.
    #[serde(skip)]
    pub(super) dealt: bool,
    /// For people only: complaints on the board against it.
    #[serde(skip)]
    pub(super) complaints: usize,
}

/// A message signed with t+1 of the new shares.
#[derive(Serialize)]
pub(super) struct Signature {
    pub(super) message: String,
    pub(super) tag: String,
    pub(super) signers: Vec<u8>,
    pub(super) shares: Vec<SignatureShare>,
    pub(super) value: String,
    /// Whether it verifies under the group public key.
    pub(super) valid: bool,
}

#[derive(Serialize)]
pub(super) struct SignatureShare {
    pub(super) index: u8,
    pub(super) value: String,
}
