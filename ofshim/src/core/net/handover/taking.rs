//! Connections of a daemon that are taken over: their hosts are asked for, then they get their entries.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use lb_core::conn::{Side, state};
use lb_core::host::handover::Handover;
use lb_core::host::records;
use lb_core::table::ConnKey;
use openflow::{DatapathId, MacAddr};

use super::{Taken, Taking, Why};
use crate::core::balance::{LegKey, is_finished};
use crate::core::event::Level;
use crate::core::frame::arp_probe;
use crate::core::ip::solicitation;
use crate::core::learn::Station;
use crate::core::net::balancing::Planned;
use crate::core::net::proxy::ASKER;
use crate::core::net::{Network, Out};

/// How long the hosts of connections that are taken over have to say where they are.
const HOSTS_PATIENCE: Duration = Duration::from_millis(500);
/// How long switches have to confirm the entries of connections that are taken over.
const SWITCHES_PATIENCE: Duration = Duration::from_secs(5);
/// The most hosts that are asked where they are; the first packets of others tell.
const MAX_ASKED: usize = 1024;
/// Tokens of barriers behind entries of connections that are taken over have this bit.
const TAKE_TOKEN: u64 = 1 << 62;

impl Network {
    /// Takes over the connections, and asks those where they are that are not known.
    pub(super) fn adopt_given(&mut self, given: &Handover) {
        let now = self.now;
        let Some(balancer) = &mut self.balancer else { return };
        let mut taken = Taken::default();
        let mut connections = Vec::with_capacity(given.connections.len());
        let mut stale = Vec::new();
        for told in &given.connections {
            match balancer.take(told, now) {
                Some((key, other)) => {
                    if other {
                        stale.extend(balancer.pins.of(&key));
                    }
                    connections.push(key);
                }
                None => taken.refused += 1,
            }
        }
        let clients: BTreeSet<IpAddr> = connections.iter().map(|key| records::ip(key.client)).collect();
        let backends = balancer.plan().backends.values();
        let backends: BTreeSet<(IpAddr, Option<MacAddr>)> = backends
            .filter_map(|backend| Some((backend.key.address, Some(MacAddr(backend.neighbour?.mac.0)))))
            .collect();
        for key in stale {
            self.end_leg(&key);
        }
        self.adopt_orphans();
        let missing = clients.into_iter().map(|client| (client, None)).chain(backends);
        let missing: BTreeSet<_> = missing.filter(|host| !self.is_found(host)).take(MAX_ASKED).collect();
        for (address, mac) in &missing {
            let frame = match address {
                IpAddr::V4(address) => {
                    let to = mac.unwrap_or(MacAddr::BROADCAST);
                    arp_probe(to, ASKER, std::net::Ipv4Addr::UNSPECIFIED, *address, None)
                }
                IpAddr::V6(address) => solicitation(*mac, ASKER, *address, None),
            };
            self.ask_everywhere(&frame);
        }
        self.stand.taking = Some(Taking { since: now, connections, missing, taken, tokens: None });
    }

    /// Whether it is known where a host is.
    fn is_found(&self, (address, mac): &(IpAddr, Option<MacAddr>)) -> bool {
        match mac {
            Some(mac) => {
                let probed = self.balancer.as_ref().and_then(|balancer| balancer.place_of(*mac));
                probed.is_some() || !self.hosts.with_mac(*mac).is_empty()
            }
            None => self.hosts.with_address(*address).next().is_some(),
        }
    }

    /// Installs the entries once all hosts are known, or the time for that is over; ends the hand-over once the switches
    /// have confirmed.
    pub(in crate::core::net) fn go_on_taking(&mut self) {
        let Some(mut taking) = self.stand.taking.take() else { return };
        let passed = self.now.saturating_sub(taking.since);
        if taking.tokens.is_none() {
            taking.missing.retain(|host| !self.is_found(host));
            if taking.missing.is_empty() || passed >= HOSTS_PATIENCE {
                let tokens = self.install_taken(&mut taking);
                taking.tokens = Some(tokens);
                self.send_waiting();
            }
        }
        let through = taking.tokens.as_ref().is_some_and(BTreeMap::is_empty);
        if !through && passed < SWITCHES_PATIENCE {
            self.stand.taking = Some(taking);
            return;
        }
        let Taken { installed, remembered, refused } = taking.taken;
        let text = format!(
            "{installed} connections of the balancer's daemon have entries, {remembered} get them with their next packets, \
             {refused} found no place"
        );
        self.log(Level::Info, text);
        if self.stand.why == Some(Why::Asked) {
            let silent = "the switches have not confirmed the entries in time";
            self.stand.done = Some(if through { Ok(taking.taken) } else { Err(silent.to_owned()) });
        }
    }

    /// Sends the entries of connections, and a barrier behind them to each switch.
    fn install_taken(&mut self, taking: &mut Taking) -> BTreeMap<u64, DatapathId> {
        let mut switches = BTreeSet::new();
        for key in std::mem::take(&mut taking.connections) {
            match self.install_connection(&key, &mut switches) {
                Some(true) => taking.taken.installed += 1,
                Some(false) => taking.taken.refused += 1,
                None => taking.taken.remembered += 1,
            }
        }
        let mut tokens = BTreeMap::new();
        for dpid in switches.into_iter().filter(|dpid| self.members.contains_key(dpid)) {
            self.stand.last_token += 1;
            let token = TAKE_TOKEN | self.stand.last_token;
            tokens.insert(token, dpid);
            self.out.push(Out::Barrier { dpid, token });
        }
        tokens
    }

    /// Installs both directions of a connection; false if a switch has no room, `None` if it has to wait for a packet.
    fn install_connection(&mut self, conn: &ConnKey, switches: &mut BTreeSet<DatapathId>) -> Option<bool> {
        let balancer = self.balancer.as_ref()?;
        if balancer.pins.is_busy(conn) {
            return Some(true);
        }
        let value = balancer.model().connection(conn)?;
        let goes_on = matches!(value.state, state::ESTABLISHED | state::CLOSING | state::UDP);
        if !goes_on || is_finished(&value) {
            return None;
        }
        let client = self.hosts.with_address(records::ip(conn.client)).next()?;
        let (came, left) = balancer.directions(conn, client.mac, client.vlan)?;
        let at = self.hosts.place_of(client, &|_| true)?;
        let to = self.seat_of(Station { mac: left.dst, vlan: left.vlan }, at.dpid)?;
        let way = self.way_of(at, to, &left)?;
        let key = LegKey { at, came };
        if !self.may_install(&key) {
            return Some(false);
        }
        switches.extend(way.iter().map(|(at, _)| at.dpid));
        let planned = Planned { key, conn: *conn, side: Side::Client, left, way };
        switches.extend(self.install_way_back(&planned));
        self.install_leg(planned);
        if let Some(balancer) = &mut self.balancer {
            balancer.pinned(conn);
        }
        Some(true)
    }

    /// A switch confirmed; whether that was about connections that are taken over.
    pub(in crate::core::net) fn took(&mut self, token: u64, now: Duration) -> bool {
        if token & TAKE_TOKEN == 0 {
            return false;
        }
        self.now = now;
        if let Some(tokens) = self.stand.taking.as_mut().and_then(|taking| taking.tokens.as_mut()) {
            tokens.remove(&token);
        }
        self.go_on_taking();
        true
    }

    /// A switch's connection ended: nobody waits for it.
    pub(in crate::core::net) fn take_without(&mut self, dpid: DatapathId) {
        if let Some(tokens) = self.stand.taking.as_mut().and_then(|taking| taking.tokens.as_mut()) {
            tokens.retain(|_, of| *of != dpid);
        }
    }
}
