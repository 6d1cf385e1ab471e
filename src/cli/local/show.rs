//! What people see while it happens and in the end, and what scripts read.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use dkg_engine::engine::EngineEvent;
use dkg_engine::epoch::{EpochSetup, View};
use dkg_engine::protocol::Phase;

use super::report::{Outcome, Report, Run};

/// The live view, on stderr: bars where it is a terminal, lines where not, nothing at all for scripts.
pub(super) enum Show {
    Silent,
    Lines,
    Bars { bars: MultiProgress, phase: Option<PhaseBar> },
}

/// The bar of the phase that is on.
pub(super) struct PhaseBar {
    bar: ProgressBar,
    setup: EpochSetup,
    first: View,
}

impl Show {
    pub(super) fn silent() -> Self {
        Show::Silent
    }

    pub(super) fn people(bars: MultiProgress) -> Self {
        if io::stderr().is_terminal() { Show::Bars { bars, phase: None } } else { Show::Lines }
    }

    /// A committee goes on from where it was stopped, after this view and, it may be, in this run.
    pub(super) fn resumed(&mut self, head: View, setup: Option<&EpochSetup>) {
        if head > View(0) {
            self.line(&format!("going on after view {head}"));
        }
        if let Some(setup) = setup {
            self.setup(setup);
        }
    }

    /// A run begins.
    pub(super) fn setup(&mut self, setup: &EpochSetup) {
        let committee = &setup.committee;
        self.line(&format!("{}: {} members, threshold {}", setup.instance, committee.size(), committee.threshold()));
        if let Show::Bars { bars, phase } = self {
            *phase = PhaseBar::new(bars, Phase::Sharing, setup.first_view, setup.clone());
        }
    }

    /// A view is final.
    pub(super) fn view(&mut self, view: View) {
        if let Show::Bars { phase: Some(phase), .. } = self {
            phase.bar.set_position(view.0.saturating_sub(phase.first.0));
        }
    }

    /// The witness's engine has told something.
    pub(super) fn event(&mut self, event: &EngineEvent) {
        match event {
            EngineEvent::PhaseEnded { phase: ended, view, dealt, complaints, .. } => {
                let counts = format!("dealt {}, complaints {}", dealt.len(), complaints.len());
                match self {
                    Show::Silent => {}
                    Show::Lines => eprintln!("  {:<11} ended at view {view}: {counts}", name(*ended)),
                    Show::Bars { bars, phase } => {
                        if let Some(PhaseBar { bar, setup, .. }) = phase.take() {
                            bar.set_position(bar.length().unwrap_or_default());
                            bar.finish_with_message(counts);
                            let first = View(view.0.saturating_add(1));
                            *phase = PhaseBar::new(bars, after(*ended), first, setup);
                        }
                    }
                }
            }
            EngineEvent::Exposed { exposure, .. } => self.line(&format!("  {exposure}")),
            EngineEvent::Disqualified { dealer, reason, .. } => {
                self.line(&format!("  dealer {dealer} is disqualified: {reason}"));
            }
            _ => {}
        }
    }

    /// A run is over.
    pub(super) fn run(&mut self, run: &Run) {
        if let Show::Bars { phase, .. } = self
            && let Some(phase) = phase.take()
        {
            phase.bar.finish_and_clear();
        }
        let time = match run.elapsed_ms {
            Some(elapsed) => format!("after {:.2} s", Duration::from_millis(elapsed).as_secs_f64()),
            None => format!("epoch {}, begun in an earlier life", run.epoch),
        };
        match &run.failure {
            None => self.line(&format!("  completed    {time}")),
            Some(reason) => self.line(&format!("  failed       {time}: {reason}")),
        }
    }

    /// The result, for people, on stdout.
    pub(super) fn summary(&self, runs: &[Run]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        runs.iter().try_for_each(|run| out.write_all(summary(run).as_bytes()))?;
        out.flush()
    }

    fn line(&self, line: &str) {
        match self {
            Show::Silent => {}
            Show::Lines => eprintln!("{line}"),
            Show::Bars { bars, .. } => bars.suspend(|| eprintln!("{line}")),
        }
    }
}

/// The result, for scripts, on stdout.
pub(super) fn json(report: &Report) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, report)?;
    out.write_all(b"\n")?;
    out.flush()
}

impl PhaseBar {
    fn new(bars: &MultiProgress, phase: Phase, first: View, setup: EpochSetup) -> Option<PhaseBar> {
        let place = match phase {
            Phase::Sharing => 0,
            Phase::Complaining => 1,
            Phase::Answering => 2,
            Phase::Ended => return None,
        };
        let last = setup.phase_final_views[place];
        let bar = bars.add(ProgressBar::new(last.0.saturating_sub(first.0)));
        // The template is a constant; without it the bar would look plainer, no more.
        if let Ok(style) = ProgressStyle::with_template("  {prefix:<11} [{bar:30}] {msg}") {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix(name(phase));
        Some(PhaseBar { bar, setup, first })
    }
}

fn after(phase: Phase) -> Phase {
    match phase {
        Phase::Sharing => Phase::Complaining,
        Phase::Complaining => Phase::Answering,
        Phase::Answering | Phase::Ended => Phase::Ended,
    }
}

fn name(phase: Phase) -> &'static str {
    match phase {
        Phase::Sharing => "sharing",
        Phase::Complaining => "complaining",
        Phase::Answering => "answering",
        Phase::Ended => "ended",
    }
}

/// One run as a table, with its key and its signature.
fn summary(run: &Run) -> String {
    let mut text = String::new();
    let outcome = match run.outcome {
        Outcome::Completed => "completed",
        Outcome::Failed => "FAILED",
    };
    // Writing to a string does not fail.
    let _ = writeln!(text, "\nkeys of epoch {} on chain {}: {outcome}", run.epoch, run.chain_id);
    if let Some(reason) = &run.failure {
        let _ = writeln!(text, "  {reason}");
    }
    let _ = writeln!(text);
    let heads = ["member", "node", "behaviour", "dealt", "complaints", "state", "verdict"].map(str::to_owned);
    let rows: Vec<[String; 7]> = std::iter::once(heads)
        .chain(run.members.iter().map(|member| {
            let out = run.disqualified.iter().find(|out| out.dealer == member.index);
            let verdict = match out {
                Some(out) => format!("out: {}", out.reason),
                None if run.qualified.contains(&member.index) => "qualified".to_owned(),
                None => "-".to_owned(),
            };
            [
                member.index.to_string(),
                format!("{:.8}…", member.node_id),
                member.behaviour.to_owned(),
                if member.dealt { "yes" } else { "no" }.to_owned(),
                member.complaints.to_string(),
                member.state.to_owned(),
                verdict,
            ]
        }))
        .collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: [usize; 7] = std::array::from_fn(width);
    for row in &rows {
        let cells = row.iter().zip(widths).fold(String::new(), |mut line, (cell, width)| {
            let _ = write!(line, "  {cell:<width$}");
            line
        });
        let _ = writeln!(text, "{}", cells.trim_end());
    }
    let exposed: Vec<_> = run.exposures.iter().filter(|exposure| exposure.public > 0).collect();
    for (number, exposure) in exposed.iter().enumerate() {
        let _ = writeln!(text, "{}  got out    {exposure}", if number == 0 { "\n" } else { "" });
    }
    if let Some(key) = &run.group_public_key {
        let _ = writeln!(text, "\n  group key  {key}");
    }
    if let Some(signature) = &run.signature {
        let check = if signature.valid { "verifies under the group key" } else { "DOES NOT VERIFY" };
        let signers: Vec<String> = signature.signers.iter().map(u8::to_string).collect();
        let _ = writeln!(text, "  message    {:?}, signed by members {}", signature.message, signers.join(", "));
        let _ = writeln!(text, "  signature  {}: {check}", signature.value);
    }
    text
}
