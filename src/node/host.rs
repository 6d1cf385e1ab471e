//! The way to the log, as this node's configuration has it; and what became of the last call.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::{LogSettings, NodeError};
use crate::SecretBytes;
use crate::chain::log::{ChainConfig, EtcdLog, EtcdLogConfig, HttpLog, HttpLogConfig, LogError, LogHost, LogPlace};

/// The most bytes of a password.
const MAX_PASSWORD_BYTES: usize = 1024;

/// A host that remembers whether it could be reached.
pub(super) struct Seen {
    host: Arc<dyn LogHost>,
    trouble: Arc<Mutex<Option<String>>>,
}

/// What kept the last call from being answered, if anything did.
pub(super) type Trouble = Arc<Mutex<Option<String>>>;

impl Seen {
    pub(super) fn new(host: Arc<dyn LogHost>) -> (Self, Trouble) {
        let trouble = Trouble::default();
        (Seen { host, trouble: Arc::clone(&trouble) }, trouble)
    }

    fn note<T>(&self, outcome: Result<T, LogError>) -> Result<T, LogError> {
        *self.trouble.lock() = match &outcome {
            Ok(_) | Err(LogError::ShutDown | LogError::Refused(_) | LogError::NothingNew) => None,
            Err(error) => Some(error.to_string()),
        };
        outcome
    }
}

impl LogHost for Seen {
    fn append(&self, entry: &[u8]) -> Result<u64, LogError> {
        self.note(self.host.append(entry))
    }

    fn read(&self, from: u64, limit: usize) -> Result<Vec<Vec<u8>>, LogError> {
        self.note(self.host.read(from, limit))
    }

    fn wait(&self, from: u64, timeout: Duration) -> Result<(), LogError> {
        self.note(self.host.wait(from, timeout))
    }

    fn shutdown(&self) {
        self.host.shutdown();
    }
}

/// What a host is called in the status.
pub(super) fn kind(place: &LogPlace) -> &'static str {
    match place {
        LogPlace::Local => "local",
        LogPlace::Http(_) => "http",
        LogPlace::Etcd { .. } => "etcd",
    }
}

/// Where the log is reached.
pub(super) fn endpoints(config: &ChainConfig, settings: &LogSettings) -> Vec<String> {
    if settings.endpoints.is_empty() { config.log().endpoints().to_vec() } else { settings.endpoints.clone() }
}

/// The host that the committee file names.
pub(super) fn connect(config: &ChainConfig, settings: &LogSettings) -> Result<Arc<dyn LogHost>, NodeError> {
    let (chain, endpoints) = (*config.identity(), endpoints(config, settings));
    match config.log() {
        LogPlace::Local => Err(NodeError::LogSettings("a log in one process has no host".to_owned())),
        LogPlace::Http(_) if settings.username.is_some() => Err(NodeError::LogSettings(
            "a log server asks nobody who they are; leave username and password_file out".to_owned(),
        )),
        LogPlace::Http(_) => Ok(Arc::new(HttpLog::new(HttpLogConfig::new(endpoints, chain)))),
        LogPlace::Etcd { prefix, .. } => {
            let login = match (&settings.username, &settings.password_file) {
                (Some(user), Some(file)) => Some((user.clone(), password(file)?)),
                _ => None,
            };
            let config = EtcdLogConfig { login, ..EtcdLogConfig::new(endpoints, prefix.clone()) };
            Ok(Arc::new(EtcdLog::new(config)))
        }
    }
}

/// The password in a file, without the end of its line.
fn password(file: &Path) -> Result<SecretBytes, NodeError> {
    let failed = |reason: String| NodeError::File { path: file.to_owned(), reason };
    let read = File::open(file).and_then(|file| SecretBytes::read(file, MAX_PASSWORD_BYTES));
    let password = read.map_err(|error| failed(format!("the password cannot be read: {error}")))?;
    let line = password.expose();
    if line.len() > MAX_PASSWORD_BYTES {
        return Err(failed(format!("a password has at most {MAX_PASSWORD_BYTES} bytes")));
    }
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    Ok(SecretBytes::new(line.strip_suffix(b"\r").unwrap_or(line).to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A host that has an answer ready for every append.
    struct Answers(Mutex<Vec<Result<u64, LogError>>>);

    impl LogHost for Answers {
        fn append(&self, _: &[u8]) -> Result<u64, LogError> {
            self.0.lock().pop().unwrap_or(Ok(0))
        }

        fn read(&self, _: u64, _: usize) -> Result<Vec<Vec<u8>>, LogError> {
            Ok(Vec::new())
        }

        fn wait(&self, _: u64, _: Duration) -> Result<(), LogError> {
            Ok(())
        }

        fn shutdown(&self) {}
    }

    #[test]
    fn a_tick_that_came_too_late_to_say_anything_new_was_shown_as_trouble_and_made_health_checks_fail() {
        let unreachable = LogError::Unavailable("no route".to_owned());
        let answers = vec![Err(LogError::NothingNew), Err(unreachable)];
        let (host, trouble) = Seen::new(Arc::new(Answers(Mutex::new(answers))));
        let _ = host.append(b"a tick");
        assert!(trouble.lock().as_ref().is_some_and(|trouble| trouble.contains("no route")));
        assert_eq!(host.append(b"a tick"), Err(LogError::NothingNew));
        assert_eq!(*trouble.lock(), None, "the log was reached, and all is well");
    }
}
