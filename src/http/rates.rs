//! How often a peer may ask: a token bucket each. Pure: told the time, it decides.

use std::collections::HashMap;

use crate::http::Peer;

/// The most peers that have a bucket of their own; more than that share one.
const MAX_BUCKETS: usize = 4096;
/// How often buckets that are full again make room, in milliseconds: looking for them costs more than a request.
const SWEEP_PERIOD_MS: u64 = 1000;

#[derive(Clone, Copy)]
struct Bucket {
    /// In thousandths of a request.
    tokens: u64,
    at_ms: u64,
}

/// The buckets of all peers.
pub(crate) struct Rates {
    per_second: u64,
    burst: u64,
    buckets: HashMap<Peer, Bucket>,
    shared: Bucket,
    next_sweep_ms: u64,
}

impl Rates {
    /// So many requests a second in the long run, and so many at once.
    pub(crate) fn new(per_second: u32, burst: u32) -> Self {
        let (per_second, burst) = (u64::from(per_second), u64::from(burst.max(1)) * 1000);
        Rates {
            per_second,
            burst,
            buckets: HashMap::new(),
            shared: Bucket { tokens: burst, at_ms: 0 },
            next_sweep_ms: 0,
        }
    }

    /// Whether this peer may make one more request at this time (milliseconds that never go back).
    pub(crate) fn allow(&mut self, peer: Peer, now_ms: u64) -> bool {
        let (per_second, burst) = (self.per_second, self.burst);
        let filled = |bucket: &Bucket| {
            // A thousandth of a request a millisecond is a request a second.
            let gained = now_ms.saturating_sub(bucket.at_ms).saturating_mul(per_second);
            bucket.tokens.saturating_add(gained).min(burst)
        };
        let known = self.buckets.contains_key(&peer);
        if !known && self.buckets.len() >= MAX_BUCKETS && now_ms >= self.next_sweep_ms {
            // A full bucket says as much as none.
            self.buckets.retain(|_, bucket| filled(bucket) < burst);
            self.next_sweep_ms = now_ms.saturating_add(SWEEP_PERIOD_MS);
        }
        let bucket = match !known && self.buckets.len() >= MAX_BUCKETS {
            true => &mut self.shared,
            false => self.buckets.entry(peer).or_insert(Bucket { tokens: burst, at_ms: now_ms }),
        };
        *bucket = Bucket { tokens: filled(bucket), at_ms: now_ms.max(bucket.at_ms) };
        let allowed = bucket.tokens >= 1000;
        if allowed {
            bucket.tokens -= 1000;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use super::*;

    fn peer(number: u32) -> Peer {
        IpAddr::from(Ipv4Addr::from(number)).into()
    }

    #[test]
    fn a_peer_that_has_used_its_burst_gets_the_long_run_rate_and_others_are_not_affected() {
        let mut rates = Rates::new(10, 3);
        let granted = |rates: &mut Rates, who, now| (0..9).filter(|_| rates.allow(peer(who), now)).count();
        assert_eq!(granted(&mut rates, 1, 0), 3);
        assert_eq!(granted(&mut rates, 1, 99), 0);
        assert_eq!(granted(&mut rates, 1, 100), 1);
        assert_eq!(granted(&mut rates, 2, 100), 3);
        assert_eq!(granted(&mut rates, 1, 1_000_000), 3, "no more than the burst, after however long");
        assert_eq!(granted(&mut rates, 1, 0), 0, "a clock that goes back gives nothing");
    }

    #[test]
    fn a_million_peers_take_no_more_than_so_many_buckets() {
        let mut rates = Rates::new(1, 2);
        let allowed = (0..1_000_000).filter(|number| rates.allow(peer(*number), 0)).count();
        assert_eq!(rates.buckets.len(), MAX_BUCKETS);
        assert_eq!(allowed, MAX_BUCKETS + 2, "who has no bucket of its own shares one");
        assert!(rates.allow(peer(1_000_000), 5000), "buckets that are full again make room");
        assert_eq!(rates.buckets.len(), 1);
    }

    #[test]
    fn addresses_of_one_network_are_one_peer() {
        let v6 = |last: u16| Peer::from(IpAddr::from(Ipv6Addr::new(1, 2, 3, 4, 5, 6, 7, last)));
        assert_eq!(v6(1), v6(2));
        assert_ne!(v6(1), IpAddr::from(Ipv6Addr::new(1, 2, 3, 5, 5, 6, 7, 1)).into());
        assert_eq!(Peer::from(IpAddr::from(Ipv4Addr::from(7).to_ipv6_mapped())), peer(7));
        assert_ne!(peer(7), peer(8));
    }
}
