//! What becomes of what a host shows: judged, kept, and given up again where it has to be.
//!
//! Nothing that a host says is signed but the entries, and nobody but the members can say in which order they stand: each
//! vouches in its entries for all that it had read. So there are three kinds of entries in a member's copy:
//!
//! - What more than `t` members have [vouched for](LogChain::vouched) is final. A host that shows something else is not
//!   believed, however long it does.
//! - What comes after that is only what the host has shown. Where it shows something else later, the tail from there on is set
//!   aside as evidence and read anew; whatever has been told of it has to begin anew too ([`FollowError::GaveUp`]).
//! - What no honest host of its kind could have is never taken in the first place ([`LogHost::sifts`]): a bit that was flipped
//!   on the way, an entry out of its place.

use parking_lot::Mutex;

use crate::chain::log::{Applied, Compared, FollowError, Forked, LogChain, LogError, LogHost, Skip, SkipReason};

/// How many entries are asked of a host at a time.
pub(super) const READ_BATCH: usize = 256;
/// How often in a row a host has to say that it has less than is kept here of it until that is believed, as far as too few
/// members have vouched for it.
const LOST_PATIENCE: u32 = 10;
/// How often it has to show again what more than `t` members say is another log than theirs, until that is believed to be what
/// it shows: tried once a second, a minute.
const FORK_PATIENCE: u32 = 60;

/// What came of a look for more.
pub(super) struct Taken {
    /// What the entries did that were taken, in order. They are taken whatever else has happened.
    pub(super) applied: Vec<Applied>,
    /// Whether there may be more at once, or why it did not go on.
    pub(super) outcome: Result<bool, FollowError>,
}

/// Reads on, judges and keeps what there is. `each` is called after each entry, with its position and its bytes.
pub(super) fn take(log: &dyn LogHost, replica: &Mutex<LogChain>, each: &mut dyn FnMut(u64, &[u8], &Applied)) -> Taken {
    let nothing = |outcome| Taken { applied: Vec::new(), outcome };
    let (from, forked) = {
        let replica = replica.lock();
        (replica.prefix().position, replica.forked().cloned())
    };
    if let Some(forked) = forked {
        // Found out before, when it could not be seen whether the host still shows what is kept here.
        return nothing(contested(log, replica, Problem::Forked(forked)).map(|()| false));
    }
    // What is kept already has been judged before, and counts as it stands.
    let new = log.own_copy().is_none_or(|copy| from >= copy.end());
    let entries = match log.read(from, READ_BATCH) {
        Ok(entries) => entries,
        Err(error) => return nothing(Err(disputed(log, replica, error))),
    };
    let sift = new && log.sifts();
    let mut applied = Vec::new();
    let mut problem = None;
    for (position, entry) in (from..).zip(&entries) {
        match apply_at(replica, position, entry, sift) {
            // Somebody else has read on meanwhile.
            Ok(None) => break,
            Ok(Some(done)) => {
                each(position, entry, &done);
                let contradicts = done.skipped.is_some_and(|skip| skip.reason == SkipReason::WrongPrefix);
                applied.push(done);
                if contradicts {
                    problem = Some(Problem::Contradicted);
                }
            }
            Err(Unfit::Forked(forked)) => {
                problem = Some(Problem::Forked(forked));
                break;
            }
            Err(Unfit::Skipped(skip)) => {
                problem = Some(Problem::Unfit { position, skip });
                break;
            }
        }
    }
    // The entry that shows a fork is kept as well: as evidence, and to see whether the host shows it again.
    let judged = applied.len() + usize::from(matches!(problem, Some(Problem::Forked(_))));
    if let (true, Some(copy)) = (new, log.own_copy())
        && let Err(error) = copy.keep(from, entries.get(..judged).unwrap_or_default())
    {
        // What has been taken has been taken; the copy makes up for it before it gives out anything more.
        return Taken { applied, outcome: Err(error.into()) };
    }
    let full = entries.len() == READ_BATCH;
    let outcome = match problem {
        None => Ok(full),
        Some(problem) => contested(log, replica, problem).map(|()| full),
    };
    Taken { applied, outcome }
}

/// Why an entry was not applied.
enum Unfit {
    Forked(Forked),
    Skipped(Skip),
}

/// Why what is kept here may not be what everybody else has.
enum Problem {
    /// A member has seen another log.
    Contradicted,
    /// More than `t` have.
    Forked(Forked),
    /// No honest host has such an entry after those that are here.
    Unfit { position: u64, skip: Skip },
}

/// Applies the entry at this position, unless somebody else has done so since it was read.
fn apply_at(replica: &Mutex<LogChain>, position: u64, entry: &[u8], sift: bool) -> Result<Option<Applied>, Unfit> {
    let mut replica = replica.lock();
    if replica.prefix().position != position {
        return Ok(None);
    }
    if sift {
        replica.check_sifted(entry).map_err(Unfit::Skipped)?;
    }
    replica.apply(entry).map(Some).map_err(Unfit::Forked)
}

/// What is to be done where entries and copy do not fit: if the host shows another log now than the copy has, the copy's tail
/// is given up.
fn contested(log: &dyn LogHost, replica: &Mutex<LogChain>, problem: Problem) -> Result<(), FollowError> {
    let vouched = vouched(log, replica);
    let mut shown_again = u32::MAX;
    if let Some(copy) = log.own_copy() {
        match copy.compare(vouched)? {
            Compared::Differs(position) => return Err(give_up(log, position, vouched)),
            Compared::Same { times } => shown_again = times,
        }
    }
    match problem {
        // One that lies, or is lied to; or the host shows everybody the same, and it is still for others to contradict.
        Problem::Contradicted => Ok(()),
        Problem::Forked(forked) if shown_again < FORK_PATIENCE => Err(FollowError::Log(LogError::Unavailable(
            format!("{forked}; its host is asked whether it still shows that"),
        ))),
        Problem::Forked(forked) => Err(forked.into()),
        Problem::Unfit { position, skip } => {
            log.distrust();
            let whose = skip.author.map_or("nobody".to_owned(), |author| format!("member {author}"));
            Err(FollowError::Log(LogError::Unavailable(format!(
                "at position {position} it shows what no honest host has: an entry in the name of {whose}, and {}; the log goes \
                 on where the true one is shown",
                skip.reason
            ))))
        }
    }
}

/// What is to be done where a host does not show what is kept here.
fn disputed(log: &dyn LogHost, replica: &Mutex<LogChain>, error: LogError) -> FollowError {
    let vouched = vouched(log, replica);
    match error {
        LogError::Rewritten(position) if position >= vouched => give_up(log, position, vouched),
        LogError::Lost { host_has, tries, .. } if host_has >= vouched && tries >= LOST_PATIENCE => {
            give_up(log, host_has, vouched)
        }
        error => error.into(),
    }
}

/// How many entries are final, whatever has been given up since.
fn vouched(log: &dyn LogHost, replica: &Mutex<LogChain>) -> u64 {
    let vouched = replica.lock().vouched();
    log.own_copy().map_or(vouched, |copy| copy.vouched().max(vouched))
}

fn give_up(log: &dyn LogHost, position: u64, vouched: u64) -> FollowError {
    let Some(copy) = log.own_copy() else { return LogError::Rewritten(position).into() };
    let entries = copy.end().saturating_sub(position);
    match copy.give_up(position, vouched) {
        Ok(()) => FollowError::GaveUp { position, entries },
        Err(error) => error.into(),
    }
}
