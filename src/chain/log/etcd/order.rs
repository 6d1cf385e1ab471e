//! In which order the entries stand: by the revision at which their keys were created. Pure: fed with what a watch tells.

use std::collections::VecDeque;

use super::wire::Event;

/// How many of the last entries can be read again without going through the whole history.
const WINDOW: usize = 4096;

/// Where in etcd's history which position of the log is.
#[derive(Debug)]
pub(super) struct Order {
    /// The position of the first entry whose revision is known.
    first: u64,
    /// The revisions of the entries from there on.
    revisions: VecDeque<u64>,
    /// Everything before this revision has been seen.
    next: u64,
    /// Keys that were overwritten or deleted, as far as it was seen.
    tampered: u64,
}

impl Order {
    pub(super) fn new() -> Self {
        Order { first: 0, revisions: VecDeque::new(), next: 1, tampered: 0 }
    }

    /// How many entries have been seen.
    pub(super) fn end(&self) -> u64 {
        self.first.saturating_add(self.revisions.len() as u64)
    }

    /// The revision from which on nothing has been seen.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// The revision from which on the entries from this position on come, if that is known.
    pub(super) fn revision_of(&self, position: u64) -> Option<u64> {
        if position == self.end() {
            return Some(self.next);
        }
        let place = usize::try_from(position.checked_sub(self.first)?).ok()?;
        self.revisions.get(place).copied()
    }

    /// The position of the entry that was created at this revision, if it is remembered.
    pub(super) fn position_of(&self, revision: u64) -> Option<u64> {
        let place = self.revisions.binary_search(&revision).ok()?;
        Some(self.first.saturating_add(place as u64))
    }

    /// How many keys of the log were seen to be overwritten or deleted.
    pub(super) fn tampered(&self) -> u64 {
        self.tampered
    }

    /// Takes what a watch tells next. Whatever has been done to a key since, its first value is the entry; what was done is
    /// for those to know who look after the cluster.
    pub(super) fn take(&mut self, event: &Event) {
        let revision = event.kv.mod_revision;
        if revision < self.next {
            return;
        }
        self.next = revision.saturating_add(1);
        if !is_entry(event) {
            self.tampered = self.tampered.saturating_add(1);
            return;
        }
        if self.revisions.len() == WINDOW {
            self.revisions.pop_front();
            self.first = self.first.saturating_add(1);
        }
        self.revisions.push_back(revision);
    }

    /// There is nothing more up to this revision.
    pub(super) fn seen(&mut self, revision: u64) {
        self.next = self.next.max(revision.saturating_add(1));
    }
}

/// Whether the event is a key's creation.
pub(super) fn is_entry(event: &Event) -> bool {
    event.kind != "DELETE" && event.kv.version == 1 && event.kv.create_revision == event.kv.mod_revision
}

#[cfg(test)]
mod tests {
    use super::super::wire::KeyValue;
    use super::*;

    fn event(kind: &str, create: u64, modified: u64, version: u64) -> Event {
        let kv = KeyValue { create_revision: create, mod_revision: modified, version, ..KeyValue::default() };
        Event { kind: kind.into(), kv }
    }

    #[test]
    fn entries_stand_in_the_order_of_their_creation_whatever_is_done_to_them_later() {
        let mut order = Order::new();
        let creation = |revision| event("", revision, revision, 1);
        for event in [creation(3), creation(5), event("", 3, 6, 2), event("DELETE", 0, 7, 0), creation(9), creation(5)]
        {
            order.take(&event);
        }
        assert_eq!((order.end(), order.next(), order.tampered()), (3, 10, 2));
        assert_eq!(
            [0, 1, 2, 3, 4].map(|position| order.revision_of(position)),
            [Some(3), Some(5), Some(9), Some(10), None]
        );
        assert_eq!((order.position_of(5), order.position_of(6)), (Some(1), None));
        order.seen(20);
        assert_eq!((order.revision_of(3), order.end()), (Some(21), 3));
    }

    #[test]
    fn only_the_last_entries_are_remembered() {
        let mut order = Order::new();
        for revision in 1..=WINDOW as u64 + 10 {
            order.take(&event("", revision, revision, 1));
        }
        assert_eq!(order.end(), WINDOW as u64 + 10);
        assert_eq!((order.revision_of(9), order.revision_of(10)), (None, Some(11)));
        assert_eq!((order.position_of(10), order.position_of(11)), (None, Some(10)));
    }
}
