//! What switches say of the entries of connections: that they are gone, that they are refused, and which there are.

use std::time::Duration;

use openflow::{DatapathId, FlowRemoved, FlowRemovedReason};

use crate::core::balance::{Leg, LegKey};
use crate::core::cookie::Sequence;
use crate::core::net::handover::StandBy;
use crate::core::net::members::FoundKey;
use crate::core::net::{FoundRoute, Network, Out};
use crate::core::topo::Place;

/// How long no entry is installed on a switch that refused one.
const AFTER_REFUSAL: Duration = Duration::from_secs(1);
/// How long entries of an earlier life stay without a reason: until their backends are known again.
const FOUND_STAYS: Duration = Duration::from_secs(15);

impl Network {
    /// A switch removed an entry of a connection.
    pub fn leg_removed(
        &mut self,
        dpid: DatapathId,
        removed: &FlowRemoved,
        sequence: Sequence,
        now: Duration,
    ) {
        let Some(balancer) = &mut self.balancer else { return };
        let Some((_, leg)) = balancer.pins.take_numbered(dpid, sequence) else {
            let same =
                |route: &FoundRoute| route.sequence == sequence && route.delete.match_ == removed.match_;
            self.balancing.orphans.retain(|key, (route, _)| key.at.dpid != dpid || !same(route));
            return;
        };
        let idle = removed.reason == FlowRemovedReason::IdleTimeout;
        // What a FIN has shortened is told by the timeout that was in force.
        if idle && leg.watches && removed.idle_timeout < leg.idle_s {
            balancer.side_ended(&leg.conn, leg.side);
        } else if idle && !balancer.pins.is_busy(&leg.conn) {
            balancer.was_idle(&leg.conn, Duration::from_secs(leg.idle_s.into()), now);
        }
    }

    /// A switch refused an entry of a connection.
    pub fn leg_refused(&mut self, dpid: DatapathId, sequence: Sequence, now: Duration) {
        self.balancing.refusing.insert(dpid, now + AFTER_REFUSAL);
        if let Some(balancer) = &mut self.balancer {
            balancer.pins.take_numbered(dpid, sequence);
        }
    }

    /// Compares the entries of connections that a switch listed with those that it should have: what is known and was not
    /// listed is forgotten, what is listed and not known waits for its backend to be known. How many stay.
    pub(in crate::core::net) fn reconcile_legs(&mut self, dpid: DatapathId, found: &[FoundRoute]) -> usize {
        let now = self.now;
        self.balancing.orphans.retain(|key, _| key.at.dpid != dpid);
        let stands_by = matches!(self.settings.stand_by, StandBy::Ready { .. });
        let Some(balancer) = &mut self.balancer else {
            if stands_by {
                // Whose they were balances by flow entries still, or there is an end to them soon.
                let legs = found.iter().filter_map(|route| match route.key {
                    FoundKey::Leg { came, .. } => {
                        Some((LegKey { at: Place::new(dpid, route.in_port), came }, (route.clone(), now)))
                    }
                    _ => None,
                });
                let before = self.balancing.orphans.len();
                self.balancing.orphans.extend(legs);
                return self.balancing.orphans.len() - before;
            }
            let legs = found.iter().filter(|route| matches!(route.key, FoundKey::Leg { .. }));
            let delete = |route: &FoundRoute| Out::FlowMod { dpid, flow_mod: Box::new(route.delete.clone()) };
            self.out.extend(legs.map(delete));
            return 0;
        };
        let mut missing = balancer.pins.at(dpid);
        let mut kept = 0;
        for route in found {
            let FoundKey::Leg { came, left, .. } = route.key else { continue };
            let key = LegKey { at: Place::new(dpid, route.in_port), came };
            missing.remove(&key);
            match balancer.pins.get(&key).copied() {
                Some(leg) if leg.left == left && leg.out == route.out => {
                    balancer.pins.insert(key, Leg { sequence: route.sequence, ..leg });
                }
                Some(_) => {
                    balancer.pins.remove(&key);
                    self.out.push(Out::FlowMod { dpid, flow_mod: Box::new(route.delete.clone()) });
                    continue;
                }
                None => drop(self.balancing.orphans.insert(key, (route.clone(), now))),
            }
            kept += 1;
        }
        for key in missing {
            balancer.pins.remove(&key);
        }
        self.adopt_orphans();
        kept
    }

    /// Takes over the entries that tell of a connection which may be.
    pub(in crate::core::net) fn adopt_orphans(&mut self) {
        let now = self.now;
        let Some(balancer) = &mut self.balancer else { return };
        self.balancing.orphans.retain(|key, (route, _)| {
            let FoundKey::Leg { came, left, watches } = route.key else { return false };
            let side = balancer.side_of(&came);
            let Some(connection) = balancer.found(side, &came, &left) else { return true };
            if !balancer.adopt(&connection, now) {
                return true;
            }
            let leg = Leg {
                conn: connection.key,
                side,
                left,
                out: route.out,
                idle_s: route.idle_s,
                watches,
                rest: None,
                sequence: route.sequence,
                since: now,
            };
            balancer.pins.insert(*key, leg);
            false
        });
    }

    /// Deletes found entries of which nobody knew a connection for too long.
    pub(super) fn end_orphans(&mut self) {
        self.end_orphans_after(FOUND_STAYS);
    }

    /// Deletes all found entries of which nobody knew a connection.
    pub(in crate::core::net) fn drop_orphans(&mut self) {
        self.end_orphans_after(Duration::ZERO);
    }

    fn end_orphans_after(&mut self, stay: Duration) {
        let now = self.now;
        let is_over = |since: Duration| now.saturating_sub(since) >= stay;
        let over = self.balancing.orphans.extract_if(.., |_, (_, since)| is_over(*since));
        for (key, (route, _)) in over {
            if self.members.contains_key(&key.at.dpid) {
                let flow_mod = Box::new(route.delete);
                self.out.push(Out::FlowMod { dpid: key.at.dpid, flow_mod });
            }
        }
    }
}
