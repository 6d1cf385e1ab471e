//! How a command that runs until it is told to stop is told.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGINT, SIGTERM};

use super::outcome::{Failure, wrong};

/// Raised by SIGTERM and SIGINT from now on. To be called before anything runs: a signal that comes early must not be lost.
pub(super) fn stop_flag() -> Result<Arc<AtomicBool>, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).map_err(wrong)?;
    }
    Ok(stop)
}
