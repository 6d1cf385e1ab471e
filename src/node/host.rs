//! The way to the log, as this node's configuration has it; and what became of the last call.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::{LogSettings, NodeError, Roots};
use crate::SecretBytes;
use crate::address::Endpoint;
use crate::chain::log::{
    ChainConfig, EtcdLog, EtcdLogConfig, EtcdLogin, HttpLog, HttpLogConfig, LogError, LogHost, LogPlace, LogRoots,
    LogTls, OwnCopy,
};
use crate::store::{SecretAccess, open_secret};

/// The most bytes of a password.
const MAX_PASSWORD_BYTES: usize = 1024;
/// The most bytes of a file with certificates or a key; what a machine trusts has some 250,000.
const MAX_PEM_BYTES: usize = 1 << 20;

/// A log that remembers what is wrong with it.
pub(super) struct Seen {
    host: Arc<dyn LogHost>,
    trouble: Trouble,
}

/// What is wrong with the log at the moment, if anything is. That it can be read says nothing about whether it can be
/// written (a full disk, a right that was taken away), and the other way round: each is over with a success of its own kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Troubles {
    pub(super) reading: Option<String>,
    pub(super) appending: Option<String>,
}

/// See [`Troubles`].
pub(super) type Trouble = Arc<Mutex<Troubles>>;

/// What is known now of one of them; not what there was before only if the outcome says something about it.
fn note<T>(trouble: &mut Option<String>, outcome: &Result<T, LogError>) {
    match outcome {
        Ok(_) | Err(LogError::NothingNew) => *trouble = None,
        Err(LogError::ShutDown | LogError::TooLong(_)) => {}
        Err(error) => *trouble = Some(error.to_string()),
    }
}

impl Seen {
    pub(super) fn new(host: Arc<dyn LogHost>, trouble: Trouble) -> Self {
        Seen { host, trouble }
    }
}

impl LogHost for Seen {
    fn append(&self, entry: &[u8]) -> Result<u64, LogError> {
        let outcome = self.host.append(entry);
        note(&mut self.trouble.lock().appending, &outcome);
        outcome
    }

    fn read(&self, from: u64, limit: usize) -> Result<Vec<Vec<u8>>, LogError> {
        let outcome = self.host.read(from, limit);
        note(&mut self.trouble.lock().reading, &outcome);
        outcome
    }

    fn wait(&self, from: u64, timeout: Duration) -> Result<(), LogError> {
        let outcome = self.host.wait(from, timeout);
        // Who waits is told that there is something, and not what: whether it can be read is seen when it is.
        if outcome.is_err() {
            note(&mut self.trouble.lock().reading, &outcome);
        }
        outcome
    }

    fn distrust(&self) {
        self.host.distrust();
    }

    fn sifts(&self) -> bool {
        self.host.sifts()
    }

    fn own_copy(&self) -> Option<&dyn OwnCopy> {
        self.host.own_copy()
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
pub(super) fn endpoints(config: &ChainConfig, settings: &LogSettings) -> Vec<Endpoint> {
    if settings.endpoints.is_empty() { config.log().endpoints().to_vec() } else { settings.endpoints.clone() }
}

/// The host that the committee file names.
pub(super) fn connect(
    config: &ChainConfig,
    settings: &LogSettings,
    access: SecretAccess,
) -> Result<Arc<dyn LogHost>, NodeError> {
    match config.log() {
        LogPlace::Local => Err(NodeError::LogSettings("a log in one process has no host".to_owned())),
        LogPlace::Http(_) if settings.username.is_some() => Err(NodeError::LogSettings(
            "a log server asks nobody who they are; leave username and password_file out".to_owned(),
        )),
        LogPlace::Http(_) => Ok(Arc::new(HttpLog::new(http(config, settings, access)?))),
        LogPlace::Etcd { prefix, .. } => {
            let login = match (&settings.username, &settings.password_file) {
                (Some(user), Some(file)) => {
                    // That there is one is seen at the start, and what it is then at each login.
                    password(file, access)?;
                    let file = file.clone();
                    let password = move || password(&file, access).map_err(|error| error.to_string());
                    Some(EtcdLogin { user: user.clone(), password: Arc::new(password) })
                }
                _ => None,
            };
            let (tls, endpoints) = (tls(config, settings, access)?, endpoints(config, settings));
            let config = EtcdLogConfig { login, tls, ..EtcdLogConfig::new(endpoints, prefix.clone()) };
            Ok(Arc::new(EtcdLog::new(config)))
        }
    }
}

/// How a log server is reached.
pub(super) fn http(
    config: &ChainConfig,
    settings: &LogSettings,
    access: SecretAccess,
) -> Result<HttpLogConfig, NodeError> {
    let (tls, endpoints) = (tls(config, settings, access)?, endpoints(config, settings));
    Ok(HttpLogConfig { tls, ..HttpLogConfig::new(endpoints, *config.identity()) })
}

/// Whom the log is taken from, and who this node is there, where it is reached over TLS.
fn tls(config: &ChainConfig, settings: &LogSettings, access: SecretAccess) -> Result<LogTls, NodeError> {
    let LogSettings { ca_file, roots, client_cert, client_key, .. } = settings;
    let said = ca_file.is_some() || client_cert.is_some() || *roots != Roots::Bundled;
    if said && !endpoints(config, settings).iter().any(Endpoint::is_https) {
        return Err(NodeError::LogSettings(
            "ca_file, roots and client_cert are for a log that is reached over TLS, and none of its endpoints begins with \
             https://; give them under [log]"
                .to_owned(),
        ));
    }
    let named = |file: &Path, reason: String| NodeError::File { path: file.to_owned(), reason };
    let read = |file: &Path, open: std::io::Result<File>| {
        let pem = open.and_then(|open| SecretBytes::read(open, MAX_PEM_BYTES));
        let pem = pem.map_err(|error| named(file, format!("it cannot be read: {error}")))?;
        if pem.len() > MAX_PEM_BYTES {
            return Err(named(file, format!("it has more than {MAX_PEM_BYTES} bytes")));
        }
        Ok(pem)
    };
    let tls = LogTls::default().trusting(match (ca_file, roots) {
        (Some(file), _) => {
            let pem = read(file, File::open(file))?;
            LogRoots::from_pem(pem.expose()).map_err(|reason| named(file, reason))?
        }
        (None, Roots::System) => LogRoots::System,
        (None, Roots::Bundled) => LogRoots::Bundled,
    });
    match (client_cert, client_key) {
        (Some(cert), Some(key)) => {
            let cert_pem = read(cert, File::open(cert))?;
            let key_pem = read(key, Ok(open_secret(key, access)?))?;
            let problem =
                |reason| NodeError::LogSettings(format!("{} and {}: {reason}", cert.display(), key.display()));
            tls.showing(cert_pem.expose(), key_pem.expose()).map_err(problem)
        }
        _ => Ok(tls),
    }
}

/// The password in a file, without the end of its line.
fn password(file: &Path, access: SecretAccess) -> Result<SecretBytes, NodeError> {
    let failed = |reason: String| NodeError::File { path: file.to_owned(), reason };
    let read = SecretBytes::read_line(open_secret(file, access)?, MAX_PASSWORD_BYTES);
    let password = read.map_err(|error| failed(format!("the password cannot be read: {error}")))?;
    if password.len() > MAX_PASSWORD_BYTES {
        return Err(failed(format!("a password has at most {MAX_PASSWORD_BYTES} bytes")));
    }
    Ok(password)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A host that has an answer ready for every append and every read.
    #[derive(Default)]
    struct Answers {
        appends: Mutex<Vec<Result<u64, LogError>>>,
        reads: Mutex<Vec<Result<Vec<Vec<u8>>, LogError>>>,
    }

    impl LogHost for Answers {
        fn append(&self, _: &[u8]) -> Result<u64, LogError> {
            self.appends.lock().pop().unwrap_or(Ok(0))
        }

        fn read(&self, _: u64, _: usize) -> Result<Vec<Vec<u8>>, LogError> {
            self.reads.lock().pop().unwrap_or(Ok(Vec::new()))
        }

        fn wait(&self, _: u64, _: Duration) -> Result<(), LogError> {
            Ok(())
        }
    }

    fn away<T>() -> Result<T, LogError> {
        Err(LogError::Unavailable("no route".to_owned()))
    }

    #[test]
    fn a_tick_that_came_too_late_to_say_anything_new_was_shown_as_trouble_and_made_health_checks_fail() {
        let appends = Mutex::new(vec![Err(LogError::NothingNew), away()]);
        let trouble = Trouble::default();
        let host = Seen::new(Arc::new(Answers { appends, ..Answers::default() }), Arc::clone(&trouble));
        let _ = host.append(b"a tick");
        assert!(trouble.lock().appending.as_ref().is_some_and(|trouble| trouble.contains("no route")));
        assert_eq!(host.append(b"a tick"), Err(LogError::NothingNew));
        assert_eq!(*trouble.lock(), Troubles::default(), "the log was reached, and all is well");
    }

    #[test]
    fn a_trouble_is_over_with_a_success_of_its_own_kind_and_no_other() {
        let answers = Answers { appends: Mutex::new(vec![Ok(7), away()]), reads: Mutex::new(vec![away(), Ok(vec![])]) };
        let trouble = Trouble::default();
        let host = Seen::new(Arc::new(answers), Arc::clone(&trouble));
        let shown = || {
            let trouble = trouble.lock();
            (trouble.reading.is_some(), trouble.appending.is_some())
        };
        let _ = host.append(b"");
        assert!(host.read(0, 1).is_ok() && host.wait(0, Duration::ZERO).is_ok());
        assert_eq!(shown(), (false, true), "a disk that is full can be read");
        let _ = host.read(0, 1);
        assert_eq!(host.append(b""), Ok(7));
        assert_eq!(host.append(&[0; 9]), Ok(0));
        assert_eq!(shown(), (true, false));
        assert!(host.wait(0, Duration::ZERO).is_ok());
        assert_eq!(shown(), (true, false), "that there is something to read is not to have it");
        assert!(host.read(0, 1).is_ok());
        assert_eq!(shown(), (false, false));
    }
}
