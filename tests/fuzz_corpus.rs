//! The fuzz targets (`fuzz/`), replayed over their corpora: what was found once is found again by whoever breaks it.

#[path = "../fuzz/src/targets/mod.rs"]
mod targets;

use std::collections::BTreeSet;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use targets::{
    FILE_TARGET_NAMES, FILE_TARGETS, LINK_TARGET_NAMES, LINK_TARGETS, LOG_TARGET_NAMES, LOG_TARGETS,
    SEALED_TARGET_NAMES, SEALED_TARGETS, TARGETS, Target,
};

fn all_targets() -> impl Iterator<Item = &'static Target> {
    TARGETS.iter().chain(FILE_TARGETS).chain(LINK_TARGETS).chain(LOG_TARGETS).chain(SEALED_TARGETS)
}

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

/// What is in a folder, in order.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let listed = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut entries: Vec<PathBuf> = listed.map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    entries
}

/// The names in a folder of `fuzz`, without what comes after a dot.
fn names(folder: &str) -> BTreeSet<String> {
    let name = |path: &PathBuf| path.file_stem().unwrap().to_string_lossy().into_owned();
    entries(&fuzz().join(folder)).iter().map(name).collect()
}

#[test]
fn every_target_has_a_corpus_and_a_fuzzer_and_every_corpus_and_fuzzer_has_a_target() {
    let mut known: BTreeSet<String> = all_targets().map(|(name, _)| (*name).to_owned()).collect();
    let elsewhere = || {
        let names = FILE_TARGET_NAMES.iter().chain(&LINK_TARGET_NAMES);
        names.chain(&LOG_TARGET_NAMES).chain(&SEALED_TARGET_NAMES)
    };
    known.extend(elsewhere().map(|name| (*name).to_owned()));
    assert_eq!(known.len(), TARGETS.len() + elsewhere().count());
    assert_eq!(names("corpus"), known);
    assert_eq!(names("fuzz_targets"), known);
}

#[test]
fn what_is_promised_of_decoders_and_state_machines_holds_for_every_input_of_the_corpus() {
    let mut failures = Vec::new();
    for (name, target) in all_targets() {
        let inputs = entries(&fuzz().join("corpus").join(name));
        assert!(!inputs.is_empty(), "the corpus of {name} is empty");
        for path in inputs {
            let input = std::fs::read(&path).unwrap();
            if catch_unwind(|| target(&input)).is_err() {
                failures.push(path.display().to_string());
            }
        }
        // No input at all is one too.
        target(&[]);
    }
    assert!(failures.is_empty(), "{} inputs fail:\n{}", failures.len(), failures.join("\n"));
}
