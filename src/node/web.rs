//! What a node serves to browsers and collectors: the page, its status as JSON, and metrics. Reading only: nothing that
//! arrives here changes anything.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ureq_proto::http::{Method, StatusCode};

use crate::http::{Answer, HttpCounts, HttpServer, Limits, Request, Service};
use crate::node::{Stage, Status};
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
        if request.method != Method::GET {
            return Answer::text(StatusCode::METHOD_NOT_ALLOWED, "this server only shows").with("allow", "GET");
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
            ("/healthz", _) => health(&(self.status)()),
            _ => Answer::text(StatusCode::NOT_FOUND, "there are /, /status.json, /metrics and /healthz"),
        }
    }
}

/// Whether somebody has to look after the node: for whatever restarts or alarms.
fn health(status: &Status) -> Answer {
    let bad_key = status.keys.iter().flat_map(|keys| [Some(&keys.current), keys.next.as_ref()]).flatten();
    let bad_key = bad_key.into_iter().find(|key| key.status.is_bad());
    match (status.stage, &status.trouble, bad_key) {
        (Stage::Stopped, ..) => Answer::text(StatusCode::SERVICE_UNAVAILABLE, "stopped"),
        (_, Some(trouble), _) => Answer::text(StatusCode::SERVICE_UNAVAILABLE, trouble.clone()),
        (.., Some(key)) => Answer::text(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("epoch {}: {}: {}", key.epoch, key.status, key.reason),
        ),
        (Stage::Starting, ..) => Answer::text(StatusCode::OK, "starting"),
        (Stage::Running, ..) => Answer::text(StatusCode::OK, "running"),
    }
}
