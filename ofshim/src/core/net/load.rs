//! How much goes over the links: the ports' counters, read once a period, as a smoothed rate.

use std::collections::BTreeMap;
use std::time::Duration;

use openflow::{DatapathId, PortStats};

use super::{Network, Out};
use crate::core::topo::{Cost, Place};

/// Readings that are nearer to each other tell no rate.
const NEAREST: Duration = Duration::from_millis(100);
/// What a link without load costs by this metric, and what a full one costs more: as much as nine links.
const IDLE_COST: Cost = 100;
const FULL_COST: u64 = 900;
/// Costs follow once they are another by so much: a twentieth of a link.
const STEP: Cost = 45;

/// The load of one port.
#[derive(Clone, Copy, Debug)]
struct Load {
    sent_bytes: u64,
    at: Duration,
    rate_bps: u64,
    /// Whether there was a rate yet.
    known: bool,
}

/// The loads of all ports, as far as they were read.
#[derive(Clone, Debug, Default)]
pub struct Loads {
    ports: BTreeMap<Place, Load>,
    asked: Option<Duration>,
}

impl Loads {
    /// Takes a reading: of the rate, a half is what was before.
    fn read(&mut self, place: Place, sent_bytes: u64, now: Duration) {
        let fresh = Load { sent_bytes, at: now, rate_bps: 0, known: false };
        let load = self.ports.entry(place).or_insert(fresh);
        let passed = now.saturating_sub(load.at);
        if sent_bytes < load.sent_bytes {
            // The port came anew, and counts from zero.
            *load = Load { rate_bps: load.rate_bps, known: load.known, ..fresh };
            return;
        }
        if passed < NEAREST {
            return;
        }
        let bits = u128::from(sent_bytes - load.sent_bytes) * 8;
        let rate = u64::try_from(bits * 1_000_000 / passed.as_micros().max(1)).unwrap_or(u64::MAX);
        let rate_bps = if load.known { load.rate_bps / 2 + rate / 2 } else { rate };
        *load = Load { sent_bytes, at: now, rate_bps, known: true };
    }

    /// Bits that a port sends in a second, smoothed; `None` before its second reading.
    #[must_use]
    pub fn rate_bps(&self, place: Place) -> Option<u64> {
        self.ports.get(&place).filter(|load| load.known).map(|load| load.rate_bps)
    }

    /// Forgets a switch.
    pub(super) fn forget_switch(&mut self, dpid: DatapathId) {
        self.ports.retain(|place, _| place.dpid != dpid);
    }
}

impl Network {
    /// Asks all switches for their ports' counters, once a period.
    pub(super) fn ask_loads(&mut self) {
        let Some(period) = self.settings.port_statistics else { return };
        if self.loads.asked.is_some_and(|asked| self.now.saturating_sub(asked) < period) {
            return;
        }
        self.loads.asked = Some(self.now);
        self.out.extend(self.members.keys().map(|dpid| Out::PortStats { dpid: *dpid }));
    }

    /// A switch told its ports' counters.
    pub fn port_stats(&mut self, dpid: DatapathId, ports: &[PortStats], now: Duration) {
        self.now = now;
        let Some(member) = self.members.get(&dpid) else { return };
        for stats in ports.iter().filter(|stats| member.ports.contains_key(&stats.port_no)) {
            self.loads.read(Place::new(dpid, stats.port_no), stats.tx_bytes, now);
        }
        self.follow_costs();
    }

    /// How much of a link's speed is used, in thousandths, at most 1000; `None` if that is not read.
    #[must_use]
    pub fn utilisation_permille(&self, from: Place) -> Option<u64> {
        let rate_kbps = self.loads.rate_bps(from)? / 1000;
        Some((rate_kbps * 1000 / u64::from(self.speed_kbps(from)).max(1)).min(1000))
    }

    /// Bits that go over a link in a second; `None` if that is not read.
    #[must_use]
    pub fn load_bps(&self, from: Place) -> Option<u64> {
        self.loads.rate_bps(from)
    }

    /// What a link costs by its utilisation.
    pub(super) fn load_cost(&self, from: Place) -> Cost {
        let permille = self.utilisation_permille(from).unwrap_or(0);
        IDLE_COST + Cost::try_from(FULL_COST * permille / 1000).unwrap_or(0)
    }

    /// Whether a cost by utilisation is another one, and not the same with a little more or less.
    pub(super) const fn is_other_load(now: Cost, before: Cost) -> bool {
        now.abs_diff(before) >= STEP || (now == IDLE_COST && before != IDLE_COST)
    }
}

#[cfg(test)]
mod tests {
    use openflow::PortNo;

    use super::*;

    #[test]
    fn rates_are_smoothed_and_counters_that_begin_anew_are_no_load() {
        let mut loads = Loads::default();
        let place = Place::new(DatapathId(1), PortNo(1));
        let mut read = |bytes, at| {
            loads.read(place, bytes, Duration::from_secs(at));
            loads.rate_bps(place)
        };
        assert_eq!(read(5_000, 1), None);
        assert_eq!(read(6_000, 2), Some(8_000));
        assert_eq!(read(6_000, 3), Some(4_000));
        assert_eq!(read(6_000, 3), Some(4_000), "at the same time");
        assert_eq!(read(10, 4), Some(4_000), "counted anew");
        assert_eq!(read(510, 5), Some(4_000));
        assert_eq!(read(u64::MAX, 6), Some(2_000 + u64::MAX / 2), "as much as there can be");
    }
}
