//! Source addresses and ports, each in its turn: so a port comes back only after all others, and no entry of a switch or
//! a balancer that is left from an earlier connection serves a new one.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// The first port that is used: those below belong to services.
const FIRST_PORT: u16 = 1024;
/// Ports that are tried before a connection is given up.
const TRIES: u32 = 256;

/// Who asks next.
#[derive(Clone, Debug)]
pub struct Sources {
    addresses: Vec<IpAddr>,
    turn: usize,
    port: u16,
}

impl Sources {
    /// All ports of `addresses`, beginning with `port`; with no address, of the one that the system takes.
    pub fn new(addresses: Vec<IpAddr>, port: u16) -> Self {
        Self { addresses, turn: 0, port: port.max(FIRST_PORT) }
    }

    /// The next pair, for a connection to `to`.
    fn next(&mut self, to: SocketAddr) -> SocketAddr {
        let any = match to {
            SocketAddr::V4(_) => IpAddr::from([0; 4]),
            SocketAddr::V6(_) => IpAddr::from([0u16; 8]),
        };
        let address = self.addresses.get(self.turn).copied().unwrap_or(any);
        let pair = SocketAddr::new(address, self.port);
        self.turn += 1;
        if self.turn >= self.addresses.len() {
            self.turn = 0;
            self.port = self.port.checked_add(1).unwrap_or(FIRST_PORT);
        }
        pair
    }

    /// Begins a connection; it is established, or has failed, when it can be written to.
    pub fn connect(&mut self, to: SocketAddr) -> io::Result<TcpStream> {
        let mut last = io::Error::from_raw_os_error(libc::EADDRNOTAVAIL);
        for _ in 0..TRIES {
            let socket = Socket::new(
                Domain::for_address(to),
                Type::STREAM.nonblocking().cloexec(),
                Some(Protocol::TCP),
            )?;
            socket.set_reuse_address(true)?;
            let begun = socket.bind(&self.next(to).into()).and_then(|()| socket.connect(&to.into()));
            match begun {
                Err(error) if is_taken(&error) => last = error,
                Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => return Err(error),
                _ => return Ok(socket.into()),
            }
        }
        Err(last)
    }
}

fn is_taken(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EADDRINUSE | libc::EADDRNOTAVAIL))
}

/// Closes at once, with a reset: nothing of the connection is left here.
pub fn abort(stream: TcpStream) {
    // It ends either way.
    let _ = SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO));
    drop(stream);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_has_its_turn() {
        let addresses: Vec<IpAddr> = vec!["10.0.0.3".parse().unwrap(), "10.0.0.4".parse().unwrap()];
        let to = "10.0.1.1:80".parse().unwrap();
        let mut sources = Sources::new(addresses, 65535);
        let pairs: Vec<String> = (0..4).map(|_| sources.next(to).to_string()).collect();
        assert_eq!(pairs, ["10.0.0.3:65535", "10.0.0.4:65535", "10.0.0.3:1024", "10.0.0.4:1024"]);
        let mut sources = Sources::new(Vec::new(), 0);
        assert_eq!(sources.next(to).to_string(), "0.0.0.0:1024");
        assert_eq!(sources.next("[fd00::1]:80".parse().unwrap()).to_string(), "[::]:1025");
    }
}
