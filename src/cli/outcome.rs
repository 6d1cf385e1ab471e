//! How commands end: with an exit code that scripts can trust. 0 where all is well, 1 where something is wrong with what was
//! looked at, 2 for bad usage.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory;
use clap::error::ErrorKind;
use dkg_engine::node::{FileKind, NodeConfig};
use serde::Serialize;

/// Why a command did not do what it was asked for.
pub(super) enum Failure {
    /// It was asked the wrong way.
    Usage(String),
    /// Something is wrong with what it was asked about.
    Wrong(String),
}

pub(super) fn wrong(error: impl std::fmt::Display) -> Failure {
    Failure::Wrong(error.to_string())
}

/// Something is wrong with this file.
pub(super) fn wrong_with(file: &Path) -> impl Fn(&dyn std::fmt::Display) -> Failure {
    let file = file.display().to_string();
    move |error| {
        let said = error.to_string();
        Failure::Wrong(if said.contains(&file) { said } else { format!("{file}: {said}") })
    }
}

/// This file could not be read as what was wanted: perhaps it is something else.
pub(super) fn instead(file: &Path, wanted: FileKind, error: &dyn std::fmt::Display) -> Failure {
    match wanted.mistaken(file) {
        Some(mistaken) => wrong(mistaken),
        None => wrong_with(file)(error),
    }
}

/// The configuration of a node, for every command that takes one.
pub(super) fn configuration(file: &Path) -> Result<NodeConfig, Failure> {
    NodeConfig::read(file).map_err(|error| match file.exists() {
        true => instead(file, FileKind::NodeConfig, &error),
        false => Failure::Wrong(format!(
            "there is no {}: run this in the folder of the node's configuration, or say where it is with --config FILE",
            file.display()
        )),
    })
}

/// The exit code of a command that has found all well, or not, or could not find out.
pub(super) fn conclude(done: Result<bool, Failure>) -> ExitCode {
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(Failure::Wrong(problem)) => {
            eprintln!("error: {problem}{}", next_step(&problem));
            ExitCode::from(1)
        }
        Err(Failure::Usage(problem)) => asked_for().error(ErrorKind::ValueValidation, problem).exit(),
    }
}

/// What to do about what the operating system says in so few words.
fn next_step(problem: &str) -> &'static str {
    if problem.contains("Permission denied") {
        "; run this as the user that the node runs as and that its files belong to"
    } else if problem.contains("Address already in use") {
        "; another process listens there (`ss -ltnp` tells which): stop it, or choose another address"
    } else {
        ""
    }
}

/// The subcommand that this process was asked for, whose usage is the one to show.
fn asked_for() -> clap::Command {
    let mut command = super::Cli::command();
    command.build();
    for word in std::env::args().skip(1).filter(|word| !word.starts_with('-')) {
        match command.find_subcommand(&word).cloned() {
            Some(inner) => command = inner,
            None => break,
        }
    }
    command
}

/// One JSON object, on a line of its own.
pub(super) fn write_json(out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    writeln!(out)
}
