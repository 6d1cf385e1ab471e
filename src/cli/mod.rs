//! What the command line says, and where log lines go. Each subcommand has a room of its own.

mod local;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{ArgAction, Parser, Subcommand};
use indicatif::MultiProgress;
use log::LevelFilter;

/// Makes threshold BLS12-381 keys that nobody ever holds whole.
#[derive(Parser)]
#[command(name = "dkg", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,

    /// Log more on stderr: -v what every member reports, -vv and -vvv the details.
    #[arg(short, long, action = ArgAction::Count, global = true)]
    verbose: u8,
}

#[derive(Subcommand)]
enum Command {
    Local(local::Options),
}

/// Runs the command; bad usage has ended the process before.
pub(crate) fn run() -> ExitCode {
    let Cli { command, verbose } = Cli::parse();
    // Bars draw on stderr too: log lines go around them. Where stderr is no terminal there are none, and lines just pass.
    let bars = MultiProgress::new();
    env_logger::Builder::new()
        .filter_level(match verbose {
            // Fifty members warn fifty times of what the report says once.
            0 => LevelFilter::Error,
            1 => LevelFilter::Info,
            2 => LevelFilter::Debug,
            _ => LevelFilter::Trace,
        })
        .target(env_logger::Target::Pipe(Box::new(AroundBars(bars.clone()))))
        .init();
    match command {
        Command::Local(options) => local::run(&options, bars),
    }
}

/// Standard error, with the bars out of the way while a line is written.
struct AroundBars(MultiProgress);

impl Write for AroundBars {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.suspend(|| io::stderr().write(line))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
