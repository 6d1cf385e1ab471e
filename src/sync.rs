//! Threads, locks, atomics, the clock and chance: whatever makes two executions differ, from one place.
//!
//! Normally these are the usual ones, under their usual names and at no cost. Built with `--cfg shuttle` they belong to
//! [Shuttle], a scheduler that runs all threads on one and decides at every lock, wait and wake-up who goes on. The tests
//! that run there (`tests/shuttle.rs`, `src/engine/schedules/`) explore thousands of schedules, and can repeat any of
//! them. `engine`, `store` and `network` take these things from here and from nowhere else.
//!
//! # Time under a scheduler
//!
//! There is none; a wait with a deadline is one of two things.
//!
//! | wait | meant for | under a scheduler |
//! | --- | --- | --- |
//! | [`Receiver::recv_deadline`](bounded), [`Sender::send_timeout`](bounded) | a retry that is due, room that may never be | may end at any moment; the clock then stands at the deadline |
//! | [`wait_patiently`] | what comes unless the host's code hangs | never ends by itself |
//!
//! So retries come early, late and in the middle of everything else, and a wait that only its limit would end is a deadlock,
//! which the scheduler reports. A wait without a deadline ends by a wake-up or not at all, which is how a lost one shows.
//!
//! What this does not show: weak memory (all atomics are sequentially consistent there), spurious wake-ups, and what a
//! limit does once it has passed.
//!
//! [Shuttle]: https://docs.rs/shuttle

#[cfg(not(shuttle))]
mod system;
#[cfg(not(shuttle))]
pub(crate) use system::{
    Condvar, Mutex, Receiver, Sender, atomic, bounded, catch_panic, now, random, thread, wait_patiently,
};

#[cfg(all(test, shuttle))]
pub(crate) mod explore;
#[cfg(shuttle)]
mod scheduled;
#[cfg(shuttle)]
pub(crate) use scheduled::{
    Condvar, Mutex, Receiver, Sender, atomic, bounded, catch_panic, now, random, thread, wait_patiently,
};

/// How much is kept of what a panic says.
#[cfg_attr(shuttle, allow(dead_code, reason = "a panic is a failed test there"))]
pub(crate) const MAX_PANIC_BYTES: usize = 400;

/// The first [`MAX_PANIC_BYTES`] of a text, whole characters of it.
#[cfg(not(shuttle))]
fn beginning_of(text: &str) -> String {
    let end = (0..=MAX_PANIC_BYTES.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.get(..end).unwrap_or_default().to_owned()
}
