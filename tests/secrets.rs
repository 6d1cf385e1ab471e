//! Shares and seeds never reach a log line, an event or an error, at any level (R12). In a process of its own, since it is
//! the process's logger.

mod support;

use std::sync::atomic::Ordering;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dkg_engine::SecretBytes;
use dkg_engine::envelope::PrivateMessage;
use dkg_engine::epoch::EpochCounter;
use dkg_engine::network::{Delivery, Receipt};
use dkg_engine::store::SafeKey;
use parking_lot::Mutex;
use support::{World, node_id, staking_key};

static LINES: Mutex<String> = Mutex::new(String::new());

struct Listener;

impl log::Log for Listener {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let mut lines = LINES.lock();
        lines.push_str(&format!("{} {}\n", record.target(), record.args()));
    }

    fn flush(&self) {}
}

/// The forms in which bytes could show.
fn forms(secret: &[u8]) -> Vec<String> {
    let hex = dkg_engine::hex::encode(secret);
    let listed = format!("{secret:?}");
    let inner = listed.trim_matches(['[', ']']).to_owned();
    vec![hex.to_uppercase(), hex, STANDARD.encode(secret), inner]
}

#[test]
fn shares_and_seeds_never_reach_a_log_line_an_event_or_an_error_at_any_level() {
    log::set_logger(&Listener).unwrap();
    log::set_max_level(log::LevelFilter::Trace);
    let mut world = World::new(4);

    // A run with everything that gives a reason to say something about a share: one is lost, one is wrong, one comes
    // twice, one is malformed, one is from a stranger, one is late; and the board fails for a while.
    world.nodes[1].port.lost.lock().push(node_id(0));
    let setup = {
        let forged = |from: usize, bytes: Vec<u8>| {
            let message = PrivateMessage::protocol(SecretBytes::new(bytes), "dkg-test-1");
            Delivery { from: node_id(from), message, receipt: Receipt::none() }
        };
        let mut wrong = vec![0; 33];
        wrong[32] = 77;
        world.nodes[3].messaging.process(forged(2, wrong)).unwrap();
        world.nodes[3].messaging.process(forged(9, vec![0; 33])).unwrap();
        world.begin(1, 4)
    };
    world.nodes[2].client.down.store(true, Ordering::SeqCst);
    let reads = world.nodes[2].client.reads.wait("reads", |reads| Some(*reads));
    world.finalize(setup.phase_final_views[0].0);
    world.nodes[2].client.reads.wait("failing reads", |now| (*now > reads + 2).then_some(()));
    world.nodes[2].client.down.store(false, Ordering::SeqCst);
    world.board.wait_for_posts(6);
    world.end_phase(&setup, 1);
    world.board.wait_for_posts(8);
    world.end_phase(&setup, 2);
    let commit = world.commit(1);
    world.tell_commit(&commit);

    let mut secrets = world.secrets.lock().clone();
    for number in 0..4 {
        world.nodes[number].events.wait("the key", |event| {
            matches!(event, dkg_engine::engine::EngineEvent::KeyCommitted { .. }).then_some(())
        });
        let SafeKey::Key(key) = world.nodes[number].state.safe_key(EpochCounter(1)).unwrap() else { panic!("no key") };
        secrets.push(key.secret_key().scalar().to_be_bytes().to_vec());
        secrets.push(staking_key(number).scalar().to_be_bytes().to_vec());
    }
    let mut said = LINES.lock().clone();
    for node in &world.nodes {
        for event in node.events.all() {
            said.push_str(&format!("{event} {event:?}\n"));
        }
    }
    // The listener hears, and the secrets are there to be found.
    assert!(said.contains("share does not match") && said.contains("trying again"), "{said}");
    assert!(secrets.len() > 4 * 3 + 4 + 8);
    for secret in &secrets {
        // A share message is a tag and the share; look for the share alone, too.
        for part in [&secret[..], secret.get(1..).unwrap_or_default(), secret.get(..16).unwrap_or_default()] {
            for form in forms(part) {
                assert!(part.len() < 16 || !said.contains(&form), "a secret was said");
            }
        }
    }
}
