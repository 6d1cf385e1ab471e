//! What a node serves to browsers and collectors: the page, its status as JSON, and metrics. Reading only: nothing that
//! arrives here changes anything.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ureq_proto::http::{Method, StatusCode};

use crate::http::{Answer, HttpCounts, HttpServer, Limits, Request, Service};
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
    /// Serves there from now on; without `metrics` there are none.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub fn start(listen: SocketAddr, status: StatusSource, metrics: Option<MetricsSource>) -> io::Result<Web> {
        HttpServer::start("dkg-status", listen, LIMITS, Arc::new(Desk { status, metrics })).map(Web)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.0.local_addr()
    }
}

struct Desk {
    status: StatusSource,
    metrics: Option<MetricsSource>,
}

impl Service for Desk {
    fn answer(&self, request: &Request, _: &dyn Fn() -> HttpCounts) -> Answer {
        if request.method != Method::GET && request.method != Method::HEAD {
            return Answer::text(StatusCode::METHOD_NOT_ALLOWED, "this server only shows").with("allow", "GET, HEAD");
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
