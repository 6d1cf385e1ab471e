//! One member's copy of the chain: a deterministic state machine over the log.
//!
//! [`LogChain::apply`] takes the entries of the log one by one, in order. Two replicas that have applied the same bytes
//! are in the same state and have told the same events; no clock, no random number and no order of arrival plays a
//! part. Whatever the bytes are, applying them costs bounded time and memory: at most one signature check an entry, and
//! the board of one run, which the members' quotas bound.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::chain::BoardMessage;
use crate::chain::contract::Contract;
use crate::chain::log::epochs::{Epochs, RunStart};
use crate::chain::log::prefixes::{Comparison, Prefixes};
use crate::chain::log::{
    ChainConfig, ChainEvent, Entry, EpochViews, MAX_JUMP_EPOCHS, Payload, Prefix, Quota, ReadError, SignedEntry, Skip,
    SkipReason,
};
use crate::committee::{Committee, Index};
use crate::epoch::{EpochCommit, EpochPhase, Header, InstanceId, Snapshot, View};

/// More than `t` members have signed that they saw another log: the host shows different logs to different members, or
/// has rewritten this one. The replica has stopped for good; what it told before stays true of the log it was shown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the log has forked: members {} saw another log; theirs and ours differ within the first {position} entries",
    list(.members)
)]
pub struct Forked {
    /// The shortest prefix that a member has contradicted.
    pub position: u64,
    /// Who has contradicted this log.
    pub members: Vec<Index>,
}

fn list(members: &[Index]) -> String {
    members.iter().map(Index::to_string).collect::<Vec<_>>().join(", ")
}

/// What applying one entry did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Why the entry was skipped, if it was.
    pub skipped: Option<Skip>,
    /// What it brought about, in order.
    pub events: Vec<ChainEvent>,
}

/// What a replica knows about one member as an author.
#[derive(Clone, Debug, Default)]
struct AuthorRecord {
    /// The sequence number of its last accepted entry.
    sequence: Option<u64>,
    /// The last view it ticked; 0, which is final from the start, before its first tick.
    tick: View,
    /// What it has posted and submitted in this epoch.
    used: Quota,
    /// The longest prefix of this log for which it vouched.
    vouched: u64,
    /// The shortest prefix for which it vouched another hash.
    contradicted: Option<u64>,
    faults: BTreeMap<SkipReason, u64>,
}

/// A replica of the chain.
#[derive(Clone, Debug)]
pub struct LogChain {
    config: Arc<ChainConfig>,
    prefixes: Prefixes,
    finalized: Header,
    epochs: Epochs,
    /// In order of index.
    authors: Vec<AuthorRecord>,
    /// How many entries named no member as their author.
    unattributed: u64,
    forked: Option<Forked>,
}

impl LogChain {
    /// The chain before its first entry: at genesis, in epoch 0.
    pub fn new(config: Arc<ChainConfig>) -> Self {
        let genesis = Prefix::genesis(config.identity());
        LogChain {
            prefixes: Prefixes::new(genesis),
            finalized: Header { view: View(0), height: 0, id: genesis.hash },
            epochs: Epochs::new(Arc::clone(&config), RunStart::Exactly),
            authors: vec![AuthorRecord::default(); config.committee().size()],
            unattributed: 0,
            forked: None,
            config,
        }
    }

    /// Takes the next entry of the log.
    ///
    /// # Errors
    /// More than `t` members have contradicted this log, now or earlier. Nothing is applied from then on.
    pub fn apply(&mut self, bytes: &[u8]) -> Result<Applied, Forked> {
        if let Some(forked) = &self.forked {
            return Err(forked.clone());
        }
        let verdict = self.judge(bytes);
        self.take(bytes, verdict)
    }

    /// What [`apply`](Self::apply) would skip this entry for before it looks at what it says; nothing is applied. For a
    /// host that does not want to keep what every replica will skip.
    ///
    /// An entry that passes can still turn out to be skipped: its author may have seen another log, or the contract refuse
    /// it. That is for all to see, and so it belongs into the log.
    ///
    /// # Errors
    /// Why the entry would be skipped.
    pub fn check(&self, bytes: &[u8]) -> Result<(), Skip> {
        self.judge(bytes).map(drop)
    }

    /// [`check`](Self::check) without looking at the signature, which is what takes time.
    pub(super) fn check_unverified(&self, entry: &SignedEntry<'_>) -> Result<Comparison, Skip> {
        let encoded_bytes = entry.encoded_len();
        let entry = entry.entry();
        let Some(record) = self.author(entry.author) else {
            return Err(Skip { author: None, reason: SkipReason::UnknownAuthor });
        };
        let skip = |reason| Skip { author: Some(entry.author), reason };
        let seen = self.prefixes.compare(&entry.seen);
        // Whatever it says besides: that its author has seen another log has to be heard.
        if let (Payload::Tick(view), Comparison::Equal | Comparison::Forgotten) = (&entry.payload, seen) {
            let Some(ahead) = view.0.checked_sub(self.finalized.view.0).filter(|ahead| *ahead > 0) else {
                return Err(skip(SkipReason::OldTick));
            };
            if record.tick > self.finalized.view || self.is_paced() && ahead > 1 {
                return Err(skip(SkipReason::OldTick));
            }
            if ahead > self.config.schedule().views_in_epoch.saturating_mul(MAX_JUMP_EPOCHS) {
                return Err(skip(SkipReason::TickTooFar));
            }
        }
        if !self.has_quota(entry.author, &entry.payload, encoded_bytes) {
            return Err(skip(SkipReason::OverQuota));
        }
        if record.sequence.is_some_and(|last| entry.sequence <= last) {
            return Err(skip(SkipReason::OutOfSequence));
        }
        match seen {
            Comparison::Forgotten => Err(skip(SkipReason::StalePrefix)),
            seen => Ok(seen),
        }
    }

    /// Takes the next entry of the log, of which is known that its author signed it.
    #[cfg(feature = "log-server")]
    pub(super) fn apply_verified(&mut self, bytes: &[u8], entry: SignedEntry<'_>) -> Result<Applied, Forked> {
        if let Some(forked) = &self.forked {
            return Err(forked.clone());
        }
        let verdict = self.check_unverified(&entry).map(|seen| (entry.into_entry(), seen));
        self.take(bytes, verdict)
    }

    /// [`check`](Self::check), for a host that lets in only what every replica takes: neither has it entries of members that
    /// have seen another log.
    pub(super) fn check_sifted(&self, bytes: &[u8]) -> Result<(), Skip> {
        match self.judge(bytes)? {
            (entry, Comparison::Different) => Err(Skip { author: Some(entry.author), reason: SkipReason::WrongPrefix }),
            _ => Ok(()),
        }
    }

    /// How many entries from the beginning on more than `t` members have vouched for: what comes before is this log for good,
    /// whatever a host may show.
    pub fn vouched(&self) -> u64 {
        let mut vouched: Vec<u64> = self.authors.iter().map(|record| record.vouched).collect();
        vouched.sort_unstable_by(|a, b| b.cmp(a));
        vouched.get(self.committee().threshold()).copied().unwrap_or(0)
    }

    fn take(&mut self, bytes: &[u8], verdict: Result<(Entry, Comparison), Skip>) -> Result<Applied, Forked> {
        self.prefixes.push(bytes);
        let outcome = verdict.and_then(|(entry, seen)| self.carry_out(entry, seen, bytes.len()));
        match outcome {
            Ok(events) => Ok(Applied { skipped: None, events }),
            Err(skip) => {
                self.note(skip);
                match &self.forked {
                    Some(forked) => Err(forked.clone()),
                    None => Ok(Applied { skipped: Some(skip), events: Vec::new() }),
                }
            }
        }
    }

    /// The committee file that this chain follows.
    pub fn config(&self) -> &Arc<ChainConfig> {
        &self.config
    }

    /// The log as far as it has been applied; skipped entries count.
    pub fn prefix(&self) -> Prefix {
        self.prefixes.end()
    }

    /// The last finalized block; view 0 with the empty log at first.
    pub fn header(&self) -> Header {
        self.finalized
    }

    /// The present epoch: that of the last finalized view.
    pub fn epoch(&self) -> &EpochViews {
        self.epochs.views()
    }

    /// The run that makes the next epoch's keys in the present one, whether it has begun or not.
    pub fn run(&self) -> InstanceId {
        InstanceId::new(self.config.chain_id(), self.epoch().run_for)
    }

    /// Whether a run is on, from its first view to the last in which its results are agreed on ([`EpochViews::run_last`]). Then
    /// one view follows the other, and members let each have its time ([`Ticker`](crate::chain::log::Ticker)): a tick counts
    /// only for the next view, and only if it was made after the run had begun.
    pub fn is_paced(&self) -> bool {
        self.epochs.is_paced(self.finalized.view)
    }

    /// Where the present epoch stands.
    pub fn phase(&self) -> EpochPhase {
        self.epochs.phase().clone()
    }

    /// Where the chain stands: what a node's engine starts from.
    pub fn snapshot(&self) -> Snapshot {
        self.epochs.snapshot(self.finalized)
    }

    /// The keys that are in force in the present epoch, whichever run made them; `None` before the first.
    pub fn keys(&self) -> Option<&EpochCommit> {
        self.epochs.keys()
    }

    /// The keys that were in force in earlier epochs, at most [`PAST_KEYS`](crate::chain::log::PAST_KEYS) of them, the latest
    /// last.
    pub fn past_keys(&self) -> impl Iterator<Item = &EpochCommit> {
        self.epochs.past_keys()
    }

    /// The first finalized block with this view or a later one, for the views at which something happens in the present
    /// epoch: the first of its setup phase and the last of each phase of its run. `None` for other views, and while
    /// there is no such block.
    pub fn first_finalized_at(&self, view: View) -> Option<Header> {
        self.epochs.first_finalized_at(view)
    }

    /// The whiteboard contract: who takes part, who submitted what, which result is canonical.
    pub fn contract(&self) -> &Contract {
        self.epochs.contract()
    }

    /// The messages from number `from` on, at most `limit` of them, as the board stood at this block.
    ///
    /// # Errors
    /// The block is ahead of this replica, older than the present run, or (as far as the replica remembers, see
    /// [`PREFIX_WINDOW`](crate::chain::log::PREFIX_WINDOW)) not one of this log.
    pub fn messages(&self, from: u64, as_of: &Header, limit: usize) -> Result<&[BoardMessage], ReadError> {
        let position = self.prefix().position;
        if as_of.height > position {
            return Err(ReadError::NotYet { position, asked: as_of.height });
        }
        if self.prefixes.compare(&Prefix { position: as_of.height, hash: as_of.id }) == Comparison::Different {
            return Err(ReadError::OtherLog(as_of.height));
        }
        self.epochs.messages(from, as_of.height, limit)
    }

    /// The last view that this member has ticked; 0 if none.
    pub fn last_tick(&self, author: Index) -> View {
        self.author(author).map_or(View(0), |record| record.tick)
    }

    /// The sequence number of this member's last accepted entry.
    pub fn last_sequence(&self, author: Index) -> Option<u64> {
        self.author(author).and_then(|record| record.sequence)
    }

    /// Whether this member can still write such an entry in the present epoch.
    pub fn has_quota(&self, author: Index, payload: &Payload, entry_bytes: usize) -> bool {
        let limit = Quota::per_epoch(self.committee().size());
        self.author(author).is_some_and(|record| record.used.has_room(&cost(payload, entry_bytes), &limit))
    }

    /// How many entries in this member's name were skipped, by reason; old ticks, which are no fault, are not counted.
    /// Only [proven](SkipReason::is_proven) reasons are evidence against the member.
    pub fn faults(&self, author: Index) -> impl Iterator<Item = (SkipReason, u64)> {
        self.author(author).into_iter().flat_map(|record| record.faults.iter().map(|(reason, count)| (*reason, *count)))
    }

    /// How many entries were skipped that named no member as their author.
    pub fn unattributed(&self) -> u64 {
        self.unattributed
    }

    /// Why the replica has stopped, if it has.
    pub fn forked(&self) -> Option<&Forked> {
        self.forked.as_ref()
    }

    fn committee(&self) -> &Committee {
        self.config.committee()
    }

    fn author(&self, author: Index) -> Option<&AuthorRecord> {
        self.authors.get(usize::from(author))
    }

    /// Decides whether an entry is its author's, in turn and within the quota, and how the log that the author has seen
    /// compares with this one. What is cheap to see is looked at before the signature.
    fn judge(&self, bytes: &[u8]) -> Result<(Entry, Comparison), Skip> {
        let signed = SignedEntry::decode(bytes).map_err(|_| Skip { author: None, reason: SkipReason::Malformed })?;
        let seen = self.check_unverified(&signed)?;
        if !self.is_authentic(&signed) {
            return Err(Skip { author: Some(signed.entry().author), reason: SkipReason::BadSignature });
        }
        Ok((signed.into_entry(), seen))
    }

    fn is_authentic(&self, signed: &SignedEntry<'_>) -> bool {
        let key = self.config.network_key(signed.entry().author);
        key.is_some_and(|key| signed.is_signed_by(key, self.config.identity()))
    }

    /// Does what an authentic entry says. Its bytes are the end of the log by now.
    fn carry_out(&mut self, entry: Entry, seen: Comparison, entry_bytes: usize) -> Result<Vec<ChainEvent>, Skip> {
        let author = entry.author;
        let refused = Skip { author: Some(author), reason: SkipReason::Refused };
        let node = self.committee().member(author).ok_or(refused)?.node_id;
        let here = self.prefix();
        if let Some(record) = self.authors.get_mut(usize::from(author)) {
            record.sequence = Some(entry.sequence);
            record.used = record.used.plus(&cost(&entry.payload, entry_bytes));
        }
        if seen == Comparison::Different {
            self.contradict(author, entry.seen.position);
            return Err(Skip { author: Some(author), reason: SkipReason::WrongPrefix });
        }
        if let Some(record) = self.authors.get_mut(usize::from(author)) {
            record.vouched = record.vouched.max(entry.seen.position);
        }
        match entry.payload {
            Payload::Tick(view) => Ok(self.tick(author, view)),
            Payload::Post(content) => match self.epochs.post(node, content, here.position - 1) {
                Ok(()) => Ok(Vec::new()),
                Err(_) => Err(refused),
            },
            Payload::Submit { instance, .. } if instance != self.run() => Err(refused),
            Payload::Submit { result, .. } => {
                let here = Header { view: self.finalized.view, height: here.position, id: here.hash };
                match self.epochs.submit(node, &result, here) {
                    Ok(event) => Ok(event.into_iter().collect()),
                    Err(_) => Err(refused),
                }
            }
        }
    }

    /// Takes a tick; finalizes the latest view that more than `t` members have ticked or passed.
    fn tick(&mut self, author: Index, view: View) -> Vec<ChainEvent> {
        if let Some(record) = self.authors.get_mut(usize::from(author)) {
            record.tick = view;
        }
        let mut ticks: Vec<View> = self.authors.iter().map(|record| record.tick).collect();
        ticks.sort_unstable_by(|a, b| b.cmp(a));
        let Some(&view) = ticks.get(self.committee().threshold()) else {
            return Vec::new();
        };
        if view <= self.finalized.view {
            return Vec::new();
        }
        let Prefix { position, hash } = self.prefix();
        self.finalized = Header { view, height: position, id: hash };
        let (epoch, was_paced) = (self.epochs.views().epoch, self.is_paced());
        let events = self.epochs.finalize(self.finalized);
        if self.is_paced() && !was_paced {
            // What was said of later views before the run began says nothing of the time within it.
            for record in &mut self.authors {
                record.tick = record.tick.min(self.finalized.view);
            }
        }
        if self.epochs.views().epoch != epoch {
            for record in &mut self.authors {
                record.used = Quota::default();
            }
        }
        events
    }

    fn contradict(&mut self, author: Index, position: u64) {
        if let Some(record) = self.authors.get_mut(usize::from(author)) {
            record.contradicted = Some(record.contradicted.map_or(position, |earlier| earlier.min(position)));
        }
        let witnesses = Index::all(self.authors.len()).zip(&self.authors);
        let (members, positions): (Vec<_>, Vec<_>) =
            witnesses.filter_map(|(index, record)| Some((index, record.contradicted?))).unzip();
        if members.len() > self.committee().threshold() {
            self.forked = positions.into_iter().min().map(|position| Forked { position, members });
        }
    }

    fn note(&mut self, skip: Skip) {
        match skip.author.and_then(|author| self.authors.get_mut(usize::from(author))) {
            None => self.unattributed = self.unattributed.saturating_add(1),
            Some(_) if skip.reason == SkipReason::OldTick => {}
            Some(record) => {
                let count = record.faults.entry(skip.reason).or_default();
                *count = count.saturating_add(1);
            }
        }
    }
}

/// What an entry takes from its author's quota.
fn cost(payload: &Payload, entry_bytes: usize) -> Quota {
    match payload {
        Payload::Tick(_) => Quota::default(),
        Payload::Post(_) => Quota { posts: 1, submits: 0, bytes: entry_bytes },
        Payload::Submit { .. } => Quota { posts: 0, submits: 1, bytes: entry_bytes },
    }
}
