//! `dkg check`: is everything ready for a ceremony?

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use dkg_engine::node::{Checked, check};

use super::node::unlock;
use super::outcome::{Failure, conclude, configuration, write_json, wrong};

/// Check before a ceremony: the files, the disk, the log, and every other member, by name.
///
/// Members that check at the same time find each other; so do those whose nodes run already. Exit codes: 0 where everything
/// is ready, 1 where something or somebody is not.
#[derive(Args)]
pub(super) struct Options {
    /// The node's configuration.
    #[arg(long, value_name = "FILE", default_value = "node.toml")]
    config: PathBuf,

    /// Ask again for so many seconds who is not there yet.
    #[arg(long, value_name = "SECONDS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=86_400))]
    wait: u64,

    /// Print one JSON object on stdout, and nothing else.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(super) fn run(options: &Options) -> ExitCode {
    conclude(options.run())
}

impl Options {
    fn run(&self) -> Result<bool, Failure> {
        let config = configuration(&self.config)?;
        let checked = check(&config, &unlock(&config)?, Duration::from_secs(self.wait)).map_err(wrong)?;
        let mut out = io::stdout().lock();
        if self.json { write_json(&mut out, &checked) } else { show(&mut out, &checked) }.map_err(wrong)?;
        Ok(checked.ok)
    }
}

fn show(out: &mut impl Write, checked: &Checked) -> io::Result<()> {
    let mark = |ok: bool| if ok { "ok     " } else { "PROBLEM" };
    writeln!(out, "{} committee  {}: compare it with the others'", mark(true), checked.committee)?;
    for item in &checked.items {
        writeln!(out, "{} {:<10} {}", mark(item.ok), item.what, item.detail)?;
    }
    for peer in &checked.peers {
        let found = match (&peer.problem, &peer.version, peer.clock_ms) {
            (Some(problem), ..) => problem.clone(),
            (None, Some(version), Some(clock)) => format!("version {version}, clock {clock:+} ms"),
            (None, ..) => String::new(),
        };
        writeln!(out, "{} member {:<3} {}: {found}", mark(peer.ok), peer.index.to_string(), peer.address)?;
    }
    let missing: Vec<_> = checked.missing.iter().map(ToString::to_string).collect();
    if checked.ok {
        writeln!(out, "everything is ready")
    } else if missing.is_empty() {
        writeln!(out, "NOT ready")
    } else {
        writeln!(out, "NOT ready; not in order: member {}", missing.join(", "))
    }
}
