//! Asking an etcd cluster: one thing at a time, of one endpoint after the other, logged in where that is needed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::lines::{Lines, answer};
use super::wire::{self, Class, Problem, Range, Token};
use super::{EtcdLogConfig, EtcdLogin};
use crate::chain::log::LogError;
use crate::chain::log::endpoints::{Endpoints, Trouble, clean};
use crate::chain::log::way::Way;

/// How long a watch may be silent before it is begun again, after a look at whether its endpoint still belongs to the cluster.
/// One that is silent so long has told all there is. While a committee runs, every member ticks every view.
const MAX_SILENCE: Duration = Duration::from_secs(1);

/// The lines of a watch that is open.
pub(super) type Watch = Lines<ureq::BodyReader<'static>>;

type Response = ureq::http::Response<ureq::Body>;

/// The way to a cluster.
pub(super) struct Client {
    pub(super) config: EtcdLogConfig,
    endpoints: Endpoints,
    way: Way,
    /// The way of the watch, which is cut where it has to begin anew.
    watching: Way,
    token: Mutex<Option<String>>,
    shut_down: AtomicBool,
}

impl Client {
    /// Nothing is asked of the cluster yet.
    pub(super) fn new(config: EtcdLogConfig) -> Self {
        Client {
            endpoints: Endpoints::new(config.endpoints.clone()),
            way: Way::new(config.connect_timeout, None, &config.tls),
            watching: Way::new(config.connect_timeout, None, &config.tls),
            token: Mutex::new(None),
            shut_down: AtomicBool::new(false),
            config,
        }
    }

    pub(super) fn check_open(&self) -> Result<(), LogError> {
        if self.shut_down.load(Ordering::SeqCst) { Err(LogError::ShutDown) } else { Ok(()) }
    }

    /// Ends calls and watches that are under way on other threads; no other comes about.
    pub(super) fn shutdown(&self) {
        self.shut_down.store(true, Ordering::SeqCst);
        self.way.shutdown();
        self.watching.shutdown();
    }

    /// Ends the watch, if there is one.
    pub(super) fn cut_watch(&self) {
        self.watching.cut();
    }

    /// Asks one endpoint after the other until one does it.
    pub(super) fn ask<T>(&self, ask: impl Fn(&str) -> Result<T, Trouble>) -> Result<T, LogError> {
        self.endpoints.ask(|| self.check_open(), ask)
    }

    /// The longest that [`ask`](Self::ask) takes where every endpoint is silent, and a bit more.
    pub(super) fn patience(&self) -> Duration {
        let rounds = u32::try_from(self.config.endpoints.len()).unwrap_or(u32::MAX).saturating_add(2);
        self.config.request_timeout.saturating_mul(rounds)
    }

    /// The next call asks another endpoint first.
    pub(super) fn distrust(&self) {
        self.endpoints.distrust();
    }

    /// Forgets that it is logged in.
    pub(super) fn log_out(&self) {
        *self.token.lock() = None;
    }

    /// Asks one endpoint for one thing.
    pub(super) fn call<T: DeserializeOwned>(&self, endpoint: &str, path: &str, body: &Value) -> Result<T, Trouble> {
        let response = self.post(endpoint, path, body, Some(self.config.request_timeout))?;
        let bytes = answer(response.into_body().into_reader())?;
        serde_json::from_slice(&bytes).map_err(|error| Trouble::Endpoint(format!("its answer makes no sense: {error}")))
    }

    /// At which revision the cluster is, as this endpoint and more than half of its members see it.
    pub(super) fn now(&self, endpoint: &str) -> Result<u64, Trouble> {
        let range: Range = self.call(endpoint, "/v3/kv/range", &wire::now(&self.config.prefix))?;
        Ok(range.header.revision)
    }

    /// Begins to watch at one endpoint.
    pub(super) fn watch(&self, endpoint: &str, from: u64) -> Result<Watch, Trouble> {
        let response = self.post(endpoint, "/v3/watch", &wire::watch(&self.config.prefix, from), None)?;
        Ok(Lines::new(response.into_body().into_reader()))
    }

    /// Sends a request; once more with a new token if the old one is not taken any more. Where no limit is given, what is
    /// answered goes on for as long as it is not silent.
    fn post(&self, endpoint: &str, path: &str, body: &Value, limit: Option<Duration>) -> Result<Response, Trouble> {
        for last in [false, true] {
            let token = self.token(endpoint)?;
            let way = if limit.is_some() { &self.way } else { &self.watching };
            let mut request = way.agent().post(format!("{endpoint}{path}"));
            if let Some(token) = token {
                request = request.header("Authorization", token);
            }
            let request = match limit {
                Some(limit) => request.config().timeout_global(Some(limit)),
                None => {
                    let head = Some(self.config.request_timeout);
                    request
                        .config()
                        .timeout_recv_response(head)
                        .timeout_per_read(Some(self.config.request_timeout.min(MAX_SILENCE)))
                }
            };
            let response = request.build().content_type("application/json").send(body.to_string())?;
            let status = response.status().as_u16();
            if status == 200 {
                return Ok(response);
            }
            let said = said(response)?;
            if wire::class(status, &said) == Class::LoginIsOld {
                self.log_out();
                if !last {
                    continue;
                }
            }
            return Err(self.trouble(status, &said));
        }
        Err(Trouble::Endpoint("it takes none of its own tokens".to_owned()))
    }

    /// Users, rights and passwords are changed while members run, and changed back: nothing of that is the end of a log.
    pub(super) fn trouble(&self, status: u16, said: &str) -> Trouble {
        let user = self.config.login.as_ref().map_or("nobody", |login| login.user.as_str());
        match wire::class(status, said) {
            Class::LoginIsWrong => Trouble::Endpoint(format!(
                "it does not let {user} in: {said}; give the user and the password that the cluster knows"
            )),
            Class::NoRight => Trouble::Endpoint(format!(
                "{said}: {user} needs the right to write under its own part of {} and to read all of it",
                self.config.prefix
            )),
            Class::TooLarge => Trouble::Refusal(said.to_owned()),
            Class::LoginIsOld | Class::Other => Trouble::Endpoint(format!("{status}: {said}")),
        }
    }

    fn token(&self, endpoint: &str) -> Result<Option<String>, Trouble> {
        let Some(EtcdLogin { user, password }) = &self.config.login else { return Ok(None) };
        if let Some(token) = self.token.lock().clone() {
            return Ok(Some(token));
        }
        let password = password().map_err(|reason| Trouble::Log(LogError::Unavailable(reason)))?;
        let password = std::str::from_utf8(password.expose())
            .map_err(|_| Trouble::Log(LogError::Unavailable(format!("the password of {user} is not text"))))?;
        let body = wire::login(user, password);
        let request = self.way.agent().post(format!("{endpoint}/v3/auth/authenticate"));
        let request = request.config().timeout_global(Some(self.config.request_timeout)).build();
        let response = request.content_type("application/json").send(&body[..])?;
        let status = response.status().as_u16();
        if status != 200 {
            let said = said(response)?;
            if said.contains("authentication is not enabled") {
                return Ok(None);
            }
            return Err(self.trouble(status, &said));
        }
        let Token { token } = serde_json::from_slice(&answer(response.into_body().into_reader())?)
            .map_err(|error| Trouble::Endpoint(format!("its token makes no sense: {error}")))?;
        *self.token.lock() = Some(token.clone());
        Ok(Some(token))
    }
}

/// What an endpoint says that does not do what was asked.
fn said(response: Response) -> Result<String, Trouble> {
    let text = answer(response.into_body().into_reader())?;
    let problem: Problem = serde_json::from_slice(&text).unwrap_or_default();
    Ok(clean(if problem.message.is_empty() { &problem.error } else { &problem.message }))
}
