//! The ways to hosts, installed ahead of their traffic: on every switch of its cluster, the port that leads to a host.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openflow::{DatapathId, PortNo};

use super::{FlowKey, Network, Out};
use crate::core::cookie::{Purpose, Sequence};
use crate::core::event::Level;
use crate::core::learn::Station;
use crate::core::pipeline::Timeouts;
use crate::core::topo::{Change, Place};

/// Which port leads to which host, as the switches have it.
#[derive(Clone, Debug, Default)]
pub struct Ahead {
    ways: BTreeMap<Station, BTreeMap<DatapathId, PortNo>>,
    /// Hosts that are known from entries alone, and since when.
    orphans: BTreeMap<Station, Duration>,
    last: Sequence,
}

/// These entries stay until they are deleted.
const NEVER: Timeouts = Timeouts { idle_s: 0, hard_s: 0 };

impl Ahead {
    /// Takes over an entry that a switch listed.
    fn adopt(&mut self, station: Station, dpid: DatapathId, out: PortNo, now: Duration) {
        self.ways.entry(station).or_default().insert(dpid, out);
        self.orphans.entry(station).or_insert(now);
    }

    /// Forgets what a switch had: it lists it anew.
    pub(super) fn forget_switch(&mut self, dpid: DatapathId) {
        for ports in self.ways.values_mut() {
            ports.remove(&dpid);
        }
    }

    /// All ways: host, switch, port.
    pub fn iter(&self) -> impl Iterator<Item = (Station, DatapathId, PortNo)> {
        let ways = self.ways.iter();
        ways.flat_map(|(station, ports)| ports.iter().map(|(dpid, port)| (*station, *dpid, *port)))
    }
}

impl Network {
    /// Brings the ways to a host up to date, switch by switch, where they changed.
    pub(super) fn refresh_ahead(&mut self, station: Station) {
        if !self.settings.proactive {
            return;
        }
        let mut wanted: BTreeMap<DatapathId, PortNo> = BTreeMap::new();
        let members: Vec<DatapathId> = self.members.keys().copied().collect();
        for dpid in &members {
            let Some(place) = self.seat(station, *dpid) else { continue };
            let port = if place.dpid == *dpid {
                Some(place.port)
            } else {
                self.topology.next_hop(*dpid, place.dpid)
            };
            wanted.extend(port.map(|port| (*dpid, port)));
        }
        let had = self.ahead.ways.remove(&station).unwrap_or_default();
        let mut has = had.clone();
        for dpid in members {
            match (had.get(&dpid), wanted.get(&dpid)) {
                (had, Some(port)) if had != Some(port) => {
                    self.send_ahead(station, dpid, Some(*port));
                    has.insert(dpid, *port);
                }
                (Some(_), None) => {
                    self.send_ahead(station, dpid, None);
                    has.remove(&dpid);
                }
                _ => {}
            }
        }
        if !has.is_empty() {
            self.ahead.ways.insert(station, has);
        }
    }

    /// Takes over an entry that a switch listed; whether it may stay.
    pub(super) fn adopt_ahead(&mut self, station: Station, dpid: DatapathId, out: PortNo) -> bool {
        if self.settings.proactive {
            self.ahead.adopt(station, dpid, out, self.now);
        }
        self.settings.proactive
    }

    /// Somebody deleted an entry: it is put back, if it should be there.
    pub fn ahead_removed(&mut self, dpid: DatapathId, match_: &openflow::Match) {
        let Some((key, _)) = FlowKey::of_match(match_) else { return };
        let station = key.destination();
        if let Some(ports) = self.ahead.ways.get_mut(&station) {
            ports.remove(&dpid);
        }
        self.refresh_ahead(station);
    }

    /// Ends the ways to hosts that were never heard since their entries were found.
    pub(super) fn age_ahead(&mut self, then: Duration) {
        let old: Vec<Station> = self
            .ahead
            .orphans
            .iter()
            .filter(|(_, since)| **since <= then)
            .map(|(station, _)| *station)
            .collect();
        for station in old {
            self.ahead.orphans.remove(&station);
            if self.hosts.get(station).is_none() {
                self.refresh_ahead(station);
            }
        }
    }

    fn send_ahead(&mut self, station: Station, dpid: DatapathId, port: Option<PortNo>) {
        let Some(member) = self.members.get(&dpid) else { return };
        let match_ = FlowKey::towards(station).to_match(PortNo::ANY);
        self.ahead.last = self.ahead.last.next();
        let flow_mod = match port {
            Some(port) => member.layout.add_route(Purpose::Ahead, match_, port, self.ahead.last, NEVER),
            None => Ok(member.layout.delete_route(Purpose::Ahead, match_)),
        };
        match flow_mod {
            Ok(flow_mod) => self.out.push(Out::FlowMod { dpid, flow_mod: Box::new(flow_mod) }),
            Err(refused) => self.log(Level::Warn, format!("switch {dpid}: {refused}")),
        }
    }

    /// Brings the ways up to date to the hosts that a change of the topology concerns.
    pub(super) fn refresh_ahead_after(&mut self, change: &Change) {
        if !self.settings.proactive {
            return;
        }
        let mut stations: BTreeSet<Station> = BTreeSet::new();
        let grown = !change.gained.is_empty();
        // Where another way is as short, no distance changes when a link goes, but the way does.
        let is_cut = |station: &Station| {
            self.ahead.ways.get(station).is_some_and(|ports| {
                change.lost.iter().any(|(from, _)| ports.get(&from.dpid) == Some(&from.port))
            })
        };
        for (station, host) in self.hosts.iter() {
            let concerned = |place: &Place| {
                change.touched.contains(&place.dpid) || grown || !self.topology.has_tree(place.dpid)
            };
            if is_cut(&station) || host.points.iter().any(|point| concerned(&point.place)) {
                stations.insert(station);
            }
        }
        for station in stations {
            self.refresh_ahead(station);
        }
    }

    /// A switch has become ready: sends what leads from it to known hosts.
    pub(super) fn refresh_all_ahead(&mut self) {
        let known: BTreeSet<Station> = self.hosts.iter().map(|(station, _)| station).collect();
        for station in known {
            self.refresh_ahead(station);
        }
    }
}
