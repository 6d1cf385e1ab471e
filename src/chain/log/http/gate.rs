//! What a log server lets into the log: exactly what every replica will take for its author's.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use sha3::{Digest, Sha3_256};

use crate::chain::log::prefixes::Comparison;
use crate::chain::log::{
    ChainConfig, FileLog, FileLogReader, Forked, LogChain, LogError, LogHost, SignedEntry, SkipReason,
};

/// How many entries are read at a time to catch up with a log.
const READ_BATCH: usize = 256;

/// Why an entry was not let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Every replica would skip it.
    Skip(SkipReason),
    /// More than `t` members have seen another log; this one has ended.
    Forked(Forked),
    /// The log cannot take it.
    Log(LogError),
}

impl From<SkipReason> for Refusal {
    fn from(reason: SkipReason) -> Self {
        Refusal::Skip(reason)
    }
}

impl From<LogError> for Refusal {
    fn from(error: LogError) -> Self {
        Refusal::Log(error)
    }
}

/// The last entry of an author, so that it can be recognized when it comes again.
#[derive(Clone, Copy)]
struct Last {
    digest: [u8; 32],
    position: u64,
}

struct Judged {
    /// Has applied every entry that has a position, whether it is durable yet or not. So two entries that come at once
    /// are judged one after the other, in the order in which all replicas will see them.
    chain: LogChain,
    last: BTreeMap<usize, Last>,
}

/// The way into a log.
pub(super) struct Gate {
    config: Arc<ChainConfig>,
    judged: Mutex<Judged>,
    writer: FileLogReader,
}

impl Gate {
    /// Reads the whole log.
    ///
    /// # Errors
    /// The log cannot be read.
    pub(super) fn new(config: Arc<ChainConfig>, log: &FileLog) -> Result<Self, LogError> {
        let writer = log.reader();
        let mut judged = Judged { chain: LogChain::new(Arc::clone(&config)), last: BTreeMap::new() };
        loop {
            let from = judged.chain.prefix().position;
            let entries = writer.read(from, READ_BATCH)?;
            if entries.is_empty() {
                return Ok(Gate { config, judged: Mutex::new(judged), writer });
            }
            for (position, bytes) in (from..).zip(&entries) {
                match judged.chain.apply(bytes) {
                    Ok(applied) if applied.skipped.is_none_or(|skip| skip.reason.is_proven()) => {
                        judged.remember(bytes, position);
                    }
                    Ok(_) => {}
                    // A log that has forked is still there to be read.
                    Err(forked) => {
                        log::error!("{forked}");
                        return Ok(Gate { config, judged: Mutex::new(judged), writer });
                    }
                }
            }
        }
    }

    /// Lets an entry in, if it is its author's, in turn and within the quota; returns its position once it is durable.
    pub(super) fn append(&self, bytes: &[u8]) -> Result<u64, Refusal> {
        let signed = SignedEntry::decode(bytes).map_err(|_| SkipReason::Malformed)?;
        let author = signed.entry().author;
        let digest: [u8; 32] = Sha3_256::digest(bytes).into();
        // The signature is looked at outside the lock, and only of what would be taken with a good one.
        let repeated = self.judged.lock().check(&signed, &digest)?;
        let position = match repeated {
            Some(position) => position,
            None => {
                let key = self.config.network_key(author).ok_or(SkipReason::UnknownAuthor)?;
                if !signed.is_signed_by(key, self.config.identity()) {
                    return Err(SkipReason::BadSignature.into());
                }
                let mut judged = self.judged.lock();
                match judged.check(&signed, &digest)? {
                    Some(position) => position,
                    None => {
                        let position = self.writer.enqueue(bytes)?;
                        judged.last.insert(author.into(), Last { digest, position });
                        // What it says may still be refused, or be the last straw of a fork: all replicas see that too.
                        let _ = judged.chain.apply_verified(bytes, signed);
                        position
                    }
                }
            }
        };
        self.writer.settle(position)?;
        Ok(position)
    }

    /// Looks at the chain as far as it has come; for a moment.
    pub(super) fn look<T>(&self, look: impl FnOnce(&LogChain) -> T) -> T {
        look(&self.judged.lock().chain)
    }
}

impl Judged {
    /// Whether an entry may come in if its signature is good; its position if it has come in last of its author's.
    fn check(&self, signed: &SignedEntry<'_>, digest: &[u8; 32]) -> Result<Option<u64>, Refusal> {
        let author = signed.entry().author;
        if let Some(last) = self.last.get(&author.into()).filter(|last| last.digest == *digest) {
            return Ok(Some(last.position));
        }
        if let Some(forked) = self.chain.forked() {
            return Err(Refusal::Forked(forked.clone()));
        }
        match self.chain.check_unverified(signed) {
            Err(skip) => Err(skip.reason.into()),
            // What stands in the log is this log: who has seen another one has to find out where it was shown to it.
            Ok(Comparison::Different) => Err(SkipReason::WrongPrefix.into()),
            Ok(_) => Ok(None),
        }
    }

    fn remember(&mut self, bytes: &[u8], position: u64) {
        if let Ok(signed) = SignedEntry::decode(bytes) {
            let last = Last { digest: Sha3_256::digest(bytes).into(), position };
            self.last.insert(signed.entry().author.into(), last);
        }
    }
}
