//! Several addresses of one host: the one that worked last is asked first.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::address::Endpoint;
use crate::chain::log::LogError;

/// Why an endpoint did not do what was asked.
pub(super) enum Trouble {
    /// Another may.
    Endpoint(String),
    /// It says that it will not, and why. That is no more than what this one claims: another may.
    Refusal(String),
    /// It is known without asking another.
    Log(LogError),
}

impl From<ureq::Error> for Trouble {
    fn from(error: ureq::Error) -> Self {
        Trouble::Endpoint(error.to_string())
    }
}

/// The addresses of a host, in order of preference.
pub(super) struct Endpoints {
    list: Vec<Endpoint>,
    /// The one that worked last.
    preferred: AtomicUsize,
}

impl Endpoints {
    pub(super) fn new(list: Vec<Endpoint>) -> Self {
        Endpoints { list, preferred: AtomicUsize::new(0) }
    }

    /// Asks the endpoints one after the other until one of them does it, the first one twice: a connection that was kept
    /// may have been closed by the other side meanwhile. `check_open` ends it all. If none does it, it is
    /// [`LogError::Refused`] where all have refused.
    pub(super) fn ask<T>(
        &self,
        check_open: impl Fn() -> Result<(), LogError>,
        ask: impl Fn(&str) -> Result<T, Trouble>,
    ) -> Result<T, LogError> {
        let preferred = self.preferred.load(Ordering::Relaxed);
        let (mut troubles, mut all_refuse, mut first_refuses) = (Vec::new(), true, false);
        for turn in 0..=self.list.len() {
            check_open()?;
            if turn == self.list.len() && first_refuses {
                break;
            }
            let number = preferred.wrapping_add(turn).checked_rem(self.list.len()).unwrap_or(0);
            let Some(endpoint) = self.list.get(number) else { break };
            let outcome = ask(endpoint.as_str());
            // What was cut off by the shutdown says nothing.
            check_open()?;
            match outcome {
                Ok(done) => {
                    self.preferred.store(number, Ordering::Relaxed);
                    return Ok(done);
                }
                Err(Trouble::Log(error)) => return Err(error),
                Err(Trouble::Endpoint(trouble)) => {
                    all_refuse = false;
                    troubles.push(format!("{endpoint}: {trouble}"));
                }
                Err(Trouble::Refusal(reason)) => {
                    first_refuses |= turn == 0;
                    troubles.push(format!("{endpoint}: {reason}"));
                }
            }
        }
        if troubles.is_empty() {
            return Err(LogError::Unavailable(
                "the log has no endpoint; the committee file has to name one".to_owned(),
            ));
        }
        // The first one's second turn usually says the same.
        troubles.dedup();
        let text = troubles.join("; ");
        Err(if all_refuse { LogError::Refused(text) } else { LogError::Unavailable(text) })
    }

    /// The next call asks another first.
    pub(super) fn distrust(&self) {
        self.preferred.fetch_add(1, Ordering::Relaxed);
    }
}

/// The most characters that are shown of what a host says.
pub(super) const MAX_TEXT_BYTES: usize = 1024;

/// What a host says, fit for a log line.
pub(super) fn clean(text: &str) -> String {
    text.chars().take(MAX_TEXT_BYTES).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
