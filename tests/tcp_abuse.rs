//! What strangers and members who do not keep the rules can do to a member's links: be refused, be counted, and nothing
//! else. The tests count threads and files of this process, so they take turns.
#![cfg(feature = "tcp")]

mod support;
mod tcp_support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use dkg_engine::committee::MAX_MEMBERS;
use dkg_engine::envelope::{MAX_INSTANCE_BYTES, MAX_PRIVATE_BYTES, PrivateMessage};
use dkg_engine::network::tcp::frame::{Frame, Hello, Verdict};
use dkg_engine::network::tcp::{MAX_FRAME_BYTES, PROTOCOL_VERSION, ProbeError, TcpLimits, TcpNetwork};
use dkg_engine::network::{Network, NetworkError};
use parking_lot::Mutex;
use support::process::files;
use support::{PATIENCE, node_id};
use tcp_support::*;

static TURN: Mutex<()> = Mutex::new(());

/// Threads of networks in this process, of this name or all.
fn network_threads(name: &str) -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok());
    names.filter(|comm| comm.starts_with(name)).count()
}

/// Waits until the other side has closed the connection.
fn closed(stream: &mut TcpStream) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut bytes = [0; 256];
    loop {
        match stream.read(&mut bytes) {
            Ok(1..) => {}
            Ok(_) => return,
            Err(error) => {
                assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "the connection is still open");
                return;
            }
        }
    }
}

/// Proves that member 1 still serves another.
fn served(mailbox: &Mailbox, alice: &TcpNetwork) {
    let before = mailbox.delivered().len();
    alice.send(&node_id(1), &message("still here")).unwrap();
    assert_eq!(mailbox.delivered().len(), before + 1);
}

#[test]
fn bytes_that_are_no_handshake_are_refused_and_counted() {
    let _turn = TURN.lock();
    let machines = Machines::new(3);
    let (alice, _) = machines.member(0);
    let (bob, mailbox) = machines.member(1);
    let noise: &[&[u8]] = &[
        b"GET / HTTP/1.1\r\n\r\n",
        &[0; 5000],
        &[0xff; 5000],
        &[0x16, 3, 1, 0xff, 0xff, 1],
        &[0x16, 3, 1, 0, 5, 1, 0, 0, 1, 0],
        b"",
    ];
    for bytes in noise {
        let mut stream = TcpStream::connect(bob.local_addr()).unwrap();
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        closed(&mut stream);
    }
    eventually("all to be counted", || bob.strangers_refused() == noise.len() as u64);
    served(&mailbox, &alice);
}

#[test]
fn who_lets_bytes_trickle_in_is_cut_off_when_the_time_for_a_handshake_is_over() {
    let _turn = TURN.lock();
    let machines = Machines::new(3);
    let (alice, _) = machines.member(0);
    let handshake = Duration::from_millis(300);
    let bob = machines.start(1, machines.config(1, TcpLimits { handshake, ..limits() }));
    let mailbox = Mailbox::new();
    bob.attach(mailbox.clone());
    let mut silent = TcpStream::connect(bob.local_addr()).unwrap();
    let mut slow = TcpStream::connect(bob.local_addr()).unwrap();
    // A handshake record of 16 KiB, byte after byte: each in time, and the whole never.
    slow.write_all(&[0x16, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc]).unwrap();
    eventually("the connection to be closed", || slow.write_all(&[3]).is_err());
    closed(&mut silent);
    eventually("both to be counted", || bob.strangers_refused() == 2);
    served(&mailbox, &alice);
}

#[test]
fn thousands_of_idle_connections_cost_a_bounded_number_of_threads_and_files_and_a_member_still_gets_in() {
    let _turn = TURN.lock();
    let machines = Machines::new(3);
    let (bob, mailbox) = machines.member(1);
    let before = files();
    let per_origin = limits().strangers_per_origin;
    let most = per_origin + limits().strangers + machines.relays.len() + 8;
    let mut strangers = Vec::new();
    while strangers.len() < 2000 {
        // Where the system's own queue is full it makes a caller wait; this one calls again.
        strangers.extend(TcpStream::connect_timeout(&bob.local_addr(), Duration::from_millis(20)));
        if strangers.len() % 100 == 0 {
            let threads = network_threads("dkg-tcp-in");
            assert!(threads <= most, "{threads} threads");
        }
    }
    eventually("all but the last to be refused", || bob.strangers_refused() >= (2000 - per_origin) as u64);
    eventually("the others' threads to be gone", || network_threads("dkg-tcp-in") == per_origin);
    // The test's own ends, the connections that are let in, and what else the process opens.
    assert!(files() <= before + 2000 + per_origin + 8, "{} files", files() - before);
    let (alice, _) = machines.member(0);
    served(&mailbox, &alice);
    assert!(status(&bob, 0).inbound);
    drop(strangers);
    eventually("the places to be free", || network_threads("dkg-tcp-in") == 1);
    served(&mailbox, &alice);
}

#[test]
fn a_member_gets_in_while_connections_pour_in() {
    let _turn = TURN.lock();
    let machines = Machines::new(3);
    let (bob, mailbox) = machines.member(1);
    let address = bob.local_addr();
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut held = std::collections::VecDeque::new();
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                held.extend(TcpStream::connect(address));
                if held.len() > 200 {
                    held.pop_front();
                }
            }
        });
        for number in 0..20 {
            eventually("a flood", || bob.strangers_refused() > 100 * number);
            let (alice, _) = machines.member(0);
            // It may be pushed out while it proves who it is, and then tries again, as an engine does.
            eventually("the message to get through", || alice.send(&node_id(1), &message("hello")).is_ok());
        }
        over.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert!(mailbox.delivered().len() >= 20);
    let limits = limits();
    assert!(network_threads("dkg-tcp-in") <= 2 * limits.strangers + MAX_MEMBERS);
}

#[test]
fn a_member_has_one_connection_and_a_newer_one_replaces_the_older() {
    let _turn = TURN.lock();
    let machines = Machines::new(3);
    let (bob, mailbox) = machines.member(1);
    let mut older = Rogue::member(bob.local_addr(), 0);
    for _ in 0..50 {
        let newer = Rogue::member(bob.local_addr(), 0);
        assert!(older.hear().is_none(), "the older one is closed");
        older = newer;
    }
    older.say(&Frame::Message { id: 1, message: message("mine") });
    assert!(matches!(older.hear(), Some(Frame::Answer { id: 1, verdict: Verdict::Taken })));
    assert_eq!(mailbox.delivered(), [(node_id(0), "mine".to_owned())]);
    eventually("one thread to be left", || network_threads("dkg-tcp-in") == 1);
    assert_eq!(bob.strangers_refused(), 0);
}

#[test]
fn a_member_that_comes_again_while_its_older_connection_waits_for_the_engine_is_let_in() {
    let _turn = TURN.lock();
    let machines = Machines::new(3);
    let bob = machines.start(1, machines.config(1, TcpLimits { confirm: PATIENCE, ..limits() }));
    let mailbox = Mailbox::new();
    bob.attach(mailbox.clone());
    mailbox.hold();
    let mut older = Rogue::member(bob.local_addr(), 0);
    older.say(&Frame::Message { id: 1, message: message("never confirmed") });
    mailbox.wait(1);
    let mut newer = Rogue::member(bob.local_addr(), 0);
    newer.say(&Frame::Probe { id: 2 });
    assert!(matches!(newer.hear(), Some(Frame::ProbeAnswer { id: 2, .. })));
    assert!(older.hear().is_none());
}

#[test]
fn frames_that_are_none_end_the_connection_and_are_counted_against_their_member() {
    let _turn = TURN.lock();
    let machines = Machines::new(3);
    let (bob, mailbox) = machines.member(1);
    let too_long = (MAX_FRAME_BYTES as u32 + 1).to_le_bytes();
    let good = Frame::Probe { id: 1 }.encode().unwrap();
    let longer = [&(good.len() as u32 - 3).to_le_bytes()[..], &good[4..], &[0]].concat();
    let answer = Frame::Answer { id: 1, verdict: Verdict::Taken }.encode().unwrap();
    let hello = Frame::Hello(Hello { protocol: PROTOCOL_VERSION, chain: CHAIN }).encode().unwrap();
    let garbage: [(&[u8], &str); 7] = [
        (&too_long, "1 to "),
        (&[0xff; 4], "4294967295 bytes"),
        (&[0; 4], "a frame of 0 bytes"),
        (&[1, 0, 0, 0, 99], "unknown kind 99"),
        (&longer, "not written as one"),
        (&answer, "no place there"),
        (&hello, "no place there"),
    ];
    for (count, (bytes, why)) in (1..).zip(garbage) {
        let mut rogue = Rogue::member(bob.local_addr(), 0);
        rogue.write(bytes);
        assert!(rogue.hear().is_none(), "{why}");
        eventually("it to be counted", || status(&bob, 0).refused == count);
        let shown = status(&bob, 0).last_error.unwrap_or_default();
        assert!(shown.contains(why), "{shown}");
    }
    // An error shows until the member comes in again, and keeps to the rules.
    let mut rogue = Rogue::member(bob.local_addr(), 0);
    rogue.say(&Frame::Probe { id: 3 });
    assert!(matches!(rogue.hear(), Some(Frame::ProbeAnswer { id: 3, .. })));
    assert_eq!(status(&bob, 0).last_error, None);
    assert_eq!((mailbox.delivered(), bob.strangers_refused()), (vec![], 0));
}

#[test]
fn a_frame_that_does_not_end_is_not_waited_for() {
    let _turn = TURN.lock();
    let machines = Machines::new(3);
    let (alice, _) = machines.member(2);
    let frame = Duration::from_millis(300);
    let bob = machines.start(1, machines.config(1, TcpLimits { frame, ..limits() }));
    let mailbox = Mailbox::new();
    bob.attach(mailbox.clone());
    let whole = Frame::Message { id: 1, message: message("never whole") }.encode().unwrap();
    for cut in [1, 4, 5, whole.len() - 1] {
        let mut rogue = Rogue::member(bob.local_addr(), 0);
        rogue.write(&whole[..cut]);
        assert!(rogue.hear().is_none(), "cut at {cut}");
    }
    // Byte after byte, each in a record of its own.
    let mut rogue = Rogue::member(bob.local_addr(), 0);
    let longest =
        PrivateMessage { dkg_instance_id: "x".repeat(MAX_INSTANCE_BYTES), ..message(&"y".repeat(MAX_PRIVATE_BYTES)) };
    let whole = Frame::Message { id: 1, message: longest }.encode().unwrap();
    let mut bytes = whole[..whole.len() - 1].iter();
    let started = std::time::Instant::now();
    eventually("it to be closed", || {
        let due = started.elapsed().as_millis() / 10 > (whole.len() - 1 - bytes.len()) as u128;
        !status(&bob, 0).inbound || (due && bytes.next().is_none_or(|byte| rogue.tls.write_all(&[*byte]).is_err()))
    });
    assert!(bytes.len() > 0, "it was closed before its last byte but one");
    assert_eq!(mailbox.delivered(), []);
    served(&mailbox, &alice);
}

#[test]
fn a_member_that_floods_holds_up_nobody_else() {
    let _turn = TURN.lock();
    let machines = Machines::new(3);
    let (alice, _) = machines.member(2);
    let (bob, mailbox) = machines.member(1);
    let mut rogue = Rogue::member(bob.local_addr(), 0);
    rogue.tls.sock.set_nonblocking(true).unwrap();
    let probe = Frame::Probe { id: 1 }.encode().unwrap();
    // Probes whose answers it does not read, until nothing more fits in anywhere or it is cut off.
    let mut said = 0u32;
    while rogue.tls.write_all(&probe).is_ok() && said < 100_000 {
        said += 1;
    }
    assert!(said > 100);
    for _ in 0..10 {
        served(&mailbox, &alice);
    }
    assert_eq!(network_threads("dkg-tcp-in"), 2);
}

#[test]
fn another_protocol_version_is_refused_with_a_word() {
    let _turn = TURN.lock();
    let machines = Machines::new(3);
    let (bob, _) = machines.member(1);
    let mut rogue = Rogue::connect(bob.local_addr(), &network_key(0));
    rogue.say(&Frame::Hello(Hello { protocol: 99, chain: CHAIN }));
    let Some(Frame::Refused(hello)) = rogue.hear() else { panic!("no refusal") };
    assert_eq!(hello, Hello { protocol: PROTOCOL_VERSION, chain: CHAIN });
    drop(rogue);
    let expected = ProbeError::OtherVersion(99).to_string();
    eventually("it to show", || status(&bob, 0).last_error.as_ref() == Some(&expected));
}

// The end.

#[test]
fn a_shutdown_ends_sends_in_flight_and_leaves_no_thread_and_no_file() {
    let _turn = TURN.lock();
    let before = (network_threads("dkg-tcp"), files());
    let machines = Machines::new(3);
    let around = files();
    let patient = TcpLimits { confirm: PATIENCE, answer: PATIENCE, send: PATIENCE, ..limits() };
    let bob = machines.start(1, machines.config(1, patient));
    let mailbox = Mailbox::new();
    bob.attach(mailbox.clone());
    mailbox.hold();
    let alice = machines.start(0, machines.config(0, TcpLimits { keep_connected: true, ..patient }));
    eventually("the connection", || status(&alice, 1).outbound);
    let stranger = TcpStream::connect(alice.local_addr()).unwrap();
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| alice.send(&node_id(1), &message("never confirmed")));
        mailbox.wait(1);
        alice.shutdown();
        assert_eq!(sending.join().unwrap(), Err(NetworkError::ShutDown));
    });
    assert_eq!(alice.send(&node_id(1), &message("too late")), Err(NetworkError::ShutDown));
    assert_eq!(alice.probe(&node_id(1), PATIENCE), Err(ProbeError::ShutDown));
    assert!(TcpStream::connect(alice.local_addr()).is_err(), "nobody listens any more");
    // And the receiver, whose engine has still not settled the receipt.
    bob.shutdown();
    eventually("the last connection's thread to be gone", || network_threads("dkg-tcp-in") == 0);
    drop((alice, bob, stranger, mailbox));
    machines.relays.iter().for_each(Relay::cut);
    eventually("the last threads to be gone", || network_threads("dkg-tcp") == before.0);
    eventually("the last files to be closed", || files() <= around);
    assert!(before.1 <= around);
}

#[test]
fn a_shutdown_ends_a_call_to_somebody_who_does_not_answer() {
    let _turn = TURN.lock();
    let machines = Machines::new(3);
    let patient = TcpLimits { handshake: PATIENCE, send: PATIENCE, ..limits() };
    let alice = machines.start(0, machines.config(0, patient));
    // It accepts, and says nothing.
    let mute = std::net::TcpListener::bind(LOCALHOST).unwrap();
    machines.relays[1].lead(Some(mute.local_addr().unwrap()));
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| alice.send(&node_id(1), &message("hello?")));
        let _taken = mute.accept().unwrap();
        alice.shutdown();
        assert_eq!(sending.join().unwrap(), Err(NetworkError::ShutDown));
    });
    eventually("the last threads to be gone", || network_threads("dkg-tcp") == 0);
}
