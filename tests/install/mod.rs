//! Programs that tests run, installed from Debian's packages where they are missing.

use std::fs::File;
use std::process::{Command, Stdio};

/// Makes sure that a program is there, of this package; one process at a time.
pub(crate) fn install(program: &str, package: &str) {
    let lock = File::create(std::env::temp_dir().join(format!("dkg-engine-test-{package}.lock"))).unwrap();
    lock.lock().unwrap();
    let runs = || Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if runs() {
        return;
    }
    let apt = |args: &[&str]| {
        Command::new("apt-get").args(args).stdout(Stdio::null()).env("DEBIAN_FRONTEND", "noninteractive").status()
    };
    // If it fails, the list at hand may be good enough.
    let _ = apt(&["update", "-q"]);
    let installed = apt(&["install", "-qy", "--no-install-recommends", package]);
    assert!(
        installed.is_ok_and(|status| status.success()) && runs(),
        "these tests need {program}, and cannot install it: apt-get install {package} (as root)"
    );
}
