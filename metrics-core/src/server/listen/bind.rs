//! Binds the port.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

/// The maximum number of connections that wait to be accepted, the same as tokio's.
const BACKLOG: i32 = 1024;

/// Binds the port. The unspecified address binds all IPv4 and IPv6 addresses, as in Go, or all IPv4 addresses on a host
/// without IPv6.
pub async fn bind(address: IpAddr, port: u16) -> Result<TcpListener, BindError> {
    let listener = if address.is_unspecified() {
        match listen(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))) {
            // The port may be in use for one family only: serving the other one would hide that.
            Err(error) if lacks_ipv6(&error) => listen(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))),
            result => result,
        }
    } else {
        listen(SocketAddr::new(address, port))
    };
    listener.map_err(|source| BindError { address: SocketAddr::new(address, port), source })
}

/// Returns whether the host has no IPv6 at all, or has it disabled on all interfaces.
fn lacks_ipv6(error: &io::Error) -> bool {
    !matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied)
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    configure(&socket, address.ip())?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

fn configure(socket: &Socket, address: IpAddr) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    // The host's default (net.ipv6.bindv6only) may be to serve only IPv6.
    if address == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
        socket.set_only_v6(false)?;
    }
    Ok(())
}

/// An error of binding the port.
#[derive(Debug, thiserror::Error)]
#[error(
    "can't listen on {address}: {source}; set another --secure-port or --bind-address (ports below 1024 require a privilege)"
)]
pub struct BindError {
    /// The requested address.
    address: SocketAddr,
    /// The cause.
    source: io::Error,
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use socket2::{Domain, Protocol, Socket, Type};
    use tokio::net::TcpStream;

    use super::{bind, configure, lacks_ipv6};

    #[test]
    fn serves_both_families_whatever_the_default_of_the_host() {
        // A host without IPv6 can't run this test.
        let Ok(socket) = Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP)) else { return };
        // As with net.ipv6.bindv6only=1.
        socket.set_only_v6(true).unwrap();
        configure(&socket, Ipv6Addr::UNSPECIFIED.into()).unwrap();
        assert!(!socket.only_v6().unwrap());
        assert!(socket.reuse_address().unwrap(), "a restarted container binds the port at once");
    }

    #[tokio::test]
    async fn unspecified_address_accepts_ipv4() {
        for address in [IpAddr::from(Ipv4Addr::UNSPECIFIED), Ipv6Addr::UNSPECIFIED.into()] {
            let listener = bind(address, 0).await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let (client, accepted) =
                tokio::join!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)), listener.accept());
            client.unwrap();
            accepted.unwrap();
        }
    }

    #[tokio::test]
    async fn port_in_use_is_an_error_that_names_the_address() {
        let taken = bind(Ipv4Addr::LOCALHOST.into(), 0).await.unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = bind(Ipv4Addr::UNSPECIFIED.into(), port).await.unwrap_err().to_string();
        assert!(error.contains(&format!("can't listen on 0.0.0.0:{port}")), "{error}");
    }

    #[test]
    fn only_a_missing_family_falls_back_to_ipv4() {
        // EAFNOSUPPORT: no IPv6 in the kernel; EADDRNOTAVAIL: net.ipv6.conf.all.disable_ipv6=1.
        for (code, expected) in [(97, true), (99, true), (98, false), (13, false)] {
            assert_eq!(lacks_ipv6(&io::Error::from_raw_os_error(code)), expected, "errno {code}");
        }
    }
}
