//! What waits to be sent to peers, and when: the dispatcher's decisions, without its thread. Pure.
//!
//! Every peer has a lane of its own, and of each lane at most one message is under way. So a peer that takes a message and does
//! not answer holds up its own lane and nobody else's: were the ways shared, `t` such members could hold up everybody's shares
//! beyond the end of phase 1, and have the honest dealers answer each other's complaints in public.
//!
//! Within a lane first tries come before retries, and what is asked for before the rest; a retry that waits for its time holds
//! up nothing. A message that has got through shows that the peer is there: what its lane has to try again is due at once.

use std::collections::BTreeMap;
use std::time::Instant;

use super::mail::{Job, Outbound};
use super::retry::RetryPolicy;
use crate::committee::{MAX_MEMBERS, NodeId};
use crate::envelope::PrivateKind;
use crate::epoch::InstanceId;
use crate::network::NetworkError;

/// Messages that wait to be sent to one peer at most: a run makes one share for it, four requests, and four answers to its own.
pub const OUTBOUND_LIMIT_PER_PEER: usize = 16;
/// Messages that wait to be sent at most: all that wait for the largest committee.
pub const OUTBOUND_LIMIT: usize = MAX_MEMBERS * OUTBOUND_LIMIT_PER_PEER;

/// Private messages on their way out, each with its next try.
pub(crate) struct Outbox {
    policy: RetryPolicy,
    /// Those of peers for which something waits or is under way.
    lanes: BTreeMap<NodeId, Lane>,
    /// Runs whose messages are of no use any more. Only the last: older ones have none left.
    ended: Option<InstanceId>,
}

/// One peer's messages.
#[derive(Default)]
struct Lane {
    waiting: Vec<Job>,
    under_way: bool,
}

impl Outbox {
    pub(crate) fn new(policy: RetryPolicy) -> Self {
        Outbox { policy, lanes: BTreeMap::new(), ended: None }
    }

    pub(crate) fn add(&mut self, outbound: Outbound, now: Instant) {
        let to = outbound.to;
        let in_lane = self.lanes.get(&to).map_or(0, |lane| lane.waiting.len() + usize::from(lane.under_way));
        if in_lane >= OUTBOUND_LIMIT_PER_PEER || self.len() >= OUTBOUND_LIMIT {
            log::error!(
                "{in_lane} messages are on their way to {to} already, and {} wait in all; one more is dropped",
                self.len()
            );
            return;
        }
        self.lanes.entry(to).or_default().waiting.push(Job { outbound, failures: 0, due: now });
    }

    /// Messages that wait.
    pub(crate) fn len(&self) -> usize {
        self.lanes.values().map(|lane| lane.waiting.len()).sum()
    }

    /// The messages of this run are of no use any more.
    pub(crate) fn end_run(&mut self, instance: InstanceId) {
        for lane in self.lanes.values_mut() {
            lane.waiting.retain(|job| job.outbound.message.dkg_instance_id != instance.as_str());
        }
        self.lanes.retain(|_, lane| lane.is_in_use());
        self.ended = Some(instance);
    }

    /// The next message to send, if one is due; its lane is closed until it [has returned](Self::returned).
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<Job> {
        let open = self.lanes.values_mut().filter(|lane| !lane.under_way);
        let due = open.filter_map(|lane| Some((lane.next(now)?, lane)));
        let (position, lane) = due.min_by_key(|(position, lane)| lane.waiting.get(*position).map(order))?;
        lane.under_way = true;
        Some(lane.waiting.swap_remove(position))
    }

    /// When the next message is due.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        let open = self.lanes.values().filter(|lane| !lane.under_way);
        open.flat_map(|lane| &lane.waiting).map(|job| job.due).min()
    }

    /// What came of a message that was under way; `random` spreads the next try.
    pub(crate) fn returned(&mut self, mut job: Job, result: Result<(), NetworkError>, now: Instant, random: u64) {
        let to = job.outbound.to;
        let Some(lane) = self.lanes.get_mut(&to) else { return };
        lane.under_way = false;
        let instance = &job.outbound.message.dkg_instance_id;
        match result {
            Ok(()) => lane.waiting.iter_mut().for_each(|other| other.due = other.due.min(now)),
            Err(_) if self.ended.as_ref().is_some_and(|ended| ended.as_str() == instance) => {}
            Err(error) => {
                job.failures += 1;
                match self.policy.retry_at(job.failures, now, random) {
                    Some(due) => {
                        log::debug!("{instance}: message to {to} not delivered ({error}); trying again");
                        job.due = due;
                        lane.waiting.push(job);
                    }
                    None => log::error!(
                        "{instance}: message to {to} given up after {} tries: {error}; if it was a share, its receiver will \
                         complain",
                        job.failures
                    ),
                }
            }
        }
        if !lane.is_in_use() {
            self.lanes.remove(&to);
        }
    }
}

impl Lane {
    fn is_in_use(&self) -> bool {
        self.under_way || !self.waiting.is_empty()
    }

    /// Where the next message that is due stands.
    fn next(&self, now: Instant) -> Option<usize> {
        let due = self.waiting.iter().enumerate().filter(|(_, job)| job.due <= now);
        due.min_by_key(|(_, job)| order(job)).map(|(position, _)| position)
    }
}

/// What goes first: first tries, requests among them, and what has been due for longest. (An answer to a peer's request bears
/// the bytes of the share that may wait there for another try, and goes before it as a first try.)
fn order(job: &Job) -> (bool, bool, Instant) {
    (job.failures > 0, job.outbound.message.kind != PrivateKind::ShareRequest, job.due)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::messaging::MessagingEngineConfig;
    use super::*;
    use crate::SecretBytes;
    use crate::envelope::PrivateMessage;
    use crate::epoch::EpochCounter;

    const SECOND: Duration = Duration::from_secs(1);

    fn outbox() -> Outbox {
        Outbox::new(MessagingEngineConfig::default().policy())
    }

    fn peer(number: u8) -> NodeId {
        NodeId::new([number; 32])
    }

    fn run(epoch: u64) -> InstanceId {
        InstanceId::new("lanes", EpochCounter(epoch))
    }

    fn share(to: u8, number: u8) -> Outbound {
        let message = PrivateMessage::protocol(SecretBytes::new(vec![number]), run(1).as_str());
        Outbound { to: peer(to), message }
    }

    fn request(to: u8) -> Outbound {
        Outbound { to: peer(to), message: PrivateMessage::share_request(run(1).as_str()) }
    }

    fn unreachable(job: &Job) -> Result<(), NetworkError> {
        Err(NetworkError::Unreachable(job.outbound.to, "no answer".into()))
    }

    fn fails(outbox: &mut Outbox, job: Job, now: Instant) {
        let result = unreachable(&job);
        outbox.returned(job, result, now, u64::MAX / 2);
    }

    fn number(job: &Job) -> Option<u8> {
        job.outbound.message.data.expose().first().copied()
    }

    #[test]
    fn peers_that_never_answer_hold_up_nothing_but_their_own_lanes() {
        let (mut outbox, now) = (outbox(), crate::sync::now());
        for to in 0..100 {
            (0..3).for_each(|_| outbox.add(share(to, to), now));
        }
        // All but the last take a message and say no more.
        let mut silent: Vec<Job> = std::iter::from_fn(|| outbox.take_due(now)).collect();
        assert_eq!(silent.len(), 100, "one of each lane is under way");
        let last = silent.pop().unwrap();
        let to = last.outbound.to;
        outbox.returned(last, Ok(()), now, 0);
        for left in [1, 0] {
            let job = outbox.take_due(now).expect("its lane is open");
            assert_eq!(job.outbound.to, to);
            outbox.returned(job, Ok(()), now, 0);
            assert_eq!(outbox.len(), 99 * 2 + left);
        }
        assert!(outbox.take_due(now).is_none());
        assert_eq!(outbox.next_due(), None, "there is nothing to wait for but the silent");
    }

    #[test]
    fn in_a_lane_requests_go_first_then_first_tries_then_retries_by_their_time() {
        let (mut outbox, now) = (outbox(), crate::sync::now());
        outbox.add(share(1, 1), now);
        let job = outbox.take_due(now).unwrap();
        fails(&mut outbox, job, now);
        let later = now + SECOND;
        outbox.add(share(1, 2), later);
        outbox.add(request(1), later);
        let mut order = Vec::new();
        while let Some(job) = outbox.take_due(later) {
            order.push(number(&job));
            // What fails waits again, longer than this.
            fails(&mut outbox, job, later);
        }
        assert_eq!(order, [None, Some(2), Some(1)]);
    }

    #[test]
    fn a_retry_that_waits_for_its_time_holds_up_no_first_try() {
        let (mut outbox, now) = (outbox(), crate::sync::now());
        outbox.add(share(1, 1), now);
        let job = outbox.take_due(now).unwrap();
        fails(&mut outbox, job, now);
        assert!(outbox.take_due(now).is_none());
        outbox.add(share(1, 2), now);
        assert_eq!(outbox.take_due(now).as_ref().and_then(number), Some(2));
    }

    #[test]
    fn a_message_that_gets_through_makes_its_lanes_retries_due_and_no_others() {
        let (mut outbox, now) = (outbox(), crate::sync::now());
        for to in [1, 2] {
            outbox.add(share(to, 1), now);
            let job = outbox.take_due(now).unwrap();
            fails(&mut outbox, job, now);
        }
        assert!(outbox.next_due() > Some(now));
        outbox.add(request(1), now);
        let job = outbox.take_due(now).unwrap();
        outbox.returned(job, Ok(()), now, 0);
        let job = outbox.take_due(now).expect("the peer is there");
        assert_eq!((job.outbound.to, number(&job)), (peer(1), Some(1)));
        assert!(outbox.take_due(now).is_none());
    }

    #[test]
    fn one_peers_messages_fill_its_own_lane_and_nobody_elses() {
        let (mut outbox, now) = (outbox(), crate::sync::now());
        (0..2 * OUTBOUND_LIMIT).for_each(|_| outbox.add(share(1, 1), now));
        assert_eq!(outbox.len(), OUTBOUND_LIMIT_PER_PEER);
        outbox.add(share(2, 2), now);
        assert_eq!(outbox.len(), OUTBOUND_LIMIT_PER_PEER + 1);
    }

    #[test]
    fn an_ended_runs_message_that_was_under_way_leaves_its_lane_open() {
        let (mut outbox, now) = (outbox(), crate::sync::now());
        outbox.add(share(1, 1), now);
        let job = outbox.take_due(now).unwrap();
        outbox.end_run(run(1));
        let message = PrivateMessage::protocol(SecretBytes::new(vec![2]), run(2).as_str());
        outbox.add(Outbound { to: peer(1), message }, now);
        assert!(outbox.take_due(now).is_none(), "one of a lane at a time");
        fails(&mut outbox, job, now);
        assert_eq!(outbox.take_due(now).as_ref().and_then(number), Some(2));
        assert_eq!(outbox.len(), 0, "what belongs to the ended run is not tried again");
    }
}
