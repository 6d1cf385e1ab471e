//! What keeps a process that holds keys closed to the machine's other processes.
//!
//! No core file is written of it, and (on Linux) no process of the same user may trace it or read its memory or its environment:
//! `PR_SET_DUMPABLE` is 0, which makes `/proc/PID` root's. Root reads everything all the same.
//!
//! A passphrase that came by the environment would stand in `/proc/PID/environ` for as long as the process lives, whatever it does to
//! its variables. So a node that finds one executes itself anew, once, before anything else: the same process id, arguments and
//! open files, without the variable, and with the passphrase in a pipe on its standard input, which a node has no other use for.

use std::sync::Mutex;

use dkg_engine::SecretBytes;

use super::secrets::MAX_PASSPHRASE_BYTES;

/// Set for a process that finds its passphrase on its standard input. It is no secret.
#[cfg(unix)]
const HANDED_ON: &str = "DKG_PASSPHRASE_HANDED_ON";

/// The passphrase that this process was handed by the one that it was before.
static HANDED: Mutex<Option<SecretBytes>> = Mutex::new(None);

/// Closes this process. What the system does not allow is told, and no reason to stop.
pub(super) fn close() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable) {
        log::warn!("other processes of this user may look into this one: {error}");
    }
    #[cfg(unix)]
    {
        let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
        if let Err(error) = rustix::process::setrlimit(rustix::process::Resource::Core, none) {
            log::warn!("a core file may be written of this process: {error}");
        }
    }
}

/// Takes what is in the environment variable out of it. To be called before anything else is done: the process begins anew.
#[cfg(unix)]
pub(super) fn take_from_environment(variable: &str) {
    use std::fs::File;
    use std::io::Write;
    use std::os::fd::AsFd;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};

    if std::env::var_os(HANDED_ON).is_some() {
        let read = std::io::stdin().as_fd().try_clone_to_owned();
        match read.and_then(|stdin| SecretBytes::read(File::from(stdin), MAX_PASSPHRASE_BYTES)) {
            Ok(passphrase) => *HANDED.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(passphrase),
            Err(error) => log::warn!("the passphrase on standard input cannot be read: {error}"),
        }
        return;
    }
    let Some(passphrase) = std::env::var_os(variable) else { return };
    // What is longer is refused by who uses it, and would not fit into the pipe.
    if passphrase.len() > MAX_PASSPHRASE_BYTES {
        return;
    }
    let begin_anew = || {
        let (reader, mut writer) = std::io::pipe()?;
        writer.write_all(passphrase.as_bytes())?;
        drop(writer);
        let mut arguments = std::env::args_os();
        let mut command = Command::new(std::env::current_exe()?);
        if let Some(name) = arguments.next() {
            command.arg0(name);
        }
        command.args(arguments).env_remove(variable).env(HANDED_ON, "1").stdin(Stdio::from(reader));
        // Returns only where it fails.
        Err::<(), std::io::Error>(command.exec())
    };
    if let Err(error) = begin_anew() {
        log::warn!("{variable} stays in this process' environment: {error}; use passphrase_file or key_file");
    }
}

/// Elsewhere, a process' environment is not for others to read.
#[cfg(not(unix))]
pub(super) fn take_from_environment(_: &str) {}

/// The passphrase that was taken out of the environment, once.
pub(super) fn handed_on() -> Option<SecretBytes> {
    HANDED.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()
}
