//! What happens to a packet.
//!
//! The common path is one program, for plain packets: untagged, without options or extension headers, whole. The places of
//! their headers are constants in it. What is rare, long, or both is a [`Stage`] of its own, which the XDP program calls by
//! a tail call and the host in a loop:
//!
//! ```text
//!  process --+--> forwarded, passed, dropped
//!            |
//!            +--> Open      a client's packet without an established entry
//!            +--> Lend      likewise, to a VIP with full NAT
//!            +--> Reply     a backend's packet without an established entry
//!            +--> Deep      what is not plain: VLAN tags, options, fragments, extension headers
//!            +--> Control   ICMP, neighbour discovery, ARP in a VIP's name
//!                   |
//!                   +--> Answer    resets and ICMP errors of the balancer itself (from Open and Deep, and tunnels)
//! ```

mod answer;
mod control;
mod flow;
mod fragment;
pub mod lend;
mod neighbour;
mod open;

use self::flow::part;
pub use self::flow::stays;
use crate::classify::{
    self, FrameKind, ICMP, ICMPV6, Ip, PLAIN_V4, PLAIN_V6, PlainKind, Transport, TransportKind,
};
use crate::packet::Packet;
use crate::reason::Reason;
use crate::rewrite::{
    Change, Direction, Egress, FlowNote, Rewrite, Way, apply, apply_in_place, outer_header,
};
use crate::table::{
    Address, BITMAP_BITS, Leftover, PortList, ServiceKey, Settings, Tables, TrafficCounter, VipRecord,
    answer as question, settings_flag,
};

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is rewritten and sent on: see [`Decision::rewrite`].
    Forward,
    /// It goes on untouched.
    Pass,
    /// It ends here.
    Drop,
    /// Another stage goes on with it; nothing was changed.
    Next(Stage),
}

/// What becomes of a packet, and why. Flat for the reason given at [`Rewrite`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// What is changed; of forwarded packets only.
    pub rewrite: Rewrite,
}

impl Decision {
    #[inline(always)]
    fn forward(rewrite: Rewrite) -> Self {
        Self { verdict: Verdict::Forward, reason: rewrite.reason, rewrite }
    }

    #[inline(always)]
    fn pass(reason: Reason) -> Self {
        Self { verdict: Verdict::Pass, reason, rewrite: Rewrite::NONE }
    }

    /// Dropped, which is counted here.
    #[inline(always)]
    fn drop<T: Tables>(tables: &T, reason: Reason, vip: u16) -> Self {
        tables.count_vip(vip, |c| c.dropped += 1);
        Self { verdict: Verdict::Drop, reason, rewrite: Rewrite::NONE }
    }

    #[inline(always)]
    fn next(stage: Stage) -> Self {
        let reason = Reason::StageMissing;
        Self { verdict: Verdict::Next(stage), reason, rewrite: Rewrite::NONE }
    }
}

/// A part of the decision that is a program of its own.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// A packet of a client without an established entry.
    Open = 1,
    /// What is not plain: VLAN tags, options, fragments, extension headers.
    Deep = 2,
    /// ICMP, neighbour discovery, ARP in a VIP's name.
    Control = 3,
    /// Resets and ICMP errors of the balancer itself.
    Answer = 4,
    /// A packet of a backend without an established entry.
    Reply = 5,
    /// A packet of a client to a VIP with full NAT without an established entry.
    Lend = 6,
}

impl Stage {
    /// All stages.
    pub const ALL: [Self; 6] = [Self::Open, Self::Deep, Self::Control, Self::Answer, Self::Reply, Self::Lend];

    /// The name of the program that is this stage.
    pub const fn program(self) -> &'static str {
        match self {
            Self::Open => "lb_open",
            Self::Deep => "lb_deep",
            Self::Control => "lb_control",
            Self::Answer => "lb_answer",
            Self::Reply => "lb_reply",
            Self::Lend => "lb_lend",
        }
    }
}

/// Slots of the array of stage programs.
pub const STAGE_SLOTS: u32 = 8;

/// What a stage did, for the hook to carry out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The packet is rewritten and goes this way.
    Forward(Egress),
    /// The packet is untouched and goes on.
    Pass,
    /// The packet ends.
    Drop,
    /// Another stage goes on; the reason is to be counted where it is missing.
    Next(Stage),
}

/// How a packet ended in a stage that changes it by itself. Flat for the reason given at [`Rewrite`].
#[derive(Clone, Copy)]
struct End {
    verdict: Verdict,
    way: Way,
    reason: Reason,
}

impl End {
    const fn forward(way: Way, reason: Reason) -> Self {
        Self { verdict: Verdict::Forward, way, reason }
    }

    const fn pass(reason: Reason) -> Self {
        Self { verdict: Verdict::Pass, way: Way::SWITCH, reason }
    }

    const fn drop(reason: Reason) -> Self {
        Self { verdict: Verdict::Drop, way: Way::SWITCH, reason }
    }

    const fn next(stage: Stage) -> Self {
        Self { verdict: Verdict::Next(stage), way: Way::SWITCH, reason: Reason::StageMissing }
    }

    /// Counts it, and says it in the words of the hook.
    #[inline(always)]
    fn count<T: Tables>(self, tables: &T) -> (Outcome, Reason) {
        if let Verdict::Next(stage) = self.verdict {
            return (Outcome::Next(stage), self.reason);
        }
        tables.count_reason(self.reason);
        let outcome = match self.verdict {
            Verdict::Forward => Outcome::Forward(self.way.egress()),
            Verdict::Pass => Outcome::Pass,
            _ => Outcome::Drop,
        };
        (outcome, self.reason)
    }
}

/// Bytes in front of a packet that hold all headers looked at: Ethernet, two VLAN tags, IPv4 with options,
/// TCP; or IPv6, extension headers, ICMPv6 with the packet in it.
const HEADERS: u32 = 256;

/// Decides, rewrites, counts: all that happens to most packets but their actual sending.
#[inline(always)]
pub fn process<P: Packet, T: Tables>(packet: &mut P, tables: &T) -> (Outcome, Reason) {
    tables.count_received();
    packet.make_readable(HEADERS);
    // Each kind apart, and to its end: their headers have fixed places then.
    let kind = classify::plain_kind(packet);
    'v4: {
        if !matches!(kind, PlainKind::Ipv4) {
            break 'v4;
        }
        let Some(mut head) = packet.head::<PLAIN_V4>() else { break 'v4 };
        let (ip, ports) = classify::plain_v4(&head);
        if !ip.is_there {
            break 'v4;
        }
        let decision = flow::decide::<_, T, { part::COMMON }>(&head, tables, &ip, ports);
        if !is_tunnelled(&decision) {
            return finish_plain(&mut head, tables, &ip, &ports, &decision);
        }
        drop(head);
        return finish(packet, tables, decision);
    }
    'v6: {
        if !matches!(kind, PlainKind::Ipv6) {
            break 'v6;
        }
        let Some(mut head) = packet.head::<PLAIN_V6>() else { break 'v6 };
        let (ip, ports) = classify::plain_v6(&head);
        if !ip.is_there {
            break 'v6;
        }
        let decision = flow::decide::<_, T, { part::COMMON }>(&head, tables, &ip, ports);
        if !is_tunnelled(&decision) {
            return finish_plain(&mut head, tables, &ip, &ports, &decision);
        }
        drop(head);
        return finish(packet, tables, decision);
    }
    let decision = decide(packet, tables);
    finish(packet, tables, decision)
}

#[inline(always)]
fn is_tunnelled(decision: &Decision) -> bool {
    matches!(decision.verdict, Verdict::Forward) && matches!(decision.rewrite.change, Change::Encapsulate)
}

/// [`finish`] of a plain packet that goes into no tunnel: what the packet was is taken from where it was read, not from the
/// decision, so that the compiler sees the places of its headers.
#[inline(always)]
fn finish_plain<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    ip: &Ip,
    ports: &Transport,
    decision: &Decision,
) -> (Outcome, Reason) {
    let made = decision.rewrite;
    let end = match decision.verdict {
        Verdict::Next(stage) => End::next(stage),
        Verdict::Pass => End::pass(decision.reason),
        Verdict::Drop => End::drop(decision.reason),
        Verdict::Forward => {
            let rewrite = Rewrite {
                l3: ip.l3,
                l4: ports.l4,
                is_v6: ip.is_v6,
                protocol: ports.protocol,
                source: (ip.source, made.source.1),
                destination: (ip.destination, made.destination.1),
                source_port: (ports.source, made.source_port.1),
                destination_port: (ports.destination, made.destination_port.1),
                // Connections are opened by another stage.
                note: FlowNote { opened: false, ..made.note },
                ..made
            };
            match apply_in_place(&rewrite, packet) {
                Some(()) => {
                    count_forwarded(tables, &rewrite);
                    End::forward(rewrite.way, rewrite.reason)
                }
                None => End::drop(Reason::RewriteFailed),
            }
        }
    };
    end.count(tables)
}

/// The stage [`Stage::Open`].
#[inline(always)]
pub fn process_open<P: Packet, T: Tables>(packet: &mut P, tables: &T) -> (Outcome, Reason) {
    process_flow::<P, T, { part::OPEN }>(packet, tables)
}

/// The stage [`Stage::Lend`].
#[inline(always)]
pub fn process_lend<P: Packet, T: Tables>(packet: &mut P, tables: &T) -> (Outcome, Reason) {
    process_flow::<P, T, { part::LEND }>(packet, tables)
}

/// The stage [`Stage::Reply`].
#[inline(always)]
pub fn process_reply<P: Packet, T: Tables>(packet: &mut P, tables: &T) -> (Outcome, Reason) {
    process_flow::<P, T, { part::REPLY }>(packet, tables)
}

#[inline(always)]
fn process_flow<P: Packet, T: Tables, const PART: u8>(packet: &mut P, tables: &T) -> (Outcome, Reason) {
    let left = tables.left();
    let (ip, ports) = classify::from_leftover(&left);
    let decision = flow::go_on::<P, T, PART>(packet, tables, &ip, ports, left.vip);
    if matches!(ports.kind, TransportKind::FirstFragment) && matches!(decision.verdict, Verdict::Forward) {
        fragment::remember(packet, tables, &ip, ports, &decision.rewrite);
    }
    finish(packet, tables, decision)
}

/// The stage [`Stage::Deep`].
#[inline(always)]
pub fn process_deep<P: Packet, T: Tables>(packet: &mut P, tables: &T) -> (Outcome, Reason) {
    let ip = ip_of(packet);
    if !ip.is_there {
        return finish(packet, tables, Decision::pass(Reason::NotIp));
    }
    let found = classify::transport(packet, &ip);
    if matches!(found.kind, TransportKind::LaterFragment) {
        let decision = fragment::later(packet, tables, &ip, found);
        return finish(packet, tables, decision);
    }
    let decision = flow::decide::<P, T, { part::NONE }>(packet, tables, &ip, found);
    finish(packet, tables, decision)
}

/// The stage [`Stage::Control`].
#[inline(always)]
pub fn process_control<P: Packet, T: Tables>(packet: &mut P, tables: &T) -> (Outcome, Reason) {
    let frame = classify::frame(packet);
    if matches!(frame.kind, FrameKind::Arp) {
        return neighbour::arp(packet, tables, frame.offset).count(tables);
    }
    let ip = ip_of(packet);
    if !ip.is_there {
        return End::pass(Reason::NotIp).count(tables);
    }
    control::process(packet, tables, &ip).count(tables)
}

/// The stage [`Stage::Answer`].
#[inline(always)]
pub fn process_answer<P: Packet, T: Tables>(packet: &mut P, tables: &T) -> (Outcome, Reason) {
    let ip = ip_of(packet);
    if !ip.is_there {
        return End::pass(Reason::NotIp).count(tables);
    }
    answer::process(packet, tables, &ip).count(tables)
}

/// A stage by its name.
#[inline(always)]
pub fn process_stage<P: Packet, T: Tables>(packet: &mut P, tables: &T, stage: Stage) -> (Outcome, Reason) {
    match stage {
        Stage::Open => process_open(packet, tables),
        Stage::Deep => process_deep(packet, tables),
        Stage::Control => process_control(packet, tables),
        Stage::Answer => process_answer(packet, tables),
        Stage::Reply => process_reply(packet, tables),
        Stage::Lend => process_lend(packet, tables),
    }
}

/// All stages in turn, as on the host.
pub fn process_all<P: Packet, T: Tables>(packet: &mut P, tables: &T) -> (Outcome, Reason) {
    let mut end = process(packet, tables);
    while let Outcome::Next(stage) = end.0 {
        end = process_stage(packet, tables, stage);
    }
    end
}

/// Counts a packet whose stage is not there; it is dropped.
#[inline(always)]
pub fn stage_missing<T: Tables>(tables: &T) {
    tables.count_reason(Reason::StageMissing);
}

/// Carries a decision out and counts it.
#[inline(always)]
fn finish<P: Packet, T: Tables>(packet: &mut P, tables: &T, decision: Decision) -> (Outcome, Reason) {
    let rewrite = decision.rewrite;
    let end = match decision.verdict {
        Verdict::Next(stage) => End::next(stage),
        Verdict::Pass => End::pass(decision.reason),
        Verdict::Drop => End::drop(decision.reason),
        Verdict::Forward if matches!(rewrite.change, Change::Encapsulate) && !fits(tables, &rewrite) => {
            tables.leave(Leftover {
                answer: question::TOO_BIG,
                vip: rewrite.note.vip,
                l4: rewrite.l4 as u16,
                ..Leftover::default()
            });
            End::next(Stage::Answer)
        }
        Verdict::Forward => match apply(&rewrite, packet) {
            Some(()) => {
                count_forwarded(tables, &rewrite);
                End::forward(rewrite.way, rewrite.reason)
            }
            None => End::drop(Reason::RewriteFailed),
        },
    };
    end.count(tables)
}

/// Whether a packet fits into its tunnel.
#[inline(always)]
fn fits<T: Tables>(tables: &T, rewrite: &Rewrite) -> bool {
    let packet = rewrite.note.bytes.wrapping_sub(rewrite.l3 as u32);
    let outer = outer_header(rewrite.destination.1) as u32;
    tables.vip(rewrite.note.vip).is_some_and(|vip| packet + outer <= vip.tunnel_mtu as u32)
}

#[inline(always)]
fn count_forwarded<T: Tables>(tables: &T, rewrite: &Rewrite) {
    let note = rewrite.note;
    if note.vip == 0 {
        return;
    }
    let change = |c: &mut TrafficCounter| match rewrite.direction {
        Direction::ToBackend => {
            c.packets_in += 1;
            c.bytes_in += note.bytes as u64;
            c.opened += note.opened as u64;
        }
        Direction::ToClient => {
            c.packets_out += 1;
            c.bytes_out += note.bytes as u64;
            if note.alive != 0 {
                c.last_alive = note.alive as u64;
            }
        }
    };
    tables.count_vip(note.vip, change);
    // Nobody knows whose a reply is that has no connection.
    if note.backend != 0 {
        tables.count_backend(note.backend, change);
    }
}

/// Says what happens to a packet that is not plain, in its first stage. Changes no byte of it.
#[inline(always)]
pub fn decide<P: Packet, T: Tables>(packet: &P, tables: &T) -> Decision {
    let frame = classify::frame(packet);
    let ip = match frame.kind {
        FrameKind::Ipv4 => classify::ipv4(packet, frame.offset),
        FrameKind::Ipv6 => classify::ipv6(packet, frame.offset),
        FrameKind::Arp => return neighbour::decide_arp(packet, tables, frame.offset),
        FrameKind::Other => Ip::NONE,
    };
    if !ip.is_there {
        return Decision::pass(Reason::NotIp);
    }
    // An IPv4 address in an IPv6 header is nobody's here (RFC 4291, section 2.5.5.2).
    if ip.is_v6 && (ip.source.is_v4() || ip.destination.is_v4()) {
        return Decision::pass(Reason::NotOurs);
    }
    if ip.is_v6 && ip.protocol == ICMPV6 && neighbour::is_ours(packet, tables, &ip) {
        return Decision::next(Stage::Control);
    }
    let Some(settings) = tables.settings() else { return Decision::pass(Reason::NotOurs) };
    if !maybe_vip(tables, settings, ip.destination, ip.is_v6) && !maybe(tables, 1, ip.source) {
        return Decision::pass(Reason::NotOurs);
    }
    if !ip.is_sound {
        let found = Transport::without_ports(TransportKind::Malformed, ip.protocol);
        return flow::decide::<P, T, { part::NONE }>(packet, tables, &ip, found);
    }
    let is_icmp = ip.protocol == if ip.is_v6 { ICMPV6 } else { ICMP };
    if is_icmp && !ip.is_fragment && ip.total >= ip.header as u32 + 8 {
        return Decision::next(Stage::Control);
    }
    Decision::next(Stage::Deep)
}

/// The IP header of a frame.
#[inline(always)]
fn ip_of<P: Packet>(packet: &P) -> Ip {
    let frame = classify::frame(packet);
    match frame.kind {
        FrameKind::Ipv4 => classify::ipv4(packet, frame.offset),
        FrameKind::Ipv6 => classify::ipv6(packet, frame.offset),
        _ => Ip::NONE,
    }
}

/// Whether the bitmap of VIPs (`first` 0) or of backends (`first` 1) may hold an address.
#[inline(always)]
fn maybe<T: Tables>(tables: &T, first: u32, address: Address) -> bool {
    let bit = address.bitmap_bit();
    let word = tables.bitmap(first * (BITMAP_BITS / 64) + (bit >> 6));
    word >> (bit & 63) & 1 != 0
}

/// Whether an address may be a VIP's.
#[inline(always)]
fn maybe_vip<T: Tables>(tables: &T, settings: &Settings, address: Address, is_v6: bool) -> bool {
    maybe(tables, 0, address)
        || is_v6 && settings.flags & settings_flag::PREFIXES != 0 && tables.prefix(address) != 0
}

/// The id of a VIP of this address, 0 when there is none: of several, the one that stands for the address.
#[inline(always)]
fn vip_at<T: Tables>(tables: &T, settings: &Settings, address: Address, is_v6: bool) -> u16 {
    match tables.vip_target(&ServiceKey::of_address(address)).vip() {
        0 if is_v6 && settings.flags & settings_flag::PREFIXES != 0 => {
            tables.port_list(tables.prefix(address)).map_or(0, |list| list.ranges[0].vip)
        }
        id => id,
    }
}

/// The VIP that serves a port (network byte order), 0 when none does.
#[inline(always)]
fn service_of<T: Tables>(
    tables: &T,
    settings: &Settings,
    address: Address,
    port: u16,
    protocol: u8,
    is_v6: bool,
) -> u16 {
    let exact = tables.vip_target(&ServiceKey::new(address, port, protocol));
    // Port 0 in a packet is no key of its own: it is every port's.
    if exact.vip() != 0 && port != 0 {
        return exact.vip();
    }
    let every = tables.vip_target(&ServiceKey::new(address, 0, protocol));
    if every.list() != 0
        && let Some(list) = tables.port_list(every.list())
    {
        let id = in_list(list, port, protocol);
        if id != 0 {
            return id;
        }
    }
    if every.vip() != 0 || !is_v6 || settings.flags & settings_flag::PREFIXES == 0 {
        return every.vip();
    }
    tables.port_list(tables.prefix(address)).map_or(0, |list| in_list(list, port, protocol))
}

/// The id of the VIP that serves a port of an address (network byte order), 0 when none does: what the core found out on its
/// way to a decision, for those who carry the decision out.
#[cfg(feature = "std")]
pub fn serving_vip<T: Tables>(tables: &T, address: Address, port: u16, protocol: u8) -> u16 {
    let Some(settings) = tables.settings() else { return 0 };
    service_of(tables, settings, address, port, protocol, !address.is_v4())
}

/// The first range of a list that holds a port.
#[inline(always)]
fn in_list(list: &PortList, port: u16, protocol: u8) -> u16 {
    let port = u16::from_be(port);
    for range in &list.ranges {
        if range.vip != 0 && range.first <= port && port <= range.last && range.protocol == protocol {
            return range.vip;
        }
    }
    0
}

/// Whether the frame is addressed to the VIP's virtual MAC: otherwise it has been balanced already.
#[inline(always)]
fn is_for<P: Packet>(packet: &P, vip: &VipRecord) -> bool {
    packet.read(0).is_some_and(|mac| same_mac(mac, vip.mac))
}

#[inline(always)]
fn same_mac(a: [u8; 6], b: [u8; 6]) -> bool {
    let word = |m: [u8; 6]| u32::from_ne_bytes([m[0], m[1], m[2], m[3]]);
    let half = |m: [u8; 6]| u16::from_ne_bytes([m[4], m[5]]);
    word(a) == word(b) && half(a) == half(b)
}
