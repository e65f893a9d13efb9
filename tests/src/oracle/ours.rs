//! Which VIP an address and a port belong to.

use super::Oracle;
use crate::frame::{Ip, octets};
use crate::scenario::{Mode, Vip};

impl Oracle {
    /// The VIP that an address as such belongs to: the first of the address, whose lent address it is, or the first
    /// of the longest prefix.
    pub(super) fn owner(&self, address: Ip) -> Option<&Vip> {
        let vips = &self.scenario.vips;
        let own = |v: &&Vip| v.prefix.is_none() && v.address == address;
        let lends = |v: &&Vip| v.mode == Mode::FullNat && v.source == Some(address);
        vips.iter()
            .find(own)
            .or_else(|| vips.iter().find(lends))
            .or_else(|| self.prefixed(address).first().copied())
    }

    /// The VIPs of the longest prefix that holds an address.
    fn prefixed(&self, address: Ip) -> Vec<&Vip> {
        let holds = |v: &&Vip| v.prefix.is_some_and(|length| within(address, v.address, length));
        let longest = self.scenario.vips.iter().filter(holds).filter_map(|v| v.prefix).max();
        self.scenario.vips.iter().filter(holds).filter(|v| v.prefix == longest).collect()
    }

    /// The VIP that serves a port.
    pub(super) fn serving(&self, address: Ip, protocol: u8, port: u16) -> Option<&Vip> {
        let exactly = |v: &&Vip, wanted: u16| {
            v.services.iter().any(|(p, port)| p.number() == protocol && *port == wanted)
        };
        let ranged = |v: &&Vip| {
            v.ranges.iter().any(|(p, first, last)| p.number() == protocol && (*first..=*last).contains(&port))
        };
        let own: Vec<&Vip> =
            self.scenario.vips.iter().filter(|v| v.prefix.is_none() && v.address == address).collect();
        let find = |serves: &dyn Fn(&&Vip) -> bool| own.iter().copied().find(|v| serves(v));
        let own = find(&|v| exactly(v, port)).or_else(|| find(&ranged)).or_else(|| find(&|v| exactly(v, 0)));
        let in_turn = |v: &&Vip| exactly(v, port) || ranged(v) || exactly(v, 0);
        own.or_else(|| self.prefixed(address).into_iter().find(in_turn))
    }
}

/// Whether the first bits of two addresses are the same.
pub(super) fn within(address: Ip, prefix: Ip, length: u8) -> bool {
    let bits = |ip: Ip| -> Vec<bool> {
        octets(ip).iter().flat_map(|byte| (0..8).rev().map(move |n| byte >> n & 1 == 1)).collect()
    };
    address.is_ipv4() == prefix.is_ipv4() && bits(address)[..length.into()] == bits(prefix)[..length.into()]
}
