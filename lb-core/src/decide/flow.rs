//! TCP and UDP, of clients to a VIP and of backends back.

use core::mem::offset_of;

use network_types::tcp::TcpHdr;
use network_types::udp::UdpHdr;

use super::{Decision, Stage, Verdict, is_for, lend, maybe, maybe_vip, open, service_of, vip_at};
use crate::checksum;
use crate::classify::{self, Ip, TCP, Transport, TransportKind};
use crate::conn::{self, Segment, Side};
use crate::packet::Packet;
use crate::reason::Reason;
use crate::rewrite::{Change, Direction, FlowNote, Rewrite, Way};
use crate::select::{self, Choice};
use crate::table::{
    BackendRecord, ConnEntry, ConnKey, Leftover, PortRecord, SERVICE_VIPS, ServiceKey, ServiceVip, Settings,
    Tables, Ticks, VipRecord, answer, backend_flag, backend_state, mode, port_flag, settings_flag, vip_flag,
};

/// A packet, and what its flow was found to be.
pub(super) struct Flow<'a, P> {
    pub packet: &'a P,
    pub ip: &'a Ip,
    pub ports: Transport,
    pub settings: &'a Settings,
}

/// Which part of the decision a program holds.
pub(super) mod part {
    /// Flows with an established entry, of both directions; the rest is left to the other two.
    pub const COMMON: u8 = 0;
    /// Flows of clients, whatever their entry.
    pub const OPEN: u8 = 1;
    /// Flows of backends, whatever their entry.
    pub const REPLY: u8 = 2;
    /// Flows of clients to VIPs with full NAT, whatever their entry.
    pub const LEND: u8 = 3;
    /// No flow at all: whose it is, and no more.
    pub const NONE: u8 = 4;
}

/// What happens to an IP packet, in a program that holds `PART` of it: [`part::COMMON`] or [`part::NONE`].
#[inline(always)]
pub(super) fn decide<P: Packet, T: Tables, const PART: u8>(
    packet: &P,
    tables: &T,
    ip: &Ip,
    ports: Transport,
) -> Decision {
    let Some(settings) = tables.settings() else { return Decision::pass(Reason::NotOurs) };
    let flow = Flow { packet, ip, ports, settings };
    // What most packets of clients are for is found by one look, before anything is asked that is likely of others.
    let mut service = 0;
    if const { PART == part::COMMON } && ports.destination != 0 {
        service = tables.vip_at_once(&ServiceKey::new(ip.destination, ports.destination, ports.protocol));
    }
    let to_vip = service != 0 || maybe_vip(tables, settings, ip.destination, ip.is_v6);
    if !to_vip && !maybe(tables, 1, ip.source) {
        return Decision::pass(Reason::NotOurs);
    }
    if to_vip {
        let decision = flow.to_vip::<T, PART>(tables, service);
        // A bit that an address of ours shares with this one.
        if !matches!(decision.verdict, Verdict::Pass) || !matches!(decision.reason, Reason::NotOurs) {
            return decision;
        }
        if !maybe(tables, 1, ip.source) {
            return decision;
        }
    }
    match ports.kind {
        TransportKind::Ports | TransportKind::FirstFragment => {
            if const { PART == part::NONE } {
                flow.hand_on(tables, Stage::Reply, 0)
            } else {
                flow.of_backend::<T, PART>(tables)
            }
        }
        TransportKind::Icmp => Decision::next(Stage::Control),
        _ => Decision::pass(Reason::NoConnection),
    }
}

/// What happens to a packet whose flow has no established entry, in the stage for it: all that is known of it was left by
/// the stage before.
#[inline(always)]
pub(super) fn go_on<P: Packet, T: Tables, const PART: u8>(
    packet: &P,
    tables: &T,
    ip: &Ip,
    ports: Transport,
    vip_id: u16,
) -> Decision {
    let Some(settings) = tables.settings() else { return Decision::pass(Reason::NotOurs) };
    let flow = Flow { packet, ip, ports, settings };
    if const { PART == part::REPLY } {
        return if vip_id != 0 {
            flow.to_lent_port::<T, PART>(tables, vip_id)
        } else {
            flow.of_backend::<T, PART>(tables)
        };
    }
    match tables.vip(vip_id) {
        Some(vip) => flow.balance::<T, PART>(tables, vip_id, vip),
        None => Decision::pass(Reason::NotOurs),
    }
}

impl<P: Packet> Flow<'_, P> {
    /// A packet whose destination may be a VIP; passed as not ours when it is none. `id` is the VIP, where it is known.
    #[inline(always)]
    fn to_vip<T: Tables, const PART: u8>(&self, tables: &T, mut id: u16) -> Decision {
        let (ip, ports) = (self.ip, self.ports);
        if matches!(ports.kind, TransportKind::Ports | TransportKind::FirstFragment) {
            if id == 0 {
                id = service_of(
                    tables,
                    self.settings,
                    ip.destination,
                    ports.destination,
                    ports.protocol,
                    ip.is_v6,
                );
            }
            if id != 0 {
                let Some(vip) = tables.vip(id) else { return Decision::pass(Reason::NotOurs) };
                if !is_for(self.packet, vip) {
                    return Decision::pass(Reason::AlreadyBalanced);
                }
                if const { PART == part::NONE } {
                    return self.hand_on_to_open(tables, id, vip);
                }
                return self.balance::<T, PART>(tables, id, vip);
            }
        }
        let id = vip_at(tables, self.settings, ip.destination, ip.is_v6);
        let Some(vip) = tables.vip(id) else { return Decision::pass(Reason::NotOurs) };
        if id == 0 {
            return Decision::pass(Reason::NotOurs);
        }
        if !is_for(self.packet, vip) {
            return Decision::pass(Reason::AlreadyBalanced);
        }
        let refusal = match ports.kind {
            TransportKind::Ports | TransportKind::FirstFragment => {
                if const { PART == part::NONE } {
                    return self.hand_on(tables, Stage::Reply, id);
                }
                return self.to_lent_port::<T, PART>(tables, id);
            }
            TransportKind::Icmp => return Decision::next(Stage::Control),
            TransportKind::LaterFragment => Reason::FragmentUnknown,
            TransportKind::ShortFragment => Reason::VipFragment,
            TransportKind::Extension => Reason::VipExtension,
            TransportKind::Other => Reason::VipNoService,
            TransportKind::Malformed => Reason::VipMalformed,
        };
        Decision::drop(tables, refusal, id)
    }

    #[inline(always)]
    pub(super) fn is_tcp(&self) -> bool {
        self.ports.protocol == TCP
    }

    /// The TCP segment; of no flags for other protocols, and where it is not all there, which the lengths exclude.
    #[inline(always)]
    fn segment(&self) -> Segment {
        if !self.is_tcp() {
            return Segment::NONE;
        }
        let l4 = self.ports.l4;
        // Not by early returns: what is not there is nothing, and the compiler computes with it all the same.
        let seq = self.packet.read::<u32>(l4 + offset_of!(TcpHdr, seq)).unwrap_or(0);
        let flags = self.packet.read::<[u8; 2]>(l4 + offset_of!(TcpHdr, _bitfield_1)).unwrap_or([0; 2]);
        Segment::new(seq, flags, self.ports.length)
    }

    /// Bytes of the frame up to the end of its IP packet.
    #[inline(always)]
    pub(super) fn bytes(&self) -> u32 {
        self.ip.l3 as u32 + self.ip.total
    }

    /// A packet for a VIP: its connection's backend, or a new one's.
    #[inline(always)]
    fn balance<T: Tables, const PART: u8>(&self, tables: &T, id: u16, vip: &VipRecord) -> Decision {
        let full = const { PART == part::OPEN || PART == part::LEND };
        let segment = self.segment();
        let tcp = self.is_tcp();
        if !full && tcp && segment.opens() {
            return self.hand_on_to_open(tables, id, vip);
        }
        let now = tables.now();
        if full && tcp && segment.opens() && open::is_refused(tables, self.settings, vip, now) {
            return Decision::drop(tables, Reason::NewFlowCap, id);
        }
        let opens = !tcp || segment.opens();
        let (ip, ports) = (self.ip, self.ports);
        let key = ConnKey::new(ip.source, ports.source, id, ports.destination, ports.protocol);
        let established = tables.conn(&key);
        let is_half = full && established.is_none();
        let entry = if is_half { tables.half_open(&key) } else { established };
        let kept = match entry {
            Some(entry) => self.kept_backend(tables, vip, id, entry, opens, now),
            None => Choice::none(Reason::NoBackend),
        };
        let (Some(entry), Some(record)) = (entry, kept.record) else {
            if !full {
                return self.hand_on_to_open(tables, id, vip);
            }
            let half_open = entry.is_none() || is_half;
            return self.open::<T, PART>(tables, id, vip, &key, entry, opens, segment, now, half_open);
        };
        let (from, switch) = self.ingress_slot(tables, entry.client_slot.get());
        entry.client_slot.set(from);
        entry.last_seen.set(now);
        let mut promoted = !tcp;
        if tcp {
            let one_sided = vip.mode == mode::DSR || vip.mode == mode::IPIP;
            track(tables, entry, Side::Client, segment, one_sided);
            promoted = conn::is_established_by(entry, segment);
        }
        let snat_port = entry.snat_port.get();
        if is_half && promoted && tables.conn_insert(&key, &entry.get()) {
            tables.half_open_remove(&key);
            if const { PART == part::LEND } {
                lend::settle(tables, record, &key, snat_port);
            }
        }
        Decision::forward(self.to_backend(tables, id, vip, kept.id, record, from, switch, snat_port))
    }

    /// A packet for a VIP without a connection that it could stay with.
    #[inline(always)]
    #[expect(clippy::too_many_arguments, reason = "inlined: what the caller knows is not found out again")]
    fn open<T: Tables, const PART: u8>(
        &self,
        tables: &T,
        id: u16,
        vip: &VipRecord,
        key: &ConnKey,
        entry: Option<&ConnEntry>,
        opens: bool,
        segment: Segment,
        now: Ticks,
        half_open: bool,
    ) -> Decision {
        if let Some(entry) = entry
            && self.is_reset(tables, vip, id, entry, segment, now)
        {
            self.leave(tables, answer::RESET, id);
            return Decision::next(Stage::Answer);
        }
        if self.is_elsewhere(segment) {
            // So are those behind this one, whatever is left here of a connection that had their addresses and ports.
            if let Some(entry) = entry {
                entry.state.set(conn::state::GONE);
            }
            return Decision::pass(Reason::HandedOver);
        }
        let opened = open::open::<P, T, PART>(self, tables, vip, key, entry, opens, segment, now, half_open);
        let Some(record) = opened.choice.record else {
            if opened.answer {
                self.leave(tables, answer::REJECT, id);
                return Decision::next(Stage::Answer);
            }
            return Decision::drop(tables, opened.choice.reason, id);
        };
        let (from, switch) = self.ingress_slot(tables, 0);
        let backend = opened.choice.id;
        let mut rewrite = self.to_backend(tables, id, vip, backend, record, from, switch, opened.snat_port);
        rewrite.note.opened = opened.is_new;
        Decision::forward(rewrite)
    }

    /// Whether a packet without a connection here is another balancer's.
    #[inline(always)]
    fn is_elsewhere(&self, segment: Segment) -> bool {
        let begins = self.is_tcp() && segment.opens();
        match self.settings.flags & (settings_flag::HANDING_OVER | settings_flag::HANDING_BACK) {
            settings_flag::HANDING_OVER => true,
            0 | settings_flag::HANDING_BACK => false,
            _ => !begins,
        }
    }

    /// The way of a packet to a backend.
    #[inline(always)]
    #[expect(clippy::too_many_arguments, reason = "inlined: what the caller knows is not found out again")]
    pub(super) fn to_backend<T: Tables>(
        &self,
        tables: &T,
        id: u16,
        vip: &VipRecord,
        backend: u16,
        record: &BackendRecord,
        from: u16,
        switch: u16,
        snat_port: u16,
    ) -> Rewrite {
        let (ip, ports) = (self.ip, self.ports);
        self.note_partial_checksum(tables);
        let way = to_backend_egress(vip, from, switch, record);
        let reason =
            way.choose(Reason::ToBackendRedirect, Reason::ToBackendTransmit, Reason::ToBackendSwitch);
        // A frame that leaves a one-armed balancer must not carry the client's MAC: switches would learn it
        // there. Of full NAT and of a tunnel the balancer is the sender.
        let sends = vip.mode == mode::FULLNAT || vip.mode == mode::IPIP;
        let own = vip.flags & vip_flag::TRANSMIT != 0 || sends;
        let port = if record.port != 0 { record.port } else { ports.destination };
        let (change, source, destination, source_port, destination_port) = match vip.mode {
            mode::NAT => (Change::Translate, ip.source, record.address, ports.source, port),
            mode::FULLNAT => (Change::Translate, vip.source, record.address, snat_port, port),
            mode::IPIP => (Change::Encapsulate, vip.source, record.address, ports.source, ports.destination),
            _ => (Change::Macs, ip.source, ip.destination, ports.source, ports.destination),
        };
        Rewrite {
            change,
            direction: Direction::ToBackend,
            way,
            reason,
            l3: ip.l3,
            is_v6: ip.is_v6,
            l4: ports.l4,
            protocol: ports.protocol,
            source: (ip.source, source),
            destination: (ip.destination, destination),
            source_port: (ports.source, source_port),
            destination_port: (ports.destination, destination_port),
            destination_mac: record.mac,
            source_mac: if own { vip.mac } else { [0; 6] },
            note: FlowNote { vip: id, backend, bytes: self.bytes(), opened: false, alive: 0 },
        }
    }

    /// Slot and switch of the port that the packet came in on; `known` is what the connection remembers.
    #[inline(always)]
    pub(super) fn ingress_slot<T: Tables>(&self, tables: &T, known: u16) -> (u16, u16) {
        let ingress = self.packet.ingress_ifindex();
        if known != 0
            && let Some(port) = tables.port(known)
            && port.ifindex == ingress
        {
            return (known, port.switch);
        }
        let slot = tables.slot_of(ingress);
        (slot, tables.port(slot).map_or(0, |port| port.switch))
    }

    #[inline(always)]
    fn note_partial_checksum<T: Tables>(&self, tables: &T) {
        if matches!(self.ports.kind, TransportKind::FirstFragment) {
            return;
        }
        let at = if self.is_tcp() { offset_of!(TcpHdr, check) } else { offset_of!(UdpHdr, check) };
        let pseudo = checksum::fold(checksum::pseudo_header(
            self.ip.source,
            self.ip.destination,
            self.ports.protocol,
            self.ports.length as u32,
            self.ip.is_v6,
        ));
        if self.packet.read::<u16>(self.ports.l4 + at) == Some(pseudo) {
            tables.count_partial_checksum();
        }
    }

    /// The backend that an entry stands for, none when the flow needs another one.
    #[inline(always)]
    fn kept_backend<'t, T: Tables>(
        &self,
        tables: &'t T,
        vip: &VipRecord,
        vip_id: u16,
        entry: &ConnEntry,
        opens: bool,
        now: Ticks,
    ) -> Choice<'t> {
        const NONE: Choice<'static> = Choice::none(Reason::NoBackend);
        if !conn::is_live(entry, now, self.settings) || opens && conn::is_finished(entry) {
            return NONE;
        }
        let id = entry.backend.get();
        let Some(record) = tables.backend(id) else { return NONE };
        if record.generation != entry.generation.get() || record.vip != vip_id {
            return NONE;
        }
        if stays(vip, record, opens) { Choice::of(id, record) } else { NONE }
    }

    /// With `on_down = reset`: whether a packet in the middle of a connection whose backend is down ends it; it is closed
    /// then.
    #[inline(always)]
    fn is_reset<T: Tables>(
        &self,
        tables: &T,
        vip: &VipRecord,
        vip_id: u16,
        entry: &ConnEntry,
        segment: Segment,
        now: Ticks,
    ) -> bool {
        if vip.flags & vip_flag::RESET == 0 || !self.is_tcp() || segment.opens() || segment.resets() {
            return false;
        }
        let whole = matches!(self.ports.kind, TransportKind::Ports);
        let Some(record) = tables.backend(entry.backend.get()) else { return false };
        let down = matches!(record.state, backend_state::DOWN | backend_state::DISABLED);
        let its = record.generation == entry.generation.get() && record.vip == vip_id;
        if !whole || !down || !its || !conn::is_live(entry, now, self.settings) {
            return false;
        }
        if !conn::is_finished(entry) {
            tables.load_add(entry.backend.get(), -1);
        }
        entry.state.set(conn::state::CLOSED);
        true
    }

    /// Leaves word for the stage that answers.
    #[inline(always)]
    fn leave<T: Tables>(&self, tables: &T, answer: u16, vip: u16) {
        tables.leave(Leftover { answer, vip, ..classify::leftover(self.ip, &self.ports) });
    }

    /// Leaves the packet to another stage, with what was found out.
    #[inline(always)]
    fn hand_on<T: Tables>(&self, tables: &T, stage: Stage, vip: u16) -> Decision {
        tables.leave(Leftover { vip, ..classify::leftover(self.ip, &self.ports) });
        Decision::next(stage)
    }

    #[inline(always)]
    fn hand_on_to_open<T: Tables>(&self, tables: &T, id: u16, vip: &VipRecord) -> Decision {
        let stage = if vip.mode == mode::FULLNAT { Stage::Lend } else { Stage::Open };
        self.hand_on(tables, stage, id)
    }

    /// A packet of a backend: a reply when a connection says so, else nothing of ours.
    #[inline(always)]
    fn of_backend<T: Tables, const PART: u8>(&self, tables: &T) -> Decision {
        let full = const { PART == part::REPLY };
        let (ip, ports) = (self.ip, self.ports);
        let now = tables.now();
        let services = select::services(tables, ip.source, ports.source, ports.protocol);
        for i in 0..SERVICE_VIPS {
            let service = select::service_at(services, i);
            if service.vip == 0 {
                break;
            }
            let vip_port = if service.port != 0 { service.port } else { ports.source };
            let key = ConnKey::new(ip.destination, ports.destination, service.vip, vip_port, ports.protocol);
            let entry = match tables.conn(&key) {
                None if full => tables.half_open(&key),
                found => found,
            };
            let Some(entry) = entry else { continue };
            if !conn::is_live(entry, now, self.settings) || !self.is_from(tables, entry) {
                continue;
            }
            let Some(vip) = tables.vip(service.vip) else { continue };
            let seen = self.note_reply(tables, vip, entry, now);
            return Decision::forward(self.to_client(service.vip, vip, vip_port, &seen));
        }
        let (first, second) = (select::service_at(services, 0), select::service_at(services, 1));
        if first.vip == 0 {
            return Decision::pass(Reason::NoConnection);
        }
        if full {
            self.stateless_reply(tables, first, second.vip)
        } else {
            self.hand_on(tables, Stage::Reply, 0)
        }
    }

    /// Whether this packet's source is the service that the connection was given.
    #[inline(always)]
    fn is_from<T: Tables>(&self, tables: &T, entry: &ConnEntry) -> bool {
        tables.backend(entry.backend.get()).is_some_and(|backend| {
            backend.address == self.ip.source
                && backend.generation == entry.generation.get()
                && (backend.port == 0 || backend.port == self.ports.source)
        })
    }

    /// The reply of a flow that was forwarded beyond the cap: without an entry, the service alone says whose it is.
    #[inline(always)]
    fn stateless_reply<T: Tables>(&self, tables: &T, service: ServiceVip, second: u16) -> Decision {
        let Some(vip) = tables.vip(service.vip) else { return Decision::pass(Reason::NoConnection) };
        if second != 0 || vip.mode != mode::NAT || vip.flags & vip_flag::OVER_CAP_STATELESS == 0 {
            return Decision::pass(Reason::NoConnection);
        }
        let vip_port = if service.port != 0 { service.port } else { self.ports.source };
        self.note_partial_checksum(tables);
        let one_armed = vip.flags & vip_flag::TRANSMIT != 0;
        let way = if one_armed { Way::TRANSMIT } else { Way::SWITCH };
        let seen = Reply { backend: 0, way, alive: 0 };
        Decision::forward(self.to_client(service.vip, vip, vip_port, &seen))
    }

    /// Refreshes a connection by a packet of its backend.
    #[inline(always)]
    fn note_reply<T: Tables>(&self, tables: &T, vip: &VipRecord, entry: &ConnEntry, now: Ticks) -> Reply {
        let segment = self.segment();
        entry.last_seen.set(now);
        // A reset may come from a host whose service is gone: it says nothing about the service.
        let mut alive = now.max(1);
        if self.is_tcp() {
            track(tables, entry, Side::Backend, segment, false);
            if segment.resets() {
                alive = 0;
            }
        }
        self.note_partial_checksum(tables);
        let backend = entry.backend.get();
        let at = tables.backend(backend).map_or(0, |b| b.slot);
        let (from, switch) = self.ingress_slot(tables, at);
        let way = to_client_egress(tables, vip, from, switch, entry.client_slot.get());
        Reply { backend, way, alive }
    }

    /// A packet of a backend on its way to the client.
    #[inline(always)]
    fn to_client(&self, id: u16, vip: &VipRecord, vip_port: u16, seen: &Reply) -> Rewrite {
        let &Reply { backend, way, alive } = seen;
        let (ip, ports) = (self.ip, self.ports);
        let reason = way.choose(Reason::ToClientRedirect, Reason::ToClientTransmit, Reason::ToClientSwitch);
        Rewrite {
            change: Change::Translate,
            direction: Direction::ToClient,
            way,
            reason,
            l3: ip.l3,
            is_v6: ip.is_v6,
            l4: ports.l4,
            protocol: ports.protocol,
            source: (ip.source, vip.address),
            destination: (ip.destination, ip.destination),
            source_port: (ports.source, vip_port),
            destination_port: (ports.destination, ports.destination),
            destination_mac: [0; 6],
            source_mac: vip.mac,
            note: FlowNote { vip: id, backend, bytes: self.bytes(), opened: false, alive },
        }
    }

    /// A packet to a port of a VIP's address that no VIP serves: perhaps one that full NAT lent.
    #[inline(always)]
    fn to_lent_port<T: Tables, const PART: u8>(&self, tables: &T, at: u16) -> Decision {
        let full = const { PART == part::REPLY };
        let (ip, ports) = (self.ip, self.ports);
        let key = ConnKey::new(ip.source, ports.source, 0, ports.destination, ports.protocol);
        let Some(lent) = tables.snat(&key) else { return Decision::drop(tables, Reason::VipNoService, at) };
        let Some(vip) = tables.vip(lent.vip) else { return Decision::drop(tables, Reason::VipNoService, at) };
        let other = ConnKey::new(lent.client, lent.client_port, lent.vip, lent.vip_port, ports.protocol);
        let established = tables.conn(&other);
        let entry = if full && established.is_none() { tables.half_open(&other) } else { established };
        let Some(entry) = entry else {
            if full {
                return Decision::drop(tables, Reason::VipNoService, at);
            }
            return self.hand_on(tables, Stage::Reply, at);
        };
        let Some(backend) = tables.backend(entry.backend.get()) else {
            return Decision::drop(tables, Reason::VipNoService, at);
        };
        let now = tables.now();
        let its = backend.address == ip.source
            && backend.generation == entry.generation.get()
            && entry.snat_port.get() == ports.destination
            && vip.source == ip.destination;
        if !its || !conn::is_live(entry, now, self.settings) {
            return Decision::drop(tables, Reason::VipNoService, at);
        }
        let seen = self.note_reply(tables, vip, entry, now);
        let rewrite = self.to_client(lent.vip, vip, lent.vip_port, &seen);
        Decision::forward(Rewrite {
            destination: (ip.destination, lent.client),
            destination_port: (ports.destination, lent.client_port),
            destination_mac: lent.mac,
            ..rewrite
        })
    }
}

/// Whether a flow may stay with the backend that it was given, by the backend's state and the VIP's policy; `opens` for
/// packets that could as well begin a flow.
#[inline(always)]
pub fn stays(vip: &VipRecord, record: &BackendRecord, opens: bool) -> bool {
    let keeps = vip.flags & (vip_flag::REPICK | vip_flag::RESET) == 0;
    match record.state {
        backend_state::UP | backend_state::DRAINING => true,
        backend_state::DOWN | backend_state::DISABLED => {
            !opens && keeps || vip.flags & vip_flag::LAST_KNOWN != 0
        }
        _ => false,
    }
}

/// What a reply showed.
struct Reply {
    backend: u16,
    /// The way to the client.
    way: Way,
    /// When it proved that the backend is alive; 0 when it did not.
    alive: Ticks,
}

/// Carries a segment into its connection, and a connection that ends by it off its backend's load.
#[inline(always)]
fn track<T: Tables>(tables: &T, entry: &ConnEntry, side: Side, segment: Segment, one_sided: bool) {
    let before = conn::is_finished(entry);
    conn::track(entry, side, segment, one_sided);
    if !before && conn::is_finished(entry) {
        tables.load_add(entry.backend.get(), -1);
    }
}

/// Redirects only between ports of one switch, and never past a shaping qdisc.
#[inline(always)]
pub(super) fn to_backend_egress(vip: &VipRecord, from: u16, switch: u16, record: &BackendRecord) -> Way {
    if vip.flags & vip_flag::TRANSMIT != 0 {
        return Way::TRANSMIT;
    }
    let may = record.flags & backend_flag::REDIRECT != 0 && record.ifindex != 0;
    if from != 0 && record.slot != 0 && may && record.switch == switch {
        Way::redirect(record.slot)
    } else {
        Way::SWITCH
    }
}

/// Likewise, to the port of a client.
#[inline(always)]
pub(super) fn to_client_egress<T: Tables>(
    tables: &T,
    vip: &VipRecord,
    from: u16,
    switch: u16,
    to: u16,
) -> Way {
    if vip.flags & vip_flag::TRANSMIT != 0 {
        return Way::TRANSMIT;
    }
    if from == 0 || to == 0 {
        return Way::SWITCH;
    }
    match tables.port(to) {
        Some(&PortRecord { ifindex, switch: other, flags })
            if ifindex != 0 && other == switch && flags & port_flag::REDIRECT != 0 =>
        {
            Way::redirect(to)
        }
        _ => Way::SWITCH,
    }
}
