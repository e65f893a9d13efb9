//! The switches of the network, their ports, and what discovery says of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openflow::{Action, BufferId, DatapathId, FlowMod, MacAddr, PacketOut, Port, PortNo, Version};

use super::flows::Hop;
use super::key::matches_v6;
use super::{AnswersKey, FlowKey, Metric, Network, Out, SWITCH_AGE};
use crate::core::balance::proactive::FoundStanding;
use crate::core::cookie::{Purpose, Sequence};
use crate::core::discover::{Finding, Heard};
use crate::core::event::Level;
use crate::core::pipeline::Layout;
use crate::core::topo::{Change, Cost, LinkKind, Place, PortRole};

/// A switch that is connected.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its tables.
    pub layout: Layout,
    /// The version that it speaks.
    pub version: Version,
    /// Its ports.
    pub ports: BTreeMap<PortNo, MemberPort>,
    /// How long a message takes to it or from it.
    pub control: Duration,
    /// Whether it knows Nicira's extensions.
    pub nicira: bool,
}

/// A port of a [`Member`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberPort {
    /// Its name.
    pub name: String,
    /// Its address.
    pub mac: MacAddr,
    /// Whether it is enabled and its link is up.
    pub up: bool,
    /// Its speed in kbit/s; 0 if it does not say.
    pub speed_kbps: u32,
}

impl From<&Port> for MemberPort {
    fn from(port: &Port) -> Self {
        let speed_kbps = if port.curr_speed_kbps > 0 { port.curr_speed_kbps } else { rate_kbps(port.curr) };
        Self { name: port.name.to_string(), mac: port.hw_addr, up: port.is_up(), speed_kbps }
    }
}

/// The highest rate among `OFPPF_*` bits (1.3, 7.2.1); 0 if there is none.
fn rate_kbps(features: u32) -> u32 {
    const RATES_KBPS: [(u32, u32); 7] = [
        (1 << 9, 1_000_000_000),
        (1 << 8, 100_000_000),
        (1 << 7, 40_000_000),
        (1 << 6, 10_000_000),
        (3 << 4, 1_000_000),
        (3 << 2, 100_000),
        (3, 10_000),
    ];
    RATES_KBPS.iter().find(|(bits, _)| features & bits != 0).map_or(0, |(_, rate)| *rate)
}

/// A switch that has become ready.
#[derive(Clone, Debug)]
pub struct NewMember {
    /// Who it is.
    pub dpid: DatapathId,
    /// Its tables.
    pub layout: Layout,
    /// The version that it speaks.
    pub version: Version,
    /// Its ports.
    pub ports: Vec<Port>,
    /// Whether it knows Nicira's extensions.
    pub nicira: bool,
    /// The routes' entries that it has.
    pub found: Vec<FoundRoute>,
    /// The standing entries of balancing that it has.
    pub standing: FoundStanding,
}

/// An entry of a route that a switch listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundRoute {
    /// What it is for: [`Purpose::Route`], [`Purpose::Ahead`], [`Purpose::Steer`] or [`Purpose::Balance`].
    pub purpose: Purpose,
    /// What it matches.
    pub key: FoundKey,
    /// The port that it matches, or [`PortNo::ANY`].
    pub in_port: PortNo,
    /// The port that frames leave by.
    pub out: PortNo,
    /// Its number.
    pub sequence: Sequence,
    /// Its idle timeout in seconds.
    pub idle_s: u16,
    /// Deletes it.
    pub delete: FlowMod,
}

/// What an entry matches that a switch listed, but for the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FoundKey {
    /// A flow, or all that goes to a host.
    Flow(FlowKey),
    /// Answers of a backend.
    Answers(AnswersKey),
    /// One direction of a balanced connection.
    Leg {
        /// What it matches.
        came: FlowKey,
        /// What it makes of that.
        left: FlowKey,
        /// Whether a FIN or RST shortens its life.
        watches: bool,
    },
}

/// The speed that a link is taken for if its ports do not say.
const UNKNOWN_SPEED_KBPS: u32 = 10_000_000;
/// The speed that costs one.
const TOP_SPEED_KBPS: u32 = 100_000_000;
/// Names of ports that are tunnels, by their beginning.
const TUNNELS: [&str; 5] = ["vxlan", "geneve", "gre", "stt", "tun"];

impl Network {
    /// A switch is ready: its ports are probed, and its entries compared with what should be there.
    pub fn switch_ready(&mut self, new: NewMember, now: Duration) {
        self.now = now;
        let NewMember { dpid, layout, version, ports, nicira, found, standing } = new;
        let ports: BTreeMap<PortNo, MemberPort> =
            ports.iter().map(|port| (port.port_no, MemberPort::from(port))).collect();
        // What was known of it from before, and is not true any more.
        let mut old: BTreeSet<PortNo> = self.hosts.ports_of(dpid).map(|(place, _)| place.port).collect();
        old.extend(self.flows.at(dpid).into_iter().map(|(_, _, hop)| hop.out));
        let member = Member { layout, version, ports: ports.clone(), control: Duration::ZERO, nicira };
        self.members.insert(dpid, member);
        for gone in old.into_iter().filter(|port| !ports.get(port).is_some_and(|port| port.up)) {
            self.port_lost(Place::new(dpid, gone));
        }
        self.v6 = self.members.values().all(|member| matches_v6(member.version));
        self.steering.mark();
        self.lost.remove(&dpid);
        self.topology.add_switch(dpid);
        self.reconcile_routes(dpid, found);
        if self.settings.proactive {
            let shows = layout.show_answers().into_iter();
            self.out.extend(shows.map(|flow_mod| Out::FlowMod { dpid, flow_mod: Box::new(flow_mod) }));
        }
        self.refresh_all_ahead();
        self.standing_ready(dpid, standing);
        self.watching.forget(dpid);
        self.watch();
        for (number, port) in ports {
            self.probe_port(Place::new(dpid, number), &port);
        }
        self.after_discovery();
    }

    /// A switch's connection ended. Its entries go on forwarding; its links go when discovery does not hear them.
    pub fn switch_lost(&mut self, dpid: DatapathId, now: Duration) {
        self.now = now;
        if self.members.remove(&dpid).is_none() {
            return;
        }
        self.v6 = self.members.values().all(|member| matches_v6(member.version));
        self.lost.insert(dpid, now);
        let then = self.pending.switch_lost(dpid);
        self.out.extend(then);
        self.balance_switch_lost(dpid);
        self.standing_lost(dpid);
        self.watching.forget(dpid);
        self.take_without(dpid);
        match &mut self.discovery {
            Some(discovery) => discovery.switch_gone(dpid),
            None => {
                let change = self.topology.remove_switch(dpid);
                self.topology_changed(&change);
            }
        }
    }

    /// Forgets switches that did not come back, with their links, hosts and hops.
    pub(super) fn forget_lost(&mut self) {
        let Some(then) = self.now.checked_sub(SWITCH_AGE) else { return };
        let old: Vec<DatapathId> =
            self.lost.iter().filter(|(_, since)| **since <= then).map(|(dpid, _)| *dpid).collect();
        for dpid in old {
            self.lost.remove(&dpid);
            for (key, at, _) in self.flows.at(dpid) {
                self.flows.remove(&key, at);
            }
            let places: Vec<Place> = self.hosts.ports_of(dpid).map(|(place, _)| place).collect();
            for place in places {
                for station in self.hosts.forget_place(place) {
                    self.refresh_ahead(station);
                }
            }
            self.ahead.forget_switch(dpid);
            self.steering.forget_switch(dpid);
            self.balance_forget_switch(dpid);
            let change = self.topology.remove_switch(dpid);
            self.topology_changed(&change);
        }
    }

    /// How long a message to or from a switch takes.
    pub fn control_latency(&mut self, dpid: DatapathId, one_way: Duration) {
        if let Some(member) = self.members.get_mut(&dpid) {
            member.control = one_way;
        }
    }

    /// A port came, changed, or went (`None`).
    pub fn port_changed(&mut self, dpid: DatapathId, number: PortNo, port: Option<&Port>, now: Duration) {
        self.now = now;
        let place = Place::new(dpid, number);
        let Some(member) = self.members.get_mut(&dpid) else { return };
        let port = port.map(MemberPort::from);
        match &port {
            Some(port) => member.ports.insert(number, port.clone()),
            None => member.ports.remove(&number),
        };
        match port.filter(|port| port.up) {
            Some(port) => {
                self.probe_port(place, &port);
                self.balance_port(place, true);
            }
            None => self.port_lost(place),
        }
        self.after_discovery();
    }

    fn probe_port(&mut self, place: Place, port: &MemberPort) {
        if let Some(discovery) = &mut self.discovery
            && port.up
            && !place.port.is_reserved()
        {
            discovery.port_up(place, port.mac, self.now);
        }
    }

    /// A port is dead: its links, its hosts, and what used it.
    fn port_lost(&mut self, place: Place) {
        self.hint = self.hint.filter(|hint| *hint != place);
        if let Some(discovery) = &mut self.discovery {
            discovery.port_down(place);
        }
        let stations = self.hosts.forget_place(place);
        self.steering.mark();
        self.balance_port(place, false);
        self.after_discovery();
        let flows = self.flows.using(place);
        let text = (!stations.is_empty() || !flows.is_empty()).then(|| {
            format!("port {place}: {} hosts forgotten, {} flows moved or ended", stations.len(), flows.len())
        });
        for key in flows {
            self.reroute(&key);
        }
        for station in stations {
            self.refresh_ahead(station);
        }
        if let Some(text) = text {
            self.log(Level::Info, text);
        }
    }

    /// Sends what discovery wants sent, and takes over what it found.
    pub(super) fn after_discovery(&mut self) {
        let Some(discovery) = &mut self.discovery else { return };
        for emission in discovery.take_emissions() {
            self.out.push(Out::PacketOut {
                dpid: emission.out.dpid,
                packet: PacketOut {
                    buffer_id: BufferId::NO_BUFFER,
                    in_port: PortNo::CONTROLLER,
                    actions: vec![Action::output(emission.out.port)],
                    data: emission.frame,
                },
            });
        }
        let findings = discovery.take_findings();
        if findings.is_empty() {
            return;
        }
        let mut change = Change::default();
        for finding in findings {
            change.extend(self.found(finding));
        }
        self.topology_changed(&change);
    }

    fn found(&mut self, finding: Finding) -> Change {
        match finding {
            Finding::Up { from, to } => {
                let heard = self.discovery.as_ref().and_then(|discovery| discovery.link(from, to)).copied();
                let Some(heard) = heard else { return Change::default() };
                let kind = self.kind_of(from, to, &heard);
                let cost = self.cost_of(from, kind, &heard);
                self.log(Level::Info, format!("link {from} -> {to} is up: {}", kind.word()));
                self.topology.set_link(from, to, kind, cost)
            }
            Finding::Silent { from, to } => {
                self.log(Level::Info, format!("link {from} -> {to} is gone: nothing was heard over it"));
                self.topology.remove_link(from, to)
            }
            Finding::Gone { from, to } => {
                self.log(Level::Info, format!("link {from} -> {to} is gone"));
                self.topology.remove_link(from, to)
            }
        }
    }

    fn kind_of(&self, from: Place, to: Place, heard: &Heard) -> LinkKind {
        let tunnel = |place: Place| {
            let port = self.members.get(&place.dpid).and_then(|member| member.ports.get(&place.port));
            port.is_some_and(|port| TUNNELS.iter().any(|name| port.name.starts_with(name)))
        };
        match heard.is_direct() {
            _ if tunnel(from) || tunnel(to) => LinkKind::Tunnel,
            true => LinkKind::Direct,
            false => LinkKind::MultiHop,
        }
    }

    fn cost_of(&self, from: Place, kind: LinkKind, heard: &Heard) -> Cost {
        match self.settings.metric {
            Metric::Hops if kind == LinkKind::MultiHop => 2,
            Metric::Hops => 1,
            Metric::Latency => Cost::try_from(heard.latency.as_micros()).unwrap_or(Cost::MAX).max(1),
            Metric::Speed => TOP_SPEED_KBPS / self.speed_kbps(from),
            Metric::Utilisation => self.load_cost(from),
        }
    }

    /// The speed of a port in kbit/s: from 1 to 100 Gbit/s.
    pub(super) fn speed_kbps(&self, place: Place) -> u32 {
        let port = self.members.get(&place.dpid).and_then(|member| member.ports.get(&place.port));
        let told = self.settings.port_speed_kbps.unwrap_or_else(|| port.map_or(0, |port| port.speed_kbps));
        if told == 0 { UNKNOWN_SPEED_KBPS } else { told.min(TOP_SPEED_KBPS) }
    }

    /// Where costs are measured they follow once they are others: of latency by a quarter.
    pub(super) fn follow_costs(&mut self) {
        let metric = self.settings.metric;
        if !metric.is_measured() {
            return;
        }
        let Some(discovery) = &self.discovery else { return };
        let mut news = Vec::new();
        for (from, to, kind, cost) in self.topology.links() {
            if let Some(heard) = discovery.link(from, to) {
                let now = self.cost_of(from, kind, heard);
                let is_other = match metric {
                    Metric::Utilisation => Self::is_other_load(now, cost),
                    _ => now.abs_diff(cost) > (cost / 4).max(100),
                };
                if is_other {
                    news.push((from, to, kind, now));
                }
            }
        }
        let mut change = Change::default();
        for (from, to, kind, cost) in news {
            change.extend(self.topology.set_link(from, to, kind, cost));
        }
        self.topology_changed(&change);
    }

    /// Moves what a change of the topology touches, and nothing else.
    pub(super) fn topology_changed(&mut self, change: &Change) {
        if change.is_none() {
            return;
        }
        self.steering.mark();
        // No host is behind a port that has a link now, but across foreign switches.
        for (from, _) in &change.gained {
            if !self.topology.is_segment(*from) {
                for station in self.hosts.forget_place(*from) {
                    self.refresh_ahead(station);
                }
            }
        }
        if !change.gained.is_empty() {
            let topology = &self.topology;
            for station in self.hosts.merge_islands(&|dpid| topology.cluster(dpid)) {
                self.refresh_ahead(station);
            }
        }
        for (from, _) in &change.lost {
            for key in self.flows.using(*from) {
                self.reroute(&key);
            }
        }
        if change.tree && !self.settings.routed {
            let members: Vec<_> = self.members.keys().copied().collect();
            self.out.extend(members.into_iter().map(|dpid| Out::Flush { dpid }));
        }
        self.refresh_ahead_after(change);
    }

    /// What a port is to the network.
    #[must_use]
    pub fn role(&self, place: Place) -> PortRole {
        self.topology.role(place)
    }

    /// Whether a flooded frame may leave by a port, or come from it.
    #[must_use]
    pub fn may_flood(&self, place: Place) -> bool {
        match self.role(place) {
            PortRole::Tree => true,
            PortRole::Edge => self.is_settled(place),
            PortRole::Blocked | PortRole::OneWay | PortRole::Loop => false,
        }
    }

    /// Whether a port has been up for long enough that a link behind it would be known.
    #[must_use]
    pub fn is_settled(&self, place: Place) -> bool {
        self.discovery.as_ref().is_none_or(|discovery| discovery.is_settled(place, self.now))
    }

    /// Whether any port of a switch has a link, or may still turn out to have one.
    #[must_use]
    pub fn has_links(&self, dpid: DatapathId) -> bool {
        let settled =
            self.discovery.as_ref().is_none_or(|discovery| discovery.is_all_settled(dpid, self.now));
        !settled || self.topology.has_links(dpid)
    }

    /// Whether this controller gave a flow its way, and did not only find it.
    fn is_routed_here(&self, key: &FlowKey) -> bool {
        self.flows.hops(key).is_some_and(|hops| hops.values().any(|hop| !hop.found))
    }

    /// Compares what a switch listed with what should be there: what is missing is sent, what is wrong is deleted,
    /// what nobody here knows of is taken over.
    fn reconcile_routes(&mut self, dpid: DatapathId, found: Vec<FoundRoute>) {
        let expected: Vec<_> = self.flows.at(dpid);
        self.ahead.forget_switch(dpid);
        self.steering.forget_switch(dpid);
        self.loads.forget_switch(dpid);
        let mut kept = 0;
        let legs = self.reconcile_legs(dpid, &found);
        for route in found {
            let at = Place::new(dpid, route.in_port);
            let key = match route.key {
                FoundKey::Leg { .. } => continue,
                FoundKey::Flow(key) => key,
                FoundKey::Answers(key) => {
                    self.steering.adopt(at, key, route.out, route.sequence, self.now);
                    kept += 1;
                    continue;
                }
            };
            let hop = Hop { out: route.out, sequence: route.sequence, since: self.now, found: true };
            let stays = match (route.purpose, self.flows.hop(&key, at)) {
                (Purpose::Ahead, _) => self.adopt_ahead(key.destination(), dpid, route.out),
                _ if self.hides_answers(&key) => false,
                (_, Some(known)) => known.out == route.out && self.flows.adopt(key, at, hop),
                // Its flow takes another way now.
                (_, None) if self.is_routed_here(&key) => false,
                (_, None) => self.flows.adopt(key, at, hop),
            };
            if stays {
                kept += 1;
            } else {
                self.out.push(Out::FlowMod { dpid, flow_mod: Box::new(route.delete) });
            }
        }
        let mut sent = 0;
        for (key, at, hop) in expected {
            // One that was found was taken over just now, and has the number that the switch told.
            let missing = self.flows.hop(&key, at).is_some_and(|now| *now == hop);
            if missing {
                self.install_hop(key, at, hop.out);
                sent += 1;
            }
        }
        if kept + sent + legs > 0 {
            let balanced =
                if legs > 0 { format!(", {legs} of balanced connections kept") } else { String::new() };
            let text = format!("switch {dpid}: {kept} entries of routes kept, {sent} put back{balanced}");
            self.log(Level::Info, text);
        }
    }
}
