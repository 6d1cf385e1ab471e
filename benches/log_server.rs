//! How many entries a second a log takes, each durable before it is acknowledged: straight into the file, and over HTTP into
//! a server that checks every signature. The load comes from this process: it takes its part of the same processors.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dkg_engine::bls::{ProvenPublicKey, SecretKey, VectorEncoding};
use dkg_engine::chain::log::{
    ChainConfig, ChainMember, ChainSpec, Entry, FileLog, HttpLog, HttpLogConfig, LogHost, LogPlace, LogServer,
    LogServerConfig, Payload, Prefix, Schedule,
};
use dkg_engine::committee::{Index, NodeId};
use dkg_engine::hex;
use ed25519_dalek::SigningKey;

const MEMBERS: usize = 128;
/// Two members share one.
const CONNECTIONS: usize = 64;
const ENTRY_BYTES: usize = 300;
/// What a member writes in a round. All of a round fit into the window of what a replica remembers: they are signed before
/// the round begins.
const EACH: usize = 60;
/// As many as a member's quota of one epoch allows.
const ROUNDS: usize = 4;

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).expect("the folder goes");
    }
}

fn key(member: usize) -> SigningKey {
    SigningKey::from_bytes(&[u8::try_from(member + 1).expect("few members"); 32])
}

fn config() -> Arc<ChainConfig> {
    let member = |number: usize| {
        let seed = [u8::try_from(number + 1).expect("few members"); 32];
        ChainMember {
            node_id: NodeId::new(seed),
            staking_key: ProvenPublicKey::vouched_for(SecretKey::from_seed(&seed).expect("a seed").public_key()),
            network_key: key(number).verifying_key(),
            address: None,
        }
    };
    let spec = ChainSpec {
        chain_id: "bench".into(),
        genesis_ms: 0,
        view_ms: 1000,
        schedule: Schedule { views_in_epoch: 600, setup_first_view: 60, views_per_phase: 120, poll_step: 10 },
        members: (0..MEMBERS).map(member).collect(),
        vector_encoding: VectorEncoding::Uncompressed,
        log: LogPlace::Local,
    };
    Arc::new(ChainConfig::new(spec).expect("a committee"))
}

/// Sends one entry, and waits until it is acknowledged.
type Append = Box<dyn FnMut(&[u8])>;
/// What each connection sends in a round.
type Load = Vec<Vec<Vec<u8>>>;

fn load(config: &ChainConfig, seen: Prefix, round: usize) -> Load {
    let write = |member: usize, number: usize| {
        let author = Index::from_position(member).expect("few members");
        let sign = |length: usize| {
            let payload = Payload::Post("x".repeat(length));
            let entry = Entry { author, sequence: (round * EACH + number) as u64, payload, seen };
            entry.sign(config.identity(), &key(member)).expect("a short entry")
        };
        sign(ENTRY_BYTES - sign(0).len())
    };
    let of_connection = |connection: usize| {
        let members = (connection..MEMBERS).step_by(CONNECTIONS);
        members.flat_map(|member| (0..EACH).map(move |number| write(member, number))).collect()
    };
    (0..CONNECTIONS).map(of_connection).collect()
}

/// Lets every connection send what it has, one entry after the other; how long that took.
fn timed(load: &Load, appender: &(impl Fn() -> Append + Sync)) -> Duration {
    let ready = std::sync::Barrier::new(CONNECTIONS + 1);
    std::thread::scope(|scope| {
        let threads: Vec<_> = load
            .iter()
            .map(|entries| {
                scope.spawn(|| {
                    let mut append = appender();
                    ready.wait();
                    entries.iter().for_each(|entry| append(entry));
                })
            })
            .collect();
        ready.wait();
        let started = Instant::now();
        threads.into_iter().for_each(|thread| thread.join().expect("all are taken"));
        started.elapsed()
    })
}

fn measure(name: &str, config: &Arc<ChainConfig>, log: &FileLog, appender: impl Fn() -> Append + Sync) {
    let mut seen = Prefix::genesis(config.identity());
    let (mut took, mut entries) = (Duration::ZERO, 0);
    for round in 0..ROUNDS {
        let load = load(config, seen, round);
        took += timed(&load, &appender);
        entries += load.iter().map(Vec::len).sum::<usize>();
        let written = log.reader().read(seen.position, usize::MAX).expect("the log");
        seen = written.iter().fold(seen, |seen, entry| seen.extended(entry));
        assert_eq!(seen.position, entries as u64, "all were taken, each once");
    }
    let rate = entries as f64 / took.as_secs_f64();
    println!("{name}: {entries} entries of {ENTRY_BYTES} bytes over {CONNECTIONS} connections: {rate:.0} a second");
}

/// A connection that is kept, and costs the sender as little as can be.
fn raw(address: SocketAddr, chain: &str) -> Append {
    let mut stream = TcpStream::connect(address).expect("the server");
    stream.set_nodelay(true).expect("an option");
    let chain = chain.to_owned();
    Box::new(move |entry| {
        let head = format!(
            "POST /v1/entries HTTP/1.1\r\nhost: x\r\ndkg-chain: {chain}\r\ncontent-length: {}\r\n\r\n",
            entry.len()
        );
        stream.write_all(&[head.as_bytes(), entry].concat()).expect("it is sent");
        // An answer comes in one piece, and nothing after it.
        let mut answer = [0; 1024];
        let length = stream.read(&mut answer).expect("an answer");
        assert!(answer[..length].starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer[..length]));
    })
}

fn main() {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("log-server-bench-{}", std::process::id()));
    std::fs::create_dir(&path).expect("a folder for the bench");
    let folder = Folder(path);
    let config = config();
    let create = |name: &str| FileLog::create(&folder.0.join(name), config.identity()).expect("a new log");

    let log = create("direct");
    measure("into the file", &config, &log, || {
        let access = log.reader();
        Box::new(move |entry| assert!(access.append(entry).is_ok()))
    });

    let limits = LogServerConfig { requests_per_second: u32::MAX, burst: u32::MAX, ..LogServerConfig::default() };
    let serve = |log: &FileLog| {
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        LogServer::start(any_port, log.clone(), Arc::clone(&config), limits.clone()).expect("a server")
    };
    let log = create("http");
    let server = serve(&log);
    let (address, chain) = (server.local_addr(), hex::encode(config.identity()));
    measure("over HTTP", &config, &log, || raw(address, &chain));
    server.stop();

    let log = create("client");
    let server = serve(&log);
    let endpoint = format!("http://{}", server.local_addr());
    measure("over HTTP with our client", &config, &log, || {
        let access = HttpLog::new(HttpLogConfig::new(vec![endpoint.parse().expect("an endpoint")], *config.identity()));
        Box::new(move |entry| assert!(access.append(entry).is_ok()))
    });
    server.stop();
}
