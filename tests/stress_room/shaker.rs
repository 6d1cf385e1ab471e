//! Threads that stop and start members' engines, beside whatever else goes on.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Sender, unbounded};
use dkg_engine::epoch::InstanceId;
use parking_lot::Mutex;

use super::seat::{Haste, Seat, Stop};
use crate::support::Watched;

/// What a shaker does to a member.
#[derive(Clone, Debug)]
pub enum Order {
    Stop(Stop, Haste),
    /// In the middle of its dealing: when its vector is on the board and so many peers have its share of this run.
    StopAfter(Stop, InstanceId, usize),
    Start,
}

/// The shakers. Orders for one member are carried out in their order. Dropping it ends them.
pub struct Shakers {
    senders: Vec<Sender<(usize, Order)>>,
    threads: Vec<JoinHandle<()>>,
    pending: Arc<Watched<Pending>>,
}

#[derive(Default)]
struct Pending {
    orders: usize,
    broken: bool,
}

/// Counts an order as done, however it ends.
struct Done(Arc<Watched<Pending>>);

impl Drop for Done {
    fn drop(&mut self) {
        self.0.update(|pending| {
            pending.orders -= 1;
            pending.broken |= thread::panicking();
        });
    }
}

impl Shakers {
    pub fn new(count: usize, seats: &Arc<Vec<Mutex<Seat>>>) -> Shakers {
        let pending = Arc::new(Watched::new(Pending::default()));
        let (senders, threads) = (0..count)
            .map(|_| {
                let (sender, orders) = unbounded::<(usize, Order)>();
                let (seats, pending) = (Arc::clone(seats), Arc::clone(&pending));
                let thread = thread::spawn(move || {
                    for (seat, order) in orders {
                        let _done = Done(Arc::clone(&pending));
                        carry_out(&seats[seat], order);
                    }
                });
                (sender, thread)
            })
            .unzip();
        Shakers { senders, threads, pending }
    }

    pub fn order(&self, seat: usize, order: Order) {
        self.pending.update(|pending| pending.orders += 1);
        self.senders[seat % self.senders.len()].send((seat, order)).expect("a shaker has broken off");
    }

    /// Waits until all orders have been carried out.
    pub fn settle(&self) {
        let broken = self
            .pending
            .wait("the shakers", |pending| (pending.orders == 0 || pending.broken).then_some(pending.broken));
        assert!(!broken, "a shaker has broken off");
    }
}

impl Drop for Shakers {
    fn drop(&mut self) {
        self.senders.clear();
        for thread in self.threads.drain(..) {
            assert!(thread.join().is_ok() || thread::panicking(), "a shaker has broken off");
        }
    }
}

fn carry_out(seat: &Mutex<Seat>, order: Order) {
    match order {
        Order::Stop(how, haste) => seat.lock().stop(how, haste),
        Order::Start => seat.lock().start(),
        Order::StopAfter(how, run, count) => {
            let (id, room) = {
                let seat = seat.lock();
                (seat.id, Arc::clone(&seat.room))
            };
            room.chain.runs.wait("its vector", |runs| runs.last()?.has_vector_of(id).then_some(()));
            room.shares.wait("its shares", |shares| {
                let sent = shares.get(run.as_str())?.iter().filter(|(dealer, _)| *dealer == id).count();
                (sent == count).then_some(())
            });
            seat.lock().stop(how, Haste::Patient);
        }
    }
}
