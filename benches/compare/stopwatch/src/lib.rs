//! What the measured programs have in common: they are told a size and how often to repeat, and print one line for each thing
//! they measured: its name and the least CPU milliseconds of dealing, of taking in what the others dealt, and of making all keys.

use cpu_time::ThreadTime;

/// The size of the committee and the number of repetitions, from the command line.
pub fn arguments() -> (usize, usize) {
    let mut numbers = std::env::args().skip(1).map(|argument| argument.parse().expect("a number"));
    (numbers.next().expect("the committee's size"), numbers.next().unwrap_or(3))
}

/// The threshold t: any t + 1 make the key.
pub fn threshold(size: usize) -> usize {
    (size - 1) / 2
}

/// The least time of each step over several repetitions.
pub struct Stopwatch {
    steps: [f64; 3],
}

impl Default for Stopwatch {
    fn default() -> Self {
        Stopwatch { steps: [f64::INFINITY; 3] }
    }
}

impl Stopwatch {
    /// Measures one step: 0 dealing, 1 taking in, 2 the keys.
    pub fn measure<R>(&mut self, step: usize, work: impl FnOnce() -> R) -> R {
        let started = ThreadTime::now();
        let result = work();
        self.steps[step] = self.steps[step].min(started.elapsed().as_secs_f64() * 1e3);
        result
    }

    /// Prints the line.
    pub fn report(&self, name: &str) {
        let [deal, take_in, keys] = self.steps;
        println!("{name}\t{deal}\t{take_in}\t{keys}");
    }
}
