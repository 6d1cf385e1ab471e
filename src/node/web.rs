//! What a node serves to browsers and collectors: the page, its status as JSON, and metrics. Reading only: nothing that
//! arrives here changes anything.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ureq_proto::http::{Method, StatusCode};

use crate::http::{Answer, Hosts, HttpCounts, HttpServer, Limits, Request, Service};
use crate::node::{Level, Status, Verdict};
use crate::page::page;

/// A page asks once a second, a collector more seldom, and some people have many windows.
const LIMITS: Limits = Limits {
    connections: 64,
    connections_per_peer: 32,
    body_bytes: 0,
    idle: Duration::from_secs(30),
    transfer: Duration::from_secs(10),
    requests_per_second: 20,
    burst: 100,
};

/// A node's status as it is now.
pub type StatusSource = Arc<dyn Fn() -> Status + Send + Sync>;
/// A node's metrics as Prometheus reads them, made from its status.
pub type MetricsSource = Arc<dyn Fn(&Status) -> String + Send + Sync>;

/// The server of one node's page. Dropping it stops it.
pub struct Web(HttpServer);

impl Web {
    /// Serves there from now on, whoever asks for an address, `localhost` or one of `names`; without `metrics` there are none.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub fn start(
        listen: SocketAddr,
        names: &[String],
        status: StatusSource,
        metrics: Option<MetricsSource>,
    ) -> io::Result<Web> {
        let desk = Desk { hosts: Hosts::new(names), status, metrics };
        HttpServer::start("dkg-status", (listen, "status"), LIMITS, Arc::new(desk)).map(Web)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.0.local_addr()
    }
}

struct Desk {
    hosts: Hosts,
    status: StatusSource,
    metrics: Option<MetricsSource>,
}

impl Service for Desk {
    fn answer(&self, request: &Request, _: &dyn Fn() -> HttpCounts) -> Answer {
        if request.method != Method::GET && request.method != Method::HEAD {
            return Answer::text(StatusCode::METHOD_NOT_ALLOWED, "this server only shows").with("allow", "GET, HEAD");
        }
        if let Some(refused) = self.hosts.refuse(request, "status_names in node.toml") {
            return refused;
        }
        match (request.path.as_str(), &self.metrics) {
            ("/", _) => page(),
            ("/status.json", _) => match serde_json::to_vec(&(self.status)()) {
                Ok(json) => Answer::new(StatusCode::OK, "application/json", json).with("cache-control", "no-store"),
                Err(error) => Answer::text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
            },
            ("/metrics", Some(metrics)) => {
                Answer::new(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", metrics(&(self.status)()))
            }
            ("/healthz", _) => health(&(self.status)().verdict),
            _ => Answer::text(StatusCode::NOT_FOUND, "there are /, /status.json, /metrics and /healthz"),
        }
    }
}

/// The verdict in words, for whatever restarts or alarms. What goes on is not to be restarted, so it is 200 also where somebody has
/// to look; what is not up yet, or has come to stand, is 503.
fn health(verdict: &Verdict) -> Answer {
    let status = match verdict.level {
        Level::Ok | Level::Degraded => StatusCode::OK,
        Level::Starting | Level::Halted => StatusCode::SERVICE_UNAVAILABLE,
    };
    Answer::text(status, verdict.to_string())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;
    use crate::node::{Finding, Subject};

    /// A page whose status nobody may ask for.
    fn web(names: &[&str]) -> Web {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let nobody = Arc::new(|| unreachable!("the status was asked for"));
        Web::start(([127, 0, 0, 1], 0).into(), &names, nobody, None).expect("a port")
    }

    fn ask(web: &Web, request: &str) -> String {
        let mut stream = TcpStream::connect(web.address()).expect("a connection");
        write!(stream, "{request}\r\nconnection: close\r\n\r\n").expect("it listens");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    }

    #[test]
    fn a_name_that_is_not_the_nodes_own_gets_nothing_whatever_is_asked() {
        let web = web(&["node3.example.org"]);
        for path in ["/", "/status.json", "/metrics", "/healthz", "/nothing"] {
            let answer = ask(&web, &format!("GET {path} HTTP/1.1\r\nhost: evil.example:7080"));
            assert!(answer.starts_with("HTTP/1.1 421 "), "{path}: {answer}");
            assert!(
                answer.contains("the names that status_names in node.toml has; 'evil.example' is none of them"),
                "{answer}"
            );
        }
        for host in ["127.0.0.1:7080", "localhost", "node3.example.org:443"] {
            assert!(ask(&web, &format!("GET / HTTP/1.1\r\nhost: {host}")).starts_with("HTTP/1.1 200 "), "{host}");
        }
    }

    #[test]
    fn head_is_answered_as_get_is_and_without_a_body() {
        let web = web(&[]);
        let get = ask(&web, "GET / HTTP/1.1\r\nhost: localhost");
        let head = ask(&web, "HEAD / HTTP/1.1\r\nhost: localhost");
        assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"), "{head}");
        assert_eq!(get.split("\r\n\r\n").next(), head.split("\r\n\r\n").next());
        assert!(ask(&web, "DELETE / HTTP/1.1\r\nhost: localhost").starts_with("HTTP/1.1 405 "));
    }

    #[test]
    fn a_health_check_fails_only_where_nothing_goes_on_and_has_the_word_and_the_reason() {
        let of = |level| {
            let finding = Finding { level, about: Subject::Log, what: "no route".into(), to_do: "find one".into() };
            let answer = health(&Verdict { level, findings: vec![finding] });
            (answer.status.as_u16(), String::from_utf8(answer.body).unwrap_or_default())
        };
        assert_eq!(of(Level::Degraded), (200, "DEGRADED\nno route; find one\n".to_owned()));
        assert_eq!([Level::Ok, Level::Starting, Level::Halted].map(|level| of(level).0), [200, 503, 503]);
    }
}
