//! How a node and its committee are: one word, and for everything that is not as it should be a sentence and what to do about it.
//!
//! [`Verdict::of`] is the one place that decides. Page, `dkg status` and its exit code, `/healthz`, `dkg check` and the gauges all
//! show what it says. It is pure: all that is known comes in as [`Facts`]. To let it judge something else, add a fact and a
//! finding.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::status::Stage;
use crate::committee::Index;
use crate::protocol::Exposure;
use crate::store::KeyHealth;

/// A member that nothing has been heard of for so many views is down: no connection to it or from it, no entry in the log.
pub const SILENT_VIEWS: u64 = 10;
/// But not sooner than that, where views are short: a connection that breaks is made again meanwhile.
pub const MIN_SILENCE_MS: u64 = 5_000;
/// Nor later, where views are long: connections are looked after all the time.
pub const MAX_SILENCE_MS: u64 = 60_000;
/// More views than that between the chain and this node's clock, in either direction, are worth a look. One is usual.
pub const LATE_VIEWS: u64 = 3;
/// But no less than so many milliseconds of views: short views may be a little late.
pub const MIN_LATE_MS: u64 = 2_000;
/// For as long as so many views last, and [`MIN_SILENCE_MS`], may the chain stand before it counts as halted.
pub const HALTED_VIEWS: u64 = 10;

/// With less room than that on its disk, a node is about to stop: its copy of the log grows by some megabytes an hour where views
/// last a second.
pub const MIN_FREE_BYTES: u64 = 128 << 20;
/// The most members that a sentence names.
const NAMED: usize = 12;

/// All that is known of a node and its committee.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// How far the node has come with its life.
    pub stage: Stage,
    /// What stopped it by itself, or holds it, if something does.
    pub ended: Option<String>,
    /// The threshold: views need more members than that.
    pub threshold: usize,
    /// How many members there are.
    pub size: usize,
    /// How long a view is meant to last, in milliseconds.
    pub view_ms: u64,
    /// How long it is until the first view, in milliseconds; 0 once the chain has begun.
    pub until_genesis_ms: u64,
    /// How many views the chain is behind this node's clock; below 0 where it is ahead of it.
    pub lag_views: i64,
    /// How long no view has become final while this node has followed the chain, in milliseconds.
    pub still_ms: u64,
    /// The other members, and for how many milliseconds nothing has been heard of each.
    pub silence_ms: Vec<(Index, u64)>,
    /// Why the log cannot be read, if the last try failed.
    pub reading: Option<String>,
    /// Why this node's entries do not get into the log, if the last one did not.
    pub appending: Option<String>,
    /// Whether keys are in force in the present epoch, or none can be yet.
    pub has_keys: bool,
    /// This node's keys, now and next.
    pub keys: Vec<KeyHealth>,
    /// How much of each dealer's secret has got out in the present run.
    pub exposures: Vec<Exposure>,
    /// What is wrong with the committee file on the disk, beside the one that the node was started with.
    pub committee_file: Option<String>,
    /// Room on the disk with the node's folder, if the system says.
    pub free_bytes: Option<u64>,
}

/// The one word. In order of how much it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Nothing is known to be wrong.
    Ok,
    /// It goes on, and somebody has to look.
    Degraded,
    /// The node reads what it has missed, and does not do its part yet.
    Starting,
    /// Views stand still, or this node does not do its part.
    Halted,
}

impl Level {
    /// All of them, in order.
    pub const ALL: [Level; 4] = [Level::Ok, Level::Degraded, Level::Starting, Level::Halted];

    /// The name as JSON and metrics have it.
    pub fn name(self) -> &'static str {
        match self {
            Level::Ok => "ok",
            Level::Degraded => "degraded",
            Level::Starting => "starting",
            Level::Halted => "halted",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name().to_uppercase())
    }
}

/// What a finding is about, for scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// How far the node has come.
    Node,
    /// Members that are not heard of.
    Members,
    /// Views that do not become final.
    Views,
    /// The chain and this node's clock tell different times.
    Clock,
    /// The way to the log.
    Log,
    /// This node's keys, or the committee's.
    Keys,
    /// Secrets of which too much has got out.
    Exposure,
    /// The committee file.
    Committee,
    /// The disk.
    Disk,
}

impl Subject {
    /// All of them.
    pub const ALL: [Subject; 9] = [
        Subject::Node,
        Subject::Members,
        Subject::Views,
        Subject::Clock,
        Subject::Log,
        Subject::Keys,
        Subject::Exposure,
        Subject::Committee,
        Subject::Disk,
    ];

    /// The name as JSON and metrics have it.
    pub fn name(self) -> &'static str {
        match self {
            Subject::Node => "node",
            Subject::Members => "members",
            Subject::Views => "views",
            Subject::Clock => "clock",
            Subject::Log => "log",
            Subject::Keys => "keys",
            Subject::Exposure => "exposure",
            Subject::Committee => "committee",
            Subject::Disk => "disk",
        }
    }
}

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What it is about.
    pub about: Subject,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub to_do: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.what, self.to_do)
    }
}

/// How a node and its committee are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// In one word.
    pub level: Level,
    /// What is not as it should be, the worst first.
    pub findings: Vec<Finding>,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.level)?;
        self.findings.iter().try_for_each(|finding| write!(f, "\n{finding}"))
    }
}

impl Verdict {
    /// What is to be made of all that is known.
    pub fn of(facts: &Facts) -> Self {
        let mut findings = match facts.stage {
            Stage::Running => {
                [members(facts), views(facts), clock(facts), log(facts), keys(facts), exposures(facts), ground(facts)]
                    .concat()
            }
            // What an old chain says of members and keys tells nothing.
            Stage::Starting => [vec![starting()], log(facts), ground(facts)].concat(),
            Stage::Held => vec![held(facts)],
            Stage::Stopped => vec![stopped(facts)],
        };
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.level));
        let level = findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok);
        Verdict { level, findings }
    }
}

/// Whether a member of which nothing has been heard for so long counts as down.
pub(super) fn is_silence(silent_ms: u64, view_ms: u64) -> bool {
    silent_ms >= SILENT_VIEWS.saturating_mul(view_ms).clamp(MIN_SILENCE_MS, MAX_SILENCE_MS)
}

fn finding(level: Level, about: Subject, what: impl Into<String>, to_do: impl Into<String>) -> Finding {
    Finding { level, about, what: what.into(), to_do: to_do.into() }
}

fn starting() -> Finding {
    let what = "the node is starting: it reads what it has missed of the log";
    finding(Level::Starting, Subject::Node, what, "wait until it has; nothing else is judged before")
}

fn held(facts: &Facts) -> Finding {
    let why = facts.ended.as_deref().unwrap_or("somebody else writes in its name");
    finding(
        Level::Halted,
        Subject::Node,
        format!("this member runs twice, and this node neither deals nor signs any more: {why}"),
        "find the other one (a machine, container or copy of the folder with the same identity file), stop for good the one that is \
         not to live, and start the other with `dkg node --sole-owner`",
    )
}

fn stopped(facts: &Facts) -> Finding {
    match &facts.ended {
        Some(reason) => finding(
            Level::Halted,
            Subject::Node,
            format!("the node has stopped: {reason}"),
            "put that right, and start it again",
        ),
        None => finding(Level::Halted, Subject::Node, "the node is stopping", "start it again to go on"),
    }
}

/// Who is down, and whether the others are enough for views.
fn members(facts: &Facts) -> Vec<Finding> {
    let is_down = |(_, silent): &(Index, u64)| is_silence(*silent, facts.view_ms);
    let down: Vec<(Index, u64)> = facts.silence_ms.iter().copied().filter(is_down).collect();
    if down.is_empty() {
        return Vec::new();
    }
    let (up, needed) = (facts.size.saturating_sub(down.len()), facts.threshold + 1);
    let since = down.iter().map(|(member, silent)| format!("member {member} for {}", lasting(*silent, facts.view_ms)));
    let since = format!("not heard of: {}", list(since, "and"));
    let names = list(down.iter().map(|(member, _)| member.to_string()), "or");
    if up < needed {
        let level = if facts.until_genesis_ms == 0 { Level::Halted } else { Level::Degraded };
        let what = format!("{up} of the {needed} members that views need are up ({since})");
        let to_do = if needed - up == down.len() {
            format!("start member {}", list(down.iter().map(|(member, _)| member.to_string()), "and"))
        } else {
            let enough = if needed - up == 1 { String::new() } else { format!(", {} of them", needed - up) };
            format!("start member {names}{enough}")
        };
        let to_do = format!("{to_do}; where they run, `dkg check` says why they cannot be reached");
        return vec![finding(level, Subject::Members, what, to_do)];
    }
    let spare = match up - needed {
        0 => "with one more down, views stand still".to_owned(),
        spare => format!("views go on, also with {spare} more down"),
    };
    let what = format!("{since}; {spare}");
    let to_do = format!("start member {}, or see with `dkg check` why it cannot be reached", names);
    vec![finding(Level::Degraded, Subject::Members, what, to_do)]
}

/// Whether views become final.
fn views(facts: &Facts) -> Vec<Finding> {
    let limit = HALTED_VIEWS.saturating_mul(facts.view_ms).max(MIN_SILENCE_MS);
    if facts.until_genesis_ms > 0 || facts.still_ms < limit {
        return Vec::new();
    }
    let what = format!("no view has become final for {}", lasting(facts.still_ms, facts.view_ms));
    let to_do = if facts.lag_views < 0 {
        "the clocks were set back, and views go on when they have come to where the chain is: see what is said of the clock"
    } else if facts.reading.is_some() || facts.appending.is_some() {
        "see what is said of the log"
    } else {
        "views need more than t members that reach the log and whose clocks are right: `dkg check` at each member says what is \
         wrong there"
    };
    vec![finding(Level::Halted, Subject::Views, what, to_do)]
}

/// Whether the chain and this node's clock tell the same time.
fn clock(facts: &Facts) -> Vec<Finding> {
    let apart = facts.lag_views.unsigned_abs();
    if apart <= LATE_VIEWS || apart.saturating_mul(facts.view_ms) < MIN_LATE_MS || facts.until_genesis_ms > 0 {
        return Vec::new();
    }
    let by = lasting(apart.saturating_mul(facts.view_ms), facts.view_ms);
    let (what, to_do) = if facts.lag_views < 0 {
        (
            format!("the chain is {by} ahead of this node's clock"),
            "this clock is behind, or all members' clocks were set back: compare them with `dkg check`, and set them right",
        )
    } else {
        (
            format!("the chain is {by} behind this node's clock"),
            "after an outage it catches up by itself, but a run goes on at its own pace meanwhile; if there was none, compare \
             the members' clocks with `dkg check`",
        )
    };
    vec![finding(Level::Degraded, Subject::Clock, what, to_do)]
}

fn log(facts: &Facts) -> Vec<Finding> {
    let to_do = "the node goes on trying; `dkg check` says which part of the way fails";
    let reading = facts.reading.iter().map(|trouble| format!("the log cannot be read: {trouble}"));
    let appending =
        facts.appending.iter().map(|trouble| format!("what this node says does not get into the log: {trouble}"));
    reading.chain(appending).map(|what| finding(Level::Degraded, Subject::Log, what, to_do)).collect()
}

fn keys(facts: &Facts) -> Vec<Finding> {
    let bad = facts.keys.iter().filter(|key| key.status.is_bad());
    let mut findings: Vec<Finding> = bad
        .map(|key| {
            let (what, to_do) = key.reason.split_once("; ").unwrap_or((&key.reason, "see `dkg keys list`"));
            let what = format!("this node's key of epoch {} is {}: {what}", key.epoch, key.status);
            finding(Level::Degraded, Subject::Keys, what, to_do)
        })
        .collect();
    if !facts.has_keys {
        let what = "no keys are in force in this epoch, since no run has come to an end yet";
        let to_do =
            "see under the last run who was disqualified or submitted nothing, and bring them back before the next";
        findings.push(finding(Level::Degraded, Subject::Keys, what, to_do));
    }
    findings
}

fn exposures(facts: &Facts) -> Vec<Finding> {
    let close = facts.exposures.iter().filter(|exposure| exposure.is_close());
    let to_do = "see under EXPOSED in the run book before you use this run's keys";
    close.map(|exposure| finding(Level::Degraded, Subject::Exposure, exposure.to_string(), to_do)).collect()
}

/// What the node stands on.
fn ground(facts: &Facts) -> Vec<Finding> {
    let file = facts.committee_file.iter().map(|trouble| {
        let to_do = "if the file is right, restart the node; if not, bring back the one that the other members have";
        finding(Level::Degraded, Subject::Committee, trouble.clone(), to_do)
    });
    let low = facts.free_bytes.filter(|free| *free < MIN_FREE_BYTES).map(|free| {
        let what = format!("the disk with this node's folder has {} MB left", free >> 20);
        finding(Level::Degraded, Subject::Disk, what, "make room: where it has none, the node stops")
    });
    file.chain(low).collect()
}

/// `47 s (47 views)`.
fn lasting(ms: u64, view_ms: u64) -> String {
    let time = match ms / 1000 {
        seconds @ 0..=119 => format!("{seconds} s"),
        seconds @ 120..=7199 => format!("{} min", seconds / 60),
        seconds @ 7200..=172_799 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    };
    match ms / view_ms.max(1) {
        1 => format!("{time} (1 view)"),
        views => format!("{time} ({views} views)"),
    }
}

/// `0, 1 or 4`; a long list is cut short.
fn list(members: impl Iterator<Item = String>, last: &str) -> String {
    let mut members: Vec<String> = members.collect();
    if let Some(more) = members.len().checked_sub(NAMED).filter(|more| *more > 0) {
        members.truncate(NAMED);
        members.push(format!("{more} more"));
    }
    match members.pop() {
        None => String::new(),
        Some(only) if members.is_empty() => only,
        Some(end) => format!("{} {last} {end}", members.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::epoch::EpochCounter;
    use crate::store::HealthStatus;

    const VIEW_MS: u64 = 1000;

    fn index(byte: u8) -> Index {
        Index::from_byte(byte).expect("an index")
    }

    /// Member 2 of five, with nothing wrong.
    fn well() -> Facts {
        Facts {
            stage: Stage::Running,
            ended: None,
            threshold: 2,
            size: 5,
            view_ms: VIEW_MS,
            until_genesis_ms: 0,
            lag_views: 1,
            still_ms: 900,
            silence_ms: [0, 1, 3, 4].map(|member| (index(member), 200)).to_vec(),
            reading: None,
            appending: None,
            has_keys: true,
            keys: Vec::new(),
            exposures: Vec::new(),
            committee_file: None,
            free_bytes: Some(MIN_FREE_BYTES),
        }
    }

    fn silent(members: &[u8], ms: u64) -> Facts {
        let mut facts = well();
        for (member, silence) in &mut facts.silence_ms {
            if members.contains(&member.byte()) {
                *silence = ms;
            }
        }
        facts
    }

    #[track_caller]
    fn only(facts: &Facts, level: Level, about: Subject) -> String {
        let verdict = Verdict::of(facts);
        let [finding] = &*verdict.findings else { panic!("not one finding: {verdict}") };
        assert_eq!((verdict.level, finding.level, finding.about), (level, level, about), "{verdict}");
        finding.to_string()
    }

    #[test]
    fn where_nothing_is_wrong_it_is_ok() {
        assert_eq!(Verdict::of(&well()), Verdict { level: Level::Ok, findings: Vec::new() });
        assert_eq!(Verdict::of(&silent(&[0, 1, 3], 9_999)).level, Level::Ok);
    }

    #[test]
    fn with_too_few_members_up_it_is_halted_and_says_whom_to_start() {
        let text = only(&silent(&[0, 1, 4], 47_000), Level::Halted, Subject::Members);
        assert!(text.starts_with("2 of the 3 members that views need are up"), "{text}");
        assert!(text.contains("member 1 for 47 s (47 views)") && text.contains("start member 0, 1 or 4;"), "{text}");
        let text = only(&silent(&[0, 1, 3, 4], 47_000), Level::Halted, Subject::Members);
        assert!(text.contains("1 of the 3") && text.contains("start member 0, 1, 3 or 4, 2 of them;"), "{text}");
        // Before there are views, nothing has come to stand.
        let early = Facts { until_genesis_ms: 1, ..silent(&[0, 1, 4], 47_000) };
        only(&early, Level::Degraded, Subject::Members);
    }

    #[test]
    fn with_enough_members_up_it_is_degraded_and_says_how_many_more_may_go() {
        let text = only(&silent(&[3], 10_000), Level::Degraded, Subject::Members);
        assert!(text.contains("member 3 for 10 s (10 views); views go on, also with 1 more down"), "{text}");
        let text = only(&silent(&[3, 4], 10_000), Level::Degraded, Subject::Members);
        assert!(text.contains("with one more down, views stand still; start member 3 or 4,"), "{text}");
    }

    #[test]
    fn silence_is_counted_in_views_but_neither_blinks_nor_lasts_for_hours() {
        for (view_ms, limit) in [(100, MIN_SILENCE_MS), (2000, 20_000), (3_600_000, MAX_SILENCE_MS)] {
            assert!(!is_silence(limit - 1, view_ms) && is_silence(limit, view_ms), "{view_ms}");
        }
    }

    #[test]
    fn views_that_stand_still_are_halted_whatever_the_members_and_clocks_say() {
        let still = Facts { still_ms: 10_000, ..well() };
        assert!(only(&still, Level::Halted, Subject::Views).contains("for 10 s (10 views)"));
        // All clocks were set back.
        let back = Verdict::of(&Facts { lag_views: -600, ..still.clone() });
        assert_eq!(back.level, Level::Halted);
        assert!(back.to_string().contains("the chain is 10 min (600 views) ahead of this node's clock"), "{back}");
        let early = Facts { until_genesis_ms: 1, ..still };
        assert_eq!(Verdict::of(&early).level, Level::Ok);
    }

    #[test]
    fn a_chain_that_is_far_from_the_clock_is_degraded_in_both_directions() {
        let far = |lag_views| Facts { lag_views, ..well() };
        assert!(only(&far(4), Level::Degraded, Subject::Clock).contains("behind"));
        assert!(only(&far(-4), Level::Degraded, Subject::Clock).contains("ahead"));
        assert_eq!([3, -3].map(|lag| Verdict::of(&far(lag)).level), [Level::Ok; 2]);
        assert_eq!(Verdict::of(&Facts { view_ms: 100, ..far(19) }).level, Level::Ok);
        only(&far(i64::MIN), Level::Degraded, Subject::Clock);
    }

    #[test]
    fn a_log_that_fails_keys_that_are_missing_and_secrets_that_got_out_are_each_told() {
        let route = || Some("no route".to_owned());
        let text = only(&Facts { reading: route(), ..well() }, Level::Degraded, Subject::Log);
        assert!(text.starts_with("the log cannot be read: no route;"), "{text}");
        let text = only(&Facts { appending: route(), ..well() }, Level::Degraded, Subject::Log);
        assert!(text.starts_with("what this node says does not get into the log: no route;"), "{text}");
        let both = Verdict::of(&Facts { reading: route(), appending: route(), ..well() });
        assert_eq!((both.level, both.findings.len()), (Level::Degraded, 2));
        let key = KeyHealth {
            epoch: EpochCounter(7),
            status: HealthStatus::Missing,
            index: None,
            public_key: None,
            expected: None,
            reason: "the chain expects a share; import it".to_owned(),
        };
        let text = only(&Facts { keys: vec![key.clone()], ..well() }, Level::Degraded, Subject::Keys);
        assert_eq!(text, "this node's key of epoch 7 is missing: the chain expects a share; import it");
        let pending = KeyHealth { status: HealthStatus::Pending, ..key };
        assert_eq!(Verdict::of(&Facts { keys: vec![pending], ..well() }).level, Level::Ok);
        only(&Facts { has_keys: false, ..well() }, Level::Degraded, Subject::Keys);
        let exposure = Exposure { dealer: index(4), public: 1, silent: 1, left: 1 };
        only(&Facts { exposures: vec![exposure], ..well() }, Level::Degraded, Subject::Exposure);
        assert_eq!(
            Verdict::of(&Facts { exposures: vec![Exposure { left: 2, ..exposure }], ..well() }).level,
            Level::Ok
        );
    }

    #[test]
    fn another_committee_file_and_a_disk_without_room_are_told() {
        let other = Facts { committee_file: Some("c.toml is another one".to_owned()), ..well() };
        assert!(only(&other, Level::Degraded, Subject::Committee).starts_with("c.toml is another one; if the file"));
        let full = Facts { free_bytes: Some((5 << 20) + 1), ..well() };
        assert!(only(&full, Level::Degraded, Subject::Disk).contains("has 5 MB left"));
        assert_eq!(Verdict::of(&Facts { free_bytes: None, ..well() }).level, Level::Ok);
    }

    #[test]
    fn a_node_that_starts_is_not_well_yet_and_one_that_has_stopped_says_why() {
        let starting = Facts { stage: Stage::Starting, ..silent(&[0, 1, 3, 4], u64::MAX) };
        only(&starting, Level::Starting, Subject::Node);
        let unreachable = Verdict::of(&Facts { reading: Some("no route".to_owned()), ..starting });
        assert_eq!((unreachable.level, unreachable.findings.len()), (Level::Starting, 2));
        let stopped = Facts { stage: Stage::Stopped, ended: Some("the store fails".to_owned()), ..well() };
        assert!(only(&stopped, Level::Halted, Subject::Node).starts_with("the node has stopped: the store fails;"));
        let held = Facts { stage: Stage::Held, ended: Some("entry 7 is not its own".to_owned()), ..well() };
        let text = only(&held, Level::Halted, Subject::Node);
        assert!(text.contains("entry 7 is not its own; find the other one") && text.contains("--sole-owner"), "{text}");
    }

    #[test]
    fn the_worst_is_told_first_and_long_lists_are_cut_short() {
        let facts = Facts { reading: Some("no route".to_owned()), still_ms: 60_000, ..well() };
        let verdict = Verdict::of(&facts);
        assert_eq!(
            verdict.findings.iter().map(|finding| finding.about).collect::<Vec<_>>(),
            [Subject::Views, Subject::Log]
        );
        assert!(
            verdict
                .to_string()
                .starts_with("HALTED\nno view has become final for 60 s (60 views); see what is said of the log")
        );
        let many = Facts {
            size: 254,
            threshold: 126,
            silence_ms: (0..253).map(|member| (index(member), 60_000)).collect(),
            ..well()
        };
        let text = only(&many, Level::Halted, Subject::Members);
        assert!(text.contains("10, 11 or 241 more, 126 of them") && text.len() < 1000, "{text}");
    }
}
