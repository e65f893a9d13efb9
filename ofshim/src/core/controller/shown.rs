//! What the read commands see of all sessions.

use std::collections::BTreeMap;
use std::time::Duration;

use lb_core::host::handover::Standing;
use openflow::PortNo;

use super::Controller;
use crate::core::classic::Classic;
use crate::core::cookie::{Purpose, cookie};
use crate::core::net::explain::{Asked, End};
use crate::core::net::handover::StandBy;
use crate::core::session::Session;
use crate::core::switch::Switch;
use crate::core::topo::Place;
use crate::core::{balance, view};

impl Controller {
    /// Who balances, and why.
    fn who_balances(&self) -> String {
        let stand = self.network.stand();
        match (self.network.balancer(), stand.why()) {
            (Some(balancer), Some(why)) => {
                let alone = if balancer.probes_alone() {
                    "; the daemon is silent, and backends are probed from here"
                } else {
                    ""
                };
                return format!("this controller, by flow entries: {}{alone}", why.words());
            }
            (Some(_), None) => {
                return "this controller, by flow entries, of its own configuration".to_owned();
            }
            (None, _) => {}
        }
        let stands_by = match self.settings.stand_by {
            StandBy::Ready { .. } => "; this controller stands by",
            StandBy::Never(_) => "",
        };
        match stand.standing() {
            Some(Standing::Xdp) => format!("XDP, says the balancer's daemon{stands_by}"),
            Some(Standing::Detached) => format!("nobody: XDP is not attached{stands_by}"),
            Some(Standing::OpenFlow) => "nobody: the balancer's daemon leaves it to flow entries".to_owned(),
            Some(Standing::Moving) => "the balancer's daemon is moving it".to_owned(),
            None => format!("XDP if it is attached; the balancer's daemon does not answer{stands_by}"),
        }
    }

    fn ready(&self) -> impl Iterator<Item = (&Session, &Switch)> {
        let mut ready: Vec<_> = self
            .sessions
            .values()
            .filter(|session| session.is_ready())
            .filter_map(|session| Some((session, session.switch()?)))
            .collect();
        ready.sort_by_key(|(_, switch)| switch.dpid());
        ready.into_iter()
    }

    /// `GET /v1/status`; `listen` as it was bound, TLS is the rim's to tell; time since the same origin as in [`Self::handle`].
    #[must_use]
    pub fn status(&self, listen: &[String], now: Duration) -> view::Status {
        let switches: Vec<view::Switch> = self
            .ready()
            .map(|(session, switch)| view::Switch {
                dpid: switch.dpid().to_string(),
                openflow: session.link().version.to_string(),
                peer: session.link().peer.clone(),
                role: session.role().to_owned(),
                connected_s: now.saturating_sub(session.since()).as_secs(),
                ports_up: switch.ports().values().filter(|port| port.is_up()).count(),
                packet_ins: switch.counters().packet_ins,
                packet_outs: switch.counters().packet_outs,
                flow_mods: switch.counters().flow_mods,
            })
            .collect();
        let ((hosts, flows), (links, clusters)) = (self.network.sizes(), self.network.link_figures());
        view::Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_s: now.as_secs(),
            listen: listen.to_vec(),
            tls: false,
            openflow: self.settings.versions.iter().map(ToString::to_string).collect(),
            forwarding: self.settings.forwarding.word().to_owned(),
            granularity: self.settings.granularity.word().to_owned(),
            metric: self.settings.metric.word().to_owned(),
            proactive: self.settings.leads_ahead(),
            idle_timeout_s: self.settings.idle_timeout_s,
            hard_timeout_s: self.settings.hard_timeout_s,
            hosts: hosts + self.ready().map(|(_, switch)| switch.stations().len()).sum::<usize>(),
            flows: flows
                + self.ready().map(|(_, switch)| switch.entries().len()).sum::<usize>()
                + self.classic.as_ref().map_or(0, Classic::entries),
            links,
            clusters,
            discovery: self.network.discovery_view(),
            balancing: self.network.balancer().map(balance::Balancer::view),
            stopped: self.network.stops().map(|(why, count)| (why.to_owned(), count)).collect(),
            switches,
            classic: self.classic.as_ref().map(Classic::view),
            balancer: view::Balancer {
                source: self.source.word().to_owned(),
                placement: self.known.placement().word().to_owned(),
                balances: self.who_balances(),
                connections: self.network.balancer().map_or(0, |balancer| balancer.pins.connections()),
                vips: self
                    .known
                    .vips()
                    .map(|(address, mac)| view::Vip { address, mac: mac.to_string() })
                    .collect(),
                backends: self.known.backends().collect(),
            },
        }
    }

    /// What is counted, for `GET /metrics`; what waits is the rim's to tell.
    #[must_use]
    pub fn counters(&self, now: Duration) -> view::Counters {
        let switches = self.ready().map(|(session, switch)| view::SwitchCounters {
            conn: session.link().conn.0,
            dpid: switch.dpid().to_string(),
            round_trip: self.network.control_latency_of(switch.dpid()) * 2,
            ports: switch.ports().len(),
            waiting_bytes: 0,
        });
        let mut entries = self.network.entries_by_purpose();
        for (_, entry) in self.ready().flat_map(|(_, switch)| switch.entries().iter()) {
            *entries.entry(entry.purpose.word()).or_default() += 1;
        }
        if let Some(classic) = &self.classic {
            entries.insert(Purpose::Pinned.word(), classic.entries());
        }
        view::Counters {
            connections: self.sessions.len(),
            opened: self.totals.opened,
            messages: self.totals.messages(self.sessions.values().map(Session::link)),
            switches: switches.collect(),
            entries,
            trees: self.network.tree_counters(),
            services: self.known.services().count(),
            waiting_inputs: 0,
            status: self.status(&[], now),
            links: self.network.links_view(),
        }
    }

    /// `GET /v1/topology`.
    #[must_use]
    pub fn topology(&self) -> view::Topology {
        let switches = self.ready().map(|(_, switch)| {
            let mut hosts: BTreeMap<PortNo, usize> = BTreeMap::new();
            for (_, seat) in switch.stations().iter() {
                *hosts.entry(seat.port).or_default() += 1;
            }
            let ports = switch.ports().values().map(|port| {
                let (role, routed) = self.network.port_view(Place::new(switch.dpid(), port.port_no));
                view::Port {
                    number: port.port_no.0,
                    name: port.name.to_string(),
                    mac: port.hw_addr.to_string(),
                    up: port.is_up(),
                    hosts: routed + hosts.get(&port.port_no).copied().unwrap_or_default(),
                    role: role.to_owned(),
                }
            });
            view::SwitchPorts { dpid: switch.dpid().to_string(), ports: ports.collect() }
        });
        view::Topology {
            switches: switches.collect(),
            links: self.network.links_view(),
            clusters: self.network.clusters_view(),
        }
    }

    /// `GET /v1/hosts`.
    #[must_use]
    pub fn hosts(&self, now: Duration) -> view::Hosts {
        let hosts = self.ready().flat_map(|(_, switch)| {
            switch.stations().iter().map(move |(station, seat)| view::Host {
                mac: station.mac.to_string(),
                address: seat.address,
                addresses: seat.address.map(Into::into).into_iter().collect(),
                vlan: station.vlan,
                dpid: switch.dpid().to_string(),
                port: seat.port.0,
                age_ms: milliseconds(now.saturating_sub(seat.seen)),
            })
        });
        let of_classic = self.classic.iter().flat_map(|classic| classic.hosts(now));
        view::Hosts {
            hosts: self.network.hosts_view(now).into_iter().chain(hosts).chain(of_classic).collect(),
        }
    }

    /// `GET /v1/route`.
    ///
    /// # Errors
    /// An end is not known. One line.
    pub fn route(&self, from: End, to: End, k: usize) -> Result<view::Route, String> {
        self.network.route_view(from, to, k)
    }

    /// `GET /v1/explain`.
    ///
    /// # Errors
    /// The flow's sender is not known, or packets are not routed. One line.
    pub fn explain(&mut self, asked: Asked) -> Result<view::Explain, String> {
        self.network.explain_view(asked)
    }

    /// `GET /v1/flows`.
    #[must_use]
    pub fn flows(&self, now: Duration) -> view::Flows {
        let flows = self.ready().flat_map(|(_, switch)| {
            switch.entries().iter().map(move |(key, entry)| view::Flow {
                dpid: switch.dpid().to_string(),
                table: switch.layout().place(entry.purpose).0.0,
                in_port: Some(key.in_port.0),
                vlan: key.vlan,
                src: Some(key.src.to_string()),
                dst: Some(key.dst.to_string()),
                out_port: entry.out.map(|port| port.0),
                purpose: entry.purpose.word().to_owned(),
                cookie: format!("{:#018x}", cookie(entry.purpose, entry.sequence).0),
                age_ms: milliseconds(now.saturating_sub(entry.since)),
                ..view::Flow::default()
            })
        });
        let of_classic = self.classic.iter().flat_map(|classic| classic.flows(now));
        view::Flows {
            flows: self.network.flows_view(now).into_iter().chain(flows).chain(of_classic).collect(),
        }
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
