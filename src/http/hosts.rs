//! Under which names a server may be asked.
//!
//! A page from anywhere can make its reader's browser ask for its own name, let that name point to an address in the reader's network,
//! and read what a server there answers: the browser takes both for the same place. But it says the name in `Host`, and so a server
//! that answers to its own names only gives nothing away.

use std::net::IpAddr;

use ureq_proto::http::StatusCode;

use crate::http::{Answer, Request};

/// The names of a server. Addresses and `localhost`, which nobody else can point to somewhere, are always among them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hosts(Vec<String>);

impl Hosts {
    /// These names, with or without a port.
    pub(crate) fn new<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> Self {
        Hosts(names.into_iter().map(|name| name_of(name.as_ref()).to_owned()).collect())
    }

    /// The answer to a request that asks for another name. `setting` is where names are added. Who says no name at all is no browser.
    pub(crate) fn refuse(&self, request: &Request, setting: &str) -> Option<Answer> {
        let name = match request.headers.get("host").map(|host| host.to_str()) {
            None => return None,
            Some(host) => host.unwrap_or_default(),
        };
        if self.answers_to(name) {
            return None;
        }
        let name: String = name_of(name).chars().filter(|c| !c.is_control()).take(MAX_SHOWN).collect();
        let text = format!(
            "this server answers to its addresses, to localhost, and to the names that {setting} has; '{name}' is none of them"
        );
        Some(Answer::text(StatusCode::MISDIRECTED_REQUEST, text))
    }

    fn answers_to(&self, host: &str) -> bool {
        let name = name_of(host);
        let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        address.parse::<IpAddr>().is_ok()
            || name.eq_ignore_ascii_case("localhost")
            || self.0.iter().any(|own| own.eq_ignore_ascii_case(name))
    }
}

/// The longest name that there can be.
const MAX_SHOWN: usize = 253;

/// A name or address without port and final dot.
fn name_of(host: &str) -> &str {
    let name = match host.rsplit_once(':') {
        // What stands in brackets, or has several colons and none, is an IPv6 address.
        Some((name, port))
            if port.bytes().all(|c| c.is_ascii_digit()) && (!name.contains(':') || name.ends_with(']')) =>
        {
            name
        }
        _ => host,
    };
    name.strip_suffix('.').unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_answers_to_addresses_localhost_and_its_own_names_only() {
        let hosts = Hosts::new(["node3.example.org", "Log.Example:7500"]);
        for own in [
            "127.0.0.1",
            "10.0.0.7:7080",
            "[::1]",
            "[2001:db8::7]:7080",
            "::1",
            "localhost",
            "LocalHost:7080",
            "node3.example.org",
            "NODE3.example.org:80",
            "node3.example.org.:80",
            "log.example",
        ] {
            assert!(hosts.answers_to(own), "{own}");
        }
        for other in [
            "",
            ":7080",
            "evil.example",
            "evil.example:7080",
            "node3.example.org.evil.example",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "evil.example:127.0.0.1",
            "[evil.example]",
            "127.1",
            "localhost@evil.example",
        ] {
            assert!(!hosts.answers_to(other), "{other}");
        }
    }
}
