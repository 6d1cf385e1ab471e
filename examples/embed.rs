//! A host that embeds the engine: its own network, whiteboard, store and blocks, and one run of a committee of three.
use std::{collections::BTreeMap, error::Error, sync::Arc};

use dkg_engine::bls::{ProvenPublicKey, SecretKey};
use dkg_engine::chain::{BoardMessage, ClientError, DkgContractClient, DkgResult};
use dkg_engine::committee::{Committee, Member, NodeId};
use dkg_engine::{SecretBytes, engine::*, envelope::PrivateMessage, epoch::*, network::*, store::*};
use parking_lot::{Condvar, Mutex};

#[derive(Default)] // What this host's nodes share. A real one has sockets and a chain here.
struct World {
    nodes: BTreeMap<NodeId, InboundHandle>,
    board: Vec<BoardMessage>,
    results: Vec<DkgResult>,
    delivered: usize,
}

/// One node's port to the world, and its own records.
struct Port(Arc<(Mutex<World>, Condvar)>, NodeId, Mutex<BTreeMap<RecordId, SecretBytes>>);

impl Port {
    fn change(&self, change: impl FnOnce(&mut World)) {
        change(&mut self.0.0.lock());
        self.0.1.notify_all();
    }
}

impl Network for Port {
    fn send(&self, to: &NodeId, message: &PrivateMessage) -> Result<(), NetworkError> {
        let away = || NetworkError::Unreachable(*to, "not running, or busy".into());
        let node = self.0.0.lock().nodes.get(to).cloned().ok_or_else(away)?;
        let (receipt, answer) = Receipt::awaited();
        let delivery = Delivery { from: self.1, message: message.clone(), receipt };
        node.deliver(delivery).map_err(|_| away())?;
        if !answer.wait(CONFIRM_LIMIT) {
            return Err(away());
        }
        self.change(|world| world.delivered += 1);
        Ok(())
    }
}

impl DkgContractClient for Port {
    fn broadcast(&self, content: &str) -> Result<(), ClientError> {
        self.change(|world| world.board.push(BoardMessage { node_id: self.1, content: content.into() }));
        Ok(())
    }
    fn read_broadcast(&self, from: u64, as_of: &Header, limit: usize) -> Result<Vec<BoardMessage>, ClientError> {
        let covered = as_of.height.saturating_sub(from) as usize; // This host's height counts posts.
        Ok(self.0.0.lock().board.iter().skip(from as usize).take(covered.min(limit)).cloned().collect())
    }
    fn submit_result(&self, _: &InstanceId, result: &DkgResult) -> Result<(), ClientError> {
        self.change(|world| world.results.push(result.clone()));
        Ok(())
    }
}

impl Store for Port {
    fn read(&self, id: RecordId) -> Result<Option<SecretBytes>, StoreError> {
        Ok(self.2.lock().get(&id).cloned())
    }
    fn list(&self) -> Result<Vec<RecordId>, StoreError> {
        Ok(self.2.lock().keys().copied().collect())
    }
    fn commit(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        let mut records = self.2.lock();
        changes.iter().try_for_each(|change| change.check(|id| Ok(records.get(&id).cloned())))?;
        for change in changes {
            match change {
                Change::Put(id, record) => records.insert(id, record),
                Change::Remove(id) => records.remove(&id),
                Change::Expect(..) => None,
            };
        } // A real host makes all this durable, or none of it, before it returns.
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let world = Arc::new((Mutex::new(World::default()), Condvar::new()));
    let wait = |done: fn(&World) -> bool| world.1.wait_while(&mut world.0.lock(), |world| !done(world));
    let ids = [1, 2, 3].map(|n| NodeId::new([n; 32]));
    let keys = [1, 2, 3].map(|n| SecretKey::from_seed(&[n; 32])); // A real node's seed is secret.
    let (mut members, mut network, mut nodes) = (Vec::new(), Vec::new(), Vec::new());
    let block = |view, height| Header { view: View(view), height, id: [0; 32] };
    for (node_id, key) in ids.into_iter().zip(keys) {
        let (key, port) = (key?, Arc::new(Port(world.clone(), node_id, Mutex::default())));
        members.push(Member { node_id, staking_key: ProvenPublicKey::vouched_for(key.public_key()) });
        let tunnel = BrokerTunnel::new();
        let messaging = MessagingEngine::new(port.clone(), tunnel.clone(), MessagingEngineConfig::default())?;
        world.0.lock().nodes.insert(node_id, messaging.inbound());
        network.push(messaging);
        let snapshot = Snapshot::new(EpochCounter(0), block(0, 0), EpochPhase::Staking);
        let (state, factory) = (DkgState::new(port.clone()), ControllerFactory::new(node_id, key));
        nodes.push(ReactorEngine::new(ReactorParts::new(snapshot, state, factory, port, tunnel))?);
    }
    let (committee, finals) = (Arc::new(Committee::new(members)?), [View(50), View(100), View(150)]);
    let setup = EpochSetup::new("example", EpochCounter(1), committee, View(1), finals);
    nodes.iter().for_each(|node| node.epoch_setup_phase_started(EpochCounter(0), block(1, 0), setup.clone()));
    wait(|world| world.board.len() == 3 && world.delivered == 6); // Everybody has dealt; now time may pass.
    for view in [50, 100, 150] {
        nodes.iter().for_each(|node| node.block_finalized(block(view, 3)));
    }
    wait(|world| world.results.len() == 3);
    nodes.iter().try_for_each(ReactorEngine::stop)?;
    network.iter().try_for_each(MessagingEngine::stop)?;
    let world = world.0.lock();
    let DkgResult::Complete { group_key, .. } = &world.results[0] else { return Err("the run failed".into()) };
    println!(
        "group key {group_key}; all three agree: {}",
        world.results.iter().all(|result| *result == world.results[0])
    );
    Ok(())
}
