//! What the test's own process holds. For tests that have a process to themselves.

use std::thread;
use std::time::Instant;

use super::PATIENCE;

pub fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

/// Open files, with the one that is open while they are counted.
pub fn files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// No thread more than `before`. The system may list a thread for a moment after it has been joined; one that is left
/// behind stays.
pub fn assert_none_left(before: usize, what: &str) {
    let deadline = Instant::now() + PATIENCE;
    while threads() > before {
        assert!(Instant::now() < deadline, "{what}: {} threads are left", threads() - before);
        thread::yield_now();
    }
}
