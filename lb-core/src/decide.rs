//! What happens to a packet.

use core::mem::offset_of;

use network_types::arp::ArpHdr;
use network_types::ip::Ipv4Hdr;
use network_types::tcp::TcpHdr;
use network_types::udp::UdpHdr;

use crate::checksum;
use crate::classify::{self, Frame, TCP, Transport, TransportKind};
use crate::conn::{self, Segment, Side};
use crate::packet::Packet;
use crate::reason::Reason;
use crate::rewrite::{Change, Direction, Egress, FlowNote, Rewrite, apply};
use crate::select::{self, Choice};
use crate::table::{
    Address, BITMAP_BITS, BackendRecord, ConnEntry, ConnKey, ServiceKey, Settings, Tables, Ticks,
    TrafficCounter, VipRecord, backend_state, mode, port_flag, selection, vip_flag,
};

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is rewritten and sent on.
    Forward(Rewrite),
    /// It goes on untouched.
    Pass(Reason),
    /// It ends here; the VIP it was for, 0 when none.
    Drop(Reason, u16),
}

/// What [`process`] did, for the hook to carry out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The packet is rewritten and goes this way.
    Forward(Egress),
    /// The packet is untouched and goes on.
    Pass,
    /// The packet ends.
    Drop,
}

/// Bytes in front of a packet that hold all headers looked at: Ethernet, two VLAN tags, IPv4 with options,
/// TCP.
const HEADERS: u32 = 14 + 8 + 60 + 20;

/// Decides, rewrites, counts: all that happens to a packet but its actual sending.
#[inline(always)]
pub fn process<P: Packet, T: Tables>(packet: &mut P, tables: &T) -> (Outcome, Reason) {
    tables.count_received();
    packet.make_readable(HEADERS);
    let (outcome, reason) = match decide(packet, tables) {
        Decision::Pass(reason) => (Outcome::Pass, reason),
        Decision::Drop(reason, vip) => {
            tables.count_vip(vip, |c| c.dropped += 1);
            (Outcome::Drop, reason)
        }
        Decision::Forward(rewrite) => match apply(&rewrite, packet) {
            Some(()) => {
                count_forwarded(packet, tables, &rewrite);
                (Outcome::Forward(rewrite.egress), rewrite.reason)
            }
            None => (Outcome::Drop, Reason::RewriteFailed),
        },
    };
    tables.count_reason(reason);
    (outcome, reason)
}

#[inline(always)]
fn count_forwarded<P: Packet, T: Tables>(packet: &P, tables: &T, rewrite: &Rewrite) {
    let note = rewrite.note;
    if note.vip == 0 {
        return;
    }
    // Up to the last byte of the IP packet: padding behind it is not counted.
    let total = packet.read::<[u8; 2]>(rewrite.l3 + offset_of!(Ipv4Hdr, tot_len)).unwrap_or([0; 2]);
    let bytes = rewrite.l3 as u64 + u16::from_be_bytes(total) as u64;
    let change = |c: &mut TrafficCounter| match rewrite.direction {
        Direction::ToBackend => {
            c.packets_in += 1;
            c.bytes_in += bytes;
            c.opened += note.opened as u64;
        }
        Direction::ToClient => {
            c.packets_out += 1;
            c.bytes_out += bytes;
            if note.alive != 0 {
                c.last_alive = note.alive as u64;
            }
        }
    };
    tables.count_vip(note.vip, change);
    tables.count_backend(note.backend, change);
}

/// Says what happens to a packet. Changes no byte of it; makes and refreshes its connection.
#[inline(always)]
pub fn decide<P: Packet, T: Tables>(packet: &P, tables: &T) -> Decision {
    match classify::frame(packet) {
        Frame::Ipv4(l3) => ipv4(packet, tables, l3),
        Frame::Arp(offset) => arp(packet, tables, offset),
        Frame::Other => Decision::Pass(Reason::NotIp),
    }
}

/// Whether the bitmap of VIPs (`first` 0) or of backends (`first` 1) may hold an address.
#[inline(always)]
fn maybe<T: Tables>(tables: &T, first: u32, address: Address) -> bool {
    let bit = address.bitmap_bit();
    let word = tables.bitmap(first * (BITMAP_BITS / 64) + (bit >> 6));
    word >> (bit & 63) & 1 != 0
}

#[inline(always)]
fn same_mac(a: [u8; 6], b: [u8; 6]) -> bool {
    let word = |m: [u8; 6]| u32::from_ne_bytes([m[0], m[1], m[2], m[3]]);
    let half = |m: [u8; 6]| u16::from_ne_bytes([m[4], m[5]]);
    word(a) == word(b) && half(a) == half(b)
}

#[inline(always)]
fn arp<P: Packet, T: Tables>(packet: &P, tables: &T, offset: usize) -> Decision {
    // Ethernet, IPv4, 6 and 4 bytes (RFC 826).
    const ETHERNET_IPV4: u32 = u32::from_ne_bytes([0, 1, 8, 0]);
    const LENGTHS: u16 = u16::from_ne_bytes([6, 4]);
    const REQUEST: u16 = 1u16.to_be();

    let (Some(arp), Some(kind), Some(lengths)) =
        (packet.read::<ArpHdr>(offset), packet.read::<u32>(offset), packet.read::<u16>(offset + 4))
    else {
        return Decision::Pass(Reason::NotIp);
    };
    if kind != ETHERNET_IPV4 || lengths != LENGTHS {
        return Decision::Pass(Reason::ArpOther);
    }
    if let Some(vip) = vip_at(tables, arp.spa)
        && !same_mac(arp.sha, vip.mac)
    {
        return Decision::Pass(Reason::ArpVipClaimed);
    }
    let Some(vip) = vip_at(tables, arp.tpa) else { return Decision::Pass(Reason::ArpOther) };
    let Some(to) = packet.read::<[u8; 6]>(0) else { return Decision::Pass(Reason::NotIp) };
    if u16::from_ne_bytes(arp.oper) != REQUEST || !(to[0] & 1 != 0 || same_mac(to, vip.mac)) {
        return Decision::Pass(Reason::ArpOther);
    }
    Decision::Forward(Rewrite::arp_reply(offset, vip.mac))
}

#[inline(always)]
fn vip_at<T: Tables>(tables: &T, address: [u8; 4]) -> Option<&VipRecord> {
    let address = Address::from_v4_wire(u32::from_ne_bytes(address));
    if !maybe(tables, 0, address) {
        return None;
    }
    match tables.vip_target(&ServiceKey::of_address(address)).vip() {
        0 => None,
        id => tables.vip(id),
    }
}

#[inline(always)]
fn ipv4<P: Packet, T: Tables>(packet: &P, tables: &T, l3: usize) -> Decision {
    let Some(ip) = packet.read::<Ipv4Hdr>(l3) else { return Decision::Pass(Reason::NotIp) };
    let source = Address::from_v4_wire(u32::from_ne_bytes(ip.src_addr));
    let destination = Address::from_v4_wire(u32::from_ne_bytes(ip.dst_addr));
    let to_vip = maybe(tables, 0, destination);
    let from_backend = maybe(tables, 1, source);
    if !to_vip && !from_backend {
        return Decision::Pass(Reason::NotOurs);
    }
    let packet = Ipv4Packet { packet, l3, ip, source, destination };
    let transport = classify::transport(packet.packet, l3, &packet.ip);
    if to_vip && let Some(decision) = packet.to_vip(tables, transport) {
        return decision;
    }
    if !from_backend {
        return Decision::Pass(Reason::NotOurs);
    }
    if transport.kind != TransportKind::Ports {
        return Decision::Pass(Reason::NoConnection);
    }
    packet.reply_of_backend(tables, transport)
}

struct Ipv4Packet<'a, P> {
    packet: &'a P,
    l3: usize,
    ip: Ipv4Hdr,
    source: Address,
    destination: Address,
}

impl<P: Packet> Ipv4Packet<'_, P> {
    /// A packet whose destination may be a VIP; `None` when it is not.
    #[inline(always)]
    fn to_vip<T: Tables>(&self, tables: &T, transport: Transport) -> Option<Decision> {
        if transport.kind == TransportKind::Ports {
            let id = self.service_of(tables, transport);
            if id != 0 {
                let vip = tables.vip(id)?;
                if !self.is_for(vip)? {
                    return Some(Decision::Pass(Reason::AlreadyBalanced));
                }
                return Some(match self.balance(tables, id, vip, transport) {
                    Ok(rewrite) => Decision::Forward(rewrite),
                    Err(reason) => Decision::Drop(reason, id),
                });
            }
        }
        let refusal = match transport.kind {
            TransportKind::Ports | TransportKind::Other => Reason::VipNoService,
            TransportKind::Fragment => Reason::VipFragment,
            TransportKind::Malformed => Reason::VipMalformed,
        };
        match tables.vip_target(&ServiceKey::of_address(self.destination)).vip() {
            0 => None,
            id if self.is_for(tables.vip(id)?)? => Some(Decision::Drop(refusal, id)),
            _ => Some(Decision::Pass(Reason::AlreadyBalanced)),
        }
    }

    /// The VIP that serves the packet's destination, 0 when none does.
    #[inline(always)]
    fn service_of<T: Tables>(&self, tables: &T, ports: Transport) -> u16 {
        match tables.vip_target(&ServiceKey::new(self.destination, ports.destination, self.ip.proto)).vip() {
            0 => tables.vip_target(&ServiceKey::new(self.destination, 0, self.ip.proto)).vip(),
            id => id,
        }
    }

    /// Whether the frame is addressed to the VIP's virtual MAC: otherwise it has been balanced already.
    #[inline(always)]
    fn is_for(&self, vip: &VipRecord) -> Option<bool> {
        Some(same_mac(self.packet.read(0)?, vip.mac))
    }

    #[inline(always)]
    fn segment(&self, ports: Transport) -> Result<Segment, Reason> {
        if self.ip.proto != TCP {
            return Ok(Segment::NONE);
        }
        let seq = self.packet.read::<u32>(ports.l4 + offset_of!(TcpHdr, seq)).ok_or(Reason::VipMalformed)?;
        let flags = self
            .packet
            .read::<[u8; 2]>(ports.l4 + offset_of!(TcpHdr, _bitfield_1))
            .ok_or(Reason::VipMalformed)?;
        Ok(Segment::new(seq, flags, ports.length))
    }

    /// A packet for a VIP: its connection's backend, or a new one's.
    #[inline(always)]
    fn balance<T: Tables>(
        &self,
        tables: &T,
        id: u16,
        vip: &VipRecord,
        ports: Transport,
    ) -> Result<Rewrite, Reason> {
        let segment = self.segment(ports)?;
        let tcp = self.ip.proto == TCP;
        let opens = !tcp || segment.opens();
        let settings = tables.settings().ok_or(Reason::NoBackend)?;
        let now = tables.now();
        let key = ConnKey::new(self.source, ports.source, id, ports.destination, self.ip.proto);
        let entry = tables.conn(&key);
        let kept = match entry {
            Some(entry) => kept_backend(tables, vip, id, entry, opens, now, settings),
            None => None,
        };
        let (choice, from, opened) = match (entry, kept) {
            (Some(entry), Some(choice)) => {
                let from = self.client_slot(tables, entry.client_slot.get());
                entry.client_slot.set(from);
                entry.last_seen.set(now);
                if tcp {
                    conn::track(entry, Side::Client, segment, vip.mode == mode::DSR);
                }
                (choice, from, false)
            }
            _ => self.open(tables, vip, &key, entry, opens, segment, now)?,
        };
        self.note_partial_checksum(tables, ports);
        let egress = egress(tables, vip, from, choice.record.slot);
        let reason = match egress {
            Egress::Redirect(_) => Reason::ToBackendRedirect,
            Egress::Transmit => Reason::ToBackendTransmit,
            Egress::Switch => Reason::ToBackendSwitch,
        };
        // A frame that leaves a one-armed balancer must not carry the client's MAC: switches would learn it
        // there.
        let source_mac = if vip.flags & vip_flag::TRANSMIT != 0 { vip.mac } else { [0; 6] };
        let port = if choice.record.port != 0 { choice.record.port } else { ports.destination };
        Ok(Rewrite {
            change: if vip.mode == mode::DSR { Change::Macs } else { Change::Nat },
            direction: Direction::ToBackend,
            egress,
            reason,
            l3: self.l3,
            l4: ports.l4,
            protocol: self.ip.proto,
            address: (self.destination.v4_wire(), choice.record.address.v4_wire()),
            port: (ports.destination, port),
            destination_mac: choice.record.mac,
            source_mac,
            note: FlowNote { vip: id, backend: choice.id, opened, alive: 0 },
        })
    }

    /// A flow without a usable entry: chooses, and makes or overwrites the entry.
    #[inline(always)]
    #[expect(clippy::too_many_arguments, reason = "inlined: what the caller knows is not found out again")]
    fn open<T: Tables>(
        &self,
        tables: &T,
        vip: &VipRecord,
        key: &ConnKey,
        entry: Option<&ConnEntry>,
        opens: bool,
        segment: Segment,
        now: Ticks,
    ) -> Result<(Choice, u16, bool), Reason> {
        let from = tables.slot_of(self.packet.ingress_ifindex());
        let method = if opens { vip.selection } else { selection::MAGLEV };
        let choice = select::pick(tables, vip, key, method)?;
        if segment.resets() {
            // Nothing will follow it: no entry.
            return Ok((choice, from, false));
        }
        let value = conn::open(choice.id, choice.record.generation, from, now, self.ip.proto == TCP, segment);
        if let Some(entry) = entry {
            entry.set(&value);
            tables.tell_opened(key, &value);
            return Ok((choice, from, true));
        }
        if tables.conn_insert(key, &value) {
            tables.tell_opened(key, &value);
            return Ok((choice, from, true));
        }
        // Another processor was first, or there is no room.
        let entry = tables.conn(key).ok_or(Reason::TableFull)?;
        let id = entry.backend.get();
        let record = *tables.backend(id).ok_or(Reason::NoBackend)?;
        Ok((Choice { id, record }, from, false))
    }

    /// The slot of the port that the packet came in on; `known` is what the connection remembers.
    #[inline(always)]
    fn client_slot<T: Tables>(&self, tables: &T, known: u16) -> u16 {
        let ingress = self.packet.ingress_ifindex();
        match tables.port(known) {
            Some(port) if known != 0 && port.ifindex == ingress => known,
            _ => tables.slot_of(ingress),
        }
    }

    #[inline(always)]
    fn note_partial_checksum<T: Tables>(&self, tables: &T, ports: Transport) {
        let at = if self.ip.proto == TCP { offset_of!(TcpHdr, check) } else { offset_of!(UdpHdr, check) };
        let pseudo = checksum::pseudo_header_v4(
            self.source.v4_wire(),
            self.destination.v4_wire(),
            self.ip.proto,
            ports.length,
        );
        if self.packet.read::<u16>(ports.l4 + at) == Some(pseudo) {
            tables.count_partial_checksum();
        }
    }

    /// A packet of a backend: a reply when a connection says so, else nothing of ours.
    #[inline(always)]
    fn reply_of_backend<T: Tables>(&self, tables: &T, ports: Transport) -> Decision {
        let now = tables.now();
        let Some(settings) = tables.settings() else { return Decision::Pass(Reason::NoConnection) };
        for service in select::services(tables, self.source, ports.source, self.ip.proto) {
            if service.vip == 0 {
                break;
            }
            let vip_port = if service.port != 0 { service.port } else { ports.source };
            let key = ConnKey::new(self.destination, ports.destination, service.vip, vip_port, self.ip.proto);
            let Some(entry) = tables.conn(&key) else { continue };
            if !conn::is_live(entry, now, settings) || !self.is_from(tables, entry, ports) {
                continue;
            }
            let Some(vip) = tables.vip(service.vip) else { continue };
            return match self.reply(tables, service.vip, vip, vip_port, entry, ports, now) {
                Ok(rewrite) => Decision::Forward(rewrite),
                Err(reason) => Decision::Drop(reason, service.vip),
            };
        }
        Decision::Pass(Reason::NoConnection)
    }

    /// Whether this packet's source is the service that the connection was given.
    #[inline(always)]
    fn is_from<T: Tables>(&self, tables: &T, entry: &ConnEntry, ports: Transport) -> bool {
        tables.backend(entry.backend.get()).is_some_and(|backend| {
            backend.address == self.source
                && backend.generation == entry.generation.get()
                && (backend.port == 0 || backend.port == ports.source)
        })
    }

    #[inline(always)]
    #[expect(
        clippy::too_many_arguments,
        reason = "inlined: what the caller looked up is not looked up again"
    )]
    fn reply<T: Tables>(
        &self,
        tables: &T,
        id: u16,
        vip: &VipRecord,
        vip_port: u16,
        entry: &ConnEntry,
        ports: Transport,
        now: Ticks,
    ) -> Result<Rewrite, Reason> {
        let segment = self.segment(ports)?;
        entry.last_seen.set(now);
        // A reset may come from a host whose service is gone: it says nothing about the service.
        let mut alive = now.max(1);
        if self.ip.proto == TCP {
            conn::track(entry, Side::Backend, segment, false);
            if segment.resets() {
                alive = 0;
            }
        }
        self.note_partial_checksum(tables, ports);
        let backend = entry.backend.get();
        let at = tables.backend(backend).map_or(0, |b| b.slot);
        let from = self.client_slot(tables, at);
        let egress = egress(tables, vip, from, entry.client_slot.get());
        let reason = match egress {
            Egress::Redirect(_) => Reason::ToClientRedirect,
            Egress::Transmit => Reason::ToClientTransmit,
            Egress::Switch => Reason::ToClientSwitch,
        };
        Ok(Rewrite {
            change: Change::Nat,
            direction: Direction::ToClient,
            egress,
            reason,
            l3: self.l3,
            l4: ports.l4,
            protocol: self.ip.proto,
            address: (self.source.v4_wire(), vip.address.v4_wire()),
            port: (ports.source, vip_port),
            destination_mac: [0; 6],
            source_mac: vip.mac,
            note: FlowNote { vip: id, backend, opened: false, alive },
        })
    }
}

/// The backend that an entry stands for, `None` when the flow needs another one.
#[inline(always)]
fn kept_backend<T: Tables>(
    tables: &T,
    vip: &VipRecord,
    vip_id: u16,
    entry: &ConnEntry,
    opens: bool,
    now: Ticks,
    settings: &Settings,
) -> Option<Choice> {
    if !conn::is_live(entry, now, settings) {
        return None;
    }
    if opens && conn::is_finished(entry) {
        return None;
    }
    let id = entry.backend.get();
    let record: BackendRecord = *tables.backend(id)?;
    if record.generation != entry.generation.get() || record.vip != vip_id {
        return None;
    }
    match record.state {
        backend_state::UP | backend_state::DRAINING => Some(Choice { id, record }),
        backend_state::DOWN | backend_state::DISABLED
            if !opens && vip.flags & vip_flag::REPICK == 0 || vip.flags & vip_flag::LAST_KNOWN != 0 =>
        {
            Some(Choice { id, record })
        }
        _ => None,
    }
}

/// Redirects only between ports of one switch, and never past a shaping qdisc.
#[inline(always)]
fn egress<T: Tables>(tables: &T, vip: &VipRecord, from: u16, to: u16) -> Egress {
    if vip.flags & vip_flag::TRANSMIT != 0 {
        return Egress::Transmit;
    }
    if from == 0 || to == 0 {
        return Egress::Switch;
    }
    match (tables.port(from), tables.port(to)) {
        (Some(a), Some(b))
            if b.ifindex != 0 && a.switch == b.switch && b.flags & port_flag::REDIRECT != 0 =>
        {
            Egress::Redirect(to)
        }
        _ => Egress::Switch,
    }
}
