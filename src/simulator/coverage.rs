//! What many runs have hit.

use std::collections::BTreeMap;

use super::{Ending, Outcome};

/// Counts, over many runs, of the runs in which something was hit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Runs.
    pub runs: u64,
    /// By kind (fault, verdict, remark, key transition, …) and name: runs that hit it.
    pub hits: BTreeMap<&'static str, BTreeMap<String, u64>>,
    /// By the smallest margin of an honest dealer (how many more of its shares could have become known): runs.
    pub margins: BTreeMap<usize, u64>,
}

impl Coverage {
    /// Adds a run.
    pub fn add(&mut self, outcome: &Outcome) {
        self.runs += 1;
        for (kind, name) in &outcome.marks {
            self.hit(kind, name);
        }
        let mut endings: Vec<Ending> = outcome.endings.iter().map(|(_, ending)| *ending).collect();
        endings.sort_unstable();
        endings.dedup();
        for ending in endings {
            self.hit("epoch", ending.name());
        }
        let honest = outcome.leaks.iter().filter(|leak| leak.honest).map(|leak| leak.margin);
        if let Some(smallest) = honest.min() {
            *self.margins.entry(smallest).or_default() += 1;
        }
    }

    /// Runs that hit this.
    pub fn of(&self, kind: &str, name: &str) -> u64 {
        self.hits.get(kind).and_then(|names| names.get(name)).copied().unwrap_or_default()
    }

    fn hit(&mut self, kind: &'static str, name: &str) {
        *self.hits.entry(kind).or_default().entry(name.to_owned()).or_default() += 1;
    }
}
