//! ICMP (RFC 792) and ICMPv6 (RFC 4443) to a VIP and of a backend.

use super::flow::{Flow, to_backend_egress, to_client_egress};
use super::{
    End, Stage, Verdict, count_forwarded, fits, is_for, maybe, maybe_vip, neighbour, service_of, vip_at,
};
use crate::checksum::Diff;
use crate::classify::{self, ICMPV6, Ip, TCP, Transport, TransportKind, UDP};
use crate::conn;
use crate::packet::Packet;
use crate::reason::Reason;
use crate::rewrite::{Change, Direction, FlowNote, Rewrite, Way, apply};
use crate::select;
use crate::table::{
    Address, BackendRecord, ConnEntry, ConnKey, SERVICE_VIPS, Settings, Tables, VipRecord, mode,
    settings_flag, vip_flag,
};

/// The packet that an ICMP error complains of (RFC 792; RFC 4443, section 3). Flat for the reason given at [`Rewrite`].
struct Inner {
    /// There is one.
    is_there: bool,
    l3: usize,
    l4: usize,
    protocol: u8,
    source: Address,
    destination: Address,
    source_port: u16,
    destination_port: u16,
}

/// What changes in an ICMP error, beside the frame: what does not change stands there as it is.
struct Addresses {
    outer_source: Address,
    outer_destination: Address,
    inner_source: Address,
    inner_destination: Address,
    inner_source_port: u16,
    inner_destination_port: u16,
}

/// ICMP and neighbour discovery.
#[inline(always)]
pub(super) fn process<P: Packet, T: Tables>(packet: &mut P, tables: &T, ip: &Ip) -> End {
    // What it is when it is no neighbour discovery of ours.
    const ELSEWHERE: End = End { verdict: Verdict::Next(Stage::Control), ..End::pass(Reason::NotOurs) };
    if ip.protocol == ICMPV6 && neighbour::is_ours(packet, tables, ip) {
        let end = neighbour::discovery(packet, tables, ip, ELSEWHERE);
        if !matches!(end.verdict, Verdict::Next(_)) {
            return end;
        }
    }
    let Some(settings) = tables.settings() else { return End::pass(Reason::NotOurs) };
    let message = classify::transport(packet, ip);
    if maybe_vip(tables, settings, ip.destination, ip.is_v6) {
        let id = vip_at(tables, settings, ip.destination, ip.is_v6);
        if id != 0
            && let Some(vip) = tables.vip(id)
        {
            if !is_for(packet, vip) {
                return End::pass(Reason::AlreadyBalanced);
            }
            let end = to_vip(packet, tables, settings, ip, message, vip);
            if matches!(end.verdict, Verdict::Drop) {
                tables.count_vip(id, |c| c.dropped += 1);
            }
            return end;
        }
    }
    if !maybe(tables, 1, ip.source) {
        return End::pass(Reason::NotOurs);
    }
    of_backend(packet, tables, settings, ip, message)
}

#[inline(always)]
fn to_vip<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    settings: &Settings,
    ip: &Ip,
    message: Transport,
    vip: &VipRecord,
) -> End {
    if !matches!(message.kind, TransportKind::Icmp) {
        return End::drop(Reason::VipMalformed);
    }
    let Some([kind, code]) = packet.read::<[u8; 2]>(message.l4) else {
        return End::drop(Reason::VipMalformed);
    };
    let request = if ip.is_v6 { 128 } else { 8 };
    if kind == request && code == 0 {
        if vip.flags & vip_flag::ECHO == 0 {
            return End::drop(Reason::VipNoService);
        }
        return match echo(packet, ip, message.l4, vip.mac) {
            Some(()) => End::forward(Way::TRANSMIT, Reason::EchoAnswered),
            None => End::drop(Reason::RewriteFailed),
        };
    }
    if !is_error(kind, ip.is_v6) {
        return End::drop(Reason::VipNoService);
    }
    error_to_vip(packet, tables, settings, ip, message)
}

#[inline(always)]
const fn is_error(kind: u8, is_v6: bool) -> bool {
    if is_v6 { kind >= 1 && kind <= 4 } else { matches!(kind, 3 | 11 | 12) }
}

/// The request becomes the reply: type, addresses, MACs; the rest comes back as it was.
#[inline(always)]
fn echo<P: Packet>(packet: &mut P, ip: &Ip, l4: usize, mac: [u8; 6]) -> Option<()> {
    let reply: u8 = if ip.is_v6 { 129 } else { 0 };
    let [kind, code] = packet.read::<[u8; 2]>(l4)?;
    let sum: u16 = packet.read(l4 + 2)?;
    let diff = Diff::of16(u16::from_ne_bytes([kind, code]), u16::from_ne_bytes([reply, code]));
    packet.write(l4 + 2, diff.apply(sum))?;
    packet.write(l4, [reply, code])?;
    let from: [u8; 6] = packet.read(6)?;
    packet.write(0, from)?;
    packet.write(6, mac)?;
    // The answer starts on a way of its own.
    if ip.is_v6 {
        let [next, _] = packet.read::<[u8; 2]>(ip.l3 + 6)?;
        packet.write(ip.l3 + 6, [next, 64])?;
        packet.write(ip.l3 + 8, ip.destination.0)?;
        packet.write(ip.l3 + 24, ip.source.0)
    } else {
        let old: [u8; 2] = packet.read(ip.l3 + 8)?;
        let new = [64, old[1]];
        let sum: u16 = packet.read(ip.l3 + 10)?;
        let diff = Diff::of16(u16::from_ne_bytes(old), u16::from_ne_bytes(new));
        packet.write(ip.l3 + 8, new)?;
        packet.write(ip.l3 + 10, diff.apply(sum))?;
        packet.write(ip.l3 + 12, ip.destination.v4_wire())?;
        packet.write(ip.l3 + 16, ip.source.v4_wire())
    }
}

#[inline(always)]
fn inner_of<P: Packet>(packet: &P, ip: &Ip, message: Transport) -> Inner {
    const NONE: Inner = Inner {
        is_there: false,
        l3: 0,
        l4: 0,
        protocol: 0,
        source: Address::ZERO,
        destination: Address::ZERO,
        source_port: 0,
        destination_port: 0,
    };
    let l3 = message.l4 + 8;
    let inner = if ip.is_v6 { classify::ipv6(packet, l3) } else { classify::ipv4(packet, l3) };
    let Some([version, _]) = packet.read::<[u8; 2]>(l3) else { return NONE };
    let Some([high, low]) = packet.read::<[u8; 2]>(l3 + 6) else { return NONE };
    let wanted = if ip.is_v6 { 6 } else { 4 };
    let has_ports = ip.is_v6 || high & 0x1f == 0 && low == 0;
    let is_known = inner.protocol == TCP || inner.protocol == UDP;
    if !inner.is_there || version >> 4 != wanted || inner.header < 20 || !has_ports || !is_known {
        return NONE;
    }
    let l4 = l3 + inner.header;
    // Eight bytes of it at least, within the packet (RFC 792).
    if l4 as u32 + 8 > ip.l3 as u32 + ip.total {
        return NONE;
    }
    let Some([a, b, c, d, _, _, _, _]) = packet.read::<[u8; 8]>(l4) else { return NONE };
    Inner {
        is_there: true,
        l3,
        l4,
        protocol: inner.protocol,
        source: inner.source,
        destination: inner.destination,
        source_port: u16::from_ne_bytes([a, b]),
        destination_port: u16::from_ne_bytes([c, d]),
    }
}

/// A connection and its backend.
struct Known<'t> {
    entry: Option<&'t ConnEntry>,
    record: Option<&'t BackendRecord>,
    backend: u16,
}

/// A live connection with its backend, wherever it is kept.
#[inline(always)]
fn connection<'t, T: Tables>(tables: &'t T, settings: &Settings, key: &ConnKey) -> Known<'t> {
    const NONE: Known<'static> = Known { entry: None, record: None, backend: 0 };
    let Some(entry) = tables.conn(key).or_else(|| tables.half_open(key)) else { return NONE };
    let backend = entry.backend.get();
    let Some(record) = tables.backend(backend) else { return NONE };
    let its = record.generation == entry.generation.get() && record.vip == key.vip();
    if its && conn::is_live(entry, tables.now(), settings) {
        Known { entry: Some(entry), record: Some(record), backend }
    } else {
        NONE
    }
}

/// An error about a packet of no connection.
#[inline(always)]
const fn unknown(settings: &Settings) -> End {
    if settings.flags & settings_flag::HANDING_OVER != 0 {
        return End::pass(Reason::HandedOver);
    }
    End::drop(Reason::IcmpNoConnection)
}

#[inline(always)]
fn error_to_vip<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    settings: &Settings,
    ip: &Ip,
    message: Transport,
) -> End {
    let inner = inner_of(packet, ip, message);
    if !inner.is_there || inner.source != ip.destination {
        return unknown(settings);
    }
    let flow = Flow { packet: &*packet, ip, ports: message, settings };
    let id = service_of(tables, settings, inner.source, inner.source_port, inner.protocol, ip.is_v6);
    if id == 0 {
        return error_to_lent_port(packet, tables, settings, ip, message, &inner);
    }
    let Some(vip) = tables.vip(id) else { return unknown(settings) };
    let key = ConnKey::new(inner.destination, inner.destination_port, id, inner.source_port, inner.protocol);
    let known = connection(tables, settings, &key);
    let backend = known.backend;
    let (Some(entry), Some(record)) = (known.entry, known.record) else { return unknown(settings) };
    let (from, switch) = flow.ingress_slot(tables, 0);
    if vip.mode == mode::IPIP || vip.mode == mode::DSR {
        let rewrite = flow.to_backend(tables, id, vip, backend, record, from, switch, 0);
        let rewrite = Rewrite { reason: Reason::IcmpToBackend, ..rewrite };
        return forward(packet, tables, &rewrite);
    }
    let full = vip.mode == mode::FULLNAT;
    let way = to_backend_egress(vip, from, switch, record);
    let own = full || way == Way::TRANSMIT;
    let frame = frame_change(
        Direction::ToBackend,
        Reason::IcmpToBackend,
        way,
        record.mac,
        if own { vip.mac } else { [0; 6] },
        FlowNote { vip: id, backend, bytes: flow.bytes(), opened: false, alive: 0 },
    );
    let port = if record.port != 0 { record.port } else { inner.source_port };
    let change = Addresses {
        outer_source: ip.source,
        outer_destination: record.address,
        inner_source: record.address,
        inner_destination: if full { vip.source } else { inner.destination },
        inner_source_port: port,
        inner_destination_port: if full { entry.snat_port.get() } else { inner.destination_port },
    };
    translate(packet, tables, ip, message, &inner, &frame, &change)
}

/// An error of a packet that full NAT sent to a backend: it goes to the client, as if it were the VIP's.
#[inline(always)]
fn error_to_lent_port<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    settings: &Settings,
    ip: &Ip,
    message: Transport,
    inner: &Inner,
) -> End {
    let lent = ConnKey::new(inner.destination, inner.destination_port, 0, inner.source_port, inner.protocol);
    let Some(lent) = tables.snat(&lent) else { return unknown(settings) };
    let Some(vip) = tables.vip(lent.vip) else { return unknown(settings) };
    let key = ConnKey::new(lent.client, lent.client_port, lent.vip, lent.vip_port, inner.protocol);
    let known = connection(tables, settings, &key);
    let backend = known.backend;
    let (Some(entry), Some(record)) = (known.entry, known.record) else { return unknown(settings) };
    let its = entry.snat_port.get() == inner.source_port
        && vip.source == inner.source
        && record.address == inner.destination;
    if !its {
        return unknown(settings);
    }
    let flow = Flow { packet: &*packet, ip, ports: message, settings };
    let (from, switch) = flow.ingress_slot(tables, record.slot);
    let frame = frame_change(
        Direction::ToClient,
        Reason::IcmpToClient,
        to_client_egress(tables, vip, from, switch, entry.client_slot.get()),
        lent.mac,
        vip.mac,
        FlowNote { vip: lent.vip, backend, bytes: flow.bytes(), opened: false, alive: 0 },
    );
    let change = Addresses {
        outer_source: if ip.source == record.address { vip.address } else { ip.source },
        outer_destination: lent.client,
        inner_source: lent.client,
        inner_destination: vip.address,
        inner_source_port: lent.client_port,
        inner_destination_port: lent.vip_port,
    };
    translate(packet, tables, ip, message, inner, &frame, &change)
}

/// An error of a backend about a client's packet; `None` when it is of no connection.
#[inline(always)]
fn of_backend<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    settings: &Settings,
    ip: &Ip,
    message: Transport,
) -> End {
    const UNKNOWN: End = End::pass(Reason::NoConnection);
    if !matches!(message.kind, TransportKind::Icmp) {
        return UNKNOWN;
    }
    let Some([kind, _]) = packet.read::<[u8; 2]>(message.l4) else { return UNKNOWN };
    let inner = inner_of(packet, ip, message);
    let is_about_it = inner.destination == ip.source && inner.source == ip.destination;
    if !is_error(kind, ip.is_v6) || !inner.is_there || !is_about_it {
        return UNKNOWN;
    }
    let services = select::services(tables, ip.source, inner.destination_port, inner.protocol);
    for i in 0..SERVICE_VIPS {
        let service = select::service_at(services, i);
        if service.vip == 0 {
            break;
        }
        let vip_port = if service.port != 0 { service.port } else { inner.destination_port };
        let key = ConnKey::new(inner.source, inner.source_port, service.vip, vip_port, inner.protocol);
        let known = connection(tables, settings, &key);
        let backend = known.backend;
        let (Some(entry), Some(record)) = (known.entry, known.record) else { continue };
        let its_port = record.port == 0 || record.port == inner.destination_port;
        if record.address != ip.source || !its_port {
            continue;
        }
        let Some(vip) = tables.vip(service.vip) else { return UNKNOWN };
        let flow = Flow { packet: &*packet, ip, ports: message, settings };
        let (from, switch) = flow.ingress_slot(tables, record.slot);
        let frame = frame_change(
            Direction::ToClient,
            Reason::IcmpToClient,
            to_client_egress(tables, vip, from, switch, entry.client_slot.get()),
            [0; 6],
            vip.mac,
            FlowNote { vip: service.vip, backend, bytes: flow.bytes(), opened: false, alive: 0 },
        );
        let change = Addresses {
            outer_source: vip.address,
            outer_destination: ip.destination,
            inner_source: inner.source,
            inner_destination: vip.address,
            inner_source_port: inner.source_port,
            inner_destination_port: vip_port,
        };
        return translate(packet, tables, ip, message, &inner, &frame, &change);
    }
    UNKNOWN
}

/// The frame's part of a rewrite: way, MACs, counters.
#[inline(always)]
fn frame_change(
    direction: Direction,
    reason: Reason,
    way: Way,
    destination_mac: [u8; 6],
    source_mac: [u8; 6],
    note: FlowNote,
) -> Rewrite {
    let none = Rewrite::arp_reply(0, source_mac);
    Rewrite { change: Change::Macs, direction, way, reason, destination_mac, note, ..none }
}

/// Applies a rewrite and counts it, or leaves word that it is too long.
#[inline(always)]
fn forward<P: Packet, T: Tables>(packet: &mut P, tables: &T, rewrite: &Rewrite) -> End {
    // An error about an error is not sent (RFC 1122, section 3.2.2).
    if matches!(rewrite.change, Change::Encapsulate) && !fits(tables, rewrite)
        || apply(rewrite, packet).is_none()
    {
        return End::drop(Reason::RewriteFailed);
    }
    count_forwarded(tables, rewrite);
    End::forward(rewrite.way, rewrite.reason)
}

/// Translates both packets of an ICMP error.
#[inline(always)]
fn translate<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    ip: &Ip,
    message: Transport,
    inner: &Inner,
    frame: &Rewrite,
    change: &Addresses,
) -> End {
    if write(packet, ip, message.l4, inner, change).is_none() {
        return End::drop(Reason::RewriteFailed);
    }
    forward(packet, tables, frame)
}

#[inline(always)]
fn write<P: Packet>(packet: &mut P, ip: &Ip, icmp: usize, inner: &Inner, c: &Addresses) -> Option<()> {
    let v6 = ip.is_v6;
    let outer = Diff::of_address(ip.source, c.outer_source, v6).and(Diff::of_address(
        ip.destination,
        c.outer_destination,
        v6,
    ));
    let addresses = Diff::of_address(inner.source, c.inner_source, v6).and(Diff::of_address(
        inner.destination,
        c.inner_destination,
        v6,
    ));
    let ports = Diff::of16(inner.source_port, c.inner_source_port)
        .and(Diff::of16(inner.destination_port, c.inner_destination_port));
    let mut message = addresses.and(ports);
    if v6 {
        // The pseudo header is under the checksum of ICMPv6 as well.
        message = message.and(outer);
        packet.write(ip.l3 + 8, c.outer_source.0)?;
        packet.write(ip.l3 + 24, c.outer_destination.0)?;
        packet.write(inner.l3 + 8, c.inner_source.0)?;
        packet.write(inner.l3 + 24, c.inner_destination.0)?;
    } else {
        let sum: u16 = packet.read(ip.l3 + 10)?;
        packet.write(ip.l3 + 10, outer.apply(sum))?;
        packet.write(ip.l3 + 12, c.outer_source.v4_wire())?;
        packet.write(ip.l3 + 16, c.outer_destination.v4_wire())?;
        let sum: u16 = packet.read(inner.l3 + 10)?;
        let new = addresses.apply(sum);
        packet.write(inner.l3 + 10, new)?;
        message = message.and(Diff::of16(sum, new));
        packet.write(inner.l3 + 12, c.inner_source.v4_wire())?;
        packet.write(inner.l3 + 16, c.inner_destination.v4_wire())?;
    }
    packet.write(inner.l4, [c.inner_source_port, c.inner_destination_port])?;
    let sum: u16 = packet.read(icmp + 2)?;
    packet.write(icmp + 2, message.apply(sum))
}
