//! Which connections somebody wants to see: filters, the order, and a place to go on from.
//!
//! The same words are the options of `lb conn` and the fields of `GET /v1/connections`.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::api::{Connection, Connections};

/// Connections that are listed unless told otherwise.
pub const LIMIT: usize = 100;
/// The most that one answer lists; further ones are on the next page.
pub const MAX_LIMIT: usize = 100_000;
/// The states of a connection, as [`lb_core::conn::state_name`] prints them.
pub const STATES: [&str; 6] = ["syn", "established", "closing", "closed", "udp", "unverified"];
/// The protocols.
pub const PROTOCOLS: [&str; 2] = ["tcp", "udp"];

/// The fields of `GET /v1/connections`, as they came; all of them may be left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fields {
    /// List this many at most.
    pub limit: Option<String>,
    /// The page of so many, from 1.
    pub page: Option<String>,
    /// Go on behind this one.
    pub after: Option<String>,
    /// Of the VIP of this name.
    pub vip: Option<String>,
    /// Of the backend of this name, address, or address and port.
    pub backend: Option<String>,
    /// Of these clients.
    pub client: Option<String>,
    /// In this state.
    pub state: Option<String>,
    /// Of this protocol.
    pub protocol: Option<String>,
}

impl Fields {
    /// What is wanted.
    ///
    /// # Errors
    /// The first field that cannot be understood, with what it should be.
    pub fn read(self) -> Result<Wanted, String> {
        let limit = number("limit", self.limit, LIMIT, MAX_LIMIT)?;
        let page = number("page", self.page.clone(), 1, usize::MAX / MAX_LIMIT)?;
        if self.page.is_some() && self.after.is_some() {
            return Err("page and after exclude each other: give one of them".to_owned());
        }
        Ok(Wanted {
            limit,
            skip: (page - 1) * limit,
            after: self.after.map(|text| field("after", &text)).transpose()?,
            vip: self.vip,
            backend: self.backend,
            clients: self.client.map(|text| field("client", &text)).transpose()?,
            state: self.state.map(|text| one_of("state", text, &STATES)).transpose()?,
            protocol: self.protocol.map(|text| one_of("protocol", text, &PROTOCOLS)).transpose()?,
        })
    }
}

fn number(name: &str, text: Option<String>, default: usize, most: usize) -> Result<usize, String> {
    let Some(text) = text else { return Ok(default) };
    match text.parse() {
        Ok(number) if (1..=most).contains(&number) => Ok(number),
        Ok(_) => Err(format!("{name}={text}: out of range; it is 1 to {most}")),
        Err(_) => Err(format!("{name}={text}: not a number; give one, as in {name}={default}")),
    }
}

fn field<T: FromStr<Err = String>>(name: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|why| format!("{name}={text}: {why}"))
}

fn one_of(name: &str, text: String, known: &[&str]) -> Result<String, String> {
    if known.contains(&text.as_str()) {
        return Ok(text);
    }
    Err(format!("{name}={text}: not known; it is one of {}", known.join(", ")))
}

/// Which connections are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// List this many at most.
    pub limit: usize,
    /// Leave out so many before them.
    pub skip: usize,
    /// Only those behind this one, in the order of the list.
    pub after: Option<Place>,
    /// Of the VIP of this name.
    pub vip: Option<String>,
    /// Of the backend of this name, address, or address and port.
    pub backend: Option<String>,
    /// Of these clients.
    pub clients: Option<Clients>,
    /// In this state.
    pub state: Option<String>,
    /// Of this protocol.
    pub protocol: Option<String>,
}

/// Clients: one address, a prefix, or one address and port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clients {
    /// An address with the number of its bits that count.
    Prefix(IpAddr, u8),
    /// An address and port.
    Socket(SocketAddr),
}

impl Clients {
    /// Whether a client is one of these.
    pub fn contain(&self, client: IpAddr, port: u16) -> bool {
        match self {
            Self::Socket(socket) => socket.ip() == client && socket.port() == port,
            Self::Prefix(prefix, bits) => match (prefix, client) {
                (IpAddr::V4(a), IpAddr::V4(b)) => {
                    (a.to_bits() ^ b.to_bits()).leading_zeros() >= u32::from(*bits)
                }
                (IpAddr::V6(a), IpAddr::V6(b)) => {
                    (a.to_bits() ^ b.to_bits()).leading_zeros() >= u32::from(*bits)
                }
                _ => false,
            },
        }
    }
}

impl FromStr for Clients {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(socket) = text.parse() {
            return Ok(Self::Socket(socket));
        }
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let wrong = "not an address, prefix, or address and port; give one, as in 10.0.0.3, 10.0.0.0/24, \
                     10.0.0.3:40000 or [fd00::3]:40000";
        let address: IpAddr = address.parse().map_err(|_| wrong.to_owned())?;
        let most: u8 = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => most,
            Some(bits) => match bits.parse() {
                Ok(bits) if bits <= most => bits,
                _ => return Err(format!("/{bits}: a prefix of this family has 0 to {most} bits")),
            },
        };
        Ok(Self::Prefix(address, bits))
    }
}

/// The place of a connection in the list: its client, its VIP's side, its protocol. Written as
/// `10.0.0.3:40000>10.0.1.1:80/tcp`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The client.
    pub client: SocketAddr,
    /// The VIP's address, with the port that the client talks to.
    pub vip: SocketAddr,
    /// `tcp` or `udp`.
    pub protocol: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}>{}/{}", self.client, self.vip, self.protocol)
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = || {
            let (client, rest) = text.split_once('>')?;
            let (vip, protocol) = rest.rsplit_once('/')?;
            PROTOCOLS.contains(&protocol).then_some(())?;
            Some(Self { client: client.parse().ok()?, vip: vip.parse().ok()?, protocol: protocol.to_owned() })
        };
        parts().ok_or_else(|| {
            "not the place of a connection; give what an earlier list named, as in \
             10.0.0.3:40000>10.0.1.1:80/tcp"
                .to_owned()
        })
    }
}

/// A connection with its place, ordered by the place alone.
#[derive(Debug)]
struct Row(Place, Connection);

impl PartialEq for Row {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Row {}

impl PartialOrd for Row {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Row {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.cmp(&other.0)
    }
}

/// Collects a page of the sorted list from connections that come in any order, and holds no more than that page and
/// those before it.
#[derive(Debug)]
pub struct Page {
    skip: usize,
    limit: usize,
    after: Option<Place>,
    total: u64,
    behind: u64,
    first: BTreeSet<Row>,
}

impl Page {
    /// An empty page.
    pub fn new(wanted: &Wanted) -> Self {
        let Wanted { skip, limit, after, .. } = wanted.clone();
        Self { skip, limit, after, total: 0, behind: 0, first: BTreeSet::new() }
    }

    /// Takes a connection that matches; `make` is asked only if it belongs to what is held so far.
    pub fn take(&mut self, place: Place, make: impl FnOnce() -> Connection) {
        self.total += 1;
        if self.after.as_ref().is_some_and(|after| place <= *after) {
            return;
        }
        self.behind += 1;
        let room = self.skip.saturating_add(self.limit);
        if self.first.len() >= room && self.first.last().is_some_and(|last| place >= last.0) {
            return;
        }
        self.first.insert(Row(place, make()));
        if self.first.len() > room {
            self.first.pop_last();
        }
    }

    /// The page.
    pub fn finish(self) -> Connections {
        let more = self.behind > self.first.len() as u64;
        let next = self.first.last().filter(|_| more).map(|row| row.0.to_string());
        let connections = self.first.into_iter().skip(self.skip).map(|row| row.1).collect();
        Connections { total: self.total, connections, next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(client: u8, port: u16) -> Place {
        Place {
            client: SocketAddr::from(([10, 0, 0, client], port)),
            vip: SocketAddr::from(([10, 0, 1, 1], 80)),
            protocol: "tcp".to_owned(),
        }
    }

    fn connection(port: u16) -> Connection {
        Connection {
            client: [10, 0, 0, 1].into(),
            client_port: port,
            vip: "web".into(),
            vip_port: 80,
            protocol: "tcp".into(),
            backend: [10, 0, 0, 2].into(),
            backend_port: 80,
            state: "established".into(),
            idle_ms: 0,
        }
    }

    fn wanted(set: impl FnOnce(&mut Fields)) -> Result<Wanted, String> {
        let mut fields = Fields::default();
        set(&mut fields);
        fields.read()
    }

    #[test]
    fn pages_are_sorted_and_follow_each_other() {
        let ports = [7u16, 3, 9, 1, 5, 8, 2];
        let list = |wanted: &Wanted| {
            let mut page = Page::new(wanted);
            for port in ports {
                page.take(place(1, port), || connection(port));
            }
            let answer = page.finish();
            assert_eq!(answer.total, 7);
            (answer.connections.iter().map(|c| c.client_port).collect::<Vec<_>>(), answer.next)
        };
        let page = |number: &str| {
            let (limit, page) = (Some("3".into()), Some(number.to_owned()));
            list(&wanted(|fields| (fields.limit, fields.page) = (limit, page)).unwrap())
        };
        assert_eq!(page("1"), (vec![1, 2, 3], Some(place(1, 3).to_string())));
        assert_eq!(page("2"), (vec![5, 7, 8], Some(place(1, 8).to_string())));
        assert_eq!(page("3"), (vec![9], None));
        assert_eq!(page("4"), (vec![], None));
        let behind = |port: u16, limit: &str| {
            let (limit, after) = (Some(limit.to_owned()), Some(place(1, port).to_string()));
            list(&wanted(|fields| (fields.limit, fields.after) = (limit, after)).unwrap())
        };
        assert_eq!(behind(3, "3"), (vec![5, 7, 8], Some(place(1, 8).to_string())));
        assert_eq!(behind(8, "3"), (vec![9], None));
        assert_eq!(behind(7, "2"), (vec![8, 9], None));
    }

    #[test]
    fn places_are_read_as_they_are_written() {
        for text in ["10.0.0.3:40000>10.0.1.1:80/tcp", "[fd00::3]:40000>[fd00::1]:53/udp"] {
            assert_eq!(text.parse::<Place>().unwrap().to_string(), text);
        }
        for text in ["", "10.0.0.3:40000", "10.0.0.3:40000>10.0.1.1:80", "10.0.0.3>10.0.1.1:80/tcp"] {
            assert!(text.parse::<Place>().unwrap_err().starts_with("not the place"), "{text}");
        }
        assert!(place(2, 1) > place(1, 2) && place(1, 2) > place(1, 1));
    }

    #[test]
    fn clients_by_address_prefix_and_port() {
        let clients = |text: &str| text.parse::<Clients>().unwrap();
        let has = |text: &str, client: &str, port| clients(text).contain(client.parse().unwrap(), port);
        assert!(has("10.0.0.3", "10.0.0.3", 1) && !has("10.0.0.3", "10.0.0.4", 1));
        assert!(has("10.0.0.0/30", "10.0.0.3", 1) && !has("10.0.0.0/30", "10.0.0.4", 1));
        assert!(has("0.0.0.0/0", "10.0.0.3", 1) && !has("0.0.0.0/0", "fd00::3", 1));
        assert!(has("10.0.0.3:5", "10.0.0.3", 5) && !has("10.0.0.3:5", "10.0.0.3", 6));
        assert!(has("fd00::/16", "fd00:1::3", 1) && !has("fd00::/16", "fd01::3", 1));
        assert!("10.0.0.0/33".parse::<Clients>().unwrap_err().contains("0 to 32 bits"));
        assert!("h3".parse::<Clients>().unwrap_err().contains("as in 10.0.0.3"));
    }

    #[test]
    fn each_field_is_refused_by_name() {
        let refused = |set: fn(&mut Fields)| wanted(set).unwrap_err();
        let some = |text: &str| Some(text.to_owned());
        assert!(refused(|f| f.limit = Some("many".into())).starts_with("limit=many: not a number"));
        assert!(refused(|f| f.limit = Some("0".into())).contains("it is 1 to 100000"));
        assert!(refused(|f| f.page = Some("-1".into())).starts_with("page=-1"));
        assert!(refused(|f| f.after = Some("x".into())).starts_with("after=x: not the place"));
        assert!(refused(|f| f.state = Some("open".into())).contains("one of syn, established"));
        assert!(refused(|f| f.protocol = Some("icmp".into())).contains("one of tcp, udp"));
        assert!(refused(|f| f.client = Some("h1".into())).starts_with("client=h1: not an address"));
        let both = |f: &mut Fields| (f.page, f.after) = (some("2"), some("10.0.0.3:4>10.0.1.1:8/tcp"));
        assert!(wanted(both).unwrap_err().contains("exclude each other"));
        assert_eq!(wanted(|_| ()).unwrap().limit, LIMIT);
    }
}
