//! A logger's ear for secrets.

use log::{Log, Metadata, Record};

use super::watch::overheard;

/// A logger that shows every line to the simulation that runs on the thread, before the real one has it. A simulation in a
/// process that logs through this breaks the rule of [discretion](super::Rule::Discretion) when a share is in a line.
pub struct LogTap<L>(pub L);

impl<L: Log> Log for LogTap<L> {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        overheard(record.args());
        if self.0.enabled(record.metadata()) {
            self.0.log(record);
        }
    }

    fn flush(&self) {
        self.0.flush();
    }
}
