//! Where something is reached: an [`Address`] (`host:port`) of a member, an [`Endpoint`] (`http://host:port`) of a log.
//!
//! Both are judged in one place, wherever they are said: in a committee file, in a node's configuration, on a command line.
//! What has only digits and dots is an IPv4 address in its usual form or nothing, since the systems that look names up take
//! `127.1` and `0177.0.0.1` for addresses, each in its own way. Two that lead to the same place are equal however they are
//! spelled; each is shown, and hashed into a chain's identity, as it was written.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The most characters of an address; the longest name of a host has 253.
pub const MAX_ADDRESS_BYTES: usize = 280;
/// The most characters of a host's name (RFC 1035).
const MAX_NAME_BYTES: usize = 253;
/// The most characters between two dots of it.
const MAX_LABEL_BYTES: usize = 63;

/// Why a text is no address, or no endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// It does not have the form of one.
    #[error("'{0}' is not host:port, like node.example.org:7000, 10.0.0.1:7000 or [fd00::1]:7000")]
    Form(String),
    /// The port.
    #[error("'{0}' needs a port from 1 to 65535 behind the last ':'")]
    Port(String),
    /// Digits that some systems take for an address, each in its own way.
    #[error("'{0}' is not an IPv4 address in its usual form: four numbers from 0 to 255 without leading zeros")]
    Digits(String),
    /// What no name of a host looks like.
    #[error(
        "'{0}' is not the name of a host: letters, digits, '-' and '_' in parts of 1 to {MAX_LABEL_BYTES}, and dots"
    )]
    Name(String),
    /// What only listens.
    #[error("'{0}' can be listened at, but nobody can be reached there: give the address that the others see")]
    Unspecified(String),
    /// What is nobody's own.
    #[error("'{0}' is nobody's own address (multicast or broadcast), and cannot be dialled")]
    Shared(String),
    /// An endpoint that does not say how.
    #[error("'{0}' has to begin with http:// or https:// to be an endpoint of a log")]
    Scheme(String),
    /// An endpoint with a slash at its end.
    #[error("'{0}' ends in a slash: an endpoint of a log is http://host:port or https://host:port, without it")]
    Slash(String),
    /// An endpoint with more than there should be.
    #[error(
        "'{0}' is not an endpoint of a log: it has to be http://host:port or https://host:port, with nothing after it"
    )]
    Rest(String),
    /// An endpoint with a name and a password in it, which are not shown.
    #[error(
        "an endpoint of a log has a name or a password in it; leave it out, and where the log asks for them give username \
         and password_file under [log]"
    )]
    Login,
    /// Where a node cannot listen.
    #[error("'{0}' cannot be listened at: give an IP address of this machine, or 0.0.0.0 or [::] for all, and a port")]
    Listen(String),
}

/// Which machine.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Host {
    Ip(IpAddr),
    /// In small letters, without a dot at its end.
    Name(String),
}

/// `host:port`, where a member is reached. Names are looked up whenever it is dialled.
#[derive(Clone)]
pub struct Address {
    text: String,
    host: Host,
    port: u16,
}

/// `http://host:port` or `https://host:port`, where a log is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    text: String,
    is_https: bool,
    address: Address,
}

impl Address {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The port; never 0.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Endpoint {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Where that is, without how.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Whether it is reached over TLS.
    pub fn is_https(&self) -> bool {
        self.is_https
    }
}

/// As much of a text as is shown.
fn shown(text: &str) -> String {
    text.chars().take(MAX_ADDRESS_BYTES).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn port(text: &str) -> Option<u16> {
    text.chars().all(|c| c.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// The host in `text`, which is said in `whole`.
fn host(text: &str, whole: &str) -> Result<Host, AddressError> {
    let ip: IpAddr = match text.strip_prefix('[') {
        Some(rest) => {
            let ip = rest.strip_suffix(']').and_then(|ip| ip.parse::<Ipv6Addr>().ok());
            ip.ok_or_else(|| AddressError::Form(shown(whole)))?.to_canonical()
        }
        None if is_number(text) => text.parse::<Ipv4Addr>().map_err(|_| AddressError::Digits(shown(whole)))?.into(),
        None => return name(text).map(Host::Name).ok_or_else(|| AddressError::Name(shown(whole))),
    };
    if ip.is_unspecified() {
        return Err(AddressError::Unspecified(shown(whole)));
    }
    if ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST) {
        return Err(AddressError::Shared(shown(whole)));
    }
    Ok(Host::Ip(ip))
}

/// Whether a system may take this for numbers: its last part is one, of digits or in the manner of C.
fn is_number(host: &str) -> bool {
    let last = host.strip_suffix('.').unwrap_or(host).rsplit('.').next().unwrap_or_default();
    let hex = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    let digits = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
    digits(last) || hex.is_some_and(|hex| hex.chars().all(|c| c.is_ascii_hexdigit()))
}

/// The name of a host as it is compared.
fn name(text: &str) -> Option<String> {
    let name = text.strip_suffix('.').unwrap_or(text);
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let is_label = |label: &str| {
        (1..=MAX_LABEL_BYTES).contains(&label.len()) && label.chars().all(allowed) && !label.starts_with('-')
    };
    (name.len() <= MAX_NAME_BYTES && name.split('.').all(is_label)).then(|| name.to_ascii_lowercase())
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let form = || AddressError::Form(shown(text));
        let (host_text, port_text) = text.rsplit_once(':').ok_or_else(form)?;
        // An IPv6 address without its brackets has no port behind its last colon.
        let is_bare_ip = host_text.contains(':') && !host_text.starts_with('[');
        if host_text.is_empty() || is_bare_ip || text.len() > MAX_ADDRESS_BYTES {
            return Err(form());
        }
        let host = host(host_text, text)?;
        let port = port(port_text).filter(|port| *port != 0).ok_or_else(|| AddressError::Port(shown(text)))?;
        Ok(Address { text: text.to_owned(), host, port })
    }
}

impl FromStr for Endpoint {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        // Before anything is shown of it.
        if text.contains('@') {
            return Err(AddressError::Login);
        }
        let rest = |scheme| text.strip_prefix(scheme);
        let (is_https, rest) = match (rest("http://"), rest("https://")) {
            (Some(rest), _) => (false, rest),
            (None, Some(rest)) => (true, rest),
            (None, None) => return Err(AddressError::Scheme(shown(text))),
        };
        match rest.split_once(['/', '?', '#']) {
            Some((_, "")) if rest.ends_with('/') => return Err(AddressError::Slash(shown(text))),
            Some(_) => return Err(AddressError::Rest(shown(text))),
            None => {}
        }
        Ok(Endpoint { text: text.to_owned(), is_https, address: rest.parse()? })
    }
}

/// Where to listen: an IP address of this machine and a port, which may be 0 for any.
///
/// # Errors
/// [`AddressError::Listen`].
pub fn listening(text: &str) -> Result<SocketAddr, AddressError> {
    text.parse().map_err(|_| AddressError::Listen(shown(text)))
}

impl PartialEq for Address {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Address {}

impl PartialOrd for Address {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Address {
    fn cmp(&self, other: &Self) -> Ordering {
        (&self.host, self.port).cmp(&(&other.host, other.port))
    }
}

impl Hash for Address {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.host, self.port).hash(state);
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({})", self.text)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Address {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for Endpoint {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn digits_and_dots_are_an_ipv4_address_or_nothing() {
        for text in ["10.0.0.1:7000", "255.1.1.1:1", "127.0.0.1:65535"] {
            assert_eq!(address(text).as_str(), text);
        }
        for text in ["0177.0.0.1:1", "127.1:1", "256.1.1.1:1", "1:1", "0x7f.1:1", "0x7f000001:1", "1.2.3.4.:1", "a.7:1"]
        {
            assert_eq!(text.parse::<Address>(), Err(AddressError::Digits(text.to_owned())));
        }
    }

    #[test]
    fn what_nobody_can_be_reached_at_is_refused() {
        for text in ["0.0.0.0:7000", "[::]:7000", "[::ffff:0.0.0.0]:7000"] {
            assert_eq!(text.parse::<Address>(), Err(AddressError::Unspecified(text.to_owned())));
            assert!(format!("http://{text}").parse::<Endpoint>().is_err());
            assert!(listening(text).is_ok() || text.contains("ffff"), "{text}");
        }
        for text in ["224.0.0.1:1", "255.255.255.255:1", "[ff02::1]:1"] {
            assert_eq!(text.parse::<Address>(), Err(AddressError::Shared(text.to_owned())));
        }
    }

    #[test]
    fn spellings_of_one_place_are_equal_and_shown_as_they_were_written() {
        for (one, other) in [
            ("Node.Example.org:7000", "node.example.ORG.:7000"),
            ("node:7000", "node:07000"),
            ("[fd00::1]:7000", "[FD00:0:0::0001]:7000"),
            ("[::ffff:10.0.0.1]:7000", "10.0.0.1:7000"),
        ] {
            assert_eq!(address(one), address(other));
            assert_eq!((address(one).to_string(), address(other).to_string()), (one.to_owned(), other.to_owned()));
        }
        assert_ne!(address("node:7000"), address("node:7001"));
        assert_ne!(address("node:7000"), address("node.example.org:7000"));
    }

    #[test]
    fn what_is_no_address_says_what_is_missing() {
        let long = format!("{}:1", ["x".repeat(60).as_str(); 5].join("."));
        for (text, expected) in [
            ("", "host:port"),
            ("node", "host:port"),
            (":7000", "host:port"),
            ("fd00::1:7000", "host:port"),
            ("[fd00::1:7000", "host:port"),
            ("[node]:7000", "host:port"),
            ("node:0", "port"),
            ("node:", "port"),
            ("node:+1", "port"),
            ("node:65536", "port"),
            ("a b:1", "name"),
            ("a..b:1", "name"),
            (".:1", "name"),
            ("-a:1", "name"),
            ("b\u{fc}hne:1", "name"),
            (long.as_str(), "host:port"),
        ] {
            let error = text.parse::<Address>().expect_err(text).to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn an_endpoint_has_a_scheme_and_a_port_and_nothing_after_it() {
        let endpoint: Endpoint = "https://log.example.org:443".parse().expect("an endpoint");
        assert!(endpoint.is_https() && endpoint.as_str() == "https://log.example.org:443");
        for (text, expected) in [
            ("10.0.0.9:7500", "begin with http://"),
            ("HTTP://10.0.0.9:7500", "begin with http://"),
            ("ftp://10.0.0.9:7500", "begin with http://"),
            ("http://10.0.0.9:7500/", "slash"),
            ("http://10.0.0.9:7500/log", "nothing after"),
            ("http://10.0.0.9:7500?a", "nothing after"),
            ("http://log.example.org", "port"),
            ("http://10.0.0.9", "host:port"),
            ("http://127.1:7500", "IPv4"),
        ] {
            let error = text.parse::<Endpoint>().expect_err(text).to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
        let error = "http://member:sesame@10.0.0.9:7500".parse::<Endpoint>().expect_err("a password").to_string();
        assert!(error.contains("password_file") && !error.contains("sesame"), "{error}");
    }
}
