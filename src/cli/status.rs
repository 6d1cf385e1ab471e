//! `dkg status`: what a running node shows of itself.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;

use dkg_engine::committee::Index;
use dkg_engine::node::{Answer, Level, NodeConfig, Request, Stage, Status, admin_socket, ask};

use super::outcome::{Failure, conclude, configuration, write_json, wrong};

/// How often it looks again while it waits.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// How much of a node id or a hash a table shows.
const SHORT: usize = 12;

/// Show where a running node stands: the chain, the run, the other members, and its keys.
///
/// First comes the verdict: OK, DEGRADED, STARTING or HALTED, with a line for each thing that is not as it should be, and what
/// to do about it. Exit codes: 0 where it is OK, 1 for any other verdict, or where no node runs, 2 for bad usage.
#[derive(Args)]
pub(super) struct Options {
    /// The node's configuration.
    #[arg(long, value_name = "FILE", default_value = "node.toml")]
    config: PathBuf,

    /// Wait for so many seconds until the verdict is OK.
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
        let deadline = Instant::now() + Duration::from_secs(self.wait);
        let status = loop {
            let status = look(&config);
            let is_well = status.as_ref().is_ok_and(|status| status.verdict.level == Level::Ok);
            if is_well || Instant::now() >= deadline {
                break status?;
            }
            std::thread::sleep(LOOK_AGAIN.min(deadline.saturating_duration_since(Instant::now())));
        };
        let mut out = io::stdout().lock();
        if self.json { write_json(&mut out, &*status) } else { show(&mut out, &status) }.map_err(wrong)?;
        Ok(status.verdict.level == Level::Ok)
    }
}

fn look(config: &NodeConfig) -> Result<Box<Status>, Failure> {
    match ask(&admin_socket(&config.data), &Request::Status).map_err(wrong)? {
        Answer::Status(status) => Ok(status),
        Answer::Refused(reason) => Err(Failure::Wrong(reason)),
        _ => Err(Failure::Wrong("the node has answered something else".to_owned())),
    }
}

fn show(out: &mut impl Write, status: &Status) -> io::Result<()> {
    let Status { chain, keys, run_here, .. } = status;
    let stage = match status.stage {
        Stage::Starting => "starting",
        Stage::Running => "running",
        Stage::Held => "held",
        Stage::Stopped => "stopped",
    };
    writeln!(out, "{}", status.verdict.level)?;
    for finding in &status.verdict.findings {
        writeln!(out, "{:<8} {}: {finding}", finding.level.to_string(), finding.about.name())?;
    }
    writeln!(out)?;
    writeln!(out, "node     {} (member {} of {}), {stage}", short(&status.node_id), status.index, chain.n)?;
    writeln!(out, "chain    {}, committee file {}", chain.chain_id, short(&chain.committee))?;
    writeln!(
        out,
        "log      {} at {}, {} entries read",
        status.log.kind,
        status.log.endpoints.join(", "),
        chain.entries
    )?;
    let clock = chain.clock;
    if clock.now_ms < clock.genesis_ms {
        writeln!(out, "view     begins in {} s", (clock.genesis_ms - clock.now_ms).div_ceil(1000))?;
    } else {
        writeln!(out, "view     {} is final, {} by this node's clock", chain.head.view, clock.view)?;
    }
    let [first, second, third] = chain.epoch.phase_finals;
    writeln!(
        out,
        "epoch    {}, {}: run from view {} on; phases end with {first}, {second} and {third}; epoch ends with {}",
        chain.epoch.counter,
        chain.epoch.phase.name(),
        chain.epoch.setup_first,
        chain.epoch.last
    )?;
    for key in keys.iter().flat_map(|keys| [Some(&keys.current), keys.next.as_ref()]).flatten() {
        writeln!(out, "key      epoch {}: {}: {}", key.epoch, key.status, key.reason)?;
    }
    let part = if run_here.part.is_empty() { "not begun" } else { &run_here.part };
    writeln!(out, "run      {}: {part}", chain.run.instance)?;
    if !chain.run.missing.is_empty() {
        writeln!(out, "         not dealt: {}", list(&chain.run.missing))?;
    }
    for (complainer, accused) in &chain.run.complaints {
        let answered = if chain.run.answers.contains(&(*accused, *complainer)) { "answered" } else { "not answered" };
        writeln!(out, "         {complainer} complains about {accused}, {answered}")?;
    }
    for exposure in status.seen.iter().filter_map(|seen| seen.exposed) {
        let mark = if exposure.is_close() { "EXPOSED " } else { "        " };
        writeln!(out, "{mark} {exposure}")?;
    }
    if let Some(failure) = &run_here.failure {
        writeln!(out, "         no key here: {failure}")?;
    }
    for result in &status.results {
        writeln!(out, "public   epoch {}: group key {}", result.epoch, result.group_public_key)?;
    }
    writeln!(out)?;
    writeln!(
        out,
        "{:>6}  {:<13}  {:<22} {:<6} {:<6} {:<10} {:<10} {:>9}  {:<9} {:<11} verdict or last error",
        "member",
        "node id",
        "address",
        "dealt",
        "share",
        "complaints",
        "submitted",
        "last tick",
        "heard of",
        "link in/out"
    )?;
    for (member, seen) in chain.members.iter().zip(&status.seen) {
        let yes = |yes: bool| if yes { "yes" } else { "-" };
        let link = match &seen.link {
            None => "this node".to_owned(),
            Some(link) => format!("{}/{}", yes(link.inbound), yes(link.outbound)),
        };
        let heard = match seen.silent_ms {
            Some(silent) if seen.is_down => format!("{} s ago", silent / 1000),
            Some(_) => "yes".to_owned(),
            None => String::new(),
        };
        let error = seen.link.as_ref().and_then(|link| link.last_error.clone());
        writeln!(
            out,
            "{:>6}  {:<13}  {:<22} {:<6} {:<6} {:<10} {:<10} {:>9}  {heard:<9} {link:<11} {}",
            member.index,
            short(&member.node_id),
            member.address,
            yes(member.dealt),
            seen.share_received.map_or("", yes),
            if member.complaints == 0 { "-".to_owned() } else { format!("{}, {}", member.complaints, member.answers) },
            member.submitted.as_deref().unwrap_or("-"),
            member.last_tick,
            seen.verdict.clone().or(error).unwrap_or_default()
        )?;
    }
    Ok(())
}

fn short(text: &str) -> String {
    text.get(..SHORT).map_or_else(|| text.to_owned(), |start| format!("{start}…"))
}

fn list(members: &[Index]) -> String {
    members.iter().map(Index::to_string).collect::<Vec<_>>().join(", ")
}
