//! In which order the entries stand: by the revision at which their keys were created, and within a revision by key. Pure:
//! fed with what a watch tells.

use std::collections::VecDeque;

use super::wire::Event;
use crate::chain::log::MAX_ENTRY_BYTES;

/// Of how many of the last entries the revision is remembered: from there on the log can be read again without going through
/// the whole history.
const MAX_REMEMBERED: usize = 1 << 16;
/// The most entries that are kept for who reads.
const MAX_KEPT_ENTRIES: usize = 4096;
/// The most bytes of them, but for one revision's.
const MAX_KEPT_BYTES: usize = 8 << 20;
/// The most bytes that may come in at one revision. etcd takes 1.5 MiB in a request unless it is told to take more.
const MAX_REVISION_BYTES: usize = 16 << 20;

/// What stands in the log for a value that is too long for an entry: it keeps its position, and every replica skips it alike.
const TOO_LONG: &[u8] = b"a value in etcd that is too long for an entry";

/// What a value in etcd is for the replicas. Whoever may write one key may write one that is no entry.
fn entry_of(value: Vec<u8>) -> Vec<u8> {
    if value.len() > MAX_ENTRY_BYTES { TOO_LONG.to_vec() } else { value }
}

/// Whether the event is a key's creation.
fn is_entry(event: &Event) -> bool {
    event.kind != "DELETE" && event.kv.version == 1 && event.kv.create_revision == event.kv.mod_revision
}

/// All that happened to the log's keys at one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Revision {
    pub(super) number: u64,
    /// The entries that were created, in their order; `None` for one that only keeps its position.
    pub(super) entries: Vec<Option<Vec<u8>>>,
    /// How many keys were overwritten or deleted.
    pub(super) changed: u64,
}

/// Events that come one after the other, put together by revision.
#[derive(Debug, Default)]
pub(super) struct Grouping {
    number: u64,
    created: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    changed: u64,
    bytes: usize,
}

impl Grouping {
    /// Takes the next event; gives out the revision before, if that is over with it.
    ///
    /// # Errors
    /// More has come in at one revision than is taken.
    pub(super) fn take(&mut self, event: Event) -> Result<Option<Revision>, String> {
        let over = if event.kv.mod_revision == self.number { None } else { self.end() };
        self.number = event.kv.mod_revision;
        if is_entry(&event) {
            let value = entry_of(event.kv.value);
            self.bytes = self.bytes.saturating_add(event.kv.key.len()).saturating_add(value.len());
            self.created.push((event.kv.key, Some(value)));
        } else {
            self.changed = self.changed.saturating_add(1);
        }
        if self.bytes > MAX_REVISION_BYTES {
            return Err(format!(
                "at revision {} more was written in one transaction than a member takes ({MAX_REVISION_BYTES} bytes)",
                self.number
            ));
        }
        Ok(over)
    }

    /// Takes an entry of which no more is known than its key.
    pub(super) fn take_unknown(&mut self, created: u64, key: Vec<u8>) -> Option<Revision> {
        let over = if created == self.number { None } else { self.end() };
        self.number = created;
        self.created.push((key, None));
        over
    }

    /// No more comes of the revision that came last, if any has.
    pub(super) fn end(&mut self) -> Option<Revision> {
        let Grouping { number, mut created, changed, .. } = std::mem::take(self);
        created.sort_by(|(one, _), (other, _)| one.cmp(other));
        let entries: Vec<_> = created.into_iter().map(|(_, value)| value).collect();
        (!entries.is_empty() || changed > 0).then_some(Revision { number, entries, changed })
    }
}

/// Why what has come does not fit what came before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Misfit {
    /// The position that it has now.
    pub(super) position: u64,
}

/// What there is for who reads from a position on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// These.
    Entries(Vec<Vec<u8>>),
    /// Nothing is known to be there.
    End,
    /// There is something, and it is still to come.
    Later,
}

/// The end of the log, as far as a watch has told it: where each entry stands, and the last of them to be read.
///
/// A watch may be begun again at an earlier revision, for entries that are not kept any more: it tells again what is known.
#[derive(Debug)]
pub(super) struct Tail {
    /// The position of the first entry whose revision is remembered.
    first: u64,
    /// The revisions of the entries from there on, to the end of what is known.
    revisions: VecDeque<u64>,
    /// Everything before this revision is known.
    known: u64,
    /// Keys that were overwritten or deleted, as far as it was seen.
    tampered: u64,
    /// The position of the first entry that is kept.
    at: u64,
    kept: VecDeque<Vec<u8>>,
    bytes: usize,
    /// The revision at which the watch goes on, behind what is kept.
    next: u64,
    /// Where somebody has read last, who has no more use for what is before.
    reader: Option<u64>,
    /// How far entries were handed out.
    handed_out: u64,
    /// What was told may not be so.
    doubted: bool,
    /// How often it was doubted since anything new was handed out.
    doubts: u32,
    /// How often the watch has been sent elsewhere.
    turns: u64,
}

impl Tail {
    pub(super) fn new() -> Self {
        Tail {
            first: 0,
            revisions: VecDeque::new(),
            known: 1,
            tampered: 0,
            at: 0,
            kept: VecDeque::new(),
            bytes: 0,
            next: 1,
            reader: None,
            handed_out: 0,
            doubted: false,
            doubts: 0,
            turns: 0,
        }
    }

    /// How many entries are known.
    pub(super) fn end(&self) -> u64 {
        self.first.saturating_add(self.revisions.len() as u64)
    }

    /// The revision before which all is known.
    pub(super) fn known(&self) -> u64 {
        self.known
    }

    /// The revision at which a watch goes on.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Where in the log a watch goes on.
    pub(super) fn position(&self) -> u64 {
        self.at.saturating_add(self.kept.len() as u64)
    }

    /// A number that changes when a watch has to begin anew at [`next`](Self::next).
    pub(super) fn turns(&self) -> u64 {
        self.turns
    }

    /// Whether nobody will read what is before this position.
    pub(super) fn is_read(&self, position: u64) -> bool {
        self.reader.is_some_and(|reader| position < reader)
    }

    /// How many keys of the log were seen to be overwritten or deleted.
    pub(super) fn tampered(&self) -> u64 {
        self.tampered
    }

    /// The position of the entry that was created at this revision, alone, if it is remembered.
    pub(super) fn position_of(&self, revision: u64) -> Option<u64> {
        let place = self.revisions.partition_point(|other| *other < revision);
        (self.revisions.get(place) == Some(&revision)).then(|| self.first.saturating_add(place as u64))
    }

    /// Makes room for what comes next, of what has been read. Where nobody reads at all, nothing is kept for anybody.
    pub(super) fn make_room(&mut self) -> bool {
        while self.kept.len() >= MAX_KEPT_ENTRIES || self.bytes >= MAX_KEPT_BYTES {
            if self.reader.is_some_and(|reader| self.at >= reader) {
                return false;
            }
            self.drop_first();
        }
        true
    }

    fn drop_first(&mut self) {
        if let Some(entry) = self.kept.pop_front() {
            self.bytes = self.bytes.saturating_sub(entry.len());
            self.at = self.at.saturating_add(1);
        }
    }

    /// Takes what a watch tells next. Whatever has been done to a key since, its first value is the entry; what was done is
    /// for those to know who look after the cluster.
    ///
    /// # Errors
    /// It was told otherwise before. All is forgotten, and the watch has to begin anew.
    pub(super) fn take(&mut self, revision: Revision) -> Result<(), Misfit> {
        let Revision { number, entries, changed } = revision;
        if number < self.next {
            return Ok(());
        }
        let position = self.position();
        let is_new = number >= self.known;
        let expected = if is_new { Some(self.end()) } else { self.position_of(number) };
        if !entries.is_empty() && expected.is_some_and(|expected| expected != position) {
            return Err(self.misfit(position));
        }
        if is_new {
            self.known = number.saturating_add(1);
            self.tampered = self.tampered.saturating_add(changed);
            self.revisions.extend(entries.iter().map(|_| number));
            let beyond = self.revisions.len().saturating_sub(MAX_REMEMBERED);
            self.revisions.drain(..beyond);
            self.first = self.first.saturating_add(beyond as u64);
        }
        self.next = number.saturating_add(1);
        for entry in entries {
            if let Some(entry) = entry {
                self.bytes = self.bytes.saturating_add(entry.len());
                self.kept.push_back(entry);
            } else {
                self.at = self.position().saturating_add(1);
                (self.kept, self.bytes) = (VecDeque::new(), 0);
            }
        }
        Ok(())
    }

    /// There is nothing more up to this revision.
    ///
    /// # Errors
    /// There was before. See [`take`](Self::take).
    pub(super) fn pass(&mut self, revision: u64) -> Result<(), Misfit> {
        let next = revision.saturating_add(1);
        if next > self.known {
            if self.position() != self.end() {
                return Err(self.misfit(self.position()));
            }
            self.known = next;
        }
        self.next = self.next.max(next);
        Ok(())
    }

    fn misfit(&mut self, position: u64) -> Misfit {
        self.start_anew();
        Misfit { position }
    }

    /// Forgets everything but who reads.
    fn start_anew(&mut self) {
        let (reader, handed_out, doubts) = (self.reader, self.handed_out, self.doubts);
        *self = Tail { reader, handed_out, doubts, turns: self.turns.wrapping_add(1), ..Tail::new() };
    }

    /// Sends the watch elsewhere.
    fn go_to(&mut self, position: u64, revision: u64) {
        (self.at, self.kept, self.bytes, self.next) = (position, VecDeque::new(), 0, revision);
        self.turns = self.turns.wrapping_add(1);
    }

    /// Where a watch begins for who reads from a position on: at the first entry of its revision, or at the very beginning if
    /// that is not remembered.
    fn start_for(&self, position: u64) -> (u64, u64) {
        let place = position.checked_sub(self.first).and_then(|place| usize::try_from(place).ok());
        let Some(revision) = place.and_then(|place| self.revisions.get(place).copied()) else { return (0, 1) };
        let place = self.revisions.partition_point(|other| *other < revision);
        if place == 0 && self.first > 0 {
            // Entries of the same revision may be before it.
            return (0, 1);
        }
        (self.first.saturating_add(place as u64), revision)
    }

    /// Whether the next who reads has all told anew.
    pub(super) fn is_doubted(&self) -> bool {
        self.doubted
    }

    /// What has been told may not be so: from where somebody reads next, all is asked for anew.
    pub(super) fn doubt(&mut self) {
        self.doubted = true;
    }

    /// What there is from a position on, at most so many entries.
    pub(super) fn read(&mut self, from: u64, limit: usize) -> Read {
        self.reader = Some(from);
        if std::mem::take(&mut self.doubted) {
            self.doubts = self.doubts.saturating_add(1);
            // Where that does not help, what is wrong is further back; and where all of it does not help, seldom.
            if self.doubts > 1 && self.doubts.is_power_of_two() { self.start_anew() } else { self.forget(from) }
        }
        if from >= self.end() {
            return Read::End;
        }
        if from < self.at {
            let (position, revision) = self.start_for(from);
            self.go_to(position, revision);
        }
        let skipped = usize::try_from(from.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let entries: Vec<_> = self.kept.iter().skip(skipped).take(limit).cloned().collect();
        let handed_out = from.saturating_add(entries.len() as u64);
        if handed_out > self.handed_out {
            (self.handed_out, self.doubts) = (handed_out, 0);
        }
        if entries.is_empty() { Read::Later } else { Read::Entries(entries) }
    }

    /// How many entries were handed out beyond the end of what is known now.
    pub(super) fn missing(&self) -> u64 {
        self.handed_out.saturating_sub(self.end())
    }

    /// The cluster has not come to any revision after this one, whatever was told: that is forgotten, and asked for anew.
    pub(super) fn forget_after(&mut self, revision: u64) {
        let left = self.revisions.partition_point(|other| *other <= revision);
        if left == 0 && self.first > 0 {
            return self.start_anew();
        }
        self.revisions.truncate(left);
        self.known = self.known.min(revision.saturating_add(1));
        self.go_to(self.end(), self.known);
    }

    /// Forgets all from this position on, and what comes with it at one revision.
    fn forget(&mut self, from: u64) {
        if from >= self.end() {
            return self.go_to(self.end(), self.known);
        }
        let (position, revision) = self.start_for(from);
        if position < self.first {
            return self.start_anew();
        }
        let left = usize::try_from(position.saturating_sub(self.first)).unwrap_or(usize::MAX);
        self.revisions.truncate(left);
        self.known = revision;
        self.go_to(position, revision);
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire::KeyValue;
    use super::*;

    fn event(kind: &str, key: &str, create: u64, modified: u64, version: u64) -> Event {
        let (key, value) = (key.into(), format!("{key}@{modified}").into());
        let kv = KeyValue { key, value, create_revision: create, mod_revision: modified, version };
        Event { kind: kind.into(), kv }
    }

    fn creation(key: &str, revision: u64) -> Event {
        event("", key, revision, revision, 1)
    }

    fn revisions(events: impl IntoIterator<Item = Event>) -> Vec<Revision> {
        let mut grouping = Grouping::default();
        let mut all: Vec<_> = events.into_iter().filter_map(|event| grouping.take(event).unwrap()).collect();
        all.extend(grouping.end());
        all
    }

    fn tell(tail: &mut Tail, events: impl IntoIterator<Item = Event>) -> Result<(), Misfit> {
        revisions(events).into_iter().try_for_each(|revision| tail.take(revision))
    }

    fn entries(of: &[&str]) -> Read {
        Read::Entries(of.iter().map(|entry| entry.as_bytes().to_vec()).collect())
    }

    #[test]
    fn entries_stand_in_the_order_of_their_creation_whatever_is_done_to_them_later() {
        let mut tail = Tail::new();
        let events = [
            creation("a", 3),
            creation("b", 5),
            event("", "a", 3, 6, 2),
            event("DELETE", "b", 0, 7, 0),
            creation("b", 9),
        ];
        tell(&mut tail, events.clone()).unwrap();
        tell(&mut tail, events).unwrap();
        assert_eq!((tail.end(), tail.known(), tail.tampered()), (3, 10, 2));
        assert_eq!(tail.read(0, 9), entries(&["a@3", "b@5", "b@9"]));
        assert_eq!([5, 6, 9, 10].map(|revision| tail.position_of(revision)), [Some(1), None, Some(2), None]);
        assert_eq!((tail.read(1, 1), tail.read(3, 9)), (entries(&["b@5"]), Read::End));
    }

    #[test]
    fn what_is_created_at_once_stands_in_the_order_of_the_keys() {
        let at_once = [creation("c", 4), creation("a", 4), event("DELETE", "x", 0, 4, 0), creation("b", 4)];
        let mut tail = Tail::new();
        tell(&mut tail, at_once.into_iter().chain([creation("0", 6)])).unwrap();
        assert_eq!(tail.read(0, 9), entries(&["a@4", "b@4", "c@4", "0@6"]));
        let mut left = Grouping::default();
        let mut over = Vec::new();
        for (key, created) in [("c", 4), ("b", 4), ("a", 4), ("0", 6)] {
            over.extend(left.take_unknown(created, key.into()));
        }
        over.extend(left.end());
        assert_eq!(
            over.iter().map(|revision| (revision.number, revision.entries.len())).collect::<Vec<_>>(),
            [(4, 3), (6, 1)]
        );
    }

    #[test]
    fn what_has_not_been_read_stays_and_the_watch_waits_for_who_reads() {
        let mut tail = Tail::new();
        assert_eq!(tail.read(0, 9), Read::End);
        for revision in 1..=MAX_KEPT_ENTRIES as u64 {
            assert!(tail.make_room());
            tell(&mut tail, [creation("k", revision)]).unwrap();
        }
        assert!(!tail.make_room());
        assert_eq!(tail.read(1, 1), entries(&["k@2"]));
        assert!(tail.make_room());
        tell(&mut tail, [creation("k", 10_000)]).unwrap();
        assert!(!tail.make_room());
    }

    #[test]
    fn what_is_not_kept_any_more_is_told_again_from_the_revision_that_is_remembered() {
        let mut tail = Tail::new();
        let all = || (1..=5_000_u64).map(|revision| creation("k", revision));
        for event in all() {
            assert!(tail.make_room(), "nobody reads");
            tell(&mut tail, [event]).unwrap();
        }
        let turns = tail.turns();
        assert_eq!((tail.read(10, 2), tail.next()), (Read::Later, 11));
        assert_ne!(tail.turns(), turns);
        tell(&mut tail, all()).unwrap();
        assert_eq!((tail.read(10, 2), tail.end(), tail.known()), (entries(&["k@11", "k@12"]), 5_000, 5_001));
    }

    #[test]
    fn only_the_last_revisions_are_remembered_and_what_is_before_is_read_from_the_beginning() {
        let mut tail = Tail::new();
        let count = MAX_REMEMBERED as u64 + 10;
        for revision in 1..=count {
            tail.make_room();
            tell(&mut tail, [creation("k", revision)]).unwrap();
        }
        assert_eq!((tail.position_of(10), tail.position_of(11), tail.end()), (None, Some(10), count));
        assert_eq!((tail.read(9, 1), tail.next()), (Read::Later, 1));
    }

    #[test]
    fn a_history_that_is_told_otherwise_is_not_taken() {
        let mut tail = Tail::new();
        tell(&mut tail, [creation("a", 3), creation("b", 5), creation("c", 7)]).unwrap();
        tail.make_room();
        tail.go_to(0, 1);
        // What was created at revision 3 is gone from the history.
        assert_eq!(tell(&mut tail, [creation("b", 5)]), Err(Misfit { position: 0 }));
        assert_eq!((tail.position(), tail.next(), tail.end()), (0, 1, 0), "all is told anew");
        tell(&mut tail, [creation("b", 5), creation("c", 7)]).unwrap();
        tail.go_to(0, 1);
        assert_eq!(tail.pass(9), Err(Misfit { position: 0 }));
    }

    #[test]
    fn what_is_doubted_is_forgotten_from_where_somebody_reads_on() {
        let mut tail = Tail::new();
        tell(&mut tail, [creation("a", 3), creation("b", 5), creation("c", 5), creation("d", 7)]).unwrap();
        tail.doubt();
        assert_eq!(
            (tail.read(2, 9), tail.end(), tail.next()),
            (Read::End, 1, 5),
            "what came at once is asked for at once"
        );
        tell(&mut tail, [creation("b", 5), creation("x", 6)]).unwrap();
        assert_eq!((tail.read(1, 9), tail.end()), (entries(&["b@5", "x@6"]), 3));
        let mut doubt = || {
            tail.doubt();
            (tail.read(3, 9), tail.end(), tail.next())
        };
        assert_eq!(doubt(), (Read::End, 3, 7));
        assert_eq!(doubt(), (Read::End, 0, 1), "where that has not helped, all is");
    }

    #[test]
    fn a_revision_that_the_cluster_never_came_to_is_forgotten_with_what_was_told_of_it() {
        let mut tail = Tail::new();
        tell(&mut tail, [creation("a", 3), creation("b", 5), creation("c", 1 << 40)]).unwrap();
        assert_eq!(tail.read(0, 9), entries(&["a@3", "b@5", "c@1099511627776"]));
        tail.forget_after(6);
        assert_eq!((tail.end(), tail.next(), tail.missing()), (2, 7, 1));
        tell(&mut tail, [creation("c", 7)]).unwrap();
        assert_eq!((tail.read(2, 9), tail.missing()), (entries(&["c@7"]), 0));
    }

    #[test]
    fn a_value_that_is_too_long_keeps_its_place() {
        let mut long = creation("a", 3);
        long.kv.value = vec![0; MAX_ENTRY_BYTES + 1];
        let taken = revisions([long]);
        assert_eq!(taken[0].entries, [Some(TOO_LONG.to_vec())]);
    }

    #[test]
    fn an_entry_that_only_keeps_its_position_is_not_handed_out() {
        let mut tail = Tail::new();
        tell(&mut tail, [creation("a", 3)]).unwrap();
        tail.take(Revision { number: 4, entries: vec![None], changed: 0 }).unwrap();
        tell(&mut tail, [creation("c", 5)]).unwrap();
        assert_eq!((tail.end(), tail.read(2, 9)), (3, entries(&["c@5"])));
        assert_eq!((tail.read(1, 9), tail.next()), (Read::Later, 4));
    }
}
