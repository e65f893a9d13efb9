//! One switch: its ports, what is learned behind them, and the entries that follow from that.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openflow::{
    Action, BufferId, DatapathId, ErrorMsg, FlowMod, FlowRemoved, FlowRemovedReason, FlowStats, Message,
    PacketInReason, PacketInRef, PacketOut, PacketOutRef, Port, PortNo, PortReason, PortStatus,
};

use super::balance::proactive::{FoundStanding, is_flow_mod};
use super::classic::TCP;
use super::cookie::{self, Purpose};
use super::entries::{Entries, Entry, Key};
use super::event::{Forwarding, Level, Settings};
use super::forward::{self, DropReason, Fate};
use super::frame::{ETHERTYPE_ARP, Frame};
use super::learn::{Learned, MacTable, Station};
use super::limit::more;
use super::link::{Context, Link};
use super::net::FoundRoute;
use super::pipeline::{Layout, Timeouts, key_of};
use super::reconcile::{self, Found};
use super::report::{self, LogKey};
use super::stencil::Stencil;

/// Who made Open vSwitch, as it tells.
const OVS_MANUFACTURER: &str = "Nicira";
/// The most ports of a switch that are kept.
const MAX_PORTS: usize = 65_536;
/// A station that is not heard for so long is forgotten, unless an entry of its traffic lives.
const STATION_AGE: Duration = Duration::from_secs(300);
/// From one sweep of the stations to the next.
const SWEEP: Duration = Duration::from_secs(5);
/// How long an entry may take to work on the switch: packets that come meanwhile do not install it again.
const ON_ITS_WAY: Duration = Duration::from_secs(1);
/// How long no entry is installed on a switch that refused one.
const AFTER_REFUSAL: Duration = Duration::from_secs(1);
/// Lines about ports of a switch in each interval of the log's limit.
const PORT_LINES: u32 = 64;
/// Seconds that frames for a VIP that no XDP program takes are dropped by the switch; short, so that the log goes on.
const HOLD_VIP_S: u16 = 5;
/// Seconds that answers to probes are dropped by the switch after the last one, and in any case.
const HOLD_PROBE: Timeouts = Timeouts { idle_s: 10, hard_s: 60 };

/// What entries of ours send to the controller, apart from table-miss entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// Nothing.
    Nothing,
    /// ARP.
    Arp,
    /// ARP, and TCP of a seed balancer's servers and clients.
    ArpAndTcp,
    /// ARP and IP: with standing entries of balancing.
    ArpAndIp,
}

/// How many messages there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packet-ins received.
    pub packet_ins: u64,
    /// Packet-outs sent.
    pub packet_outs: u64,
    /// Flow-mods sent.
    pub flow_mods: u64,
}

/// One switch.
#[derive(Debug)]
pub struct Switch {
    dpid: DatapathId,
    layout: Layout,
    ports: BTreeMap<PortNo, Port>,
    table: MacTable,
    entries: Entries,
    /// The port on which a one-armed balancer's virtual MAC was last heard as a source.
    hint: Option<PortNo>,
    found: Found,
    swept: Duration,
    /// Until when no entry is installed, since the switch refused one.
    refusing_until: Duration,
    counters: Counters,
    /// Whether it knows Nicira's extensions, as Open vSwitch does.
    nicira: bool,
    /// The forms of entries that were installed last.
    stencils: Vec<(Purpose, bool, Stencil)>,
}

impl Switch {
    /// A switch that told who it is; its ports so far.
    pub fn new(dpid: DatapathId, layout: Layout, ports: Vec<Port>) -> Self {
        Self {
            dpid,
            layout,
            ports: ports.into_iter().map(|port| (port.port_no, port)).collect(),
            table: MacTable::default(),
            entries: Entries::default(),
            hint: None,
            found: Found::default(),
            swept: Duration::ZERO,
            refusing_until: Duration::ZERO,
            counters: Counters::default(),
            nicira: false,
            stencils: Vec::new(),
        }
    }

    /// Its datapath id.
    #[must_use]
    pub const fn dpid(&self) -> DatapathId {
        self.dpid
    }

    /// Its tables.
    #[must_use]
    pub const fn layout(&self) -> Layout {
        self.layout
    }

    /// Its ports by number.
    #[must_use]
    pub const fn ports(&self) -> &BTreeMap<PortNo, Port> {
        &self.ports
    }

    /// The learned stations.
    #[must_use]
    pub const fn stations(&self) -> &MacTable {
        &self.table
    }

    /// Our entries.
    #[must_use]
    pub const fn entries(&self) -> &Entries {
        &self.entries
    }

    /// Whether it knows Nicira's extensions.
    #[must_use]
    pub const fn knows_nicira(&self) -> bool {
        self.nicira
    }

    /// Takes what it says of who made it.
    pub fn described(&mut self, manufacturer: &str) {
        self.nicira = manufacturer.starts_with(OVS_MANUFACTURER);
    }

    /// How many messages there were.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    /// Ports, stations and entries in words.
    #[must_use]
    pub fn summary(&self) -> String {
        let (ports, up) = (self.ports.len(), self.ports.values().filter(|port| port.is_up()).count());
        let (kept, removed) = (self.entries.len(), self.found.removed());
        format!("{ports} ports ({up} up), {kept} entries of ours kept, {removed} removed")
    }

    /// Takes ports of a port description.
    pub fn add_ports(&mut self, ports: Vec<Port>) {
        for port in ports {
            if self.ports.len() < MAX_PORTS || self.ports.contains_key(&port.port_no) {
                self.ports.insert(port.port_no, port);
            }
        }
    }

    /// Takes entries that the switch listed.
    pub fn found(&mut self, flows: Vec<FlowStats>) {
        self.found.add(flows, self.layout);
    }

    /// Compares what the switch listed with what it should have. Gives the entries of routes that may stay and the
    /// standing ones, about which the network decides, and the difference.
    pub fn reconcile(&mut self, ctx: &mut Context<'_>) -> (Vec<FoundRoute>, FoundStanding, Vec<FlowMod>) {
        let timeouts = |purpose, key: &Key| timeouts(purpose, key, ctx);
        let routed = ctx.settings.forwarding == Forwarding::Routed;
        let kept = self.found.reconcile(routed, &self.ports, ctx.known, &timeouts, ctx.now);
        (self.table, self.entries, self.hint) = (kept.table, kept.entries, kept.hint);
        let mut changes = kept.delete;
        for table in self.layout.tables() {
            let Some(miss) = self.layout.miss(table) else { continue };
            match self.found.miss(table) {
                reconcile::FoundMiss::Ours => {}
                reconcile::FoundMiss::None => changes.push(miss),
                reconcile::FoundMiss::Foreign(cookie) => {
                    let text = format!(
                        "switch {}: table {} has a table-miss entry of another owner (cookie {cookie}), which stays; \
                         what it takes does not reach this controller",
                        self.dpid, table.id.0
                    );
                    ctx.log(Level::Warn, text);
                }
            }
        }
        self.found.forget();
        (kept.routes, kept.standing, changes)
    }

    /// Counts a packet-in, and reads its frame. `None` if it is nobody's: a packet that somebody else's entry sends
    /// here has been dealt with by that entry, and frames have headers. 1.0 does not tell which entry it was; `shown` says
    /// what ours send.
    pub fn admit(&mut self, packet: &PacketInRef<'_>, shown: Shown) -> Option<Frame> {
        self.counters.packet_ins += 1;
        let known_port = !packet.in_port.is_reserved() || packet.in_port == PortNo::LOCAL;
        let frame = Frame::parse(packet.data).filter(|_| known_port)?;
        let is_arp = frame.ethertype == ETHERTYPE_ARP;
        let is_tcp = frame.ip.is_some_and(|ip| ip.protocol == TCP);
        let of_ours = match shown {
            Shown::Nothing => false,
            Shown::Arp => is_arp,
            Shown::ArpAndTcp => is_arp || is_tcp,
            Shown::ArpAndIp => is_arp || frame.ip.is_some(),
        };
        let shown = packet.cookie.is_none() && of_ours;
        let ours = packet.reason == PacketInReason::NoMatch || packet.cookie.is_some_and(cookie::is_ours);
        (ours || shown).then_some(frame)
    }

    /// Forwards a frame as a bridge does. What is flooded leaves by the ports that `flood` names.
    pub fn packet_in(
        &mut self,
        packet: &PacketInRef<'_>,
        frame: &Frame,
        flood: impl FnOnce() -> Vec<PortNo>,
        link: &mut Link,
        ctx: &mut Context<'_>,
    ) {
        let in_port = packet.in_port;
        let key = Key { in_port, vlan: frame.vlan, src: frame.src, dst: frame.dst };
        if let Some(out) = self.on_its_way(&key, frame, ctx) {
            return self.packet_out(packet, &[out], link, ctx);
        }
        let balancer = forward::balancer_port(&self.table, ctx.known, self.hint);
        if ctx.known.vip_of(frame.src).is_some() && ctx.known.placement().is_onearm() {
            self.hint = Some(in_port);
        }
        let verdict = forward::judge(frame, in_port, &self.table, ctx.known, self.hint);
        if verdict.learn && self.ports.contains_key(&in_port) {
            self.learn(frame, in_port, link, ctx);
        }
        if balancer != forward::balancer_port(&self.table, ctx.known, self.hint) {
            self.delete_fallen(link, ctx);
        }
        let hub = ctx.settings.forwarding == Forwarding::Hub && ctx.known.vip_of(frame.dst).is_none();
        match verdict.fate {
            // What is learned does not tell a hub where frames go.
            Fate::Install(_) | Fate::Send(_) | Fate::Drop(DropReason::SamePort) if hub => {
                self.packet_out(packet, &flood(), link, ctx);
            }
            Fate::Drop(reason) => {
                if reason.wants_entry() {
                    self.install(key, Purpose::Hold, None, link, ctx);
                }
                report::dropped(self.dpid, reason, in_port, ctx);
                self.free_buffer(packet, link, ctx);
            }
            Fate::Flood => self.packet_out(packet, &flood(), link, ctx),
            Fate::Send(port) => self.packet_out(packet, &[port], link, ctx),
            Fate::Install(port) => {
                let transit = [frame.src, frame.dst].iter().any(|mac| ctx.known.vip_of(*mac).is_some());
                let purpose = if transit { Purpose::Transit } else { Purpose::Forward };
                self.install(key, purpose, Some(port), link, ctx);
                self.packet_out(packet, &[port], link, ctx);
            }
        }
    }

    /// Where frames go whose entry has just been sent to the switch: it stands, or it would have been deleted. ARP is
    /// looked at all the same, since it tells addresses.
    fn on_its_way(&self, key: &Key, frame: &Frame, ctx: &Context<'_>) -> Option<PortNo> {
        let entry = self.entries.get(key).filter(|_| frame.arp.is_none())?;
        let fresh = ctx.now.saturating_sub(entry.since) < ON_ITS_WAY && entry.purpose == Purpose::Forward;
        entry.out.filter(|_| fresh)
    }

    /// Lets the switch forget a packet that it keeps and that goes nowhere.
    pub fn free_buffer(&mut self, packet: &PacketInRef<'_>, link: &mut Link, ctx: &mut Context<'_>) {
        if packet.buffer_id != BufferId::NO_BUFFER {
            self.send_packet_out(packet.buffer_id, packet.in_port, &[], &[], link, ctx);
        }
    }

    /// Handles the end of an entry.
    pub fn flow_removed(&mut self, removed: &FlowRemoved, link: &mut Link, ctx: &mut Context<'_>) {
        let Some((purpose, sequence)) = cookie::read(removed.cookie) else { return };
        self.found.removed_meanwhile(removed.cookie, &removed.match_);
        if purpose == Purpose::TableMiss {
            return self.restore_miss(removed, link, ctx);
        }
        if let Some(key) = key_of(&removed.match_) {
            self.entries.removed(key, purpose, sequence);
        }
    }

    /// Handles an error: an entry that the switch refused is not there, and the next one waits.
    pub fn refused(&mut self, error: &ErrorMsg, link: &Link, ctx: &Context<'_>) {
        let refused = cookie::of_refused_add(link.version, &error.data).and_then(cookie::read);
        if refused.is_some_and(|(purpose, sequence)| self.entries.refused(purpose, sequence)) {
            self.refusing_until = ctx.now + AFTER_REFUSAL;
        }
    }

    /// Puts a table-miss entry back that somebody deleted: without it the switch drops what it does not know.
    fn restore_miss(&mut self, removed: &FlowRemoved, link: &mut Link, ctx: &mut Context<'_>) {
        let table = removed.table_id.and_then(|id| self.layout.tables().iter().find(|table| table.id == id));
        let miss = table.and_then(|table| self.layout.miss(table));
        if removed.reason == FlowRemovedReason::Delete
            && let Some(miss) = miss
        {
            ctx.log(
                Level::Info,
                format!("switch {}: a table-miss entry was deleted; putting it back", self.dpid),
            );
            self.send_flow_mod(miss, link, ctx);
        }
    }

    /// Handles a change of a port: what is behind a dead one is forgotten at once.
    pub fn port_status(&mut self, status: PortStatus, link: &mut Link, ctx: &mut Context<'_>) {
        let PortStatus { reason, port } = status;
        let (number, up) = (port.port_no, port.is_up() && reason != PortReason::Delete);
        let name = port.name.to_string();
        let before = if reason == PortReason::Delete {
            self.ports.remove(&number)
        } else if self.ports.len() < MAX_PORTS || self.ports.contains_key(&number) {
            self.ports.insert(number, port)
        } else {
            return;
        };
        let was_up = before.as_ref().is_some_and(Port::is_up);
        if before.is_none() || was_up != up || reason == PortReason::Delete {
            let what = match (reason, up) {
                (PortReason::Delete, _) => "is gone",
                (_, true) => "is up",
                (_, false) => "is down",
            };
            if let Some(left_out) = ctx.limiter.allow_some(PORT_LINES, LogKey::Ports(self.dpid), ctx.now) {
                let text = format!("switch {}: port {number} ({name}) {what}", self.dpid);
                ctx.log(Level::Info, text + &more(left_out));
            }
        }
        if !up {
            self.port_died(number, link, ctx);
        }
    }

    fn port_died(&mut self, port: PortNo, link: &mut Link, ctx: &mut Context<'_>) {
        self.hint = self.hint.filter(|hint| *hint != port);
        let stations = self.table.forget_port(port);
        let gone = self.entries.take(|key, entry| key.in_port == port || entry.out == Some(port));
        if stations > 0 || !gone.is_empty() {
            let text = format!(
                "switch {}: port {port}: {stations} hosts forgotten, {} entries deleted",
                self.dpid,
                gone.len()
            );
            ctx.log(Level::Info, text);
        }
        self.delete(&gone, link, ctx);
    }

    /// Forgets stations that were not heard for long.
    pub fn tick(&mut self, ctx: &Context<'_>) {
        if ctx.now.saturating_sub(self.swept) < SWEEP {
            return;
        }
        self.swept = ctx.now;
        let old = |seen: Duration| ctx.now.saturating_sub(seen) >= STATION_AGE;
        if self.table.iter().any(|(_, seat)| old(seat.seen)) {
            let busy: BTreeSet<Station> = self.entries.sources().collect();
            self.table.forget(|station, seat| old(seat.seen) && !busy.contains(station));
        }
    }

    /// Forgets what cannot stand any more now that something else is known of the balancer.
    pub fn knowledge_changed(&mut self, link: &mut Link, ctx: &mut Context<'_>) {
        if !ctx.known.placement().is_onearm() {
            self.hint = None;
        }
        self.table.forget(|station, _| ctx.known.vip_of(station.mac).is_some());
        self.delete_fallen(link, ctx);
    }

    /// Deletes the entries that do not stand any more.
    fn delete_fallen(&mut self, link: &mut Link, ctx: &mut Context<'_>) {
        let (table, known, hint) = (&self.table, ctx.known, self.hint);
        let gone = self.entries.take(|key, entry| !reconcile::stands(key, entry, table, known, hint));
        self.delete(&gone, link, ctx);
    }

    fn learn(&mut self, frame: &Frame, in_port: PortNo, link: &mut Link, ctx: &mut Context<'_>) {
        let station = Station { vlan: frame.vlan, mac: frame.src };
        match self.table.learn(station, in_port, ctx.now) {
            Learned::Same => {}
            Learned::New => {
                let text = format!("switch {}: host {} is at port {in_port}", self.dpid, frame.src);
                ctx.log(Level::Debug, text);
            }
            Learned::Moved { from } => self.moved(station, from, in_port, link, ctx),
            Learned::Full => {
                if let Some(left_out) = ctx.limiter.allow(LogKey::Full(self.dpid), ctx.now) {
                    let text = format!("switch {}: too many hosts, new ones are not learned", self.dpid);
                    ctx.log(Level::Warn, text + &more(left_out));
                }
            }
        }
        if let Some(address) = frame.arp.map(|arp| arp.sender)
            && !address.is_unspecified()
            && !ctx.known.is_vip(address)
        {
            self.table.note_address(station, address);
        }
    }

    fn moved(&mut self, station: Station, from: PortNo, to: PortNo, link: &mut Link, ctx: &mut Context<'_>) {
        let gone = self.entries.take(|key, entry| {
            (key.source() == station && key.in_port != to)
                || (key.destination() == station && entry.out.is_some_and(|out| out != to))
        });
        if let Some(left_out) = ctx.limiter.allow(LogKey::Moved(self.dpid, station), ctx.now) {
            let text =
                format!("switch {}: host {} moved from port {from} to port {to}", self.dpid, station.mac);
            ctx.log(Level::Info, text + &more(left_out));
        }
        self.delete(&gone, link, ctx);
    }

    fn install(
        &mut self,
        key: Key,
        purpose: Purpose,
        out: Option<PortNo>,
        link: &mut Link,
        ctx: &mut Context<'_>,
    ) {
        let fresh = |old: &Entry| {
            (old.purpose, old.out) == (purpose, out) && ctx.now.saturating_sub(old.since) < ON_ITS_WAY
        };
        if ctx.now < self.refusing_until || self.entries.get(&key).is_some_and(fresh) {
            return;
        }
        let Some((entry, replaced)) = self.entries.install(key, purpose, out, ctx.now) else {
            if let Some(left_out) = ctx.limiter.allow(LogKey::Full(self.dpid), ctx.now) {
                let text =
                    format!("switch {}: too many entries, packets are forwarded one by one", self.dpid);
                ctx.log(Level::Warn, text + &more(left_out));
            }
            return;
        };
        // An entry in another place is not replaced by the one that comes.
        if let Some(old) = replaced.filter(|old| self.layout.place(old.purpose) != self.layout.place(purpose))
        {
            self.delete(&[(key, old)], link, ctx);
        }
        if self.stencilled(&key, &entry, link, ctx) {
            return;
        }
        match self.layout.add(&key, &entry, timeouts(purpose, &key, ctx)) {
            Ok(flow_mod) => self.send_flow_mod(flow_mod, link, ctx),
            Err(refused) => {
                self.entries.removed(key, purpose, entry.sequence);
                ctx.log(Level::Warn, format!("switch {}: {refused}", self.dpid));
            }
        }
    }

    /// Sends the flow-mod of an entry that forwards, without making one of values first; whether it could.
    fn stencilled(&mut self, key: &Key, entry: &Entry, link: &mut Link, ctx: &mut Context<'_>) -> bool {
        let (purpose, tagged) = (entry.purpose, key.vlan.is_some());
        if !matches!(purpose, Purpose::Forward | Purpose::Transit) {
            return false;
        }
        let timeouts = timeouts(purpose, key, ctx);
        let found = self
            .stencils
            .iter()
            .position(|(of, with, stencil)| (*of, *with) == (purpose, tagged) && stencil.has(timeouts));
        if found.is_none() {
            let stencil = Stencil::new(self.layout, link.version, purpose, tagged, timeouts);
            self.stencils.retain(|(of, with, _)| (*of, *with) != (purpose, tagged));
            self.stencils.extend(stencil.map(|stencil| (purpose, tagged, stencil)));
        }
        let stencil = match found {
            Some(at) => self.stencils.get(at),
            None => self.stencils.last().filter(|(of, with, _)| (*of, *with) == (purpose, tagged)),
        };
        let Some((_, _, stencil)) = stencil else { return false };
        let sent = link.send_written(ctx, |xid, out| stencil.write(xid, key, entry, out));
        self.counters.flow_mods += u64::from(sent);
        sent
    }

    /// Drops what comes next like this for a while.
    pub fn hold(&mut self, key: Key, link: &mut Link, ctx: &mut Context<'_>) {
        self.install(key, Purpose::Hold, None, link, ctx);
    }

    /// Forgets what is learned: the trees changed, and stations are behind other ports now.
    pub fn flush(&mut self, link: &mut Link, ctx: &mut Context<'_>) {
        self.table.forget(|_, _| true);
        self.hint = None;
        let gone = self.entries.take(|_, entry| entry.purpose != Purpose::Hold);
        self.delete(&gone, link, ctx);
    }

    fn delete(&mut self, gone: &[(Key, Entry)], link: &mut Link, ctx: &mut Context<'_>) {
        for (key, entry) in gone {
            self.send_flow_mod(self.layout.delete(key, entry.purpose), link, ctx);
        }
    }

    /// Counts flow-mods that are sent in a bundle.
    pub const fn count_flow_mods(&mut self, count: usize) {
        self.counters.flow_mods += count as u64;
    }

    /// Sends a flow-mod.
    pub fn send_flow_mod(&mut self, flow_mod: FlowMod, link: &mut Link, ctx: &mut Context<'_>) {
        self.counters.flow_mods += 1;
        link.send(&Message::FlowMod(flow_mod), ctx);
    }

    /// Sends what is no flow-mod of the version, and what is.
    pub fn send_message(&mut self, message: &Message, link: &mut Link, ctx: &mut Context<'_>) {
        self.counters.flow_mods += u64::from(is_flow_mod(message));
        link.send(message, ctx);
    }

    /// Sends a packet on: whole with the message wherever it came whole, from the switch's memory only where it did
    /// not. What the switch keeps is freed either way.
    fn packet_out(
        &mut self,
        packet: &PacketInRef<'_>,
        ports: &[PortNo],
        link: &mut Link,
        ctx: &mut Context<'_>,
    ) {
        let (buffer_id, in_port) = (packet.buffer_id, packet.in_port);
        let (one, many);
        let actions: &[Action] = match ports {
            [port] => {
                one = [Action::output(*port)];
                &one
            }
            ports => {
                many = ports.iter().map(|port| Action::output(*port)).collect::<Vec<_>>();
                &many
            }
        };
        if packet.data.len() >= usize::from(packet.total_len) {
            self.free_buffer(packet, link, ctx);
            self.send_packet_out(BufferId::NO_BUFFER, in_port, actions, packet.data, link, ctx);
        } else if buffer_id != BufferId::NO_BUFFER {
            self.send_packet_out(buffer_id, in_port, actions, &[], link, ctx);
        } else if let Some(left_out) = ctx.limiter.allow(LogKey::CutShort(self.dpid), ctx.now) {
            let (came, of) = (packet.data.len(), packet.total_len);
            let text = format!(
                "switch {}: {came} of {of} bytes of a packet came, and it is not kept; dropped",
                self.dpid
            );
            ctx.log(Level::Warn, text + &more(left_out));
        }
    }

    /// Sends a packet-out.
    pub fn send_packet(&mut self, packet: &PacketOut, link: &mut Link, ctx: &mut Context<'_>) {
        let PacketOut { buffer_id, in_port, actions, data } = packet;
        self.send_packet_out(*buffer_id, *in_port, actions, data, link, ctx);
    }

    fn send_packet_out(
        &mut self,
        buffer_id: BufferId,
        in_port: PortNo,
        actions: &[Action],
        data: &[u8],
        link: &mut Link,
        ctx: &mut Context<'_>,
    ) {
        self.counters.packet_outs += 1;
        link.send_packet(&PacketOutRef { buffer_id, in_port, actions, data }, ctx);
    }
}

/// The timeouts of an entry: a person's for forwarding, ours for dropping.
fn timeouts(purpose: Purpose, key: &Key, ctx: &Context<'_>) -> Timeouts {
    let Settings { idle_timeout_s: idle_s, hard_timeout_s: hard_s, .. } = *ctx.settings;
    match purpose {
        Purpose::Hold if ctx.known.vip_of(key.dst).is_some() => Timeouts { idle_s: 0, hard_s: HOLD_VIP_S },
        Purpose::Hold => HOLD_PROBE,
        // Those of balanced connections differ from one to the next.
        Purpose::Ahead
        | Purpose::Steer
        | Purpose::Pinned
        | Purpose::Shown
        | Purpose::Balance
        | Purpose::Standing
        | Purpose::Learned
        | Purpose::Watch => Timeouts { idle_s: 0, hard_s: 0 },
        Purpose::Forward | Purpose::Transit | Purpose::Route | Purpose::TableMiss => {
            Timeouts { idle_s, hard_s }
        }
    }
}
