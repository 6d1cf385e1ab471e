//! A committee whose members have nothing in common but a log and their links to each other.
#![cfg(all(feature = "tcp", feature = "log-chain"))]

mod log_support;
mod support;
mod tcp_support;

use std::sync::Arc;
use std::time::Duration;

use dkg_engine::bls::{PublicKey, RANDOM_BEACON_TAG, combine};
use dkg_engine::chain::DkgContractClient;
use dkg_engine::chain::log::{ChainConfig, ChainNode, Clock, Follower, LogChain, MemoryLog, SystemClock};
use dkg_engine::committee::Index;
use dkg_engine::engine::{
    BrokerTunnel, ControllerFactory, EngineEvent, EventHandle, MessagingEngine, MessagingEngineConfig, OsRandomness,
    ReactorConfig, ReactorEngine, ReactorParts, WhiteboardConfig,
};
use dkg_engine::epoch::EpochCounter;
use dkg_engine::network::tcp::{TcpConfig, TcpLimits, TcpNetwork, TcpPeer};
use dkg_engine::store::{DkgState, MemoryStore, SafeKey};
use log_support::{N, T, index, network_key, node, spec};
use support::{Events, staking_key};
use tcp_support::{LOCALHOST, Relay};

struct Member {
    state: DkgState,
    events: Events,
    network: Arc<TcpNetwork>,
    messaging: MessagingEngine,
    reactor: ReactorEngine,
    node: ChainNode,
}

impl Member {
    fn new(config: &Arc<ChainConfig>, log: &MemoryLog, relay: &Relay, me: usize) -> Member {
        let peer = |number| TcpPeer {
            node_id: node(number),
            key: *config.network_key(index(number)).unwrap(),
            address: config.address(index(number)).unwrap().clone(),
        };
        let network = TcpNetwork::bind(TcpConfig {
            listen: LOCALHOST,
            me: node(me),
            key: network_key(me),
            chain: *config.identity(),
            peers: (0..N).map(peer).collect(),
            clock_offset_ms: 0,
            limits: TcpLimits::default(),
        });
        let network = Arc::new(network.unwrap());
        relay.lead(Some(network.local_addr()));
        let chain = ChainNode::new(LogChain::new(config.clone()), Arc::new(log.reader()), network_key(me), 1).unwrap();
        let tunnel = BrokerTunnel::new();
        let wait = Duration::from_millis(20);
        let messaging_config = MessagingEngineConfig { retry_base_wait: wait, ..MessagingEngineConfig::default() };
        let messaging = MessagingEngine::new(network.clone(), tunnel.clone(), messaging_config).unwrap();
        network.attach(messaging.inbound());
        let (state, events) = (DkgState::new(Arc::new(MemoryStore::new())), Events::new());
        let board: Arc<dyn DkgContractClient> = chain.board();
        let reactor = ReactorEngine::new(ReactorParts {
            config: ReactorConfig {
                poll_step: 1,
                whiteboard: WhiteboardConfig { base_wait: wait, ..WhiteboardConfig::default() },
                ..ReactorConfig::default()
            },
            snapshot: chain.replica().lock().snapshot(),
            state: state.clone(),
            factory: ControllerFactory::new(node(me), staking_key(me)),
            clients: vec![board],
            tunnel,
            randomness: Box::new(OsRandomness),
            observer: Arc::new(events.clone()),
        });
        Member { state, events, network, messaging, reactor: reactor.unwrap(), node: chain }
    }
}

#[test]
fn a_committee_makes_a_key_over_tcp_with_which_more_than_t_of_its_members_sign() {
    let relays: Vec<_> = (0..N).map(|_| Relay::new()).collect();
    let mut spec = spec();
    for (member, relay) in spec.members.iter_mut().zip(&relays) {
        member.address = Some(relay.address());
    }
    spec.genesis_ms = SystemClock.now_ms();
    let config = Arc::new(ChainConfig::new(spec).unwrap());
    let log = MemoryLog::new();
    let members: Vec<_> = (0..N).map(|me| Member::new(&config, &log, &relays[me], me)).collect();
    // Time passes at the pace of the slowest: they share the cores of one machine.
    let engines: Vec<EventHandle> = members.iter().map(|member| member.reactor.events()).collect();
    let pace = Arc::new(move || engines.iter().map(EventHandle::worked_off).min().unwrap_or_default());
    let followers: Vec<_> = (0..)
        .zip(&members)
        .map(|(seed, member)| {
            let events = Arc::new(member.reactor.events());
            Follower::start(&member.node, Arc::new(SystemClock), pace.clone(), events, seed).unwrap()
        })
        .collect();

    let mut group_keys: Vec<PublicKey> = Vec::new();
    for member in &members {
        let committed = |event: &EngineEvent| match event {
            EngineEvent::KeyCommitted { epoch, .. } => (*epoch == EpochCounter(1)).then_some(()),
            _ => None,
        };
        member.events.wait("the key", committed);
        group_keys.extend(member.events.all().iter().find_map(|event| match event {
            EngineEvent::RunEnded(report) => Some(report.keys.as_ref().unwrap().group_key),
            _ => None,
        }));
        let peers = member.network.peers();
        assert!(peers.iter().all(|peer| peer.outbound && peer.inbound && peer.refused == 0), "{peers:#?}");
        assert!(peers.iter().map(|peer| peer.received).sum::<u64>() > 0, "{peers:#?}");
        assert_eq!(member.network.strangers_refused(), 0);
    }
    let shares: Vec<(Index, _)> = members[..=T]
        .iter()
        .map(|member| match member.state.safe_key(EpochCounter(1)).unwrap() {
            SafeKey::Key(key) => (key.index(), key.secret_key().sign(b"message", &RANDOM_BEACON_TAG)),
            _ => panic!("no safe key"),
        })
        .collect();
    let signature = combine(N, T, &shares).unwrap();
    assert_eq!(group_keys.len(), N);
    assert!(group_keys.iter().all(|key| key.verify(b"message", &RANDOM_BEACON_TAG, &signature)));

    for (member, follower) in members.iter().zip(followers) {
        assert!(member.reactor.stop().is_ok());
        assert_eq!(follower.stop(), Ok(()));
        assert!(member.messaging.stop().is_ok());
    }
}
