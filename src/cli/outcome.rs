//! How commands end: with an exit code that scripts can trust. 0 where all is well, 1 where something is wrong with what was
//! looked at, 2 for bad usage.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory;
use clap::error::ErrorKind;
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

/// The exit code of a command that has found all well, or not, or could not find out.
pub(super) fn conclude(done: Result<bool, Failure>) -> ExitCode {
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(Failure::Wrong(problem)) => {
            eprintln!("error: {problem}");
            ExitCode::from(1)
        }
        Err(Failure::Usage(problem)) => super::Cli::command().error(ErrorKind::ValueValidation, problem).exit(),
    }
}

/// One JSON object, on a line of its own.
pub(super) fn write_json(out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    writeln!(out)
}
