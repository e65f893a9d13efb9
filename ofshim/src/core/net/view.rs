//! What the read commands show of the network.

use std::collections::BTreeMap;
use std::time::Duration;

use openflow::{DatapathId, PortNo};

use super::Network;
use super::key::FlowKey;
use crate::core::balance::proactive::Standing;
use crate::core::cookie::{Purpose, Sequence, cookie};
use crate::core::pipeline::Layout;
use crate::core::topo::{LinkKind, Place, PortRole};
use crate::core::view;

impl Network {
    /// How many hosts and entries there are.
    #[must_use]
    pub fn sizes(&self) -> (usize, usize) {
        let legs = self.balancer().map_or(0, |balancer| balancer.pins.len());
        let others = self.ahead.iter().count() + self.steering.iter().count();
        (self.hosts.len(), self.flows.hop_count() + others + legs)
    }

    /// How many entries there are, by the word for their purpose.
    #[must_use]
    pub fn entries_by_purpose(&self) -> BTreeMap<&'static str, usize> {
        BTreeMap::from([
            (Purpose::Route.word(), self.flows.hop_count()),
            (Purpose::Ahead.word(), self.ahead.iter().count()),
            (Purpose::Steer.word(), self.steering.iter().count()),
            (Purpose::Balance.word(), self.balancer().map_or(0, |balancer| balancer.pins.len())),
            (Purpose::Standing.word(), self.standing().map_or(0, Standing::entry_count)),
            (Purpose::Watch.word(), self.watching.entry_count()),
        ])
    }

    /// How long a message to or from a switch takes.
    #[must_use]
    pub fn control_latency_of(&self, dpid: DatapathId) -> Duration {
        self.members.get(&dpid).map(|member| member.control).unwrap_or_default()
    }

    /// The figures of the cache of shortest-path trees.
    #[must_use]
    pub fn tree_counters(&self) -> view::TreeCounters {
        let (routes, distances) = self.topology.tree_figures();
        let (asked, made) = routes.look_ups();
        view::TreeCounters { kept: routes.len(), limit: routes.limit(), asked, made, distances }
    }

    /// How many directed links and clusters there are.
    #[must_use]
    pub fn link_figures(&self) -> (usize, usize) {
        (self.topology.link_count(), self.topology.forest().clusters().len())
    }

    /// Why packet-ins were stopped, and how often.
    pub fn stops(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.stops.iter().map(|(why, count)| (*why, *count))
    }

    /// The figures of discovery; `None` if it is switched off.
    #[must_use]
    pub fn discovery_view(&self) -> Option<view::Discovery> {
        let discovery = self.discovery.as_ref()?;
        let counters = discovery.counters();
        Some(view::Discovery {
            period_ms: milliseconds(discovery.period()),
            sent: counters.sent,
            heard: counters.heard,
            forged: counters.forged,
            replayed: counters.replayed,
            relayed: counters.relayed,
        })
    }

    /// The directed links.
    #[must_use]
    pub fn links_view(&self) -> Vec<view::Link> {
        let link = |(from, to, kind, cost): (Place, Place, LinkKind, u32)| {
            let heard = self.discovery.as_ref().and_then(|discovery| discovery.link(from, to));
            let on_tree =
                self.topology.forest().tree().any(|pair| (pair.a, pair.b) == (from.min(to), from.max(to)));
            view::Link {
                from: from.dpid.to_string(),
                from_port: from.port.0,
                to: to.dpid.to_string(),
                to_port: to.port.0,
                kind: kind.word().to_owned(),
                cost,
                latency_us: heard
                    .map_or(0, |heard| u64::try_from(heard.latency.as_micros()).unwrap_or(u64::MAX)),
                load_bps: self.load_bps(from),
                utilisation_permille: self.utilisation_permille(from),
                both_ways: self.topology.links_from(to).any(|(back, _)| back == from),
                on_tree,
            }
        };
        self.topology.links().map(link).collect()
    }

    /// The clusters of connected switches.
    #[must_use]
    pub fn clusters_view(&self) -> Vec<view::Cluster> {
        let clusters = self.topology.forest().clusters().into_iter();
        let cluster = |(name, members): (openflow::DatapathId, Vec<openflow::DatapathId>)| view::Cluster {
            name: name.to_string(),
            switches: members.iter().map(ToString::to_string).collect(),
        };
        clusters.map(cluster).collect()
    }

    /// What a port is to the network, in a word, and how many hosts are behind it.
    #[must_use]
    pub fn port_view(&self, place: Place) -> (&'static str, usize) {
        let role: PortRole = self.role(place);
        (role.word(), self.hosts.at(place).len())
    }

    /// The hosts, by MAC and VLAN, with one line for each attachment point.
    #[must_use]
    pub fn hosts_view(&self, now: Duration) -> Vec<view::Host> {
        let mut hosts = Vec::new();
        for (station, host) in self.hosts.iter() {
            let address = host.addresses.iter().filter_map(|(address, seen)| match address {
                std::net::IpAddr::V4(address) => Some((*seen, *address)),
                std::net::IpAddr::V6(_) => None,
            });
            let address = address.max().map(|(_, address)| address);
            for point in &host.points {
                hosts.push(view::Host {
                    mac: station.mac.to_string(),
                    address,
                    addresses: host.addresses.keys().copied().collect(),
                    vlan: station.vlan,
                    dpid: point.place.dpid.to_string(),
                    port: point.place.port.0,
                    age_ms: milliseconds(now.saturating_sub(point.seen)),
                });
            }
        }
        hosts
    }

    /// The entries of routes, by flow and switch, then those ahead of traffic.
    #[must_use]
    pub fn flows_view(&self, now: Duration) -> Vec<view::Flow> {
        let mut flows = Vec::new();
        let table = |place: Place, purpose| {
            let layout = self.members.get(&place.dpid).map(|member| member.layout);
            layout.map_or(0, |layout: Layout| layout.place(purpose).0.0)
        };
        for (key, hops) in self.flows.iter() {
            for (at, hop) in hops {
                flows.push(view::Flow {
                    dpid: at.dpid.to_string(),
                    table: table(*at, Purpose::Route),
                    in_port: (at.port != PortNo::ANY).then_some(at.port.0),
                    out_port: Some(hop.out.0),
                    purpose: Purpose::Route.word().to_owned(),
                    cookie: format!("{:#018x}", cookie(Purpose::Route, hop.sequence).0),
                    age_ms: milliseconds(now.saturating_sub(hop.since)),
                    ..of_key(key)
                });
            }
        }
        for (station, dpid, port) in self.ahead.iter() {
            flows.push(view::Flow {
                dpid: dpid.to_string(),
                table: table(Place::new(dpid, port), Purpose::Ahead),
                out_port: Some(port.0),
                purpose: Purpose::Ahead.word().to_owned(),
                cookie: format!("{:#018x}", cookie(Purpose::Ahead, Sequence::default()).0),
                ..of_key(&FlowKey::towards(station))
            });
        }
        flows.extend(self.steering.iter().map(|(at, key, out, sequence)| view::Flow {
            dpid: at.dpid.to_string(),
            table: table(at, Purpose::Steer),
            in_port: Some(at.port.0),
            vlan: key.vlan,
            src: Some(key.src.to_string()),
            ethertype: Some(key.ethertype()),
            ip_src: Some(key.address),
            protocol: Some(key.protocol),
            src_port: key.port,
            out_port: Some(out.0),
            purpose: Purpose::Steer.word().to_owned(),
            cookie: format!("{:#018x}", cookie(Purpose::Steer, sequence).0),
            ..view::Flow::default()
        }));
        let legs = self.balancer().into_iter().flat_map(|balancer| balancer.pins.iter());
        flows.extend(legs.map(|(key, leg)| view::Flow {
            dpid: key.at.dpid.to_string(),
            table: table(key.at, Purpose::Balance),
            in_port: Some(key.at.port.0),
            out_port: Some(leg.out.0),
            purpose: Purpose::Balance.word().to_owned(),
            cookie: format!("{:#018x}", cookie(Purpose::Balance, leg.sequence).0),
            age_ms: milliseconds(now.saturating_sub(leg.since)),
            ..of_key(&key.came)
        }));
        flows
    }
}

/// What a key matches, and nothing else.
fn of_key(key: &FlowKey) -> view::Flow {
    let ports = key.ip.and_then(|ip| ip.ports);
    view::Flow {
        vlan: key.vlan,
        src: key.src.map(|src| src.to_string()),
        dst: Some(key.dst.to_string()),
        ethertype: key.ethertype,
        ip_src: key.ip.map(|ip| ip.src),
        ip_dst: key.ip.map(|ip| ip.dst),
        protocol: key.ip.and_then(|ip| ip.protocol),
        src_port: ports.map(|(src, _)| src),
        dst_port: ports.map(|(_, dst)| dst),
        ..view::Flow::default()
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
