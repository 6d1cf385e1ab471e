//! Whether what handles secrets branches on them, or reads or writes at an address that depends on them.
//! `cargo bench --bench constant_time`, on x86-64, with valgrind installed (Debian's package `valgrind`). No time is measured: this
//! is about what times depend on.
//!
//! Each operation runs under valgrind's memcheck, which is told that the secret is undefined. It follows undefined bits through
//! every instruction of the optimized program, blst's assembly among them, and reports each jump and each address that depends
//! on one (the method of A. Langley's ctgrind, 2010). That the secret was not lost on the way is seen from the result, which is
//! undefined too. `constant_time.supp` names the branches that are let pass, each with its reason.
//!
//! What is not seen: instructions that take longer for some operands, and other paths through blst than those for the processor
//! that valgrind presents.

use std::hint::black_box;
use std::process::{Command, ExitCode, Stdio};

use dkg_engine::bls::{
    Effort, Index, Polynomial, RANDOM_BEACON_TAG, Scalar, SecretKey, share_matches, shares_match_all,
};

/// What memcheck is asked to end with when it has found something.
const FOUND: i32 = 99;
/// What the program ends with when the secret has left no trace in the result.
const LOST: u8 = 3;
/// Bad usage, or nothing to check with.
const UNUSABLE: u8 = 2;

/// The argument by which this program is told that it runs under valgrind; the operation's name follows.
const INSIDE: &str = "--under-valgrind";

/// Something that is done with a secret.
struct Operation {
    name: &'static str,
    /// Whether it is constant-time. Those that are not show that memcheck finds them.
    constant_time: bool,
    /// Does it, and says whether what comes of it depends on the secret.
    run: fn() -> bool,
}

const fn constant_time(name: &'static str, run: fn() -> bool) -> Operation {
    Operation { name, constant_time: true, run }
}

const OPERATIONS: [Operation; 13] = [
    Operation { name: "a branch on a secret", constant_time: false, run: branch },
    Operation { name: "an address that depends on a secret", constant_time: false, run: address },
    constant_time("Scalar::from_be_bytes", || {
        let bytes = scalar().to_be_bytes();
        memcheck::forget(&*bytes);
        memcheck::is_forgotten(&Scalar::from_be_bytes(&*bytes))
    }),
    constant_time("Scalar::to_be_bytes", || memcheck::is_forgotten(&*secret().to_be_bytes())),
    constant_time("Scalar::ct_eq", || memcheck::is_forgotten(&secret().ct_eq(&secret()))),
    constant_time("Scalar::public_value", || memcheck::is_forgotten(&secret().public_value())),
    constant_time("Polynomial::from_seed", || {
        let seed = [3_u8; 32];
        memcheck::forget(&seed);
        let polynomial = Polynomial::from_seed(&seed, 9).expect("a good seed");
        memcheck::is_forgotten(&polynomial.coefficients()[0])
    }),
    constant_time("Polynomial::share", || memcheck::is_forgotten(&polynomial().share(index(8)))),
    constant_time("Polynomial::commit", || memcheck::is_forgotten(&polynomial().commit().constant_term())),
    constant_time("share_matches", || {
        let image = scalar().public_value();
        memcheck::is_forgotten(&share_matches(&image, &secret()))
    }),
    constant_time("shares_match_all", || {
        let (image, shares) = (scalar().public_value(), [secret(), secret(), secret()]);
        let equations: Vec<_> = shares.iter().map(|share| (image, share)).collect();
        memcheck::is_forgotten(&shares_match_all(&equations, &[5; 32], Effort::ONE_THREAD))
    }),
    constant_time("SecretKey::prove_possession", || memcheck::is_forgotten(&key().prove_possession())),
    constant_time("SecretKey::sign", || memcheck::is_forgotten(&key().sign(b"message", &RANDOM_BEACON_TAG))),
];

fn index(position: usize) -> Index {
    Index::from_position(position).expect("a member")
}

/// A scalar that memcheck takes for known.
fn scalar() -> Scalar {
    Polynomial::from_seed(&[1; 32], 1).expect("a good seed").share(index(3))
}

fn secret() -> Scalar {
    let secret = scalar();
    memcheck::forget(&secret);
    secret
}

fn polynomial() -> Polynomial {
    let polynomial = Polynomial::from_seed(&[2; 32], 9).expect("a good seed");
    polynomial.coefficients().iter().for_each(memcheck::forget);
    polynomial
}

fn key() -> SecretKey {
    let key = SecretKey::from_scalar(scalar()).expect("it is not zero");
    memcheck::forget(&key);
    key
}

fn branch() -> bool {
    let bytes = secret().to_be_bytes();
    if black_box(bytes[31]) & 1 == 1 {
        black_box("odd");
    }
    memcheck::is_forgotten(&*bytes)
}

fn address() -> bool {
    let bytes = secret().to_be_bytes();
    black_box(black_box(&[7_u8; 256])[usize::from(bytes[31])]);
    memcheck::is_forgotten(&*bytes)
}

/// Whether valgrind finds nothing in the operation, and what it says.
fn check(operation: &Operation) -> Result<(bool, String), String> {
    let program = std::env::current_exe().map_err(|error| format!("this program does not know itself: {error}"))?;
    let suppressions = concat!("--suppressions=", env!("CARGO_MANIFEST_DIR"), "/benches/constant_time.supp");
    let output = Command::new("valgrind")
        .args(["--quiet", suppressions, &format!("--error-exitcode={FOUND}")])
        .arg(program)
        .args([INSIDE, operation.name])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("valgrind cannot be run ({error}); Debian's package `valgrind` has it"))?;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    match output.status.code() {
        Some(0) => Ok((true, told)),
        Some(FOUND) => Ok((false, told)),
        Some(code) if code == i32::from(LOST) => Err(format!("{}: memcheck lost sight of the secret", operation.name)),
        _ => Err(format!("{}: ended under valgrind with {}: {told}", operation.name, output.status)),
    }
}

fn inside(name: &str) -> ExitCode {
    match OPERATIONS.iter().find(|operation| operation.name == name).filter(|_| memcheck::is_running()) {
        None => ExitCode::from(UNUSABLE),
        Some(operation) if (operation.run)() => ExitCode::SUCCESS,
        Some(_) => ExitCode::from(LOST),
    }
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip_while(|argument| argument != INSIDE);
    if arguments.next().is_some() {
        return inside(&arguments.next().unwrap_or_default());
    }
    let mut as_expected = true;
    for operation in &OPERATIONS {
        let (constant_time, told) = match check(operation) {
            Ok(checked) => checked,
            Err(error) => {
                eprintln!("{error}");
                return ExitCode::from(UNUSABLE);
            }
        };
        let verdict =
            if constant_time { "no branch and no address depends on the secret" } else { "DEPENDS on the secret" };
        println!("{:36} {verdict}", operation.name);
        if constant_time != operation.constant_time {
            eprintln!("{told}");
            as_expected = false;
        }
    }
    if as_expected { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What memcheck can be told and asked, by instructions that do nothing unless valgrind sees them (valgrind.h, memcheck.h).
mod memcheck {
    #![allow(unsafe_code)]

    const RUNNING_ON_VALGRIND: usize = 0x1001;
    const MAKE_MEM_UNDEFINED: usize = 0x4d43_0001;
    const GET_VBITS: usize = 0x4d43_0008;
    /// The longest value that is asked about, in bytes.
    const LONGEST: usize = 512;

    /// Whether this runs under valgrind.
    pub(super) fn is_running() -> bool {
        request([RUNNING_ON_VALGRIND, 0, 0, 0]) != 0
    }

    /// Memcheck is to take the value for undefined.
    pub(super) fn forget<T>(value: &T) {
        request([MAKE_MEM_UNDEFINED, address_of(value), size_of::<T>(), 0]);
    }

    /// Whether memcheck takes any bit of the value for undefined.
    pub(super) fn is_forgotten<T>(value: &T) -> bool {
        let mut bits = [0_u8; LONGEST];
        let to = std::ptr::from_mut(&mut bits).expose_provenance();
        let answer = request([GET_VBITS, address_of(value), to, size_of::<T>().min(LONGEST)]);
        answer == 1 && std::hint::black_box(bits).iter().any(|bits| *bits != 0)
    }

    fn address_of<T>(value: &T) -> usize {
        std::ptr::from_ref(value).expose_provenance()
    }

    #[cfg(target_arch = "x86_64")]
    fn request([what, first, second, third]: [usize; 4]) -> usize {
        let words = [what, first, second, third, 0, 0];
        let mut answer = 0_usize;
        // SAFETY: rotations of a register by 128 bits in all, and an exchange of one with itself, change nothing. Valgrind reads the
        // six words behind rax and changes rdx; its answer to GET_VBITS goes where `second` points, to an array of that length.
        unsafe {
            std::arch::asm!(
                "rol rdi, 3", "rol rdi, 13", "rol rdi, 61", "rol rdi, 51", "xchg rbx, rbx",
                in("rax") &words, inout("rdx") answer,
            );
        }
        answer
    }

    /// On other processors other instructions are meant for valgrind; so far it is not asked there.
    #[cfg(not(target_arch = "x86_64"))]
    fn request(_: [usize; 4]) -> usize {
        0
    }
}
