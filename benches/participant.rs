//! One member's computation in an honest run, from the bytes that come to the keys: to deal, to check what the others dealt, to
//! make all keys. For each size of the committee and both encodings of vectors: CPU time on one thread, wall time on two, and
//! the memory it takes at its peak.
//!
//! `cargo bench --bench participant [-- SIZE …]`. Times are the least of several runs, in milliseconds and in u, the time it
//! takes to uncompress one point of G2, measured in the same run: u is what makes figures of different machines comparable.

use std::hint::black_box;
use std::time::{Duration, Instant};

use cpu_time::ThreadTime;
use dkg_engine::SecretBytes;
use dkg_engine::bls::{Effort, Index, Polynomial, Strength, UncheckedVector, VectorEncoding};
use dkg_engine::committee::threshold;
use dkg_engine::engine::READ_PAGE;
use dkg_engine::protocol::{Output, Parameters, Participant};
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

const SIZES: [usize; 5] = [10, 50, 100, 200, 254];

/// The member that is measured, in large committees: its abscissa, 77, is dearer to multiply by than most. In smaller ones it is
/// the middle one.
const MEASURED: usize = 76;

/// Everything that one member of a committee receives in an honest run.
struct Received {
    parameters: Parameters,
    shares: Vec<(Index, SecretBytes)>,
    vectors: Vec<(Index, Vec<u8>)>,
}

/// When a member has the curve work done.
#[derive(Clone, Copy)]
enum Pace {
    /// All of it at the end of phase 1.
    AtOnce,
    /// As it reads the board: page by page.
    PageByPage,
}

fn seed(member: Index) -> SecretBytes {
    SecretBytes::new(vec![member.byte(); 48])
}

fn received(size: usize, encoding: VectorEncoding) -> Received {
    let me = Index::from_position(MEASURED.min(size / 2)).expect("a member");
    let parameters = |me| Parameters { size, threshold: threshold(size), me, encoding };
    let mut received = Received { parameters: parameters(me), shares: Vec::new(), vectors: Vec::new() };
    for dealer in Index::all(size) {
        let (_, outputs) = Participant::start(parameters(dealer), &seed(dealer)).expect("a good seed");
        for output in outputs {
            match output {
                Output::SendShare { to, message } if to == me => received.shares.push((dealer, message)),
                Output::Broadcast(data) => received.vectors.push((dealer, data)),
                _ => {}
            }
        }
    }
    received
}

/// Dealing, taking in what n - 1 others dealt, and making the keys.
fn run(received: &Received, effort: Effort, pace: Pace) {
    let randomness = [7; 32];
    let me = received.parameters.me;
    let (mut member, _) = Participant::start_spending(received.parameters, &seed(me), effort).expect("a good seed");
    for (from, message) in &received.shares {
        member.take_private(*from, message.expose()).expect("a member's message");
    }
    for page in received.vectors.chunks(READ_PAGE) {
        for (from, data) in page {
            member.take_broadcast(*from, data).expect("a member's message");
        }
        if let Pace::PageByPage = pace {
            let _ = member.settle(&randomness);
        }
    }
    member.end_phase(&randomness).expect("phase 1 is on");
    member.end_phase(&randomness).expect("phase 2 is on");
    let (outcome, _) = member.finish(&randomness).expect("phase 3 is on");
    assert_eq!(outcome.qualified.len(), received.parameters.size);
    black_box(outcome.result.expect("an honest run succeeds").group_key);
}

/// The least time of several runs: more of those that are short. (Wall time needs many: whatever else the machine does in one of
/// two threads counts in full.)
fn least(mut measure: impl FnMut() -> Duration) -> f64 {
    const BUDGET: Duration = Duration::from_secs(8);
    const RUNS: usize = 30;
    let started = Instant::now();
    let mut least = measure();
    for _ in 1..RUNS {
        if started.elapsed() > BUDGET {
            break;
        }
        least = least.min(measure());
    }
    least.as_secs_f64() * 1e3
}

/// Milliseconds that it takes to uncompress one point.
fn uncompression() -> f64 {
    let vector = Polynomial::from_seed(&[1; 48], 99).expect("a good seed").commit();
    let bytes = vector.encode(VectorEncoding::Compressed);
    least(|| {
        let started = ThreadTime::now();
        for _ in 0..10 {
            black_box(UncheckedVector::decode(black_box(&bytes), vector.len()).expect("it is one"));
        }
        started.elapsed()
    }) / (10 * vector.len()) as f64
}

/// Work that threads share without a word: uncompressing vectors. What two of them take of one thread's time for it is the best that
/// the machine gives at the time; what a run takes more is its own.
struct Control {
    bytes: Vec<u8>,
    points: usize,
}

impl Control {
    /// How many vectors, of 100 points each: an even number.
    const VECTORS: usize = 60;

    fn new() -> Control {
        let vector = Polynomial::from_seed(&[1; 48], 99).expect("a good seed").commit();
        Control { bytes: vector.encode(VectorEncoding::Compressed), points: vector.len() }
    }

    fn work(&self, vectors: usize) {
        for _ in 0..vectors {
            black_box(UncheckedVector::decode(black_box(&self.bytes), self.points).expect("it is one"));
        }
    }

    fn on_one(&self) {
        self.work(Self::VECTORS);
    }

    fn on_two(&self) {
        std::thread::scope(|scope| {
            scope.spawn(|| self.work(Self::VECTORS / 2));
            self.work(Self::VECTORS / 2);
        });
    }
}

fn wall(work: impl FnOnce()) -> Duration {
    let started = Instant::now();
    work();
    started.elapsed()
}

/// Bytes that a run takes at its peak beyond what it receives.
fn memory(received: &Received, effort: Effort) -> f64 {
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    run(received, effort, Pace::AtOnce);
    ALLOCATOR.peak_usage().saturating_sub(before) as f64 / f64::from(1 << 20)
}

fn main() {
    let chosen: Vec<usize> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let sizes = if chosen.is_empty() { SIZES.to_vec() } else { chosen };
    let two = Effort { threads: 2.try_into().expect("not zero"), ..Effort::ONE_THREAD };
    let surer = Effort { strength: Strength::Bits128, ..Effort::ONE_THREAD };
    println!("one member's computation; u: uncompressing a point of G2; MiB: two threads, beyond what comes");
    println!(
        "ratio: of one thread's wall time; best: the same for work that threads share without a word, measured in turns with it"
    );
    println!(
        "{:>4}  {:12} {:>7} {:>9} {:>8} {:>10} {:>9} {:>9} {:>6} {:>6} {:>6}",
        "n", "vectors", "u (us)", "CPU ms", "in u", "in pages", "2^-128", "2 threads", "ratio", "best", "MiB"
    );
    let control = Control::new();
    for size in sizes {
        for (name, encoding) in
            [("compressed", VectorEncoding::Compressed), ("uncompressed", VectorEncoding::Uncompressed)]
        {
            let received = received(size, encoding);
            let cpu = |effort, pace| {
                least(|| {
                    let started = ThreadTime::now();
                    run(&received, effort, pace);
                    started.elapsed()
                })
            };
            // In turns, so that all meet the same machine.
            let (mut one_wall, mut control_one, mut control_two) = (Duration::MAX, Duration::MAX, Duration::MAX);
            let two_wall = least(|| {
                one_wall = one_wall.min(wall(|| run(&received, Effort::ONE_THREAD, Pace::AtOnce)));
                control_one = control_one.min(wall(|| control.on_one()));
                control_two = control_two.min(wall(|| control.on_two()));
                wall(|| run(&received, two, Pace::AtOnce))
            });
            // Before and after: the clock of a machine is not the same all the time.
            let before = uncompression();
            let one = cpu(Effort::ONE_THREAD, Pace::AtOnce);
            let u = before.min(uncompression());
            println!(
                "{size:>4}  {name:12} {:>7.1} {one:>9.1} {:>8.0} {:>10.1} {:>9.1} {:>9.1} {:>6.2} {:>6.2} {:>6.1}",
                u * 1e3,
                one / u,
                cpu(Effort::ONE_THREAD, Pace::PageByPage),
                cpu(surer, Pace::AtOnce),
                two_wall,
                two_wall / (one_wall.as_secs_f64() * 1e3),
                control_two.as_secs_f64() / control_one.as_secs_f64(),
                memory(&received, two),
            );
        }
    }
}
