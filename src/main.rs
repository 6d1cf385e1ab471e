//! The `dkg` command: parse, call the library, show.

mod cli;

fn main() -> std::process::ExitCode {
    cli::run()
}
