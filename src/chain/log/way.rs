//! How a log is asked over HTTP, of whatever kind it is: connections that a shutdown does not wait for, and whom to trust.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use ureq::Agent;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, ShutdownHandle, Transport,
};

use crate::dial::{DialError, Dialling, Stop, dial};

/// The most threads that dial for one log at once. A member asks with three, and an endpoint whose name is not found in time
/// keeps one for as long as the system looks for it.
const MAX_DIALLING: usize = 16;
/// How long connecting may take where no limit was given.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// The way to a log.
pub(super) struct Way {
    agent: Agent,
    stop: Arc<Stop>,
    /// The connection that was made last.
    latest: Arc<Mutex<Weak<Socket>>>,
}

impl Way {
    /// Connections take at most `connect` to come about; one that has been idle for longer than `max_idle` is not used again.
    pub(super) fn new(connect: Duration, max_idle: Option<Duration>, tls: &LogTls) -> Self {
        let builder = Agent::config_builder()
            .http_status_as_error(false)
            // The endpoints are the log itself: what the environment says about the web, or a redirect, does not count.
            .proxy(None)
            .max_redirects(0)
            .timeout_connect(Some(connect))
            .user_agent(concat!("dkg-engine/", env!("CARGO_PKG_VERSION")));
        let builder = match max_idle {
            Some(max_idle) => builder.max_idle_age(max_idle),
            None => builder,
        };
        let stop = Arc::new(Stop::new());
        let latest = Arc::new(Mutex::new(Weak::new()));
        let dialling = Dialling::at_most(MAX_DIALLING);
        let dialler = Dialler { stop: Arc::clone(&stop), dialling, latest: Arc::clone(&latest) };
        Way { agent: tls.agent(builder, dialler), stop, latest }
    }

    pub(super) fn agent(&self) -> &Agent {
        &self.agent
    }

    /// Cuts the connection that was made last, whoever waits for something on it.
    #[cfg_attr(not(feature = "etcd"), allow(dead_code, reason = "only a watch is cut"))]
    pub(super) fn cut(&self) {
        if let Some(socket) = self.latest.lock().upgrade() {
            socket.shutdown();
        }
    }

    /// Ends calls that are under way on other threads, whatever they wait for.
    pub(super) fn shutdown(&self) {
        self.stop.stop();
        self.agent.clone().shutdown();
    }
}

/// Names are looked up by who dials.
#[derive(Debug)]
struct NoResolver;

impl Resolver for NoResolver {
    fn resolve(
        &self,
        _: &ureq::http::Uri,
        _: &ureq::config::Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let mut nowhere = self.empty();
        nowhere.push(std::net::SocketAddr::from(([0, 0, 0, 0], 0)));
        Ok(nowhere)
    }
}

/// Makes connections.
struct Dialler {
    stop: Arc<Stop>,
    dialling: Dialling,
    latest: Arc<Mutex<Weak<Socket>>>,
}

impl fmt::Debug for Dialler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dialler")
    }
}

impl Connector<()> for Dialler {
    type Out = Wire;

    fn connect(&self, details: &ConnectionDetails<'_>, _: Option<()>) -> Result<Option<Wire>, ureq::Error> {
        if cfg!(not(feature = "log-tls")) && details.needs_tls() {
            return Err(ureq::Error::Tls("this program was built without TLS: feature log-tls"));
        }
        let address = details.uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
        let limit = details.timeout.not_zero().map_or(CONNECT_LIMIT, |limit| *limit);
        let stream = dial(address, &self.dialling, self.stop.stopped(), limit).map_err(|error| {
            io::Error::other(match error {
                DialError::Stopped => "the way to the log is shut down".to_owned(),
                DialError::Failed(why) => why,
            })
        })?;
        stream.set_nodelay(true)?;
        let socket = Arc::new(Socket(stream));
        *self.latest.lock() = Arc::downgrade(&socket);
        let handle: Weak<dyn ShutdownHandle> = Arc::downgrade(&(Arc::clone(&socket) as Arc<dyn ShutdownHandle>));
        (details.register_shutdown)(handle)?;
        let buffers = LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
        Ok(Some(Wire { socket, buffers }))
    }
}

/// A socket that can be closed under its user's hands.
struct Socket(TcpStream);

impl ShutdownHandle for Socket {
    fn shutdown(&self) {
        // It may be closed already.
        let _ = self.0.shutdown(std::net::Shutdown::Both);
    }
}

/// A connection.
struct Wire {
    socket: Arc<Socket>,
    buffers: LazyBuffers,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Wire({:?})", self.socket.0)
    }
}

/// What a time-out is called.
fn timed_out(error: io::Error, timeout: NextTimeout) -> ureq::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => ureq::Error::Timeout(timeout.reason),
        _ => error.into(),
    }
}

impl Transport for Wire {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        let mut stream = &self.socket.0;
        let timeout = timeout.for_write();
        stream.set_write_timeout(timeout.not_zero().map(|limit| *limit))?;
        let output = self.buffers.output().get(..amount).unwrap_or_default();
        stream.write_all(output).map_err(|error| timed_out(error, timeout))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        let mut stream = &self.socket.0;
        let timeout = timeout.for_read();
        stream.set_read_timeout(timeout.not_zero().map(|limit| *limit))?;
        let amount = loop {
            match stream.read(self.buffers.input_append_buf()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read.map_err(|error| timed_out(error, timeout))?,
            }
        };
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        let stream = &self.socket.0;
        // Bytes that nobody has asked for are as bad as an end.
        let is_quiet = |mut stream: &TcpStream| matches!(stream.read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock);
        stream.set_nonblocking(true).is_ok() && is_quiet(stream) && stream.set_nonblocking(false).is_ok()
    }
}

/// Whom a log is taken from, and who one is there, where it is asked over TLS.
#[derive(Clone, Default)]
pub struct LogTls {
    #[cfg(feature = "log-tls")]
    roots: LogRoots,
    #[cfg(feature = "log-tls")]
    client: Option<ureq::tls::ClientCert>,
}

impl fmt::Debug for LogTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogTls")
    }
}

#[cfg(not(feature = "log-tls"))]
impl LogTls {
    fn agent(&self, builder: ConfigBuilder, dialler: Dialler) -> Agent {
        Agent::with_parts(builder.build(), dialler, NoResolver)
    }
}

type ConfigBuilder = ureq::config::ConfigBuilder<ureq::typestate::AgentScope>;

#[cfg(feature = "log-tls")]
pub use tls::LogRoots;

#[cfg(feature = "log-tls")]
mod tls {
    use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};
    use ureq::unversioned::transport::RustlsConnector;

    use super::*;

    /// Who vouches for a log.
    #[derive(Clone, Debug, Default)]
    pub enum LogRoots {
        /// The authorities of the web, as this program was built with them.
        #[default]
        Bundled,
        /// Those of this machine.
        System,
        /// These and no others.
        Given(Arc<Vec<Certificate<'static>>>),
    }

    impl LogRoots {
        /// The authorities in a PEM file.
        ///
        /// # Errors
        /// What is wrong with it.
        pub fn from_pem(pem: &[u8]) -> Result<Self, String> {
            certificates(pem).map(|certificates| LogRoots::Given(Arc::new(certificates)))
        }
    }

    impl LogTls {
        /// Trusts these alone.
        #[must_use]
        pub fn trusting(self, roots: LogRoots) -> Self {
            LogTls { roots, ..self }
        }

        /// Shows this certificate, with those that lead to its root behind it, to who asks for one. The TLS library keeps copies of
        /// the key that it does not wipe.
        ///
        /// # Errors
        /// What is wrong with the PEM files.
        pub fn showing(self, certificate: &[u8], key: &[u8]) -> Result<Self, String> {
            let chain = certificates(certificate)?;
            let key = PrivateKey::from_pem(key).map_err(|_| "there is no private key in PEM in it".to_owned())?;
            Ok(LogTls { client: Some(ClientCert::new_with_certs(&chain, key)), ..self })
        }

        pub(super) fn agent(&self, builder: ConfigBuilder, dialler: Dialler) -> Agent {
            let roots = match &self.roots {
                LogRoots::Bundled => RootCerts::WebPki,
                LogRoots::System => RootCerts::Specific(Arc::new(of_system())),
                LogRoots::Given(certificates) => RootCerts::Specific(Arc::clone(certificates)),
            };
            let tls = TlsConfig::builder().root_certs(roots).client_cert(self.client.clone()).build();
            let connector = dialler.chain(RustlsConnector::default());
            Agent::with_parts(builder.tls_config(tls).build(), connector, NoResolver)
        }
    }

    fn certificates(pem: &[u8]) -> Result<Vec<Certificate<'static>>, String> {
        let mut certificates = Vec::new();
        for item in parse_pem(pem) {
            match item {
                Ok(PemItem::Certificate(certificate)) => certificates.push(certificate),
                Ok(_) => {}
                Err(error) => return Err(format!("it is no PEM: {error}")),
            }
        }
        if certificates.is_empty() { Err("there is no certificate in PEM in it".to_owned()) } else { Ok(certificates) }
    }

    /// What this machine trusts. A certificate that does not read is passed over, as other programs do.
    fn of_system() -> Vec<Certificate<'static>> {
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            log::warn!("among the certificates that this machine trusts: {error}");
        }
        found.certs.iter().map(|der| Certificate::from_der(der).to_owned()).collect()
    }
}
