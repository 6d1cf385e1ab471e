//! Compares a node's own copy of the log with what its host hands out, and says which of the two signatures contradict.
//!
//! The host's log is judged as a replica judges it. Of the copy only digests are needed, so that a node that runs, whose file
//! nobody else can open, can tell them piece by piece.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sha3::{Digest, Sha3_256};

use super::{Answer, Request, ask};
use crate::chain::log::{ChainConfig, FileLog, Forked, LogChain, LogCopy, LogHost, OwnCopy};
use crate::hex;

/// How many entries are compared at a time.
pub(super) const PIECE_ENTRIES: usize = 512;
/// How long a comparison goes on at most; what it has not come to by then is told as not compared.
pub(super) const COMPARE_LIMIT: Duration = Duration::from_secs(60);

/// A piece of a copy.
pub(super) struct Piece {
    /// How many entries the whole copy has.
    pub(super) end: u64,
    /// How many of them more than `t` members have vouched for.
    pub(super) vouched: u64,
    /// The digests of the entries, in hex.
    pub(super) digests: Vec<String>,
}

/// The digest by which an entry is compared.
pub(super) fn digest(entry: &[u8]) -> String {
    hex::encode(&Sha3_256::digest(entry))
}

/// The piece of the node's copy that runs at `socket`.
pub(super) fn of_running(socket: &Path, from: u64) -> Result<Piece, String> {
    match ask(socket, &Request::Copy { from }) {
        Ok(Answer::Copied { end, vouched, digests }) => Ok(Piece { end, vouched, digests }),
        Ok(Answer::Refused(why)) => Err(why),
        Ok(_) => Err("the node that runs does not tell of its copy: it is of another version".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// The pieces of a copy that no node uses, whose signatures are judged first.
pub(super) fn of_file(
    file: &FileLog,
    host: &Arc<dyn LogHost>,
    config: &Arc<ChainConfig>,
    until: Instant,
) -> Result<impl FnMut(u64) -> Result<Piece, String> + use<>, String> {
    let copy = file.reader();
    let mut replica = LogChain::new(Arc::clone(config));
    'judged: while Instant::now() < until {
        let entries = copy.read(replica.prefix().position, PIECE_ENTRIES).map_err(|error| error.to_string())?;
        for entry in &entries {
            // A copy that has forked has vouched for no more.
            if replica.apply(entry).is_err() {
                break 'judged;
            }
        }
        if entries.is_empty() {
            break;
        }
    }
    let vouched = replica.vouched().max(LogCopy::new(file, Arc::clone(host)).vouched());
    let end = file.len();
    Ok(move |from| {
        let entries = copy.read(from, PIECE_ENTRIES).map_err(|error| error.to_string())?;
        Ok(Piece { end, vouched, digests: entries.iter().map(|entry| digest(entry)).collect() })
    })
}

/// What a comparison has found. The sentence for it is its [`Display`](std::fmt::Display).
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Difference {
    #[error(
        "the host has {host} of the {copy} entries of this node's copy, of which more than t members have vouched for {vouched}; \
         what it has is the same: ask the host's operator to bring back its newest copy"
    )]
    Shorter { host: u64, copy: u64, vouched: u64 },
    #[error(
        "copy and host differ at position {position}: more than t members have vouched for the first {copy} entries of the copy, and \
         for the first {host} of the host's; {}", next_step(*.position, *.copy, *.host)
    )]
    Differs { position: u64, copy: u64, host: u64 },
    #[error("the host is contradicted: {forked}{}; ask its operator to bring back the log that the members have signed", where_differs(*.differs))]
    Forked { forked: Forked, differs: Option<u64> },
    #[error("{0}")]
    NotCompared(String),
}

fn where_differs(position: Option<u64>) -> String {
    position.map_or_else(String::new, |position| format!("; it differs from this node's copy at position {position}"))
}

/// Whom the signatures contradict where copy and host differ at `position`, and what to do.
fn next_step(position: u64, copy: u64, host: u64) -> &'static str {
    match (position < copy, position < host) {
        (true, false) => {
            "the host is contradicted: keep the copy, and ask the host's operator to bring back the log that it had"
        }
        (false, true) => {
            "the copy is contradicted: stop the node and take another member's copy with `dkg log adopt`; the host can be believed"
        }
        (true, true) => {
            "both are signed by more than t members: keep both, start nothing, and compare them with the other members' copies"
        }
        (false, false) => {
            "signatures contradict neither: compare with the other members' copies; if the host is wrong, ask its operator, and if \
             the copy is, take another member's with `dkg log adopt`"
        }
    }
}

/// Compares a copy with its host up to the shorter of the two.
///
/// What is in the copy later than the first look at it is not asked of the host.
pub(super) fn compare(
    mut copy: impl FnMut(u64) -> Result<Piece, String>,
    host: &dyn LogHost,
    config: &Arc<ChainConfig>,
    until: Instant,
) -> Result<String, Difference> {
    let failed = |what: &str, why: &str| Difference::NotCompared(format!("{what} cannot be read: {why}"));
    let mut piece = copy(0).map_err(|why| failed("this node's copy", &why))?;
    let (end, mut vouched) = (piece.end, piece.vouched);
    let mut replica = LogChain::new(Arc::clone(config));
    let mut differs = None;
    loop {
        let from = replica.prefix().position;
        // Who vouches for what the host shows is seen in what comes after a difference, too.
        if differs.is_none() && from >= end {
            return Ok(format!("the same as the host's log, as far as the {end} entries go that it has"));
        }
        if Instant::now() >= until {
            break;
        }
        let theirs = host.read(from, PIECE_ENTRIES).map_err(|error| failed("the host's log", &error.to_string()))?;
        if theirs.is_empty() {
            if differs.is_none() {
                return Err(Difference::Shorter { host: from, copy: end, vouched });
            }
            break;
        }
        if differs.is_none() && from > 0 {
            piece = copy(from).map_err(|why| failed("this node's copy", &why))?;
            vouched = vouched.max(piece.vouched);
        }
        for (number, entry) in theirs.iter().enumerate() {
            let position = from.saturating_add(number as u64);
            if differs.is_none() && position < end {
                match piece.digests.get(number) {
                    Some(ours) if *ours == digest(entry) => {}
                    Some(_) => differs = Some(position),
                    None => return Err(failed("this node's copy", "it has become shorter meanwhile; check again")),
                }
            }
            if let Err(forked) = replica.apply(entry) {
                return Err(Difference::Forked { forked, differs });
            }
        }
    }
    match differs {
        Some(position) => Err(Difference::Differs { position, copy: vouched, host: replica.vouched() }),
        None => Ok(format!(
            "the first {} of {end} entries are the same as the host's; there was no time for more",
            replica.prefix().position
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::log::MemoryLog;
    use crate::node::results::tests::chain_config;

    fn compared(ours: &[&[u8]], theirs: &[&[u8]], vouched: u64) -> Result<String, Difference> {
        let host = MemoryLog::new().reader();
        for entry in theirs {
            host.append(entry).unwrap();
        }
        let copy = |from: u64| {
            let rest = ours.iter().skip(usize::try_from(from).unwrap());
            Ok(Piece { end: ours.len() as u64, vouched, digests: rest.map(|entry| digest(entry)).collect() })
        };
        compare(copy, &host, &chain_config(), Instant::now() + COMPARE_LIMIT)
    }

    #[test]
    fn a_copy_is_compared_with_its_host_up_to_the_shorter_of_the_two() {
        assert!(compared(&[b"a", b"b"], &[b"a", b"b", b"c"], 0).unwrap().contains("2 entries"));
        assert!(compared(&[], &[b"a"], 0).is_ok(), "nothing was copied yet");
        let shorter = Difference::Shorter { host: 1, copy: 3, vouched: 2 };
        assert_eq!(compared(&[b"a", b"b", b"c"], &[b"a"], 2), Err(shorter));
        let differs = |copy| Err(Difference::Differs { position: 1, copy, host: 0 });
        assert_eq!(compared(&[b"a", b"b"], &[b"a", b"x", b"y"], 0), differs(0));
        assert_eq!(compared(&[b"a", b"b"], &[b"a", b"x", b"y"], 2), differs(2));
    }

    #[test]
    fn of_a_copy_and_a_host_that_differ_the_one_without_signatures_is_named() {
        let said = |copy, host| Difference::Differs { position: 5, copy, host }.to_string();
        assert!(said(6, 5).contains("the host is contradicted"));
        assert!(said(5, 6).contains("the copy is contradicted") && said(5, 6).contains("dkg log adopt"));
        assert!(said(6, 6).contains("keep both"));
        assert!(said(5, 5).contains("contradict neither"));
    }
}
