//! The whiteboard: an ordered bulletin board for one run's broadcasts, and the vote on its result (spec section 5).
//!
//! [`Contract`] is a deterministic state machine. Whoever hosts it applies calls in one total order; every copy that
//! applies the same calls is in the same state. It vouches for who posted what, in which order, and for nothing in the
//! posts; and it does not limit how much one member posts: that is the business of the chain it runs on.
//!
//! In two points it is stricter than Flow's contract, where a careless or hostile submission could otherwise split or
//! mislead the vote: hex digits are taken in lower case, so that equal keys are equal results, and the indices of a
//! result must be a permutation of `0..n`.

use std::collections::{BTreeMap, BTreeSet};

use crate::chain::{BoardMessage, DkgResult};
use crate::committee::{Index, MAX_MEMBERS, MIN_MEMBERS, NodeId, threshold};
use crate::envelope::MAX_POST_BYTES;

/// How many hex digits a public key has in a result.
pub const KEY_HEX_DIGITS: usize = 192;

/// A share of the committee in `[0, 1)`: a run is completed only by more than this share of it.
///
/// Counted in hundred-millionths, the unit of the original contract's fixed-point numbers, so that every copy rounds
/// alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SafePercentage(u32);

impl SafePercentage {
    /// One whole, in hundred-millionths.
    pub const ONE: u32 = 100_000_000;

    /// The percentage of so many hundred-millionths.
    ///
    /// # Errors
    /// It is not below one whole.
    pub fn from_hundred_millionths(parts: u32) -> Result<Self, ContractError> {
        if parts < Self::ONE { Ok(SafePercentage(parts)) } else { Err(ContractError::Percentage(parts)) }
    }

    /// `floor(percentage * n)`.
    fn of(self, n: usize) -> usize {
        let parts = u128::from(self.0) * n as u128 / u128::from(Self::ONE);
        usize::try_from(parts).unwrap_or(usize::MAX)
    }
}

/// What is wrong with a submitted result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResultFault {
    /// Not one key share for each participant.
    #[error("it has {found} key shares for {expected} participants")]
    KeyShareCount {
        /// How many participants there are.
        expected: usize,
        /// How many key shares the result has.
        found: usize,
    },
    /// The group key is not 192 hex digits.
    #[error("its group key is not {KEY_HEX_DIGITS} hex digits")]
    GroupKey,
    /// A key share is not 192 hex digits.
    #[error("its key share number {0} is not {KEY_HEX_DIGITS} hex digits")]
    KeyShare(usize),
    /// A participant has no index.
    #[error("participant {0} has no index in it")]
    MissingIndex(NodeId),
    /// Somebody has an index who does not take part.
    #[error("{0} has an index in it but does not take part")]
    ForeignIndex(NodeId),
    /// An index is beyond the last, or two participants have the same.
    #[error("the index {1} of participant {0} is not its own or not below the number of participants")]
    NotAPermutation(NodeId, Index),
}

/// Why the contract refused a call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContractError {
    /// Started, or configured, while a run is going on.
    #[error("a run is going on; it must end first")]
    Running,
    /// Used while no run is going on.
    #[error("no run is going on")]
    NotRunning,
    /// A run of too few or too many participants.
    #[error("a run has {MIN_MEMBERS} to {MAX_MEMBERS} participants, not {0}")]
    Size(usize),
    /// A percentage of one or more.
    #[error("the safe percentage must be below one whole, {one} hundred-millionths; {0} is not", one = SafePercentage::ONE)]
    Percentage(u32),
    /// The caller does not take part in the run.
    #[error("{0} does not take part in this run")]
    NotAuthorized(NodeId),
    /// An empty post.
    #[error("{0} posted nothing; a post has content")]
    EmptyPost(NodeId),
    /// A post beyond [`MAX_POST_BYTES`].
    #[error("the post of {0} has {1} bytes; {MAX_POST_BYTES} are allowed")]
    PostTooLarge(NodeId, usize),
    /// A second result by the same participant.
    #[error("{0} has submitted its result already")]
    AlreadySubmitted(NodeId),
    /// A result that does not fit the run.
    #[error("the result of {0} does not fit the run: {1}")]
    BadResult(NodeId, ResultFault),
    /// Ended before more than the threshold agreed on a result.
    #[error("no result has been submitted by more than {0} participants")]
    NotCompleted(usize),
}

/// One distinct result, and how many submitted it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally {
    /// The result.
    pub result: DkgResult,
    /// How many participants submitted exactly this.
    pub count: usize,
}

/// The whiteboard contract.
///
/// What a run left on it can be read until the next one starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contract {
    running: bool,
    safe_percentage: Option<SafePercentage>,
    authorized: BTreeSet<NodeId>,
    messages: Vec<BoardMessage>,
    /// Distinct results, in the order in which they were first submitted.
    tallies: Vec<Tally>,
    /// Who submitted which of them.
    submissions: BTreeMap<NodeId, usize>,
    /// The first of them that more than the threshold submitted. It stays canonical: with an even number of
    /// participants a second result could reach the same count.
    canonical: Option<usize>,
}

impl Contract {
    /// A contract that has had no run yet.
    pub fn new() -> Self {
        Contract::default()
    }

    /// Sets or clears the share of the participants that must be exceeded for a result to count.
    ///
    /// # Errors
    /// A run is going on.
    pub fn set_safe_percentage(&mut self, percentage: Option<SafePercentage>) -> Result<(), ContractError> {
        if self.running {
            return Err(ContractError::Running);
        }
        self.safe_percentage = percentage;
        Ok(())
    }

    /// Starts a run of exactly these participants on an empty board.
    ///
    /// # Errors
    /// A run is going on, or it would have too few or too many participants.
    pub fn start(&mut self, participants: BTreeSet<NodeId>) -> Result<(), ContractError> {
        if self.running {
            return Err(ContractError::Running);
        }
        if !(MIN_MEMBERS..=MAX_MEMBERS).contains(&participants.len()) {
            return Err(ContractError::Size(participants.len()));
        }
        *self = Contract {
            running: true,
            authorized: participants,
            safe_percentage: self.safe_percentage,
            ..Contract::default()
        };
        Ok(())
    }

    /// Puts a message at the end of the board.
    ///
    /// # Errors
    /// See [`check_post`](Self::check_post).
    pub fn post(&mut self, node: NodeId, content: String) -> Result<(), ContractError> {
        self.check_post(node, &content)?;
        self.messages.push(BoardMessage { node_id: node, content });
        Ok(())
    }

    /// Whether this message would be taken.
    ///
    /// # Errors
    /// No run is going on, `node` does not take part, or the message is empty or beyond [`MAX_POST_BYTES`].
    pub fn check_post(&self, node: NodeId, content: &str) -> Result<(), ContractError> {
        self.check_caller(node)?;
        if content.is_empty() {
            return Err(ContractError::EmptyPost(node));
        }
        if content.len() > MAX_POST_BYTES {
            return Err(ContractError::PostTooLarge(node, content.len()));
        }
        Ok(())
    }

    /// Takes the result of one participant.
    ///
    /// # Errors
    /// See [`check_submit`](Self::check_submit).
    pub fn submit(&mut self, node: NodeId, result: &DkgResult) -> Result<(), ContractError> {
        let result = self.check_submit(node, result)?;
        let needed = self.threshold();
        let place = self.tallies.iter().position(|tally| tally.result == result).unwrap_or(self.tallies.len());
        if place == self.tallies.len() {
            self.tallies.push(Tally { result, count: 0 });
        }
        self.submissions.insert(node, place);
        if let Some(tally) = self.tallies.get_mut(place) {
            tally.count += 1;
            if self.canonical.is_none() && tally.count > needed && tally.result != DkgResult::Empty {
                self.canonical = Some(place);
            }
        }
        Ok(())
    }

    /// Whether this result would be taken: the one way to write it.
    ///
    /// # Errors
    /// No run is going on, `node` does not take part or has submitted before, or the result does not fit the run.
    pub fn check_submit(&self, node: NodeId, result: &DkgResult) -> Result<DkgResult, ContractError> {
        self.check_caller(node)?;
        if self.submissions.contains_key(&node) {
            return Err(ContractError::AlreadySubmitted(node));
        }
        self.normalize(result).map_err(|fault| ContractError::BadResult(node, fault))
    }

    /// Ends a completed run, with its canonical result.
    ///
    /// # Errors
    /// No run is going on, or no result has been submitted often enough.
    pub fn end(&mut self) -> Result<DkgResult, ContractError> {
        if !self.running {
            return Err(ContractError::NotRunning);
        }
        let result = self.canonical().cloned().ok_or(ContractError::NotCompleted(self.threshold()))?;
        self.running = false;
        Ok(result)
    }

    /// Ends whatever is going on; the outcome is the canonical result, if there is one.
    pub fn force_end(&mut self) -> Option<DkgResult> {
        self.running = false;
        self.canonical().cloned()
    }

    /// Whether a run is going on.
    pub fn is_running(&self) -> bool {
        self.running
    }

    /// More than so many equal results complete the run.
    pub fn threshold(&self) -> usize {
        let n = self.authorized.len();
        threshold(n).max(self.safe_percentage.map_or(0, |percentage| percentage.of(n)))
    }

    /// Who takes part in the run (after its end: took part in the last one).
    pub fn authorized(&self) -> &BTreeSet<NodeId> {
        &self.authorized
    }

    /// How many messages are on the board.
    pub fn message_count(&self) -> usize {
        self.messages.len()
    }

    /// The messages from number `from` on, oldest first, as the board stood when it had `count` of them; empty when
    /// there are none.
    pub fn messages(&self, from: usize, count: usize) -> &[BoardMessage] {
        self.messages.get(from..count.min(self.messages.len())).unwrap_or_default()
    }

    /// Everybody who has submitted, with what.
    pub fn submissions(&self) -> impl Iterator<Item = (&NodeId, &DkgResult)> {
        self.submissions.iter().filter_map(|(node, place)| Some((node, &self.tallies.get(*place)?.result)))
    }

    /// What this participant has submitted.
    pub fn submission_of(&self, node: &NodeId) -> Option<&DkgResult> {
        self.submissions.get(node).and_then(|place| self.tallies.get(*place)).map(|tally| &tally.result)
    }

    /// The distinct results with their counts, in the order in which they were first submitted.
    pub fn tallies(&self) -> &[Tally] {
        &self.tallies
    }

    /// The first result that more than [`threshold`](Self::threshold) participants submitted; never the empty one.
    pub fn canonical(&self) -> Option<&DkgResult> {
        self.canonical.and_then(|place| self.tallies.get(place)).map(|tally| &tally.result)
    }

    fn check_caller(&self, node: NodeId) -> Result<(), ContractError> {
        if !self.running {
            return Err(ContractError::NotRunning);
        }
        if !self.authorized.contains(&node) {
            return Err(ContractError::NotAuthorized(node));
        }
        Ok(())
    }

    /// The one way to write this result, if it fits the run.
    fn normalize(&self, result: &DkgResult) -> Result<DkgResult, ResultFault> {
        let DkgResult::Complete { group_key, key_shares, index_map } = result else {
            return Ok(DkgResult::Empty);
        };
        let expected = self.authorized.len();
        if key_shares.len() != expected {
            return Err(ResultFault::KeyShareCount { expected, found: key_shares.len() });
        }
        if let Some(foreign) = index_map.keys().find(|node| !self.authorized.contains(node)) {
            return Err(ResultFault::ForeignIndex(*foreign));
        }
        if let Some(missing) = self.authorized.iter().find(|node| !index_map.contains_key(node)) {
            return Err(ResultFault::MissingIndex(*missing));
        }
        let mut seen = BTreeSet::new();
        for (node, index) in index_map {
            if usize::from(*index) >= expected || !seen.insert(*index) {
                return Err(ResultFault::NotAPermutation(*node, *index));
            }
        }
        let key_shares = key_shares.iter().enumerate();
        Ok(DkgResult::Complete {
            group_key: normalize_key(group_key).ok_or(ResultFault::GroupKey)?,
            key_shares: key_shares
                .map(|(place, key)| normalize_key(key).ok_or(ResultFault::KeyShare(place)))
                .collect::<Result<_, _>>()?,
            index_map: index_map.clone(),
        })
    }
}

/// The key in lower-case hex digits, if it has the right number of them.
fn normalize_key(key: &str) -> Option<String> {
    let fits = key.len() == KEY_HEX_DIGITS && key.bytes().all(|digit| digit.is_ascii_hexdigit());
    fits.then(|| key.to_ascii_lowercase())
}
