//! What a look for news costs on a log that an etcd cluster keeps, and whether it grows with the log: the processor time that
//! etcd and this process take from an entry's append by one member until another has read it, with 1,000 keys under the prefix
//! and with 100,000. Beside it what a look was that asks for all that has changed, as etcd itself answers it. Needs `etcd`
//! (Debian's etcd-server).

#[path = "../tests/etcd_room/mod.rs"]
mod etcd_room;
#[path = "../tests/folder/mod.rs"]
mod folder;
#[path = "../tests/install/mod.rs"]
mod install;

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cpu_time::ProcessTime;
use dkg_engine::chain::log::{EtcdLog, EtcdLogConfig, LogHost};
use etcd_room::Cluster;
use serde_json::json;

const PREFIX: &str = "dkg/bench/";
/// How many keys one transaction writes; etcd takes 128.
const AT_ONCE: usize = 100;
const VALUE_BYTES: usize = 300;
const LOOKS: u32 = 200;

fn access(cluster: &Cluster) -> EtcdLog {
    let endpoints = cluster.endpoints().iter().map(|endpoint| endpoint.parse().expect("an endpoint")).collect();
    EtcdLog::new(EtcdLogConfig::new(endpoints, PREFIX.into()))
}

/// Writes keys from one number to another.
fn fill(cluster: &Cluster, from: usize, to: usize) {
    let value = STANDARD.encode(vec![7; VALUE_BYTES]);
    for first in (from..to).step_by(AT_ONCE) {
        let put = |number: usize| {
            let key = STANDARD.encode(format!("{PREFIX}m9/{number:08}"));
            json!({ "request_put": { "key": key, "value": value } })
        };
        let puts: Vec<_> = (first..to.min(first + AT_ONCE)).map(put).collect();
        cluster.ask(0, "/v3/kv/txn", &json!({ "success": puts })).expect("etcd takes them");
    }
}

/// Processor time of etcd and of this process.
fn spent(cluster: &Cluster) -> Duration {
    ProcessTime::now().as_duration() + cluster.processor_time(0)
}

fn per_look(cluster: &Cluster, mut look: impl FnMut(u32)) -> (Duration, Duration) {
    let (spent_before, begun) = (spent(cluster), Instant::now());
    (0..LOOKS).for_each(&mut look);
    ((spent(cluster) - spent_before) / LOOKS, begun.elapsed() / LOOKS)
}

fn main() {
    println!("     keys | append to read, CPU | wall time | all that changed, CPU | wall time | start, wall time");
    let cluster = Cluster::new(1);
    let mut written = 0;
    for keys in [1_000, 100_000] {
        fill(&cluster, written, keys);
        written = keys;
        let (writer, reader) = (access(&cluster), access(&cluster));
        let begun = Instant::now();
        let mut position = 0;
        while position < keys as u64 {
            position += reader.read(position, 512).expect("a read").len() as u64;
        }
        let start = begun.elapsed();
        writer.append(format!("first of {keys}").as_bytes()).expect("an append");
        written += 1;
        let news = per_look(&cluster, |look| {
            let position = writer.append(format!("{keys} {look}").as_bytes()).expect("an append");
            while reader.read(position, 1).expect("a read").is_empty() {
                reader.wait(position, Duration::from_secs(9)).expect("a wait");
            }
        });
        written += LOOKS as usize;
        let (key, range_end) = (STANDARD.encode(PREFIX), STANDARD.encode("dkg/bench0"));
        let changed = json!({
            "key": key, "range_end": range_end, "min_mod_revision": "1", "limit": "1", "keys_only": true,
            "sort_order": "DESCEND", "sort_target": "MOD",
        });
        let all = per_look(&cluster, |look| {
            if look % 20 == 0 {
                cluster.ask(0, "/v3/kv/range", &changed).expect("an answer");
            }
        });
        println!(
            "{keys:>9} | {:>19.2?} | {:>9.2?} | {:>21.2?} | {:>9.2?} | {start:>9.2?}",
            news.0,
            news.1,
            all.0 * 20,
            all.1 * 20
        );
    }
}
