//! The messages of the seed balancers: entries with a rewrite, and packets sent on with the same rewrite.

use openflow::{
    Action, BufferId, DatapathId, FlowMod, FlowModFlags, Match, MatchField, PacketInRef, PacketOut, PortNo,
    Version,
};

use super::segment::{Segment, TCP, Tuple};
use crate::core::cookie::{Purpose, Sequence};
use crate::core::event::Level;
use crate::core::frame::Frame;
use crate::core::ip::ETHERTYPE_IPV4;
use crate::core::net::Out;
use crate::core::pipeline::{Layout, Timeouts};

/// A switch that is ready: how to talk to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its datapath id.
    pub dpid: DatapathId,
    /// Its tables.
    pub layout: Layout,
    /// The version that it speaks.
    pub version: Version,
}

/// All fields of the 1.0 match, exactly, for the packets like this one (1.0, 5.2.3).
#[must_use]
pub fn exactly(version: Version, in_port: PortNo, frame: &Frame, segment: &Segment) -> Match {
    let match_ = Match::new().in_port(in_port).eth_dst(frame.dst).eth_src(frame.src);
    let match_ = match frame.vlan {
        Some(vid) => match_.vlan_vid(vid).with(MatchField::VlanPcp(segment.pcp)),
        // In 1.0 an entry is exact, and goes before all others, only if no field is left out.
        None if version == Version::V1_0 => match_.no_vlan().with(MatchField::VlanPcp(0)),
        None => match_.no_vlan(),
    };
    of_tuple(match_.eth_type(ETHERTYPE_IPV4).with(MatchField::IpDscp(segment.dscp)), &segment.tuple)
}

/// The TCP packets with this tuple that come in on one port, in a VLAN, and from a MAC if one is given.
#[must_use]
pub fn of_connection(
    in_port: PortNo,
    vlan: Option<u16>,
    src: Option<openflow::MacAddr>,
    tuple: &Tuple,
) -> Match {
    let match_ = Match::new().in_port(in_port);
    let match_ = match src {
        Some(src) => match_.eth_src(src),
        None => match_,
    };
    let match_ = match vlan {
        Some(vid) => match_.vlan_vid(vid),
        None => match_.no_vlan(),
    };
    of_tuple(match_.eth_type(ETHERTYPE_IPV4), tuple)
}

fn of_tuple(match_: Match, tuple: &Tuple) -> Match {
    match_
        .ip_proto(TCP)
        .ipv4_src(tuple.src)
        .ipv4_dst(tuple.dst)
        .tcp_src(tuple.src_port)
        .tcp_dst(tuple.dst_port)
}

/// The tuple that a match of ours names.
#[must_use]
pub fn tuple_of(match_: &Match) -> Option<Tuple> {
    let (mut src, mut dst, mut src_port, mut dst_port) = (None, None, None, None);
    for field in &match_.fields {
        match *field {
            MatchField::Ipv4Src { value, mask: None } => src = Some(value),
            MatchField::Ipv4Dst { value, mask: None } => dst = Some(value),
            MatchField::TcpSrc(port) => src_port = Some(port),
            MatchField::TcpDst(port) => dst_port = Some(port),
            _ => {}
        }
    }
    Some(Tuple { src: src?, src_port: src_port?, dst: dst?, dst_port: dst_port? })
}

impl Member {
    /// Adds an entry that does `actions` with what `match_` names.
    #[must_use]
    pub fn add(
        &self,
        match_: Match,
        actions: Vec<Action>,
        sequence: Sequence,
        timeouts: Timeouts,
        flags: FlowModFlags,
    ) -> Out {
        match self.layout.add_pinned(match_, actions, sequence, timeouts, flags) {
            Ok(flow_mod) => self.flow_mod(flow_mod),
            Err(refused) => Out::Log { level: Level::Warn, text: format!("switch {}: {refused}", self.dpid) },
        }
    }

    /// Deletes what [`Self::add`] added.
    #[must_use]
    pub fn delete(&self, match_: Match) -> Out {
        self.flow_mod(self.layout.delete_route(Purpose::Pinned, match_))
    }

    /// Sends a flow-mod.
    #[must_use]
    pub fn flow_mod(&self, flow_mod: FlowMod) -> Out {
        Out::FlowMod { dpid: self.dpid, flow_mod: Box::new(flow_mod) }
    }

    /// Sends a frame that the controller made.
    #[must_use]
    pub fn make(&self, in_port: PortNo, to: PortNo, data: Vec<u8>) -> Out {
        let actions = vec![Action::output(to)];
        Out::PacketOut {
            dpid: self.dpid,
            packet: PacketOut { buffer_id: BufferId::NO_BUFFER, in_port, actions, data },
        }
    }

    /// Does `actions` with a packet that came: whole with the message wherever it came whole, from the switch's memory
    /// only where it did not. What the switch keeps is freed either way; without actions nothing else happens.
    #[must_use]
    pub fn send_on(&self, packet: &PacketInRef<'_>, actions: Vec<Action>) -> Vec<Out> {
        let send = |buffer_id, actions, data| Out::PacketOut {
            dpid: self.dpid,
            packet: PacketOut { buffer_id, in_port: packet.in_port, actions, data },
        };
        let kept = packet.buffer_id != BufferId::NO_BUFFER;
        let whole = packet.data.len() >= usize::from(packet.total_len);
        if kept && !whole {
            return vec![send(packet.buffer_id, actions, Vec::new())];
        }
        let freed = kept.then(|| send(packet.buffer_id, Vec::new(), Vec::new()));
        let sent =
            (whole && !actions.is_empty()).then(|| send(BufferId::NO_BUFFER, actions, packet.data.to_vec()));
        freed.into_iter().chain(sent).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use openflow::MacAddr;

    use super::*;

    #[test]
    fn tuples_read_back() {
        let [src, dst] = [[10, 0, 0, 3], [10, 0, 1, 1]].map(Ipv4Addr::from);
        let tuple = Tuple { src, src_port: 40000, dst, dst_port: 80 };
        for vlan in [None, Some(5)] {
            let match_ = of_connection(PortNo(3), vlan, Some(MacAddr([2, 0, 0, 0, 0, 3])), &tuple);
            assert_eq!(tuple_of(&match_), Some(tuple));
        }
        assert_eq!(tuple_of(&Match::new().ipv4_src(src)), None);
    }
}
