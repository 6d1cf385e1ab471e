//! Who may come in, and who has to leave for it. Pure: it names connections, and others close them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};

use crate::committee::NodeId;

/// A connection that was accepted; later ones have larger numbers.
pub(super) type ConnectionId = u64;

/// Where a stranger calls from: an address, or the /64 network that whoever has one IPv6 address usually has whole.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Origin(IpAddr);

impl Origin {
    pub(super) fn of(address: IpAddr) -> Self {
        Origin(match address.to_canonical() {
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64))),
            v4 @ IpAddr::V4(_) => v4,
        })
    }
}

/// The connections there are: of strangers, who have not proven a key yet, and of members, one each.
///
/// A newcomer always gets in, and for that the oldest stranger of its own origin leaves, if that has its full share, or
/// else the oldest of the origin that has most with the newcomer counted, which is its own if others have as many. So
/// who holds connections without using them holds them from itself, and an honest peer, which needs a few round trips
/// to prove its key, is pushed out only by as many newcomers in that time as there are places. Who has to leave takes a
/// moment for it, in which the next come in already: a queue that waits for them is full before long, and nobody gets
/// in. But there are never more who leave than there are places.
pub(super) struct Door {
    strangers_limit: usize,
    origin_limit: usize,
    next: ConnectionId,
    strangers: BTreeMap<ConnectionId, Origin>,
    leaving: BTreeSet<ConnectionId>,
    members: BTreeMap<NodeId, ConnectionId>,
}

/// Why somebody does not get further just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// As many as can be are still leaving.
    ForRoom,
    /// This one has to be made to leave first.
    For(ConnectionId),
    /// It has to leave itself.
    Never,
}

impl Door {
    /// So many strangers at once, and so many from one origin.
    pub(super) fn new(strangers_limit: usize, origin_limit: usize) -> Self {
        Door {
            strangers_limit: strangers_limit.max(1),
            origin_limit: origin_limit.max(1),
            next: 0,
            strangers: BTreeMap::new(),
            leaving: BTreeSet::new(),
            members: BTreeMap::new(),
        }
    }

    /// Lets a stranger in, and says who has to leave for it.
    pub(super) fn enter(&mut self, origin: Origin) -> Result<(ConnectionId, Option<ConnectionId>), Wait> {
        if self.leaving.len() >= self.strangers_limit {
            return Err(Wait::ForRoom);
        }
        let leaver = self.leaver(origin);
        if let Some(leaver) = leaver {
            self.strangers.remove(&leaver);
            self.leaving.insert(leaver);
        }
        self.next += 1;
        self.strangers.insert(self.next, origin);
        Ok((self.next, leaver))
    }

    /// A stranger has proven to be this member, whose older connection has to be gone first.
    pub(super) fn recognise(&mut self, id: ConnectionId, member: NodeId) -> Result<(), Wait> {
        if !self.strangers.contains_key(&id) {
            return Err(Wait::Never);
        }
        if let Some(older) = self.members.get(&member) {
            return Err(Wait::For(*older));
        }
        self.strangers.remove(&id);
        self.members.insert(member, id);
        Ok(())
    }

    /// The connection is closed, and its thread is done.
    pub(super) fn left(&mut self, id: ConnectionId) {
        self.strangers.remove(&id);
        self.leaving.remove(&id);
        self.members.retain(|_, connection| *connection != id);
    }

    /// Whether this member is connected.
    pub(super) fn has(&self, member: &NodeId) -> bool {
        self.members.contains_key(member)
    }

    fn leaver(&self, origin: Origin) -> Option<ConnectionId> {
        let mut held: BTreeMap<Origin, usize> = BTreeMap::new();
        self.strangers.values().for_each(|origin| *held.entry(*origin).or_default() += 1);
        if held.get(&origin).is_some_and(|count| *count >= self.origin_limit) {
            return self.strangers.iter().find(|(_, held_by)| **held_by == origin).map(|(id, _)| *id);
        }
        if self.strangers.len() < self.strangers_limit {
            return None;
        }
        // The newcomer counts, or who has one already would take its second from somebody's only one.
        *held.entry(origin).or_default() += 1;
        let greed = |(id, held_by): &(&ConnectionId, &Origin)| (held.get(held_by), **held_by == origin, Reverse(**id));
        self.strangers.iter().max_by_key(greed).map(|(id, _)| *id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(last: u8) -> Origin {
        Origin::of(IpAddr::from([10, 0, 0, last]))
    }

    #[test]
    fn who_has_its_share_gives_way_to_itself_and_who_has_most_to_others() {
        let mut door = Door::new(4, 3);
        let first: Vec<_> = (0..3).map(|_| door.enter(v4(1)).unwrap().0).collect();
        assert_eq!(door.enter(v4(2)), Ok((4, None)));
        assert_eq!(door.enter(v4(3)), Ok((5, Some(first[0]))), "all places are taken, most of them by the first");
        assert_eq!(door.enter(v4(4)), Ok((6, Some(first[1]))));
        assert_eq!(door.enter(v4(3)), Ok((7, Some(5))), "all have one, but for the third");
        let mut door = Door::new(40, 3);
        let first: Vec<_> = (0..3).map(|_| door.enter(v4(1)).unwrap().0).collect();
        assert_eq!(door.enter(v4(1)), Ok((4, Some(first[0]))), "its share is three, however many places are free");
    }

    #[test]
    fn the_only_connection_of_the_highest_address_left_for_whoever_came_a_second_time() {
        let mut door = Door::new(3, 3);
        for last in [1, 2, 9] {
            door.enter(v4(last)).unwrap();
        }
        assert_eq!(door.enter(v4(1)), Ok((4, Some(1))), "it has one already");
        assert_eq!(door.enter(v4(5)), Ok((5, Some(2))), "all have one: the oldest of them leaves");
        let mut door = Door::new(3, 3);
        for last in [1, 1, 9] {
            door.enter(v4(last)).unwrap();
        }
        assert_eq!(door.enter(v4(9)), Ok((4, Some(3))), "both would have two: who comes gives way");
    }

    #[test]
    fn no_more_leave_at_once_than_there_are_places() {
        let mut door = Door::new(2, 2);
        for leaver in [None, None, Some(1), Some(2)] {
            assert_eq!(door.enter(v4(1)).unwrap().1, leaver);
        }
        assert_eq!(door.enter(v4(2)), Err(Wait::ForRoom));
        door.left(1);
        assert_eq!(door.enter(v4(2)), Ok((5, Some(3))));
        assert_eq!(door.recognise(3, NodeId::new([7; 32])), Err(Wait::Never), "it has to leave");
    }

    #[test]
    fn a_member_has_one_connection_and_a_newer_one_waits_for_the_older_to_go() {
        let mut door = Door::new(4, 4);
        let member = NodeId::new([7; 32]);
        let (older, _) = door.enter(v4(1)).unwrap();
        assert_eq!(door.recognise(older, member), Ok(()));
        let (newer, _) = door.enter(v4(1)).unwrap();
        assert_eq!(door.recognise(newer, member), Err(Wait::For(older)));
        door.left(older);
        assert!(!door.has(&member));
        assert_eq!(door.recognise(newer, member), Ok(()));
        door.left(older);
        assert!(door.has(&member), "the older one leaves once");
    }

    #[test]
    fn an_ipv6_network_is_one_origin_and_a_mapped_address_is_the_ipv4_address_that_it_maps() {
        let origin = |text: &str| Origin::of(text.parse().unwrap());
        assert!(origin("2001:db8::1") == origin("2001:db8::ffff:1"));
        assert!(origin("2001:db8::1") != origin("2001:db8:0:1::1"));
        assert!(origin("::ffff:10.0.0.1") == v4(1));
    }
}
