//! Small committees, searched exhaustively.

use std::io::{self, Write};
use std::time::Duration;

use serde::Serialize;

use dkg_engine::simulator::exhaustive::{Report, menu, search_all};

/// Makes all searches of the menu for this size within the time; whether none finds a broken rule.
pub(super) fn run(size: usize, time: Duration, json: bool) -> io::Result<bool> {
    let searches = menu(size);
    if !json {
        eprintln!("{} searches of committees of {size}, for {} minutes at most", searches.len(), time.as_secs() / 60);
    }
    let tell = |report: &Report| {
        if !json {
            println!("{report}");
        }
    };
    let reports = search_all(&searches, time, tell).map_err(io::Error::other)?;
    let holds = reports.iter().all(|report| report.violation.is_none());
    let complete = reports.iter().filter(|report| report.complete).count();
    let mut out = io::stdout().lock();
    if json {
        let searches: Vec<JsonReport> = reports.iter().map(JsonReport::new).collect();
        serde_json::to_writer_pretty(&mut out, &JsonSummary { size, complete, searches })?;
        writeln!(out)?;
    } else {
        writeln!(out, "{complete} of {} searches have been through everything", reports.len())?;
        writeln!(out, "{}", if holds { "no rule was broken" } else { "A RULE IS BROKEN" })?;
    }
    Ok(holds)
}

#[derive(Serialize)]
struct JsonSummary {
    size: usize,
    complete: usize,
    searches: Vec<JsonReport>,
}

#[derive(Serialize)]
struct JsonReport {
    faults: String,
    phases_polled: usize,
    pages: String,
    states: usize,
    transitions: usize,
    ends: usize,
    states_of_committees: String,
    seconds: f64,
    complete: bool,
    broken: Option<String>,
}

impl JsonReport {
    fn new(report: &Report) -> Self {
        JsonReport {
            faults: report.faults.to_string(),
            phases_polled: report.polls.iter().filter(|polled| **polled).count(),
            pages: format!("{:?}", report.pages),
            states: report.states,
            transitions: report.transitions,
            ends: report.ends,
            // More than a JSON reader's numbers hold.
            states_of_committees: report.committees.to_string(),
            seconds: report.took.as_secs_f64(),
            complete: report.complete,
            broken: report.violation.as_ref().map(ToString::to_string),
        }
    }
}
