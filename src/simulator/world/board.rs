//! Calls to the whiteboard, as nodes make them and as defects of the reference misread them.

use super::super::chance::{Draw, dice};
use super::super::coalition::Planned;
use super::super::defect::Defect;
use super::super::fault::Fault;
use super::super::node::{Node, Waiting, instant};
use super::super::plan::{ChainKind, VIEW_MS};
use super::{Chain, PartOfNode, World};
use crate::chain::log::Payload;
use crate::chain::{BoardMessage, ClientError, DkgContractClient, DkgResult};
use crate::committee::Index;
use crate::engine::{Input, Publication, READ_PAGE, ReadRequest};
use crate::envelope::BroadcastMessage;
use crate::epoch::{Header, InstanceId};
use crate::protocol::Broadcast;
use rand::RngExt;
use rand::rand_core::Rng;
use std::time::Instant;

impl World {
    pub(super) fn begin_read(&mut self, member: usize, request: ReadRequest) {
        let early = self.defect == Some(Defect::TransitionBeforePoll)
            && request.must_succeed
            && self.dice(Draw::Turn).random_bool(0.5);
        let now = instant(self.base, self.now);
        if early {
            let nothing = Input::Page { read: request.id, messages: Vec::new(), last: true };
            self.on_process(member, |process| process.inbox.push_back(Waiting::Board(nothing)));
            return self.turn_soon(member);
        }
        self.on_process(member, |process| {
            process.read_failures = 0;
            process.poller.read(request, now);
        });
        self.call_soon(member, PartOfNode::Poller);
    }

    pub(super) fn poll(&mut self, member: usize) {
        let now = instant(self.base, self.now);
        let Some(process) = self.nodes.get_mut(&member).and_then(|node| node.process.as_mut()) else { return };
        let Some(call) = process.poller.due(now) else { return self.poll_again(member) };
        let mut result = self.read(member, call.client, call.from_index, &call.as_of);
        if let Ok(messages) = &mut result {
            self.misread(member, call.from_index, messages);
        }
        let random = self.dice(Draw::Turn).next_u64();
        let skips = self.defect == Some(Defect::FailedReadIsSkipped);
        let Some(process) = self.nodes.get_mut(&member).and_then(|node| node.process.as_mut()) else { return };
        if result.is_err() {
            process.read_failures += 1;
            if skips && process.read_failures > 3 {
                result = Ok(Vec::new());
            }
        }
        let free = result.is_ok();
        if free {
            process.publisher.way_is_free();
        }
        if let Some(input) = process.poller.tried(result, now, random) {
            process.inbox.push_back(Waiting::Board(input));
            self.turn_soon(member);
        }
        self.poll_again(member);
        if free {
            self.publish_again(member);
        }
    }

    pub(super) fn poll_again(&mut self, member: usize) {
        let next = self.nodes.get(&member).and_then(|node| node.process.as_ref()?.poller.next_due());
        self.again(member, PartOfNode::Poller, next);
    }

    pub(super) fn again(&mut self, member: usize, part: PartOfNode, due: Option<Instant>) {
        let Some(due) = due else { return };
        let latency = self.dice(Draw::Calls).random_range(1..=self.plan.weather().call_ms.max(1));
        let due = u64::try_from(due.saturating_duration_since(self.base).as_millis()).unwrap_or(self.now);
        self.due(member, part, (due + 1).max(self.now + latency));
    }

    /// The defects of the reference that change what a node makes of the board.
    pub(super) fn misread(&self, member: usize, from: u64, messages: &mut Vec<BoardMessage>) {
        match self.defect {
            Some(Defect::GarbageBlinds)
                if messages.iter().any(|post| BroadcastMessage::from_json(&post.content).is_err()) =>
            {
                messages.clear();
            }
            Some(Defect::OwnComplaintFirst) => self.forget_early_answers(member, from, messages),
            _ => {}
        }
    }

    /// Answers to a member that stand before its complaint are lost to it: it writes its complaint over them.
    pub(super) fn forget_early_answers(&self, member: usize, from: u64, messages: &mut [BoardMessage]) {
        let Some(me) = Index::from_position(member) else { return };
        let own = self.nodes.get(&member).map(Node::id);
        let earlier = self.board_before(from);
        let mut complained: Vec<u8> = Vec::new();
        let data = |post: &BoardMessage| BroadcastMessage::from_json(&post.content).map(|message| message.data);
        for post in &earlier {
            if Some(post.node_id) == own
                && let Ok(data) = data(post)
                && let Broadcast::Complaint([accused]) = Broadcast::parse(&data)
            {
                complained.push(*accused);
            }
        }
        for post in messages.iter_mut() {
            let Ok(data) = data(post) else { continue };
            let dealer = self.place(&post.node_id).and_then(Index::from_position);
            match Broadcast::parse(&data) {
                Broadcast::Complaint([accused]) if Some(post.node_id) == own => complained.push(*accused),
                Broadcast::Answer([to, ..])
                    if *to == me.byte() && dealer.is_some_and(|dealer| !complained.contains(&dealer.byte())) =>
                {
                    post.content = "an answer that is forgotten".to_owned();
                }
                _ => {}
            }
        }
    }

    pub(super) fn board_before(&self, index: u64) -> Vec<BoardMessage> {
        let count = usize::try_from(index).unwrap_or(usize::MAX);
        match &self.chain {
            Chain::Contract(chain) => chain.messages(0, &chain.head(), count).unwrap_or_default().to_vec(),
            Chain::Log(log) => log.observer.contract().messages(0, count).to_vec(),
        }
    }

    /// Whether the host of a log chain answers nobody, for the first part of a view.
    pub(super) fn host_stalls(&self) -> bool {
        let mut dice = dice(self.plan.seed(), Draw::Blocks, self.now / VIEW_MS, u64::MAX);
        self.plan.chain() == ChainKind::Log
            && dice.random_range(0..100) < self.plan.weather().stalling
            && self.now % VIEW_MS < dice.random_range(0..VIEW_MS / 2)
    }

    /// Why a call to the board fails before it gets there; the call may have been heard all the same.
    pub(super) fn call_fails(&mut self, member: usize, client: usize) -> Option<(ClientError, bool)> {
        let failing = self.plan.weather().failing;
        let dead = self.plan.chain() == ChainKind::Contract && self.plan.weather().dead_client == Some(client);
        let stalls = dead || self.host_stalls();
        let mut dice = self.dice(Draw::Calls);
        let node = self.nodes.get_mut(&member)?;
        let unavailable = |why: &str| ClientError::Unavailable(why.to_owned());
        if stalls {
            return Some((unavailable("no answer"), false));
        }
        if node.is_cut_off(self.now) || node.suffers(Fault::BoardOutage, self.now).is_some() {
            return Some((unavailable("no connection"), false));
        }
        let unlucky = dice.random_range(0..100) < failing && node.has_bad_luck(self.now);
        unlucky.then(|| (unavailable("timed out"), dice.random_bool(0.3)))
    }

    pub(super) fn read(
        &mut self,
        member: usize,
        client: usize,
        from: u64,
        as_of: &Header,
    ) -> Result<Vec<BoardMessage>, ClientError> {
        if let Some((error, _)) = self.call_fails(member, client) {
            return Err(error);
        }
        let node = self.nodes.get(&member).ok_or_else(|| ClientError::Refused("no such node".into()))?;
        match &self.chain {
            Chain::Contract(chain) => {
                // A client sees a block later than others; the second one later than the first.
                let lagging = node.suffers(Fault::LaggingBoard, self.now).map_or(0, |m| m.much % (10 * VIEW_MS));
                let mut dice = dice(self.plan.seed(), Draw::Blocks, as_of.view.0, member as u64);
                let lag = dice.random_range(0..=self.plan.weather().block_ms) + lagging + 5 * client as u64;
                if as_of.view.0 * VIEW_MS + lag > self.now {
                    return Err(ClientError::Unavailable(format!("view {} has not been seen here", as_of.view)));
                }
                chain
                    .messages(from, as_of, READ_PAGE)
                    .map(<[BoardMessage]>::to_vec)
                    .map_err(|error| ClientError::Refused(error.to_string()))
            }
            Chain::Log(_) => match &node.log {
                Some(log) => log.chain.board().read_broadcast(from, as_of, READ_PAGE),
                None => Err(ClientError::Refused("no such node".into())),
            },
        }
    }

    pub(super) fn publish(&mut self, member: usize) {
        let now = instant(self.base, self.now);
        let Some(process) = self.nodes.get_mut(&member).and_then(|node| node.process.as_mut()) else { return };
        let Some((client, instance, publication)) = process.publisher.due(now) else {
            return self.publish_again(member);
        };
        let (post, result) = match publication {
            Publication::Post(content) => (Some(content.clone()), None),
            Publication::Submission(result) => (None, Some(result.clone())),
        };
        let instance = instance.clone();
        let outcome = match (post, result) {
            (Some(content), _) => self.post(member, client, &content),
            (_, Some(result)) => self.submit(member, client, &instance, &result),
            _ => Ok(()),
        };
        let random = self.dice(Draw::Turn).next_u64();
        let free = outcome.is_ok();
        self.on_process(member, |process| {
            if free {
                process.poller.way_is_free();
            }
            process.publisher.tried(outcome, now, random);
        });
        self.publish_again(member);
        if free {
            self.poll_again(member);
        }
    }

    pub(super) fn publish_again(&mut self, member: usize) {
        let now = instant(self.base, self.now);
        let next = self.nodes.get(&member).and_then(|node| node.process.as_ref()?.publisher.next_due(now));
        self.again(member, PartOfNode::Publisher, next);
    }

    pub(super) fn post(&mut self, member: usize, client: usize, content: &str) -> Result<(), ClientError> {
        let planned = self.coalition.overhear(member, content, self.now);
        self.rush(planned);
        match self.call_fails(member, client) {
            Some((error, false)) => return Err(error),
            Some((error, true)) => {
                let _ = self.put_on_board(member, content);
                return Err(error);
            }
            None => {}
        }
        self.put_on_board(member, content)
    }

    /// The coalition is quicker: what it has to say at once comes first.
    pub(super) fn rush(&mut self, planned: Vec<Planned>) {
        for planned in planned {
            if planned.at <= self.now {
                self.act(planned);
            } else {
                self.schedule(vec![planned]);
            }
        }
    }

    pub(super) fn put_on_board(&mut self, member: usize, content: &str) -> Result<(), ClientError> {
        let id = self.config.committee().members().get(member).map(|member| member.node_id);
        let (Some(id), honest) = (id, !self.plan.malicious().contains(&member)) else {
            return Err(ClientError::Refused("no such member".into()));
        };
        match &mut self.chain {
            Chain::Contract(chain) => {
                let position = chain.calls();
                chain.post(id, content).map_err(|error| ClientError::Refused(error.to_string()))?;
                self.watch.posted(member, content, position, honest);
                Ok(())
            }
            Chain::Log(_) => {
                let board = self.nodes.get(&member).and_then(|node| node.log.as_ref()).map(|log| log.chain.board());
                let result = match board {
                    Some(board) => board.broadcast(content),
                    None => {
                        self.append_payload(member, Payload::Post(content.to_owned()));
                        Ok(())
                    }
                };
                self.read_log();
                result
            }
        }
    }

    pub(super) fn append_payload(&mut self, member: usize, payload: Payload) {
        if let Chain::Log(log) = &mut self.chain
            && let Some(entry) = log.pens.write(member, payload)
        {
            self.append(&entry);
        }
    }

    pub(super) fn submit(
        &mut self,
        member: usize,
        client: usize,
        instance: &InstanceId,
        result: &DkgResult,
    ) -> Result<(), ClientError> {
        let planned = self.coalition.overhear_result(result, self.now);
        self.schedule(planned);
        match self.call_fails(member, client) {
            Some((error, false)) => return Err(error),
            Some((error, true)) => {
                let _ = self.put_result(member, instance, result);
                return Err(error);
            }
            None => {}
        }
        self.put_result(member, instance, result)
    }

    pub(super) fn put_result(
        &mut self,
        member: usize,
        instance: &InstanceId,
        result: &DkgResult,
    ) -> Result<(), ClientError> {
        let id = self.config.committee().members().get(member).map(|member| member.node_id);
        let Some(id) = id else { return Err(ClientError::Refused("no such member".into())) };
        match &mut self.chain {
            Chain::Contract(chain) => {
                let event =
                    chain.submit(id, instance, result).map_err(|error| ClientError::Refused(error.to_string()))?;
                self.watch.submitted(member, result);
                self.chain_events(event.into_iter().collect());
                Ok(())
            }
            Chain::Log(_) => {
                let board = self.nodes.get(&member).and_then(|node| node.log.as_ref()).map(|log| log.chain.board());
                let outcome = match board {
                    Some(board) => board.submit_result(instance, result),
                    None => {
                        let (instance, result) = (instance.clone(), result.clone());
                        self.append_payload(member, Payload::Submit { instance, result });
                        Ok(())
                    }
                };
                self.read_log();
                outcome
            }
        }
    }
}
