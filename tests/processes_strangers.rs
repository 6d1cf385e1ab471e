//! Strangers at every port of a running committee: they are refused and counted, and the run completes.
#![cfg(all(feature = "cli", target_os = "linux"))]

mod folder;
mod process_room;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use dkg_engine::node::PhaseName;
use process_room::*;
use rand::rngs::{StdRng, SysRng};
use rand::{Rng, RngExt, SeedableRng, TryRng};
use serde_json::Value;

const N: usize = 4;
const ALL: [usize; N] = [0, 1, 2, 3];
const PACE: Pace = Pace { view_ms: 200, setup: 25, phase: 50, epoch: 250 };
/// Connections to each port in each round that say nothing and stay.
const SILENT: usize = 350;
/// Connections to each port in each round that say what makes no sense.
const GARBAGE: usize = 100;
/// How long a stranger waits.
const STRANGER_PATIENCE: Duration = Duration::from_secs(2);
/// More threads than either program's limits come to (see `TcpLimits`, the limits of the page, and `LogServerConfig`).
const MOST_THREADS: [u64; 2] = [300, 720];
/// More memory than these threads and their buffers need, in KiB.
const MOST_KIB: u64 = 300 * 1024;

/// What strangers have done to one port.
#[derive(Default)]
struct Port {
    silent: Vec<TcpStream>,
    connected: u64,
    garbage: u64,
}

impl Port {
    fn round(&mut self, address: SocketAddr, random: &mut StdRng) {
        for _ in 0..SILENT {
            if let Ok(stream) = TcpStream::connect_timeout(&address, STRANGER_PATIENCE) {
                self.connected += 1;
                self.silent.push(stream);
            }
        }
        for number in 0..GARBAGE {
            let Ok(mut stream) = TcpStream::connect_timeout(&address, STRANGER_PATIENCE) else { continue };
            self.connected += 1;
            let _ = stream.set_read_timeout(Some(STRANGER_PATIENCE));
            let _ = stream.set_write_timeout(Some(STRANGER_PATIENCE));
            // Whether it is heard to its end is the other side's business.
            if stream.write_all(&nonsense(number, random)).is_ok() {
                self.garbage += 1;
            }
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let _ = stream.read(&mut [0; 256]);
        }
        // The silent ones of the last round make room for those of the next.
        let old = self.silent.len().saturating_sub(SILENT);
        self.silent.drain(..old);
    }
}

fn nonsense(number: usize, random: &mut StdRng) -> Vec<u8> {
    let mut noise = vec![0; random.random_range(1..4096)];
    random.fill_bytes(&mut noise);
    let beginning: &[u8] = match number % 5 {
        0 => b"",
        // A record of TLS, as long as they come.
        1 => b"\x16\x03\x01\x3f\xff\x01",
        2 => b"POST /v1/entries HTTP/1.1\r\nhost: a\r\ncontent-length: 18446744073709551616\r\n\r\n",
        3 => b"GET / HTTP/1.1\r\nx: ",
        _ => b"\xff\xff\xff\xff\xff\xff\xff\xff",
    };
    [beginning, &noise].concat()
}

#[test]
fn thousands_of_strangers_at_every_port_are_refused_and_counted_and_the_run_completes() {
    let seed = SysRng.try_next_u64().unwrap();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut committee = Committee::new(N, PACE, Log::Http, 3);
    committee.start_log();
    committee.start(0);
    // All from one address, which is the members' own as well.
    let (node, page) = (format!("{}:7000", committee.ip(0)), format!("{}:7080", committee.ip(0)));
    let log = committee.server_address();
    let mut ports = [node, page.clone(), log.clone()].map(|address| (address.parse().unwrap(), Port::default()));
    let mut most = [(0, 0); 2];
    let mut round = |committee: &Committee, ports: &mut [(SocketAddr, Port); 3]| {
        for (address, port) in ports {
            port.round(*address, &mut random);
            for (program, (threads, kib)) in [Some(0), None].into_iter().zip(&mut most) {
                *threads = committee.vital(program, "Threads").max(*threads);
                *kib = committee.vital(program, "VmHWM").max(*kib);
            }
        }
    };
    round(&committee, &mut ports);
    // They have to come in beside them.
    (1..N).for_each(|member| committee.start(member));
    for phase in [PhaseName::Sharing, PhaseName::Complaining, PhaseName::Answering] {
        committee.wait_until("the next phase", &ALL, |status| status.chain.epoch.phase == phase);
        round(&committee, &mut ports);
    }
    committee.wait_until("the key of epoch 1", &ALL, is_safe_in(1));
    for member in ALL {
        let status = committee.status(member).unwrap();
        assert!(status.run_here.disqualified.is_empty(), "{}", summary(&status));
    }
    assert_agreement(&committee, &ALL);
    assert_signs(&committee, &[0, 3], 1);

    println!("threads and KiB of the node and the log server: {most:?}");
    for ((threads, kib), limit) in most.into_iter().zip(MOST_THREADS) {
        assert!(threads < limit && kib < MOST_KIB, "{threads} threads, {kib} KiB");
    }
    let [(_, node), (_, _), (_, server)] = ports;
    // Those that have waited in vain until now end, too.
    drop((node.silent, server.silent));
    println!("connections to the node: {}, to the log server: {}", node.connected, server.connected);
    committee.wait_until("the strangers to be counted", &[0], |status| status.strangers_refused >= node.connected);
    let served = wait_for("the log server to have room for a question", || {
        let answer = String::from_utf8(get(&log, "/v1/status").map_err(|error| error.to_string())?).unwrap();
        let body = answer.split_once("\r\n\r\n").ok_or_else(|| answer.clone())?.1;
        serde_json::from_str::<Value>(body).map_err(|error| format!("{error}: {answer}"))
    });
    println!("node: {}; log server: {served}", committee.status(0).unwrap().strangers_refused);
    let count = |name: &str| served[name].as_u64().unwrap();
    assert!(count("connections_displaced") + count("connections_turned_away") > 0, "{served}");
    assert!(count("connections_accepted") >= server.connected, "{served}");
    // Noise may look like a request now and then; what comes over the rate is not even read.
    let refused = served["refused"]["not-http"].as_u64().unwrap() + served["refused"]["over-rate"].as_u64().unwrap();
    assert!(refused >= server.garbage / 10 * 9, "{served}, of {}", server.garbage);
    assert!(server.connected >= 4 * SILENT as u64 && node.connected >= 4 * SILENT as u64);
    // The page is there for everybody else.
    wait_for("the page", || {
        let answer = get(&page, "/healthz").map_err(|error| error.to_string())?;
        if answer.starts_with(b"HTTP/1.1 200") { Ok(()) } else { Err(String::from_utf8_lossy(&answer).into_owned()) }
    });
}
