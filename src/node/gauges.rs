//! A node's status as gauges of the `metrics` facade, for whatever recorder the host has installed. The health of the keys
//! has gauges of its own: see [`record_metrics`](crate::store::record_metrics).

use metrics::gauge;

use super::{Level, Stage, Status, Subject};
use crate::protocol::Exposure;
use crate::store::record_metrics;

/// Sets all gauges to what the status says, those of the keys' health among them:
///
/// | gauge | what it is |
/// | --- | --- |
/// | `dkg_up` | 1 while the node follows the chain |
/// | `dkg_trouble` | 1 while the verdict is `DEGRADED` or `HALTED`: somebody has to look |
/// | `dkg_verdict{level}` | 1 for the level that the verdict has: `ok`, `degraded`, `starting` or `halted` |
/// | `dkg_finding{about}` | how many findings the verdict has about `node`, `members`, `views`, `clock`, `log`, `keys`, … |
/// | `dkg_view_lag` | views that the chain is behind this node's clock; below 0 where it is ahead of it |
/// | `dkg_members_down` | other members of which nothing has been heard for too long |
/// | `dkg_view_finalized`, `dkg_view_clock` | the chain's view, and that of this node's clock |
/// | `dkg_epoch` | the present epoch |
/// | `dkg_log_entries` | entries of the log that have been read |
/// | `dkg_dealers_missing`, `dkg_complaints` | of the present run |
/// | `dkg_secrets_exposed` | dealers in the present run whose secret is one answer from being public, or less |
/// | `dkg_members_submitted` | members that have submitted a result with keys |
/// | `dkg_peer_connected{member}` | 1 where a message could be sent now |
/// | `dkg_member_faults{member}` | entries that it signed and everybody skipped |
/// | `dkg_strangers_refused` | connections of others than members |
// Counts and views stay far below 2^52.
#[expect(clippy::cast_precision_loss, reason = "gauges are floating point")]
pub fn record(status: &Status) {
    let flag = |yes: bool| f64::from(u8::from(yes));
    let chain = &status.chain;
    if let Some(keys) = &status.keys {
        record_metrics(&keys.current, keys.next.as_ref());
    }
    gauge!("dkg_up").set(flag(status.stage == Stage::Running));
    let verdict = &status.verdict;
    gauge!("dkg_trouble").set(flag(matches!(verdict.level, Level::Degraded | Level::Halted)));
    for level in Level::ALL {
        gauge!("dkg_verdict", "level" => level.name()).set(flag(verdict.level == level));
    }
    for subject in Subject::ALL {
        let findings = verdict.findings.iter().filter(|finding| finding.about == subject);
        gauge!("dkg_finding", "about" => subject.name()).set(findings.count() as f64);
    }
    gauge!("dkg_members_down").set(status.seen.iter().filter(|seen| seen.is_down).count() as f64);
    gauge!("dkg_view_lag").set(chain.clock.lag as f64);
    gauge!("dkg_view_finalized").set(chain.head.view as f64);
    gauge!("dkg_view_clock").set(chain.clock.view as f64);
    gauge!("dkg_epoch").set(chain.epoch.counter as f64);
    gauge!("dkg_log_entries").set(chain.entries as f64);
    gauge!("dkg_dealers_missing").set(chain.run.missing.len() as f64);
    gauge!("dkg_complaints").set(chain.run.complaints.len() as f64);
    let exposed = status.seen.iter().filter_map(|seen| seen.exposed).filter(Exposure::is_close);
    gauge!("dkg_secrets_exposed").set(exposed.count() as f64);
    let submitted = chain.members.iter().filter(|member| member.submitted.as_deref() == Some("keys"));
    gauge!("dkg_members_submitted").set(submitted.count() as f64);
    gauge!("dkg_strangers_refused").set(status.strangers_refused as f64);
    for member in &chain.members {
        gauge!("dkg_member_faults", "member" => member.index.to_string()).set(member.faults as f64);
    }
    for seen in &status.seen {
        if let Some(link) = &seen.link {
            gauge!("dkg_peer_connected", "member" => seen.index.to_string()).set(flag(link.outbound));
        }
    }
}
