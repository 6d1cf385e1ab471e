//! What stands on the whiteboard of the present run, for people to see. Nothing is verified here beyond what the log did:
//! who has posted what kind of message. The verdicts are the engine's.

use std::collections::{BTreeMap, BTreeSet};

use crate::chain::DkgResult;
use crate::chain::log::LogChain;
use crate::committee::{Committee, Index, NodeId};
use crate::envelope::BroadcastMessage;
use crate::epoch::{EpochPhase, InstanceId};
use crate::protocol::Broadcast;

/// The board of a run so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Board {
    /// Whose commitment vectors are there.
    pub(super) dealt: BTreeSet<Index>,
    /// Who complains about whom: (complainer, accused).
    pub(super) complaints: BTreeSet<(Index, Index)>,
    /// Who has answered whom: (accused, complainer).
    pub(super) answers: BTreeSet<(Index, Index)>,
    /// Who has submitted a result; whether there are keys in it.
    pub(super) submitted: BTreeMap<Index, bool>,
    /// How many posts have been read.
    read: usize,
    run: Option<InstanceId>,
}

impl Board {
    /// Reads on where the board was left; a new run begins with an empty one.
    pub(super) fn follow(&mut self, chain: &LogChain) {
        let run = chain.run();
        if self.run.as_ref() != Some(&run) {
            *self = Board { run: Some(run.clone()), ..Board::default() };
        }
        let committee = chain.config().committee();
        let contract = chain.contract();
        // Before the run begins, the last one's board may still be there. When it is over, its own is, until the epoch ends.
        if chain.phase() == EpochPhase::Staking {
            return;
        }
        for post in contract.messages(self.read, usize::MAX) {
            self.read += 1;
            self.take(&post.node_id, &post.content, &run, committee);
        }
        let submissions = contract.submissions().filter_map(|(node, result)| Some((committee.index_of(node)?, result)));
        self.submitted = submissions.map(|(index, result)| (index, *result != DkgResult::Empty)).collect();
    }

    fn take(&mut self, node: &NodeId, content: &str, run: &InstanceId, committee: &Committee) {
        let Some(poster) = committee.index_of(node) else { return };
        let Ok(message) = BroadcastMessage::from_json(content) else { return };
        if message.dkg_instance_id != run.as_str() {
            return;
        }
        let member =
            |body: &[u8]| Index::from_position(usize::from(*body.first()?)).filter(|i| i.byte() < size(committee));
        match Broadcast::parse(&message.data) {
            Broadcast::Vector(_) => {
                self.dealt.insert(poster);
            }
            Broadcast::Complaint(body) => self.complaints.extend(member(body).map(|accused| (poster, accused))),
            Broadcast::Answer(body) => self.answers.extend(member(body).map(|complainer| (poster, complainer))),
            Broadcast::Empty | Broadcast::UnknownTag(_) => {}
        }
    }
}

/// A committee has at most 254 members.
fn size(committee: &Committee) -> u8 {
    u8::try_from(committee.size()).unwrap_or(u8::MAX)
}
