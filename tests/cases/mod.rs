//! How the randomized tests run: a case that fails is printed in its smallest form, and its seed is kept beside the test (in
//! `<test>.regressions`), to be run first from then on.

#![allow(missing_docs, unreachable_pub)]

use proptest::test_runner::{Config, FileFailurePersistence};

/// So many cases.
pub fn cases(count: u32) -> Config {
    Config {
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..Config::with_cases(count)
    }
}
