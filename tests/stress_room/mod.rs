//! A committee on real threads that is shaken: a chain and a board in memory, members whose engines are stopped and started
//! while it goes on, and members that flood.
//!
//! Nothing here waits for the clock. What moves by itself is waited for by what it does.

#![allow(missing_docs, unreachable_pub)]

pub mod chain;
pub mod flood;
pub mod grave;
pub mod port;
pub mod seat;
pub mod shaker;

use std::thread;
use std::time::Instant;

use crate::support::PATIENCE;

/// Waits for something that nothing tells of. It has failed when `progress` has stood still for too long.
pub fn wait_for<P: PartialEq>(what: &str, progress: impl Fn() -> P, done: impl Fn(&P) -> bool) {
    let mut last = progress();
    let mut moved = Instant::now();
    while !done(&last) {
        assert!(moved.elapsed() < PATIENCE, "waited in vain for {what}");
        thread::yield_now();
        let now = progress();
        if now != last {
            (last, moved) = (now, Instant::now());
        }
    }
}
