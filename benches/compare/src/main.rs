//! Runs ours and the peers on the same work, one after the other on this machine, and prints what each takes and how many
//! times ours that is. `cargo run --release -- [--json] [SIZE …]`, in this folder.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

/// A program to measure, and what its figures leave out or have in them beside our work.
struct Peer {
    package: &'static str,
    remark: &'static str,
}

const PEERS: [Peer; 5] = [
    Peer { package: "peer-ours", remark: "subgroups and shares of all dealers at once, error at most 2^-64" },
    Peer {
        package: "peer-commonware",
        remark: "commonware: with its Ed25519 acknowledgements; without the decoding of the logs that it makes a player do again",
    },
    Peer { package: "peer-fastcrypto", remark: "fastcrypto-tbls: with the encryption and decryption of shares" },
    Peer {
        package: "peer-blsttc",
        remark: "blsttc: commitments in G1, whose field is half as large; a DKG put together from its parts",
    },
    Peer { package: "peer-frost", remark: "frost: Ed25519, with proofs of possession; for the shape only" },
];

const SIZES: [usize; 3] = [10, 50, 100];
const REPETITIONS: usize = 3;
/// Times that all programs take their turn; once where the peers' preparations alone take minutes.
const ROUNDS: usize = 2;
const MANY: usize = 150;
/// Points that `u` is measured over.
const UNIT_POINTS: f64 = 1000.0;

/// One line of a program: CPU milliseconds to deal, to take in, for the keys.
#[derive(Clone)]
struct Line {
    name: String,
    steps: [f64; 3],
}

impl Line {
    fn total(&self) -> f64 {
        self.steps.iter().sum()
    }

    fn parse(text: &str) -> Option<Line> {
        let mut fields = text.split('\t');
        let name = fields.next()?.to_owned();
        let mut step = || fields.next()?.parse().ok();
        Some(Line { name, steps: [step()?, step()?, step()?] })
    }
}

/// Builds a program by itself, so that what one peer asks of a common dependency does not change another's.
fn build(package: &str) -> Result<PathBuf, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let target = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target").join("peers");
    let status = Command::new(cargo)
        .args(["build", "--release", "--locked", "--quiet", "--package", package, "--target-dir"])
        .arg(&target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .map_err(|error| format!("cargo does not start: {error}"))?;
    if status.success() { Ok(target.join("release").join(package)) } else { Err(format!("{package} cannot be built")) }
}

fn run(program: &PathBuf, size: usize) -> Result<Vec<Line>, String> {
    let output = Command::new(program)
        .args([size.to_string(), REPETITIONS.to_string()])
        .output()
        .map_err(|error| format!("{} does not start: {error}", program.display()))?;
    if !output.status.success() {
        return Err(format!("{}: {}", program.display(), String::from_utf8_lossy(&output.stderr)));
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().map(|line| Line::parse(line).ok_or(format!("{}: what is {line:?}?", program.display()))).collect()
}

fn compare() -> Result<(), String> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let json = arguments.iter().any(|argument| argument == "--json");
    let chosen = arguments.iter().filter(|argument| *argument != "--json");
    let chosen: Vec<usize> = chosen
        .map(|argument| argument.parse().map_err(|_| format!("{argument:?} is not a size: say 10, 50 or 100")))
        .collect::<Result<_, _>>()?;
    let sizes = if chosen.is_empty() { SIZES.to_vec() } else { chosen };
    let programs = PEERS.iter().map(|peer| build(peer.package)).collect::<Result<Vec<_>, _>>()?;
    for size in sizes {
        let mut lines: Vec<Line> = Vec::new();
        for _ in 0..if size < MANY { ROUNDS } else { 1 } {
            for program in &programs {
                for line in run(program, size)? {
                    match lines.iter_mut().find(|other| other.name == line.name) {
                        None => lines.push(line),
                        Some(other) if line.total() < other.total() => *other = line,
                        Some(_) => {}
                    }
                }
            }
        }
        let unit =
            lines.iter().position(|line| line.name == "u").map(|place| lines.remove(place).steps[0] / UNIT_POINTS);
        let unit = unit.ok_or("our program has not measured u")?;
        let ours = |place: usize| lines.get(place).map_or(f64::NAN, Line::total);
        let (uncompressed, compressed) = (ours(0), ours(1));
        if !json {
            println!("n = {size}, u = {:.1} us; CPU ms of one participant, one thread", unit * 1e3);
            println!(
                "{:40} {:>8} {:>8} {:>8} {:>8} {:>9} {:>7} {:>7}",
                "", "deal", "take in", "keys", "all", "u", "/ ours", "/ compr"
            );
        }
        for line in &lines {
            let ([deal, take_in, keys], all) = (line.steps, line.total());
            let (in_u, by_ours, by_compressed) = (all / unit, all / uncompressed, all / compressed);
            if json {
                println!(
                    "{{\"n\":{size},\"name\":\"{}\",\"u_ms\":{unit},\"deal_ms\":{deal},\"take_in_ms\":{take_in},\"keys_ms\":{keys},\
                     \"ratio_to_uncompressed\":{by_ours},\"ratio_to_compressed\":{by_compressed}}}",
                    line.name
                );
            } else {
                println!(
                    "{:40} {deal:8.1} {take_in:8.1} {keys:8.1} {all:8.1} {in_u:9.0} {by_ours:7.1} {by_compressed:7.1}",
                    line.name
                );
            }
        }
    }
    if !json {
        PEERS.iter().for_each(|peer| println!("  {}", peer.remark));
    }
    Ok(())
}

fn main() -> ExitCode {
    match compare() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
