//! Who may be connected, and who makes room when all places are taken. Pure: told what happens, it decides.

use std::collections::{BTreeMap, HashMap};

use crate::http::Peer;

/// A place for a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seating {
    /// It has this one.
    Seated(u64),
    /// It can have one when this one has left.
    After(u64),
    /// There is none: all that could make room for it are being served.
    Full,
}

struct Seat {
    peer: Peer,
    /// When it was last heard of, as a number that grows with time.
    idle_since: u64,
    serving: bool,
}

/// The places, and who has them.
pub(crate) struct Seats {
    total: usize,
    per_peer: usize,
    seats: BTreeMap<u64, Seat>,
    peers: HashMap<Peer, usize>,
    next: u64,
    now: u64,
}

impl Seats {
    /// So many places, and so many for one peer.
    pub(crate) fn new(total: usize, per_peer: usize) -> Self {
        Seats { total, per_peer, seats: BTreeMap::new(), peers: HashMap::new(), next: 0, now: 0 }
    }

    /// A place for this peer. Places are numbered; no number comes twice.
    pub(crate) fn take(&mut self, peer: Peer) -> Seating {
        let of_peer = self.peers.get(&peer).copied().unwrap_or(0);
        let idle = || self.seats.iter().filter(|(_, seat)| !seat.serving);
        let leaving = if of_peer >= self.per_peer {
            idle().filter(|(_, seat)| seat.peer == peer).min_by_key(|(_, seat)| seat.idle_since)
        } else if self.seats.len() >= self.total {
            let count = |seat: &Seat| self.peers.get(&seat.peer).copied().unwrap_or(0);
            idle().min_by_key(|(_, seat)| (std::cmp::Reverse(count(seat)), seat.idle_since))
        } else {
            let number = self.next;
            self.next += 1;
            let idle_since = self.tick();
            self.seats.insert(number, Seat { peer, idle_since, serving: false });
            *self.peers.entry(peer).or_default() += 1;
            return Seating::Seated(number);
        };
        leaving.map_or(Seating::Full, |(number, _)| Seating::After(*number))
    }

    /// A request has arrived there in full, or its answer has left.
    pub(crate) fn set_serving(&mut self, number: u64, serving: bool) {
        let now = self.tick();
        if let Some(seat) = self.seats.get_mut(&number) {
            (seat.serving, seat.idle_since) = (serving, now);
        }
    }

    /// The place is free again.
    pub(crate) fn leave(&mut self, number: u64) {
        let Some(seat) = self.seats.remove(&number) else { return };
        if let Some(count) = self.peers.get_mut(&seat.peer) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.peers.remove(&seat.peer);
            }
        }
    }

    /// How many places are taken.
    pub(crate) fn taken(&self) -> usize {
        self.seats.len()
    }

    fn tick(&mut self) -> u64 {
        self.now += 1;
        self.now
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::Seating::{After, Full, Seated};
    use super::*;

    fn peer(number: u32) -> Peer {
        IpAddr::from(Ipv4Addr::from(number)).into()
    }

    #[test]
    fn the_longest_idle_of_a_peer_makes_room_for_its_next_one() {
        let mut seats = Seats::new(9, 2);
        assert_eq!([seats.take(peer(1)), seats.take(peer(1))], [Seated(0), Seated(1)]);
        assert_eq!(seats.take(peer(1)), After(0));
        seats.set_serving(0, true);
        assert_eq!(seats.take(peer(1)), After(1), "who is being served stays");
        seats.set_serving(1, true);
        assert_eq!(seats.take(peer(1)), Full);
        seats.set_serving(1, false);
        seats.set_serving(0, false);
        assert_eq!(seats.take(peer(1)), After(1));
        seats.leave(1);
        assert_eq!(seats.take(peer(1)), Seated(2));
        assert_eq!(seats.take(peer(2)), Seated(3), "others have their own");
    }

    #[test]
    fn when_all_places_are_taken_the_peer_that_has_most_makes_room() {
        let mut seats = Seats::new(4, 3);
        for who in [2, 1, 1, 1] {
            assert!(matches!(seats.take(peer(who)), Seated(_)));
        }
        assert_eq!(seats.take(peer(3)), After(1), "not the one of peer 2, which has been idle longer");
        seats.leave(1);
        assert_eq!(seats.taken(), 3);
        assert_eq!(seats.take(peer(3)), Seated(4));
        (0..9).for_each(|number| seats.set_serving(number, true));
        assert_eq!(seats.take(peer(4)), Full);
        (0..9).for_each(|number| seats.leave(number));
        assert!(seats.peers.is_empty(), "who has left is forgotten");
    }
}
