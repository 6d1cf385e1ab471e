//! The page that nodes and log servers show to browsers: one file, no build step, nothing from elsewhere. It draws what
//! stands in `status.json` beside it: an [`Overview`](crate::chain::log::Overview), and on a node the rest of its status.

use ureq_proto::http::StatusCode;

use crate::http::Answer;

/// What the page may do: run what stands in it, and ask the server that it came from.
const POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The page.
pub(crate) fn page() -> Answer {
    Answer::new(StatusCode::OK, "text/html; charset=utf-8", include_str!("page.html"))
        .with("content-security-policy", POLICY)
        .with("cache-control", "no-cache")
}
