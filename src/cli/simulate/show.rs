//! What people see of a simulation, and what scripts read.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde::Serialize;

use dkg_engine::simulator::{
    Coverage, Defect, Fault, Leak, Moment, Outcome, Plan, RunNumber, Scope, Shrunk, Violation,
};

/// Without a terminal, progress is told this many times.
const TOLD: u64 = 10;

/// How far it has come, on stderr: a bar on a terminal, lines where not, nothing for scripts.
pub(super) struct Progress {
    runs: u64,
    bar: Option<ProgressBar>,
    lines: bool,
}

impl Progress {
    pub(super) fn new(bars: &MultiProgress, runs: u64, silent: bool) -> Self {
        let terminal = io::stderr().is_terminal();
        let bar = (terminal && !silent).then(|| {
            let bar = bars.add(ProgressBar::new(runs));
            let style = ProgressStyle::with_template("{bar:40} {pos}/{len} runs, {per_sec}, {eta} left");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        Progress { runs, bar, lines: !terminal && !silent }
    }

    pub(super) fn made(&self, runs: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(runs);
        }
        if self.lines && runs.is_multiple_of((self.runs / TOLD).max(1)) {
            eprintln!("{runs} of {} runs", self.runs);
        }
    }

    pub(super) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// What came of many runs.
pub(super) struct Summary {
    pub(super) seed: u64,
    pub(super) scope: Scope,
    pub(super) coverage: Coverage,
    pub(super) elapsed: Duration,
    pub(super) broken: Option<Broken>,
}

/// A run that breaks a rule.
pub(super) struct Broken {
    pub(super) run: u64,
    pub(super) number: RunNumber,
    pub(super) violation: Violation,
    /// `None` if the run did not break the rule when it was made again, which must not be.
    pub(super) shrunk: Option<Shrunk>,
    pub(super) defect: Option<Defect>,
}

impl Broken {
    /// The command that shows the smallest run.
    fn command(&self) -> String {
        let mut command = format!("dkg simulate --replay {}", self.number);
        if let Some(shrunk) = &self.shrunk {
            let kept: Vec<String> = shrunk.plan.parts().iter().map(|part| part.number.to_string()).collect();
            let kept = if kept.is_empty() { "none".to_owned() } else { kept.join(",") };
            command += &format!(" --keep {kept} --until {}", shrunk.plan.epochs());
            if shrunk.quiet {
                command += " --calm";
            }
        }
        if let Some(defect) = self.defect {
            command += &format!(" --defect {defect}");
        }
        command
    }
}

/// Prints what came of many runs.
pub(super) fn summary(summary: &Summary, json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if json {
        return write_json(&mut out, &JsonSummary::new(summary));
    }
    let Summary { coverage, elapsed, broken, scope, .. } = summary;
    for (kind, names) in &coverage.hits {
        writeln!(out, "{kind}:")?;
        for (name, runs) in names {
            writeln!(out, "  {runs:>8}  {name}")?;
        }
    }
    writeln!(out, "smallest margin of an honest dealer (shares that could still have become known):")?;
    for (margin, runs) in &coverage.margins {
        writeln!(out, "  {runs:>8}  {margin}")?;
    }
    let missed: Vec<&str> = missed(scope, coverage).collect();
    if !missed.is_empty() {
        writeln!(out, "faults that no run has had: {}", missed.join(", "))?;
    }
    let seconds = elapsed.as_secs_f64();
    writeln!(
        out,
        "{} runs in {seconds:.1} s ({:.1} a second) from seed {}",
        coverage.runs,
        coverage.runs as f64 / seconds.max(f64::EPSILON),
        summary.seed
    )?;
    match broken {
        None => writeln!(out, "no rule was broken"),
        Some(broken) => {
            writeln!(out, "\nRUN {} ({}) BREAKS A RULE\n{}\n", broken.run, broken.number, broken.violation)?;
            match &broken.shrunk {
                Some(shrunk) => {
                    writeln!(out, "The smallest run that still does:\n{}\n{}", shrunk.plan, shrunk.outcome.timeline)?;
                }
                None => writeln!(out, "It did not when it was made again: the simulator is at fault.")?,
            }
            writeln!(out, "To see it again: {}", broken.command())
        }
    }
}

fn missed(scope: &Scope, coverage: &Coverage) -> impl Iterator<Item = &'static str> {
    scope.faults.iter().map(Fault::name).filter(|name| coverage.of("fault", name) == 0)
}

/// Prints one run from beginning to end.
pub(super) fn replay(plan: &Plan, outcome: &Outcome, json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if json {
        return write_json(&mut out, &JsonReplay::new(plan, outcome));
    }
    writeln!(out, "run {}: {plan}", plan.number())?;
    writeln!(out, "  view.ms        who  what (an asterisk marks malicious members, brackets what they play)")?;
    write!(out, "{}", outcome.timeline)?;
    writeln!(out, "\nshares that got out, of each dealer's secret:")?;
    writeln!(out, "  epoch  dealer  public  known  margin")?;
    for Leak { epoch, dealer, honest, public, known, margin } in &outcome.leaks {
        let mark = if *honest { ' ' } else { '*' };
        writeln!(out, "  {epoch:>5}  {dealer:>5}{mark}  {public:>6}  {known:>5}  {margin:>6}")?;
    }
    for (epoch, ending) in &outcome.endings {
        writeln!(out, "epoch {epoch}: {}", ending.name())?;
    }
    match &outcome.violation {
        None => writeln!(out, "no rule was broken"),
        Some(violation) => writeln!(out, "BROKEN: {violation}"),
    }
}

fn write_json(out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)
}

#[derive(Serialize)]
struct JsonSummary {
    seed: u64,
    runs: u64,
    seconds: f64,
    hits: BTreeMap<&'static str, BTreeMap<String, u64>>,
    margins: BTreeMap<usize, u64>,
    missed_faults: Vec<&'static str>,
    broken: Option<JsonBroken>,
}

#[derive(Serialize)]
struct JsonBroken {
    run: u64,
    number: String,
    rule: &'static str,
    what: String,
    command: String,
    smallest: Option<JsonReplay>,
}

#[derive(Serialize)]
struct JsonReplay {
    number: String,
    nodes: usize,
    epochs: u64,
    faults: Vec<JsonPart>,
    timeline: Vec<JsonMoment>,
    leaks: Vec<JsonLeak>,
    endings: BTreeMap<u64, &'static str>,
    broken: Option<JsonViolation>,
}

#[derive(Serialize)]
struct JsonViolation {
    rule: &'static str,
    what: String,
}

#[derive(Serialize)]
struct JsonPart {
    number: u64,
    member: usize,
    epoch: u64,
    fault: &'static str,
}

#[derive(Serialize)]
struct JsonMoment {
    at_ms: u64,
    who: String,
    what: String,
}

#[derive(Serialize)]
struct JsonLeak {
    epoch: u64,
    dealer: usize,
    honest: bool,
    public: usize,
    known: usize,
    margin: usize,
}

impl JsonSummary {
    fn new(summary: &Summary) -> Self {
        let Summary { seed, scope, coverage, elapsed, broken } = summary;
        JsonSummary {
            seed: *seed,
            runs: coverage.runs,
            seconds: elapsed.as_secs_f64(),
            hits: coverage.hits.clone(),
            margins: coverage.margins.clone(),
            missed_faults: missed(scope, coverage).collect(),
            broken: broken.as_ref().map(|broken| JsonBroken {
                run: broken.run,
                number: broken.number.to_string(),
                rule: broken.violation.rule.name(),
                what: broken.violation.what.clone(),
                command: broken.command(),
                smallest: broken.shrunk.as_ref().map(|shrunk| JsonReplay::new(&shrunk.plan, &shrunk.outcome)),
            }),
        }
    }
}

impl JsonReplay {
    fn new(plan: &Plan, outcome: &Outcome) -> Self {
        let part = |part: &dkg_engine::simulator::Part| JsonPart {
            number: part.number,
            member: part.member,
            epoch: part.epoch,
            fault: part.fault.name(),
        };
        let moment =
            |Moment { at_ms, who, what }: &Moment| JsonMoment { at_ms: *at_ms, who: who.clone(), what: what.clone() };
        let leak = |&Leak { epoch, dealer, honest, public, known, margin }: &Leak| JsonLeak {
            epoch,
            dealer,
            honest,
            public,
            known,
            margin,
        };
        JsonReplay {
            number: plan.number().to_string(),
            nodes: plan.size(),
            epochs: plan.epochs(),
            faults: plan.parts().iter().map(part).collect(),
            timeline: outcome.timeline.moments().iter().map(moment).collect(),
            leaks: outcome.leaks.iter().map(leak).collect(),
            endings: outcome.endings.iter().map(|(epoch, ending)| (*epoch, ending.name())).collect(),
            broken: outcome
                .violation
                .as_ref()
                .map(|violation| JsonViolation { rule: violation.rule.name(), what: violation.what.clone() }),
        }
    }
}
