//! What a member would say while it does not know yet what it has said before. Pure.
//!
//! A node that starts in the middle of a run makes the run's messages once more, from the same seed. Until it has read the
//! board up to where it starts they are held back: what stands there already is not posted again, and what a phase that is
//! over has left unsaid is not said any more.

use std::collections::BTreeSet;

use crate::bls::Index;
use crate::protocol::{Broadcast, Phase};
use crate::secret::SecretBytes;

/// Messages that are held back.
#[derive(Default)]
#[cfg_attr(feature = "simulator", derive(Clone))]
pub(super) struct Held {
    words: Vec<Word>,
    /// Our own broadcasts on the board, as far as it has been read. A member has a few hundred of them at most.
    said: BTreeSet<Vec<u8>>,
}

/// One message.
#[cfg_attr(feature = "simulator", derive(Clone))]
pub(super) enum Word {
    /// A private share.
    Share(Index, SecretBytes),
    /// A broadcast.
    Broadcast(Vec<u8>),
}

/// The most broadcasts of our own that are remembered: a vector, and a complaint about and an answer to every other member.
const MAX_SAID: usize = 1 + 2 * crate::committee::MAX_MEMBERS;

impl Held {
    pub(super) fn hold(&mut self, word: Word) {
        self.words.push(word);
    }

    /// A broadcast of ours stands on the board.
    pub(super) fn said(&mut self, data: &[u8]) {
        if self.said.len() < MAX_SAID {
            self.said.insert(data.to_vec());
        }
    }

    /// A phase is over, and with it the time for some messages.
    pub(super) fn phase_ended(&mut self, phase: Phase) {
        self.words.retain(|word| word.last_phase() > phase);
    }

    /// Nothing that we dealt is to be said.
    pub(super) fn forget_dealing(&mut self) {
        let dealt = |word: &Word| match word {
            Word::Share(..) => true,
            Word::Broadcast(data) => !matches!(Broadcast::parse(data), Broadcast::Complaint(_)),
        };
        self.words.retain(|word| !dealt(word));
    }

    /// What is still to be said.
    pub(super) fn release(self) -> impl Iterator<Item = Word> {
        let Held { words, said } = self;
        words.into_iter().filter(move |word| match word {
            Word::Share(..) => true,
            Word::Broadcast(data) => !said.contains(data),
        })
    }

    /// Writes down what tells one state from another.
    #[cfg(feature = "simulator")]
    pub(super) fn digest(&self, to: &mut impl std::hash::Hasher) {
        use std::hash::Hash;
        for word in &self.words {
            match word {
                Word::Share(index, message) => (index, message.expose()).hash(to),
                Word::Broadcast(data) => data.hash(to),
            }
        }
        self.said.hash(to);
    }
}

impl Word {
    /// The last phase in which saying it makes sense.
    fn last_phase(&self) -> Phase {
        match self {
            Word::Share(..) => Phase::Sharing,
            Word::Broadcast(data) => match Broadcast::parse(data) {
                Broadcast::Vector(_) => Phase::Sharing,
                Broadcast::Complaint(_) => Phase::Complaining,
                Broadcast::Answer(_) | Broadcast::Empty | Broadcast::UnknownTag(_) => Phase::Answering,
            },
        }
    }
}
