//! One member's side of a log chain: its replica, its pen, and the whiteboard as its engine sees it.

use std::sync::Arc;

use ed25519_dalek::SigningKey;
use parking_lot::Mutex;

use crate::chain::contract::Contract;
use crate::chain::log::intake::take;
use crate::chain::log::twin::OwnEntries;
use crate::chain::log::unread::Unread;
use crate::chain::log::{
    ChainEvent, Entry, FollowError, Forked, LogChain, LogError, LogErrorClass, LogHost, MAX_ENTRY_BYTES, Payload,
    Quota, ReadError, SignedEntry, SkipReason, Twin,
};
use crate::chain::{BoardMessage, ClientError, DkgContractClient, DkgResult};
use crate::committee::{Index, NodeId};
use crate::epoch::{Header, InstanceId, ProtocolEvent};
use crate::wire::WireError;

/// How many sequence numbers a start of a node has to itself. More than it writes entries in the milliseconds until it
/// could be started again.
const SEQUENCES_PER_START: u64 = 1 << 20;

/// Why there cannot be a node with this key on this chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NodeError {
    /// The committee file does not name the key.
    #[error("the network key {} is not in the committee file", crate::hex::encode(.0))]
    NotAMember([u8; 32]),
}

/// Why an entry did not get into the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// It is too long.
    #[error("the entry cannot be written: {0}")]
    Entry(#[from] WireError),
    /// The host did not take it, or did not say so.
    #[error(transparent)]
    Log(#[from] LogError),
    /// This member has written as much as it may in this epoch; every replica would skip the entry.
    #[error("member {0} has used up its quota of this epoch")]
    OverQuota(Index),
    /// The replica has stopped; what it would vouch for is in doubt.
    #[error(transparent)]
    Forked(#[from] Forked),
    /// The author has used the last sequence number there is.
    #[error("member {0} has no sequence number left")]
    SequenceUsedUp(Index),
    /// Somebody else writes in this member's name, and what both say would contradict each other.
    #[error("this member runs twice, so this one says nothing any more: {0}")]
    RunsTwice(Twin),
}

/// The one pen of a member: signs its entries and appends them, in the order of their sequence numbers.
pub struct Author {
    index: Index,
    key: SigningKey,
    replica: Arc<Mutex<LogChain>>,
    log: Arc<dyn LogHost>,
    /// The next sequence number. Held while an entry is under way, so that none overtakes another: replicas skip what is
    /// overtaken.
    next_sequence: Mutex<u64>,
    own: Mutex<OwnEntries>,
    unread: Mutex<Unread>,
}

impl Author {
    /// This member's index.
    pub fn index(&self) -> Index {
        self.index
    }

    /// Signs and appends one entry; returns its position. A post or a result that the host has taken is written again where
    /// every replica skips it for where it stands, or it does not stand there: by the member's follower, as it reads.
    ///
    /// # Errors
    /// See [`AppendError`]. After [`LogError::Unavailable`] the entry may or may not be in the log.
    pub fn append(&self, payload: Payload) -> Result<u64, AppendError> {
        self.write(payload, 0)
    }

    fn write(&self, payload: Payload, again: u32) -> Result<u64, AppendError> {
        let mut next_sequence = self.next_sequence.lock();
        if let Some(twin) = self.twin() {
            return Err(AppendError::RunsTwice(twin));
        }
        let (seen, logged, chain) = {
            let replica = self.replica.lock();
            if let Some(forked) = replica.forked() {
                return Err(forked.clone().into());
            }
            (replica.prefix(), replica.last_sequence(self.index), *replica.config().identity())
        };
        let after_logged = logged.map_or(Some(0), |last| last.checked_add(1));
        let sequence = after_logged.map(|after| after.max(*next_sequence));
        let numbers = sequence.and_then(|sequence| Some((sequence, sequence.checked_add(1)?)));
        let (sequence, following) = numbers.ok_or(AppendError::SequenceUsedUp(self.index))?;
        let entry = Entry { author: self.index, sequence, payload, seen };
        let bytes = entry.sign(&chain, &self.key)?;
        let is_tick = matches!(entry.payload, Payload::Tick(_));
        let has_room = is_tick || self.unread.lock().has_room();
        if !has_room || !self.replica.lock().has_quota(self.index, &entry.payload, bytes.len()) {
            return Err(AppendError::OverQuota(self.index));
        }
        *next_sequence = following;
        self.own.lock().wrote(sequence, &bytes);
        if !is_tick {
            self.unread.lock().wrote(sequence, entry.payload, again);
        }
        // Not under the lock: the follower may read the entry before the host has said that it took it.
        let taken = self.log.append(&bytes);
        match &taken {
            Ok(position) => self.unread.lock().taken(sequence, *position),
            Err(_) => self.unread.lock().not_taken(sequence),
        }
        Ok(taken?)
    }
}

impl Author {
    /// This process has caught up with the log: from now on it knows what it may find there in its own name.
    pub(super) fn begin(&self, position: u64) {
        self.own.lock().begin(position);
    }

    /// Looks at an entry that has been applied: whether it was written here, if it is in this member's name, and whether it
    /// counts.
    pub(super) fn look_at(&self, position: u64, bytes: &[u8], skipped: Option<SkipReason>, chain: &[u8; 32]) {
        let Ok(entry) = SignedEntry::decode(bytes) else { return };
        if entry.entry().author != self.index {
            return;
        }
        self.unread.lock().read(entry.entry().sequence, &entry.entry().payload, skipped);
        let mut own = self.own.lock();
        let is_known = own.twin().is_some();
        own.judge(position, bytes, &entry, || entry.is_signed_by(&self.key.verifying_key(), chain));
        if let Some(twin) = own.twin().filter(|_| !is_known) {
            log::error!("this member runs twice, and this one says nothing any more: {twin}");
        }
    }

    /// Writes again what the host has taken, and what does not count in the log as far as it has been read.
    ///
    /// # Errors
    /// The host cannot be reached, and what is left is kept; or the log has forked.
    pub(super) fn write_again(&self) -> Result<(), FollowError> {
        let read_to = self.replica.lock().prefix().position;
        let (lost, given_up) = self.unread.lock().take_lost(read_to);
        for payload in given_up {
            log::error!("{} was written again and again, and the log's host has never let it count", kind(&payload));
        }
        let mut lost = lost.into_iter().filter(|lost| self.is_of_use(&lost.payload));
        while let Some(next) = lost.next() {
            log::warn!(
                "{} that the log's host had taken does not count where it stands, or has not come; it is written again",
                kind(&next.payload)
            );
            match self.write(next.payload.clone(), next.again) {
                Ok(_) => {}
                Err(AppendError::Log(error)) if error.class() != LogErrorClass::Entry => {
                    self.unread.lock().keep(std::iter::once(next).chain(lost));
                    return Err(error.into());
                }
                Err(AppendError::Forked(forked)) => return Err(forked.into()),
                Err(error) => log::error!("{} is lost: {error}", kind(&next.payload)),
            }
        }
        Ok(())
    }

    /// Whether the whiteboard would still take this.
    fn is_of_use(&self, payload: &Payload) -> bool {
        let replica = self.replica.lock();
        let Some(node) = replica.config().committee().member(self.index).map(|member| member.node_id) else {
            return false;
        };
        let contract = replica.contract();
        match payload {
            Payload::Tick(_) => false,
            Payload::Post(content) => contract.check_post(node, content).is_ok() && !is_posted(contract, node, content),
            Payload::Submit { instance, result } => {
                *instance == replica.run() && contract.check_submit(node, result).is_ok()
            }
        }
    }

    /// Whether this has been taken by the host, and not been read yet.
    fn is_under_way(&self, payload: &Payload) -> bool {
        self.unread.lock().has(payload)
    }

    /// The first entry in this member's name that was not written here.
    fn twin(&self) -> Option<Twin> {
        self.own.lock().twin().cloned()
    }
}

/// The whiteboard on a log chain, as one member's engine uses it.
pub struct LogBoard {
    node_id: NodeId,
    author: Arc<Author>,
    replica: Arc<Mutex<LogChain>>,
    log: Arc<dyn LogHost>,
}

impl DkgContractClient for LogBoard {
    /// What stands on the board already in this member's name is not posted again, nor what is on its way there: the call
    /// before may have been cut off when its entry had just come into the log, by a lost connection or by the end of the
    /// process.
    fn broadcast(&self, content: &str) -> Result<(), ClientError> {
        {
            let replica = self.replica.lock();
            let contract = replica.contract();
            contract.check_post(self.node_id, content).map_err(refused)?;
            if is_posted(contract, self.node_id, content) {
                return Ok(());
            }
        }
        self.write(Payload::Post(content.to_owned()))
    }

    fn read_broadcast(&self, from_index: u64, as_of: &Header, limit: usize) -> Result<Vec<BoardMessage>, ClientError> {
        match self.replica.lock().messages(from_index, as_of, limit) {
            Ok(messages) => Ok(messages.to_vec()),
            Err(error @ ReadError::NotYet { .. }) => Err(ClientError::Unavailable(error.to_string())),
            Err(error) => Err(refused(error)),
        }
    }

    fn submit_result(&self, instance: &InstanceId, result: &DkgResult) -> Result<(), ClientError> {
        {
            let replica = self.replica.lock();
            if *instance != replica.run() {
                return Err(refused(format!("the chain has gone on from {instance} to {}", replica.run())));
            }
            let contract = replica.contract();
            // Submitted again after a call whose outcome was not known.
            if contract.submission_of(&self.node_id) == Some(result) {
                return Ok(());
            }
            contract.check_submit(self.node_id, result).map_err(refused)?;
        }
        self.write(Payload::Submit { instance: instance.clone(), result: result.clone() })
    }

    /// Shuts the member's access to the log down: its [`Follower`](crate::chain::log::Follower) ends with it.
    fn shutdown(&self) {
        self.log.shutdown();
    }
}

impl LogBoard {
    /// Appends it, unless it is on its way.
    fn write(&self, payload: Payload) -> Result<(), ClientError> {
        if self.author.is_under_way(&payload) {
            return Ok(());
        }
        self.author.append(payload).map(drop).map_err(client_error)
    }
}

/// Whether this stands on the board in this member's name.
fn is_posted(contract: &Contract, node_id: NodeId, content: &str) -> bool {
    contract.messages(0, usize::MAX).iter().any(|post| post.node_id == node_id && post.content == content)
}

/// What to call it when it is told of.
fn kind(payload: &Payload) -> &'static str {
    match payload {
        Payload::Tick(_) => "a tick",
        Payload::Post(_) => "a post",
        Payload::Submit { .. } => "a result",
    }
}

fn refused(error: impl ToString) -> ClientError {
    ClientError::Refused(error.to_string())
}

/// Whether an entry is good is for this member's own replica to say; a host that does not take it is asked again.
fn client_error(error: AppendError) -> ClientError {
    match error {
        AppendError::Log(error) if error.may_pass() || error == LogError::NothingNew => {
            ClientError::Unavailable(error.to_string())
        }
        _ => refused(error),
    }
}

/// One member of a log chain.
///
/// The way of a node that starts: make one of these; [`catch_up`](Self::catch_up); ask the replica for its phase and
/// start the engine there, with [`board`](Self::board) as its whiteboard; then [`Follower::start`] with the engine as
/// the receiver of what happens from there on.
///
/// [`Follower::start`]: crate::chain::log::Follower::start
pub struct ChainNode {
    replica: Arc<Mutex<LogChain>>,
    log: Arc<dyn LogHost>,
    author: Arc<Author>,
    board: Arc<LogBoard>,
}

impl ChainNode {
    /// The member that signs with `key`, with a replica that has read as much of the log as it may have
    /// ([`LogChain::new`] has read nothing).
    ///
    /// `start` is greater at every start of the member; the milliseconds of its clock will do. An entry that was under
    /// way when the member went down may still arrive, and must not bear the same number as one that it signs now.
    ///
    /// # Errors
    /// The committee file does not name the key.
    pub fn new(replica: LogChain, log: Arc<dyn LogHost>, key: SigningKey, start: u64) -> Result<Self, NodeError> {
        let public = key.verifying_key();
        let config = replica.config();
        let member =
            config.index_of_network_key(&public).and_then(|i| Some((i, config.committee().member(i)?.node_id)));
        let (index, node_id) = member.ok_or(NodeError::NotAMember(public.to_bytes()))?;
        let quota = Quota::per_epoch(config.committee().size());
        let replica = Arc::new(Mutex::new(replica));
        let author = Arc::new(Author {
            index,
            key,
            replica: Arc::clone(&replica),
            log: Arc::clone(&log),
            next_sequence: Mutex::new(start.saturating_mul(SEQUENCES_PER_START)),
            own: Mutex::default(),
            unread: Mutex::new(Unread::new(quota.posts + quota.submits)),
        });
        let board = Arc::new(LogBoard {
            node_id,
            author: Arc::clone(&author),
            replica: Arc::clone(&replica),
            log: Arc::clone(&log),
        });
        Ok(ChainNode { replica, log, author, board })
    }

    /// Reads the log to its present end and tells nobody what happened meanwhile. For a start: a follower that runs
    /// already would never tell what is read here.
    ///
    /// # Errors
    /// The log cannot be read, or has forked.
    pub fn catch_up(&self) -> Result<(), FollowError> {
        self.catch_up_noting(|| {})
    }

    /// [`catch_up`](Self::catch_up), with a look at the replica whenever keys were agreed on or have stayed in force: how much
    /// it remembers of earlier epochs has a limit, and a start may go through many.
    ///
    /// # Errors
    /// As `catch_up`.
    pub fn catch_up_noting(&self, mut note: impl FnMut()) -> Result<(), FollowError> {
        let chain = *self.replica.lock().config().identity();
        loop {
            let taken = take(&*self.log, &self.replica, &mut |position, entry, applied| {
                self.author.look_at(position, entry, applied.skipped.map(|skip| skip.reason), &chain);
                if applied.events.iter().any(tells_of_keys) {
                    note();
                }
            });
            match taken.outcome {
                Ok(_) if taken.applied.is_empty() => return Ok(()),
                Ok(_) => {}
                // Nobody has been told anything yet: the replica begins anew, from what is left of the copy.
                Err(FollowError::GaveUp { .. }) => {
                    let mut replica = self.replica.lock();
                    *replica = LogChain::new(Arc::clone(replica.config()));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The replica. Whoever locks it holds up the follower and the board: not for long.
    pub fn replica(&self) -> &Arc<Mutex<LogChain>> {
        &self.replica
    }

    /// The member's pen.
    pub fn author(&self) -> &Arc<Author> {
        &self.author
    }

    /// The whiteboard, for the member's engine.
    pub fn board(&self) -> Arc<LogBoard> {
        Arc::clone(&self.board)
    }

    /// An earlier life of this process had read so much of the log before it had to begin anew: what it may have said of that is
    /// not somebody else's.
    #[cfg_attr(not(feature = "node"), allow(dead_code, reason = "a node has several lives"))]
    pub(crate) fn read_before(&self, position: u64) {
        self.author.begin(position);
    }

    /// An entry in this member's name that another process has written, if the [`Follower`] has come upon one: the member runs
    /// twice. Nothing more is written here then.
    ///
    /// [`Follower`]: crate::chain::log::Follower
    pub fn twin(&self) -> Option<Twin> {
        self.author.twin()
    }

    /// The host.
    pub(super) fn log(&self) -> &Arc<dyn LogHost> {
        &self.log
    }
}

fn tells_of_keys(event: &ChainEvent) -> bool {
    use ProtocolEvent::{EpochCommittedPhaseStarted, EpochFallbackExited};
    matches!(event, ChainEvent::Protocol(EpochCommittedPhaseStarted { .. } | EpochFallbackExited { .. }))
}

// The longest post fits into an entry with all that surrounds it; `Author::append` relies on it.
const _: () = assert!(MAX_ENTRY_BYTES > crate::envelope::MAX_POST_BYTES + 128);
