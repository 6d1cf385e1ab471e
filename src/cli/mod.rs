//! What the command line says, and where log lines go. Each subcommand has a room of its own.

mod check;
mod closed;
mod committee;
mod keygen;
mod keys;
mod local;
mod log;
mod node;
mod outcome;
mod secrets;
mod sign;
mod signals;
mod simulate;
mod status;

use std::io::{self, Write};
use std::process::ExitCode;

use ::log::LevelFilter;
use clap::{ArgAction, Parser, Subcommand};
use dkg_engine::simulator::LogTap;
use indicatif::MultiProgress;

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
    Check(check::Options),
    Combine(sign::CombineOptions),
    Committee(committee::Options),
    Keygen(keygen::Options),
    Keys(Box<keys::Options>),
    Local(local::Options),
    Log(log::Options),
    Node(node::Options),
    Sign(sign::SignOptions),
    Simulate(simulate::Options),
    Status(status::Options),
    Verify(sign::VerifyOptions),
}

/// Runs the command; bad usage has ended the process before.
pub(crate) fn run() -> ExitCode {
    let Cli { command, verbose } = Cli::parse();
    // Bars draw on stderr too: log lines go around them. Where stderr is no terminal there are none, and lines just pass.
    let bars = MultiProgress::new();
    let level = match (&command, verbose) {
        // Nobody watches them all day: what they have to complain of stays in their log.
        (Command::Log(_) | Command::Node(_), 0) => LevelFilter::Warn,
        // What members of a thousand hostile runs have to complain of is what the simulation is about.
        (Command::Simulate(_), 0) => LevelFilter::Off,
        // Fifty members warn fifty times of what the report says once.
        (_, 0) => LevelFilter::Error,
        (_, 1) => LevelFilter::Info,
        (_, 2) => LevelFilter::Debug,
        _ => LevelFilter::Trace,
    };
    let logger = env_logger::Builder::new()
        .filter_level(level)
        .target(env_logger::Target::Pipe(Box::new(AroundBars(bars.clone()))))
        .build();
    let set = match &command {
        // A simulation looks every line over for secrets, whether it is shown or not.
        Command::Simulate(_) => {
            ::log::set_boxed_logger(Box::new(LogTap(logger))).map(|()| ::log::set_max_level(LevelFilter::Trace))
        }
        _ => ::log::set_boxed_logger(Box::new(logger)).map(|()| ::log::set_max_level(level)),
    };
    if let Err(error) = set {
        eprintln!("log lines will not be shown: {error}");
    }
    // They open keys.
    if matches!(
        command,
        Command::Check(_) | Command::Keygen(_) | Command::Keys(_) | Command::Node(_) | Command::Sign(_)
    ) {
        // Of those it is the node that lives on.
        if matches!(command, Command::Node(_)) {
            closed::take_from_environment(secrets::VARIABLE);
        }
        closed::close();
    }
    match command {
        Command::Check(options) => check::run(&options),
        Command::Combine(options) => sign::run_combine(&options),
        Command::Committee(options) => committee::run(&options),
        Command::Keygen(options) => keygen::run(&options),
        Command::Keys(options) => keys::run(&options),
        Command::Local(options) => local::run(&options, bars),
        Command::Node(options) => node::run(&options),
        Command::Sign(options) => sign::sign(&options),
        Command::Log(options) => log::run(&options),
        Command::Simulate(options) => simulate::run(&options, &bars),
        Command::Status(options) => status::run(&options),
        Command::Verify(options) => sign::run_verify(&options),
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
