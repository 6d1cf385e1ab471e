//! What stays the same throughout one search: the committee, the blocks, who is at fault, and every message there is.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Faults, Flaw, Menu, Pages, Search, SearchError};
use crate::SecretBytes;
use crate::bls::{Index, Polynomial, ProvenPublicKey, SecretKey, VectorEncoding};
use crate::committee::{Committee, Member, NodeId};
use crate::engine::{ControllerFactory, Randomness, RandomnessError};
use crate::envelope::{BroadcastMessage, PrivateMessage};
use crate::epoch::{EpochCounter, EpochSetup, Header, View};
use crate::protocol::{Broadcast, encode_answer, encode_complaint, encode_share, encode_vector};
use crate::simulator::verified::Verified;

/// The epoch the run makes keys for.
pub(super) const EPOCH: EpochCounter = EpochCounter(1);
/// Views of a phase. With a poll every [`POLL_STEP`] views there is one poll inside each.
const PHASE_VIEWS: u64 = 20;
pub(super) const POLL_STEP: u64 = 10;

/// The largest committee: one bit for each share that becomes public.
const MAX_SIZE: usize = 8;

/// A post by its number in the [`Posts`].
pub(super) type PostId = u16;

/// What a broadcast is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    Vector,
    Complaint(Index),
    Answer(Index),
    Other,
}

impl Kind {
    fn of(data: &[u8]) -> Kind {
        let member = |body: &[u8]| body.first().and_then(|byte| Index::from_byte(*byte));
        match Broadcast::parse(data) {
            Broadcast::Vector(_) => Kind::Vector,
            Broadcast::Complaint(body) => member(body).map_or(Kind::Other, Kind::Complaint),
            Broadcast::Answer(body) => member(body).map_or(Kind::Other, Kind::Answer),
            Broadcast::Empty | Broadcast::UnknownTag(_) => Kind::Other,
        }
    }

    /// The phase by whose end an honest member's post must have landed: 0 to 2.
    pub(super) fn due(self) -> usize {
        match self {
            Kind::Vector => 0,
            Kind::Complaint(_) => 1,
            Kind::Answer(_) | Kind::Other => 2,
        }
    }
}

/// One thing that somebody posts.
pub(super) struct Post {
    pub(super) author: NodeId,
    pub(super) kind: Kind,
    pub(super) content: String,
    pub(super) label: String,
}

/// Every post that has come up, each once.
#[derive(Default)]
pub(super) struct Posts {
    list: Vec<Post>,
    numbers: HashMap<(NodeId, String), PostId>,
}

impl Posts {
    /// The number of a post; `None` when there are more than numbers go.
    pub(super) fn number(&mut self, author: NodeId, content: String, label: Option<String>) -> Option<PostId> {
        let key = (author, content);
        if let Some(known) = self.numbers.get(&key) {
            return Some(*known);
        }
        let number = PostId::try_from(self.list.len()).ok()?;
        let kind = BroadcastMessage::from_json(&key.1).map_or(Kind::Other, |message| Kind::of(&message.data));
        let label = label.unwrap_or_else(|| match kind {
            Kind::Vector => "its vector".into(),
            Kind::Complaint(dealer) => format!("a complaint about {dealer}"),
            Kind::Answer(to) => format!("an answer to {to}"),
            Kind::Other => "something else".into(),
        });
        self.list.push(Post { author, kind, content: key.1.clone(), label });
        self.numbers.insert(key, number);
        Some(number)
    }

    pub(super) fn get(&self, number: PostId) -> Option<&Post> {
        self.list.get(usize::from(number))
    }
}

/// A block: they are numbered from 1, and number 0 is the one the setup phase begins with.
#[derive(Clone, Copy)]
pub(super) struct Block {
    pub(super) view: View,
    /// The phase it stands in, 0 to 2.
    pub(super) phase: usize,
    /// It ends that phase.
    pub(super) last: bool,
}

/// A private message that a sender may send to one receiver.
pub(super) struct Private {
    pub(super) label: &'static str,
    pub(super) message: PrivateMessage,
}

/// The chain, as far back as some member may still have to look.
#[derive(Clone, Copy)]
pub(super) struct Chain<'a> {
    /// Blocks that are final.
    pub(super) blocks: u8,
    /// How many posts each of the latest blocks covers.
    pub(super) cuts: &'a [u16],
    /// Posts before those that are kept.
    pub(super) base: u16,
    pub(super) board: &'a [PostId],
}

impl<'a> Chain<'a> {
    /// How many posts a block covers; `None` if it is not final.
    pub(super) fn cut(&self, number: u8) -> Option<u16> {
        let back = usize::from(self.blocks.checked_sub(number)?);
        match number {
            0 => Some(0),
            _ => self.cuts.iter().rev().nth(back).copied(),
        }
    }

    pub(super) fn posts(&self, from: u16, to: u16) -> &'a [PostId] {
        let at = |position: u16| usize::from(position.saturating_sub(self.base)).min(self.board.len());
        self.board.get(at(from)..at(to)).unwrap_or_default()
    }
}

pub(super) struct Scene {
    pub(super) size: usize,
    pub(super) threshold: usize,
    pub(super) faults: Faults,
    pub(super) flaw: Option<Flaw>,
    pub(super) pages: Pages,
    pub(super) setup: EpochSetup,
    pub(super) blocks: Vec<Block>,
    keys: Vec<SecretKey>,
    verified: Arc<Verified>,
    /// What the faulty member may send privately, by receiver.
    pub(super) faulty_shares: Vec<Vec<Private>>,
    /// What the faulty member may post, each once.
    pub(super) offers: Vec<PostId>,
    /// In the place of a post that a flaw of the world swallows.
    pub(super) nothing: PostId,
}

impl Scene {
    pub(super) fn new(search: &Search, posts: &mut Posts) -> Result<Scene, SearchError> {
        let Search { size, faults, flaw, pages, polls, .. } = search;
        let impossible = |_| SearchError::Committee(*size);
        if *size > MAX_SIZE {
            return Err(SearchError::Committee(*size));
        }
        let number = |member: usize| u8::try_from(member).map_err(|_| SearchError::Committee(*size));
        let mut keys = Vec::new();
        let mut members = Vec::new();
        for member in 0..*size {
            let key = SecretKey::from_seed(&[number(member)?; 32]).map_err(|_| SearchError::Committee(*size))?;
            let staking_key = ProvenPublicKey::vouched_for(key.public_key());
            members.push(Member { node_id: NodeId::new([number(member)?; 32]), staking_key });
            keys.push(key);
        }
        let committee = Arc::new(Committee::new(members).map_err(impossible)?);
        let threshold = committee.threshold();
        let finals = [1, 2, 3].map(|phase| View(phase * PHASE_VIEWS));
        let mut setup = EpochSetup::new("exhaustive", EPOCH, committee, View(0), finals);
        setup.vector_encoding = VectorEncoding::Uncompressed;
        let mut blocks = Vec::new();
        for (phase, (last, polled)) in finals.into_iter().zip(polls).enumerate() {
            if *polled {
                blocks.push(Block { view: View(last.0 - POLL_STEP), phase, last: false });
            }
            blocks.push(Block { view: last, phase, last: true });
        }
        let nothing = posts
            .number(NodeId::new([0xff; 32]), String::new(), Some("nothing".into()))
            .ok_or(SearchError::Committee(*size))?;
        let mut scene = Scene {
            size: *size,
            threshold,
            faults: faults.clone(),
            flaw: *flaw,
            pages: *pages,
            setup,
            blocks,
            keys,
            verified: Arc::default(),
            faulty_shares: Vec::new(),
            offers: Vec::new(),
            nothing,
        };
        let named = [faults.faulty.as_ref().map(|faulty| faulty.member), faults.crash, faults.cut_off];
        if let Some(stranger) = named.into_iter().flatten().find(|index| usize::from(*index) >= *size) {
            return Err(SearchError::Stranger(stranger));
        }
        if let Some(faulty) = &faults.faulty {
            scene.prepare(faulty.member, faulty.menu, posts)?;
        }
        Ok(scene)
    }

    /// Makes everything that the faulty member can say.
    fn prepare(&mut self, faulty: Index, menu: Menu, posts: &mut Posts) -> Result<(), SearchError> {
        let size = self.size;
        let failed = || SearchError::Committee(size);
        let polynomial = |seed: u8| Polynomial::from_seed(&[seed; 48], self.threshold).map_err(|_| failed());
        let (good, other) = (polynomial(0xf0)?, polynomial(0xf1)?);
        let others = || Index::all(size).filter(move |index| *index != faulty);
        let instance = self.setup.instance.clone();
        let private = |label, data| {
            let dkg_instance_id = instance.as_str().to_owned();
            Private { label, message: PrivateMessage::protocol(data, dkg_instance_id) }
        };
        self.faulty_shares = Index::all(size)
            .map(|to| {
                vec![
                    private("the right share", encode_share(&good.share(to))),
                    private("a wrong share", encode_share(&other.share(to))),
                    private("no share at all", SecretBytes::new(vec![0, 1, 2])),
                ]
            })
            .collect();

        let vector = |polynomial: &Polynomial| encode_vector(&polynomial.commit().encode(VectorEncoding::Uncompressed));
        let right = ("its vector".to_owned(), vector(&good));
        let dealing = || {
            let mut invalid = vector(&good);
            invalid.iter_mut().skip(1).for_each(|byte| *byte = 5);
            vec![
                right.clone(),
                ("another vector".to_owned(), vector(&other)),
                ("a vector that is off the curve".to_owned(), invalid),
            ]
        };
        let accusing = || others().map(|of| (format!("a complaint about {of}"), encode_complaint(of)));
        let answering = || {
            others().flat_map(|to| {
                [
                    (format!("the right answer to {to}"), encode_answer(to, &good.share(to))),
                    (format!("a wrong answer to {to}"), encode_answer(to, &other.share(to))),
                ]
            })
        };
        let garbage = || {
            [
                ("an empty broadcast".to_owned(), Vec::new()),
                ("an unknown tag".to_owned(), vec![9, 9]),
                ("a complaint about nobody".to_owned(), vec![2, 0xff]),
                ("half an answer".to_owned(), vec![3, 0]),
            ]
        };
        let said: Vec<(String, Vec<u8>)> = match menu {
            Menu::Dealing => dealing().into_iter().chain(garbage()).collect(),
            Menu::Accusing => std::iter::once(right.clone()).chain(accusing()).collect(),
            Menu::Answering => std::iter::once(right.clone()).chain(answering()).collect(),
            Menu::Everything => dealing().into_iter().chain(accusing()).chain(answering()).chain(garbage()).collect(),
        };
        let author = self.node_id(faulty).ok_or_else(failed)?;
        let key = self.keys.get(usize::from(faulty)).ok_or_else(failed)?;
        for (label, data) in said {
            let content = BroadcastMessage::sign(data, &instance, key).to_json();
            self.offers.push(posts.number(author, content, Some(label)).ok_or_else(failed)?);
        }
        Ok(())
    }

    pub(super) fn node_id(&self, member: Index) -> Option<NodeId> {
        self.setup.committee.member(member).map(|member| member.node_id)
    }

    pub(super) fn factory(&self, member: Index) -> Option<ControllerFactory> {
        let key = self.keys.get(usize::from(member))?;
        let factory = ControllerFactory::new(self.node_id(member)?, key.clone());
        Some(factory.verifying_with(self.verified.clone()))
    }

    /// All members but the faulty one, which is nothing but its messages.
    pub(super) fn nodes(&self) -> impl Iterator<Item = Index> + use<> {
        let faulty = self.faults.faulty.as_ref().map(|faulty| faulty.member);
        Index::all(self.size).filter(move |index| Some(*index) != faulty)
    }

    /// Whether the network owes this member nothing, and the member the others: it is at fault, if by no will of its own.
    pub(super) fn exempt(&self, member: Index) -> bool {
        let Faults { faulty, crash, cut_off } = &self.faults;
        faulty.as_ref().is_some_and(|faulty| faulty.member == member)
            || *crash == Some(member)
            || *cut_off == Some(member)
    }

    /// Whether no more members are at fault than the protocol bears.
    pub(super) fn within_threshold(&self) -> bool {
        Index::all(self.size).filter(|member| self.exempt(*member)).count() <= self.threshold
    }

    /// Whether the protocol promises this member its place in the key, and its share.
    pub(super) fn protected(&self, member: Index) -> bool {
        self.within_threshold() && !self.exempt(member)
    }

    pub(super) fn block(&self, number: u8) -> Option<Block> {
        self.blocks.get(usize::from(number).checked_sub(1)?).copied()
    }

    /// The number of the block with this view; 0 is the one with which the setup phase has begun.
    pub(super) fn numbered(&self, view: View) -> Option<u8> {
        if view == View(0) {
            return Some(0);
        }
        let position = self.blocks.iter().position(|block| block.view == view)?;
        u8::try_from(position + 1).ok()
    }

    /// How many phases have ended with this block.
    pub(super) fn ended_with(&self, number: u8) -> usize {
        self.blocks.iter().take(usize::from(number)).filter(|block| block.last).count()
    }

    /// The header of a block that covers `cut` posts.
    pub(super) fn header(&self, number: u8, cut: u16) -> Header {
        let view = self.block(number).map_or(View(0), |block| block.view);
        let mut id = [0; 32];
        id[..2].copy_from_slice(&cut.to_be_bytes());
        Header { view, height: u64::from(cut), id }
    }
}

/// Randomness without chance: one member's, since its `start`th start.
pub(super) struct Settled {
    pub(super) member: Index,
    pub(super) start: u8,
}

impl Randomness for Settled {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), RandomnessError> {
        // Whoever sends us something does not choose it by this.
        bytes.fill(0x40 | self.member.byte());
        if let Some(first) = bytes.first_mut() {
            *first = self.start;
        }
        Ok(())
    }
}
