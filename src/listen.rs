//! Where to listen, on machines of every kind.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// Listens there. Where that is all addresses, and this machine's kernel has no IPv6, it is all IPv4 addresses; `setting` is what
/// could say so.
pub(crate) fn listen(at: SocketAddr, setting: &str) -> io::Result<TcpListener> {
    listen_by(at, setting, TcpListener::bind)
}

fn listen_by<T>(at: SocketAddr, setting: &str, bind: impl Fn(SocketAddr) -> io::Result<T>) -> io::Result<T> {
    let error = match bind(at) {
        Err(error) if at.is_ipv6() && at.ip().is_unspecified() && !is_about_the_port(&error) => error,
        bound => return bound,
    };
    // A kernel may lack IPv6 in several ways, each with an error of its own. Where it is something else, this fails as well.
    let instead = SocketAddr::from((Ipv4Addr::UNSPECIFIED, at.port()));
    match bind(instead) {
        Ok(bound) => {
            log::warn!(
                "{at} cannot be listened at ({error}): listening at {instead} instead, by IPv4 alone; where this machine is \
                 to be without IPv6, say {setting} = \"{instead}\""
            );
            Ok(bound)
        }
        Err(_) => Err(error),
    }
}

/// Whether any other address would fail alike.
fn is_about_the_port(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::AddrInUse | ErrorKind::PermissionDenied)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A kernel started with `ipv6.disable=1`, as far as it comes to that.
    fn no_ipv6(at: SocketAddr) -> io::Result<SocketAddr> {
        const NO_SUCH_FAMILY: i32 = 97;
        if at.is_ipv6() { Err(io::Error::from_raw_os_error(NO_SUCH_FAMILY)) } else { Ok(at) }
    }

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn without_ipv6_all_addresses_are_all_ipv4_addresses() {
        assert_eq!(listen_by(at("[::]:7000"), "listen", no_ipv6).ok(), Some(at("0.0.0.0:7000")));
        // One that was asked for by itself is nobody else's.
        assert!(listen_by(at("[::1]:7000"), "listen", no_ipv6).is_err());
        assert_eq!(listen_by(at("127.0.0.1:7000"), "listen", no_ipv6).ok(), Some(at("127.0.0.1:7000")));
    }

    #[test]
    fn a_port_that_is_taken_is_not_looked_for_elsewhere() {
        for kind in [ErrorKind::AddrInUse, ErrorKind::PermissionDenied] {
            let taken = |at: SocketAddr| if at.is_ipv6() { Err(kind.into()) } else { Ok(()) };
            assert_eq!(listen_by(at("[::]:7000"), "listen", taken).map_err(|error| error.kind()), Err(kind));
        }
    }
}
