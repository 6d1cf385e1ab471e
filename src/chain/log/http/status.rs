//! What a log server says of itself: as data, as JSON and as Prometheus text.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

/// What a log server knows of itself.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LogServerStatus {
    /// The version of this crate.
    pub version: &'static str,
    /// The chain's name.
    pub chain_id: String,
    /// The chain's identity, in hex.
    pub chain: String,
    /// How many entries the log has.
    pub entries: u64,
    /// How many bytes they have.
    pub bytes: u64,
    /// The server's clock: milliseconds of Unix time.
    pub now_ms: u64,
    /// The last final view.
    pub view: u64,
    /// The present epoch.
    pub epoch: u64,
    /// The last view that each member has ticked, in order of index.
    pub ticks: Vec<u64>,
    /// Connections at present.
    pub connections: usize,
    /// Of these, how many wait for an entry.
    pub polls: usize,
    /// Connections since the start.
    pub connections_accepted: u64,
    /// Idle connections that were closed to make room for others.
    pub connections_displaced: u64,
    /// Connections turned away because nobody could make room.
    pub connections_turned_away: u64,
    /// Entries taken since the start, and how long that took in all, in microseconds.
    pub appends: u64,
    /// See `appends`.
    pub append_micros: u64,
    /// What was refused since the start, by reason.
    pub refused: BTreeMap<&'static str, u64>,
    /// Why nothing can be appended any more, if so.
    pub failure: Option<String>,
}

impl LogServerStatus {
    /// As text that Prometheus reads.
    pub(super) fn prometheus(&self) -> String {
        let mut text = String::new();
        let mut number = |name: &str, kind: &str, help: &str, value: u64| {
            // Writing to a string does not fail.
            let _ =
                writeln!(text, "# HELP dkg_log_{name} {help}\n# TYPE dkg_log_{name} {kind}\ndkg_log_{name} {value}");
        };
        number("entries", "gauge", "Entries in the log.", self.entries);
        number("bytes", "gauge", "Bytes of entries in the log.", self.bytes);
        number("view", "gauge", "The last final view.", self.view);
        number("connections", "gauge", "Connections at present.", self.connections as u64);
        number("polls", "gauge", "Connections that wait for an entry.", self.polls as u64);
        number("connections_accepted_total", "counter", "Connections accepted.", self.connections_accepted);
        number(
            "connections_displaced_total",
            "counter",
            "Idle connections closed for others.",
            self.connections_displaced,
        );
        number("connections_turned_away_total", "counter", "Connections turned away.", self.connections_turned_away);
        number("failed", "gauge", "Whether the log cannot be written any more.", self.failure.is_some().into());
        let seconds = std::time::Duration::from_micros(self.append_micros).as_secs_f64();
        let _ = writeln!(text, "# HELP dkg_log_append_seconds How long it took until an entry was durable.");
        let _ = writeln!(text, "# TYPE dkg_log_append_seconds summary");
        let _ = writeln!(text, "dkg_log_append_seconds_sum {seconds}\ndkg_log_append_seconds_count {}", self.appends);
        let _ = writeln!(text, "# HELP dkg_log_refused_total What was refused, by reason.");
        let _ = writeln!(text, "# TYPE dkg_log_refused_total counter");
        for (reason, count) in &self.refused {
            let _ = writeln!(text, "dkg_log_refused_total{{reason=\"{reason}\"}} {count}");
        }
        text
    }
}
