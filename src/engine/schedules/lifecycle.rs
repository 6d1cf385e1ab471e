//! How threads wait and stop, whoever comes first. A wake-up that is lost is a deadlock here, and the scheduler says so.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::engine::lifecycle::{Mailbox, Received, Refused, STOP_LIMIT, Signal, Worker, inbox};
use crate::sync::explore::explore;
use crate::sync::{Condvar, Mutex, now, thread};

/// Noted by one thread and looked at by others, without a scheduling point.
type Note = Arc<AtomicBool>;

fn spawn_each<R: Send + 'static>(
    mailbox: &Mailbox<(usize, usize)>,
    threads: usize,
    body: fn(Mailbox<(usize, usize)>, usize) -> R,
) -> Vec<thread::JoinHandle<R>> {
    let spawn = |number| {
        let mailbox = mailbox.clone();
        thread::spawn(move || body(mailbox, number))
    };
    (0..threads).map(spawn).collect()
}

fn join<R>(threads: Vec<thread::JoinHandle<R>>) -> Vec<R> {
    threads.into_iter().map(|thread| thread.join().unwrap()).collect()
}

#[test]
#[should_panic(expected = "deadlock")]
fn the_scheduler_finds_a_wake_up_that_falls_between_looking_and_waiting() {
    explore(1_000, || {
        let shared = Arc::new((Mutex::new(false), Condvar::new()));
        let waker = thread::spawn({
            let shared = shared.clone();
            move || {
                *shared.0.lock() = true;
                shared.1.notify_one();
            }
        });
        let looked = *shared.0.lock();
        if !looked {
            shared.1.wait(&mut shared.0.lock());
        }
        waker.join().unwrap();
    });
}

#[test]
#[should_panic(expected = "an assertion in the host's code")]
fn what_fails_on_an_engines_thread_fails_the_test() {
    explore(10, || {
        let worker = Worker::spawn("worker", || panic!("an assertion in the host's code"), |_| {}).unwrap();
        assert_eq!(worker.join_by(now() + STOP_LIMIT), Ok(()));
    });
}

/// The fault: whoever found the inbox full took its wake-up back, and with it that of another who had relied on it.
#[test]
fn a_wake_up_is_not_lost_when_another_finds_the_inbox_full() {
    explore(10_000, || {
        const NEWS: usize = 3;
        let (mailbox, inbox) = inbox::<()>(1);
        let news = Arc::new(Mutex::new(0));
        let reader = thread::spawn({
            let news = news.clone();
            move || {
                while *news.lock() < NEWS {
                    assert!(!matches!(inbox.receive(None), Received::Stopped));
                }
            }
        });
        let waker = |_| {
            let (mailbox, news) = (mailbox.clone(), news.clone());
            thread::spawn(move || {
                *news.lock() += 1;
                mailbox.wake();
            })
        };
        let wakers = (0..NEWS).map(waker).collect();
        let _taken_or_full = (mailbox.try_send(()), mailbox.try_send(()));
        join(wakers);
        reader.join().unwrap();
    });
}

#[test]
fn every_message_arrives_once_and_in_its_senders_order() {
    explore(4_000, || {
        const SENDERS: usize = 3;
        const EACH: usize = 2;
        let (mailbox, inbox) = inbox(1);
        let senders = spawn_each(&mailbox, SENDERS, |mailbox, sender| {
            (0..EACH).for_each(|number| assert_eq!(mailbox.send((sender, number)), Ok(())));
        });
        let mut next = [0; SENDERS];
        while next != [EACH; SENDERS] {
            match inbox.receive(None) {
                Received::Message((sender, number)) => {
                    assert_eq!(number, next[sender]);
                    next[sender] += 1;
                }
                Received::Woken => {}
                Received::Stopped => panic!("nobody has stopped it"),
            }
        }
        join(senders);
    });
}

#[test]
fn no_message_is_lost_when_the_time_is_up() {
    explore(4_000, || {
        let (mailbox, inbox) = inbox(1);
        let sender = spawn_each(&mailbox, 2, |mailbox, sender| assert_eq!(mailbox.send((sender, 0)), Ok(())));
        let mut arrived = 0;
        while arrived < 2 {
            let deadline = now() + Duration::from_secs(1);
            match inbox.receive(Some(deadline)) {
                Received::Message(_) => arrived += 1,
                Received::Woken => assert!(now() >= deadline, "nobody has woken it, and its time has not come"),
                Received::Stopped => panic!("nobody has stopped it"),
            }
        }
        join(sender);
    });
}

#[test]
fn nothing_is_taken_after_a_stop() {
    explore(4_000, || {
        let (mailbox, inbox) = inbox(1);
        let stopped = Note::default();
        let reader = thread::spawn({
            let stopped = stopped.clone();
            move || {
                loop {
                    let before = stopped.load(Ordering::Relaxed);
                    match inbox.receive(None) {
                        Received::Message(_) => assert!(!before, "a message was taken after the stop"),
                        Received::Woken => {}
                        Received::Stopped => return,
                    }
                }
            }
        });
        let senders = spawn_each(&mailbox, 2, |mailbox, sender| {
            let mut sent = 0;
            while sent < 2 && mailbox.send((sender, sent)).is_ok() {
                sent += 1;
            }
            mailbox.wake();
        });
        mailbox.stop();
        stopped.store(true, Ordering::Relaxed);
        assert_eq!(mailbox.try_send((9, 9)), Err(Refused::Stopped));
        join(senders);
        reader.join().unwrap();
    });
}

/// The fault: they waited for the thread to let go of its inbox, which it does not while it is in the host's code.
#[test]
fn a_stop_lets_go_of_all_who_wait_for_room_though_the_thread_does_not_return() {
    explore(4_000, || {
        let (mailbox, _not_looked_into) = inbox(1);
        let senders = spawn_each(&mailbox, 3, |mailbox, sender| mailbox.send((sender, 0)));
        mailbox.stop();
        let taken = join(senders).into_iter().filter(|sent| *sent == Ok(())).count();
        assert!(taken <= 1);
    });
}

#[test]
fn a_thread_that_ends_lets_go_of_all_who_wait_for_room() {
    explore(4_000, || {
        let (mailbox, inbox) = inbox(1);
        let senders = spawn_each(&mailbox, 3, |mailbox, sender| mailbox.send((sender, 0)));
        let reader = thread::spawn(move || matches!(inbox.receive(None), Received::Message(_)));
        assert!(reader.join().unwrap());
        let taken = join(senders).into_iter().filter(|sent| *sent == Ok(())).count();
        assert!((1..=2).contains(&taken));
        assert_eq!(mailbox.send((9, 9)), Err(Refused::Stopped));
    });
}

#[test]
fn all_who_wait_for_a_signal_see_the_first_value_raised() {
    explore(4_000, || {
        let signal = Signal::new();
        let raise = |value| {
            let signal = signal.clone();
            thread::spawn(move || signal.raise(value))
        };
        let wait = |patient| {
            let signal: Signal<i32> = signal.clone();
            thread::spawn(move || if patient { signal.wait() } else { signal.wait_timeout(STOP_LIMIT).unwrap() })
        };
        let waiting = [true, false, true].map(wait);
        join(vec![raise(1), raise(2)]);
        let first = signal.get().unwrap();
        assert!(waiting.into_iter().all(|waiting| waiting.join().unwrap() == first));
    });
}

/// The fault: only the first who stopped an engine waited for its threads.
#[test]
fn all_who_wait_for_a_thread_wait_until_it_has_ended() {
    explore(4_000, || {
        let (mailbox, inbox) = inbox::<()>(1);
        let ended = Arc::new(AtomicUsize::new(0));
        let body = {
            let ended = ended.clone();
            move || {
                assert!(matches!(inbox.receive(None), Received::Stopped));
                ended.fetch_add(1, Ordering::Relaxed);
            }
        };
        let worker = Arc::new(Worker::spawn("worker", body, |_| {}).unwrap());
        let stop = |_| {
            let (mailbox, worker, ended) = (mailbox.clone(), worker.clone(), ended.clone());
            thread::spawn(move || {
                mailbox.stop();
                assert_eq!(worker.join_by(now() + STOP_LIMIT), Ok(()));
                assert_eq!(ended.load(Ordering::Relaxed), 1);
            })
        };
        join((0..3).map(stop).collect());
    });
}
