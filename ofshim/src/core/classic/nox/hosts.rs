//! Which hosts have an address, whose turn it is, and who has been silent for too long.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use openflow::{MacAddr, PortNo};

/// The most hosts that are known.
pub const MAX_HOSTS: usize = 65_536;

/// An address in a VLAN.
pub type Address = (Option<u16>, Ipv4Addr);

/// A host with an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Host {
    /// Its MAC.
    pub mac: MacAddr,
    /// Its port.
    pub port: PortNo,
    /// When it was last heard.
    pub seen: Duration,
    /// When it was last asked whether it is there.
    asked: Duration,
}

#[derive(Clone, Debug, Default)]
struct Group {
    hosts: Vec<Host>,
    next: usize,
}

/// All hosts by address.
#[derive(Clone, Debug)]
pub struct Hosts {
    groups: BTreeMap<Address, Group>,
    count: usize,
    age: Duration,
}

/// What a sweep found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Hosts to ask whether they are there.
    pub ask: Vec<(Address, Host)>,
    /// Hosts that were silent for too long, and are forgotten.
    pub gone: Vec<(Address, Host)>,
}

impl Hosts {
    /// No hosts; who is silent for `age` is forgotten.
    #[must_use]
    pub const fn new(age: Duration) -> Self {
        Self { groups: BTreeMap::new(), count: 0, age }
    }

    /// Notes that a host with this address was heard at a port. Whether there are too many to note it.
    pub fn learn(&mut self, address: Address, mac: MacAddr, port: PortNo, now: Duration) -> bool {
        let full = self.count >= MAX_HOSTS;
        let known = self.groups.get_mut(&address).and_then(|group| group.host_mut(mac));
        match known {
            Some(host) => *host = Host { port, seen: now, ..*host },
            None if full => return true,
            None => {
                let host = Host { mac, port, seen: now, asked: Duration::ZERO };
                self.groups.entry(address).or_default().hosts.push(host);
                self.count += 1;
            }
        }
        false
    }

    /// A packet of this host passed the switch at `seen`.
    pub fn heard(&mut self, address: Address, mac: MacAddr, seen: Duration) {
        if let Some(host) = self.groups.get_mut(&address).and_then(|group| group.host_mut(mac)) {
            host.seen = host.seen.max(seen);
        }
    }

    /// The host whose turn it is, of those with this address: not one at the client's own port, nor the client itself.
    pub fn take_turn(&mut self, address: Address, client: MacAddr, client_port: PortNo) -> Option<Host> {
        let group = self.groups.get_mut(&address)?;
        let count = group.hosts.len();
        let turn = (0..count).map(|step| (group.next + step) % count);
        let mut eligible = turn.filter_map(|at| group.hosts.get(at).map(|host| (at, *host)));
        let (at, host) = eligible.find(|(_, host)| host.mac != client && host.port != client_port)?;
        group.next = (at + 1) % count;
        Some(host)
    }

    /// Forgets who was silent for too long, and names who should be asked: from two thirds of that time on.
    pub fn sweep(&mut self, now: Duration) -> Swept {
        let (age, again) = (self.age, self.age / 9);
        let silent = |host: &Host| now.saturating_sub(host.seen);
        let gone = self.remove(|host| silent(host) >= age);
        let mut ask = Vec::new();
        for (address, group) in &mut self.groups {
            for host in &mut group.hosts {
                if silent(host) >= age * 2 / 3 && now.saturating_sub(host.asked) >= again {
                    host.asked = now;
                    ask.push((*address, *host));
                }
            }
        }
        Swept { ask, gone }
    }

    /// Forgets the hosts that `gone` names; who they were.
    pub fn remove(&mut self, gone: impl Fn(&Host) -> bool) -> Vec<(Address, Host)> {
        let mut removed = Vec::new();
        for (address, group) in &mut self.groups {
            while let Some(at) = group.hosts.iter().position(&gone) {
                removed.push((*address, group.hosts.remove(at)));
                // Whose turn it was keeps it.
                group.next -= usize::from(at < group.next);
            }
            group.next = if group.next >= group.hosts.len() { 0 } else { group.next };
        }
        self.count -= removed.len();
        self.groups.retain(|_, group| !group.hosts.is_empty());
        removed
    }

    /// Nobody could be heard until now.
    pub fn excuse(&mut self, now: Duration) {
        self.groups.values_mut().flat_map(|group| &mut group.hosts).for_each(|host| host.seen = now);
    }

    /// All hosts, by address and then in their turn.
    pub fn iter(&self) -> impl Iterator<Item = (Address, Host)> {
        self.groups.iter().flat_map(|(address, group)| group.hosts.iter().map(|host| (*address, *host)))
    }
}

impl Group {
    fn host_mut(&mut self, mac: MacAddr) -> Option<&mut Host> {
        self.hosts.iter_mut().find(|host| host.mac == mac)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: Address = (None, Ipv4Addr::new(192, 168, 2, 2));
    const CLIENT: MacAddr = mac(9);

    const fn mac(last: u8) -> MacAddr {
        MacAddr([2, 0, 0, 0, 0, last])
    }

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn three() -> Hosts {
        let mut hosts = Hosts::new(at(90));
        for number in 1..=3 {
            assert!(!hosts.learn(ADDRESS, mac(number), PortNo(number.into()), at(0)));
        }
        hosts
    }

    fn turn(hosts: &mut Hosts) -> u8 {
        hosts.take_turn(ADDRESS, CLIENT, PortNo(9)).unwrap().mac.0[5]
    }

    #[test]
    fn hosts_take_turns_and_removal_keeps_the_turn() {
        let mut hosts = three();
        assert_eq!([turn(&mut hosts), turn(&mut hosts), turn(&mut hosts), turn(&mut hosts)], [1, 2, 3, 1]);
        assert_eq!(hosts.remove(|host| host.mac == mac(1)).len(), 1);
        assert_eq!([turn(&mut hosts), turn(&mut hosts), turn(&mut hosts)], [2, 3, 2]);
        hosts.remove(|host| host.mac == mac(3));
        assert_eq!([turn(&mut hosts), turn(&mut hosts)], [2, 2]);
        hosts.remove(|_| true);
        assert_eq!(hosts.take_turn(ADDRESS, CLIENT, PortNo(9)), None);
        assert_eq!((hosts.count, hosts.iter().count()), (0, 0));
    }

    #[test]
    fn a_client_is_not_given_itself_nor_its_own_port() {
        let mut hosts = three();
        assert_eq!(hosts.take_turn(ADDRESS, mac(1), PortNo(2)).unwrap().mac, mac(3));
        assert_eq!(turn(&mut hosts), 1);
    }

    #[test]
    fn silent_hosts_are_asked_then_forgotten() {
        let mut hosts = three();
        assert_eq!(hosts.sweep(at(59)), Swept::default());
        assert_eq!(hosts.sweep(at(60)).ask.len(), 3);
        assert_eq!(hosts.sweep(at(61)), Swept::default(), "asked a moment ago");
        hosts.learn(ADDRESS, mac(1), PortNo(1), at(61));
        hosts.heard(ADDRESS, mac(2), at(62));
        assert_eq!(hosts.sweep(at(70)).ask.len(), 1);
        let swept = hosts.sweep(at(90));
        assert_eq!(swept.gone.iter().map(|(_, host)| host.mac).collect::<Vec<_>>(), [mac(3)]);
        hosts.excuse(at(1000));
        assert_eq!(hosts.sweep(at(1001)), Swept::default());
    }
}
