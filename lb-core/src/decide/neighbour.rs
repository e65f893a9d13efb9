//! ARP (RFC 826) and neighbour discovery (RFC 4861) for VIPs.

use network_types::arp::ArpHdr;

use super::{Decision, End, Stage, maybe_vip, same_mac, vip_at};
use crate::checksum::{Diff, fold, pseudo_header};
use crate::classify::{ICMPV6, IPV6_HEADER, Ip};
use crate::packet::Packet;
use crate::reason::Reason;
use crate::rewrite::{Rewrite, Way};
use crate::table::{Address, AskerValue, ClientKey, Settings, Tables, VipRecord, mode, vip_flag};

const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// Bytes of either message without options, and with one link-layer address option (RFC 4861, sections 4.3, 4.4, 4.6.1).
const MESSAGE: u32 = 24;
const WITH_OPTION: u32 = 32;
const SOURCE_LINK_LAYER: [u8; 2] = [1, 1];
const TARGET_LINK_LAYER: [u8; 2] = [2, 1];
/// Flags of an advertisement.
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;

const REQUEST: u16 = 1u16.to_be();
const REPLY: u16 = 2u16.to_be();

/// What ARP is about. Flat for the reason given at [`Rewrite`].
struct Arp<'t> {
    /// Why it is nothing of ours, where it is not.
    end: Option<Reason>,
    header: ArpHdr,
    to: [u8; 6],
    /// The VIP that is named as sender.
    sender: Vip<'t>,
    /// The VIP that is asked for, or answered.
    target: Vip<'t>,
}

/// A VIP, or none.
#[derive(Clone, Copy)]
struct Vip<'t> {
    id: u16,
    record: Option<&'t VipRecord>,
}

const NO_VIP: Vip<'static> = Vip { id: 0, record: None };

/// ARP between Ethernet and IPv4, and the VIPs that it names.
#[inline(always)]
fn read_arp<'t, P: Packet, T: Tables>(packet: &P, tables: &'t T, offset: usize) -> Arp<'t> {
    // Ethernet, IPv4, 6 and 4 bytes.
    const ETHERNET_IPV4: u32 = u32::from_ne_bytes([0, 1, 8, 0]);
    const LENGTHS: u16 = u16::from_ne_bytes([6, 4]);
    const EMPTY: ArpHdr = ArpHdr {
        htype: [0; 2],
        ptype: [0; 2],
        hlen: 0,
        plen: 0,
        oper: [0; 2],
        sha: [0; 6],
        spa: [0; 4],
        tha: [0; 6],
        tpa: [0; 4],
    };

    let nothing = |end| Arp { end: Some(end), header: EMPTY, to: [0; 6], sender: NO_VIP, target: NO_VIP };
    let Some(header) = packet.read::<ArpHdr>(offset) else { return nothing(Reason::NotIp) };
    let kind = packet.read::<u32>(offset).unwrap_or(0);
    let lengths = packet.read::<u16>(offset + 4).unwrap_or(0);
    let to = packet.read::<[u8; 6]>(0).unwrap_or([0; 6]);
    if kind != ETHERNET_IPV4 || lengths != LENGTHS {
        return nothing(Reason::ArpOther);
    }
    let sender = vip_v4(tables, header.spa);
    let target = vip_v4(tables, header.tpa);
    Arp { end: None, header, to, sender, target }
}

#[inline(always)]
fn vip_v4<T: Tables>(tables: &T, address: [u8; 4]) -> Vip<'_> {
    let address = Address::from_v4_wire(u32::from_ne_bytes(address));
    match tables.settings() {
        Some(settings) => vip_of(tables, settings, address, false),
        None => NO_VIP,
    }
}

#[inline(always)]
fn vip_of<'t, T: Tables>(tables: &'t T, settings: &Settings, address: Address, is_v6: bool) -> Vip<'t> {
    if is_v6 && address.is_v4() || !maybe_vip(tables, settings, address, is_v6) {
        return NO_VIP;
    }
    match vip_at(tables, settings, address, is_v6) {
        0 => NO_VIP,
        id => Vip { id, record: tables.vip(id) },
    }
}

/// VIPs whose address the backends have, too.
#[inline(always)]
fn is_shared(vip: &VipRecord) -> bool {
    (vip.mode == mode::DSR || vip.mode == mode::IPIP) && vip.flags & vip_flag::TRANSMIT == 0
}

/// ARP in the first stage: requests for a VIP are answered.
#[inline(always)]
pub(super) fn decide_arp<P: Packet, T: Tables>(packet: &P, tables: &T, offset: usize) -> Decision {
    let arp = read_arp(packet, tables, offset);
    if let Some(reason) = arp.end {
        return Decision::pass(reason);
    }
    if let Some(vip) = arp.sender.record
        && !same_mac(arp.header.sha, vip.mac)
    {
        // The answer to a probe (RFC 5227, section 2.1.1: from 0.0.0.0) is for the prober, who wants the host's own MAC.
        let operation = u16::from_ne_bytes(arp.header.oper);
        let answers_probe = operation == REPLY && u32::from_ne_bytes(arp.header.tpa) == 0;
        return if is_shared(vip) && !answers_probe {
            Decision::next(Stage::Control)
        } else {
            Decision::pass(Reason::ArpVipClaimed)
        };
    }
    let Some(vip) = arp.target.record else { return Decision::pass(Reason::ArpOther) };
    let to_vip = same_mac(arp.to, vip.mac);
    let operation = u16::from_ne_bytes(arp.header.oper);
    if operation == REPLY && to_vip && is_shared(vip) {
        return Decision::next(Stage::Control);
    }
    if operation != REQUEST || !(arp.to[0] & 1 != 0 || to_vip) {
        return Decision::pass(Reason::ArpOther);
    }
    Decision::forward(Rewrite::arp_reply(offset, vip.mac))
}

/// ARP that names a VIP shared with its backends.
#[inline(always)]
pub(super) fn arp<P: Packet, T: Tables>(packet: &mut P, tables: &T, offset: usize) -> End {
    let arp = read_arp(packet, tables, offset);
    if let Some(reason) = arp.end {
        return End::pass(reason);
    }
    let header = arp.header;
    if let Some(vip) = arp.sender.record
        && !same_mac(header.sha, vip.mac)
        && is_shared(vip)
    {
        if u16::from_ne_bytes(header.oper) == REQUEST && header.spa != header.tpa {
            let asked = Address::from_v4_wire(u32::from_ne_bytes(header.tpa));
            remember(packet, tables, asked, arp.sender.id, header.sha);
        }
        let mac = vip.mac;
        let written = packet.write(offset + 8, mac).is_some() && packet.write(6, mac).is_some();
        return corrected(written, Reason::NeighbourCorrected);
    }
    if let Some(vip) = arp.target.record
        && same_mac(arp.to, vip.mac)
    {
        let answered = Address::from_v4_wire(u32::from_ne_bytes(header.spa));
        let key = ClientKey { client: answered, vip: arp.target.id as u64 };
        if let Some(asker) = tables.asker(&key) {
            let written =
                packet.write(offset + 18, asker.mac).is_some() && packet.write(0, asker.mac).is_some();
            return corrected(written, Reason::NeighbourToBackend);
        }
    }
    End::pass(Reason::ArpOther)
}

#[inline(always)]
fn corrected(written: bool, reason: Reason) -> End {
    if written { End::forward(Way::SWITCH, reason) } else { End::drop(Reason::RewriteFailed) }
}

#[inline(always)]
fn remember<P: Packet, T: Tables>(packet: &P, tables: &T, asked: Address, vip: u16, mac: [u8; 6]) {
    let slot = tables.slot_of(packet.ingress_ifindex());
    tables.asker_set(&ClientKey { client: asked, vip: vip as u64 }, &AskerValue { mac, slot });
}

/// Whether an ICMPv6 packet is neighbour discovery that a VIP may have to do with.
#[inline(always)]
pub(super) fn is_ours<P: Packet, T: Tables>(packet: &P, tables: &T, ip: &Ip) -> bool {
    let at = ip.l3 + IPV6_HEADER;
    let Some([kind, _]) = packet.read::<[u8; 2]>(at) else { return false };
    if kind != SOLICITATION && kind != ADVERTISEMENT || !ip.is_sound || ip.total < 40 + MESSAGE {
        return false;
    }
    let Some(target) = packet.read::<[u64; 2]>(at + 8) else { return false };
    let Some(settings) = tables.settings() else { return false };
    maybe_vip(tables, settings, Address(target), true)
        || maybe_vip(tables, settings, ip.source, true)
        || kind == ADVERTISEMENT && maybe_vip(tables, settings, ip.destination, true)
}

/// A message of neighbour discovery. Flat for the reason given at [`Rewrite`].
struct Message {
    /// It is one.
    is_there: bool,
    at: usize,
    kind: u8,
    target: Address,
    /// Bytes of the message.
    length: u32,
    /// Its first option is a link-layer address.
    has_mac: bool,
    mac: [u8; 6],
    from: [u8; 6],
    to: [u8; 6],
}

#[inline(always)]
fn read_message<P: Packet>(packet: &P, ip: &Ip) -> Message {
    const NONE: Message = Message {
        is_there: false,
        at: 0,
        kind: 0,
        target: Address::ZERO,
        length: 0,
        has_mac: false,
        mac: [0; 6],
        from: [0; 6],
        to: [0; 6],
    };
    let at = ip.l3 + IPV6_HEADER;
    let length = ip.total.wrapping_sub(IPV6_HEADER as u32);
    let Some(to) = packet.read::<[u8; 6]>(0) else { return NONE };
    let Some(from) = packet.read::<[u8; 6]>(6) else { return NONE };
    let Some([_, hop_limit]) = packet.read::<[u8; 2]>(ip.l3 + 6) else { return NONE };
    let Some([kind, code]) = packet.read::<[u8; 2]>(at) else { return NONE };
    let Some(target) = packet.read::<[u64; 2]>(at + 8) else { return NONE };
    if hop_limit != 255 || code != 0 || !ip.is_sound || ip.protocol != ICMPV6 || length < MESSAGE {
        return NONE;
    }
    let wanted = if kind == SOLICITATION { SOURCE_LINK_LAYER } else { TARGET_LINK_LAYER };
    let option = packet.read::<[u8; 8]>(at + 24).unwrap_or([0; 8]);
    let [code, size, a, b, c, d, e, f] = option;
    let has_mac = length >= WITH_OPTION && [code, size] == wanted;
    Message {
        is_there: true,
        at,
        kind,
        target: Address(target),
        length,
        has_mac,
        mac: [a, b, c, d, e, f],
        from,
        to,
    }
}

/// Neighbour discovery that a VIP may have to do with; `elsewhere` is how it ends when it has not.
#[inline(always)]
pub(super) fn discovery<P: Packet, T: Tables>(packet: &mut P, tables: &T, ip: &Ip, elsewhere: End) -> End {
    let Some(settings) = tables.settings() else { return elsewhere };
    let message = read_message(packet, ip);
    if !message.is_there {
        return elsewhere;
    }
    if message.kind == SOLICITATION {
        solicitation(packet, tables, settings, ip, &message, elsewhere)
    } else {
        advertisement(packet, tables, settings, ip, &message, elsewhere)
    }
}

#[inline(always)]
fn solicitation<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    settings: &Settings,
    ip: &Ip,
    message: &Message,
    elsewhere: End,
) -> End {
    let source = vip_of(tables, settings, ip.source, true);
    if let Some(vip) = source.record
        && message.has_mac
        && !same_mac(message.mac, vip.mac)
    {
        if !is_shared(vip) {
            return End::pass(Reason::NdpVipClaimed);
        }
        remember(packet, tables, message.target, source.id, message.mac);
        let written = correct_option(packet, message, vip.mac);
        return corrected(written.is_some(), Reason::NeighbourCorrected);
    }
    let Some(vip) = vip_of(tables, settings, message.target, true).record else { return elsewhere };
    let group = message.to[0] & 1 != 0;
    if !group && !same_mac(message.to, vip.mac) {
        return elsewhere;
    }
    let mac = vip.mac;
    match advertise(packet, ip, message, mac) {
        Some(()) => End::forward(Way::TRANSMIT, Reason::NdpAnswered),
        None => End::drop(Reason::RewriteFailed),
    }
}

#[inline(always)]
fn advertisement<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    settings: &Settings,
    ip: &Ip,
    message: &Message,
    elsewhere: End,
) -> End {
    let claimed = if message.has_mac { message.mac } else { message.from };
    if let Some(vip) = vip_of(tables, settings, message.target, true).record
        && !same_mac(claimed, vip.mac)
    {
        if !is_shared(vip) {
            return End::pass(Reason::NdpVipClaimed);
        }
        let new = vip.mac;
        let written =
            if message.has_mac { correct_option(packet, message, new) } else { packet.write(6, new) };
        return corrected(written.is_some(), Reason::NeighbourCorrected);
    }
    let vip = vip_of(tables, settings, ip.destination, true);
    let Some(record) = vip.record else { return elsewhere };
    if !same_mac(message.to, record.mac) {
        return elsewhere;
    }
    if !is_shared(record) {
        return End::pass(Reason::NotOurs);
    }
    match tables.asker(&ClientKey { client: message.target, vip: vip.id as u64 }) {
        Some(asker) => corrected(packet.write(0, asker.mac).is_some(), Reason::NeighbourToBackend),
        None => End::pass(Reason::NotOurs),
    }
}

/// The VIP's MAC in place of the backend's: in the frame, in the option, and in the checksum.
#[inline(always)]
fn correct_option<P: Packet>(packet: &mut P, message: &Message, new: [u8; 6]) -> Option<()> {
    let old = message.mac;
    let word = |m: [u8; 6], i: usize| u16::from_ne_bytes([m[i], m[i + 1]]);
    let diff = Diff::of16(word(old, 0), word(new, 0))
        .and(Diff::of16(word(old, 2), word(new, 2)))
        .and(Diff::of16(word(old, 4), word(new, 4)));
    let sum: u16 = packet.read(message.at + 2)?;
    packet.write(message.at + 2, diff.apply(sum))?;
    packet.write(message.at + 26, new)?;
    packet.write(6, new)
}

/// Makes a solicitation its own answer.
#[inline(always)]
fn advertise<P: Packet>(packet: &mut P, ip: &Ip, message: &Message, mac: [u8; 6]) -> Option<()> {
    /// ff02::1, and its group MAC.
    const ALL_NODES: Address = Address::from_v6([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];

    let end = ip.l3 as u32 + IPV6_HEADER as u32 + WITH_OPTION;
    if message.length < WITH_OPTION && !packet.has(end) {
        packet.set_length(end)?;
    }
    // Duplicate address detection asks from no address (RFC 4862, section 5.4.2).
    let anonymous = ip.source == Address::ZERO;
    let (to, to_mac) = if anonymous { (ALL_NODES, ALL_NODES_MAC) } else { (ip.source, message.from) };
    let flags = if anonymous { OVERRIDE } else { SOLICITED | OVERRIDE };
    packet.write(0, to_mac)?;
    packet.write(6, mac)?;
    let [high, low] = (WITH_OPTION as u16).to_be_bytes();
    packet.write(ip.l3 + 4, [high, low, ICMPV6, 255])?;
    packet.write(ip.l3 + 8, message.target.0)?;
    packet.write(ip.l3 + 24, to.0)?;
    packet.write(message.at, [ADVERTISEMENT, 0, 0, 0, flags, 0, 0, 0])?;
    let option = [TARGET_LINK_LAYER[0], TARGET_LINK_LAYER[1], mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]];
    packet.write(message.at + 24, option)?;
    let word = |a: u8, b: u8| u16::from_ne_bytes([a, b]) as u64;
    let sum = pseudo_header(message.target, to, ICMPV6, WITH_OPTION, true)
        + word(ADVERTISEMENT, 0)
        + word(flags, 0)
        + crate::checksum::sum_address(message.target, true)
        + word(option[0], option[1])
        + word(option[2], option[3])
        + word(option[4], option[5])
        + word(option[6], option[7]);
    packet.write(message.at + 2, !fold(sum))
}
