//! A packet to a VIP's service: its connection, or a new one.

use super::answer::too_big;
use super::change::{Change, encapsulate, fits};
use super::conn::{Entry, Key, State as Phase};
use super::parse::{Flow, Segment};
use super::reply::{Half, HalfKey};
use super::{Arrival, End, Oracle, by_way, hash, ours, sum};
use crate::scenario::{Backend, Handing, Mode, OnDown, State, Vip};

/// Ports that full NAT tries.
const TRIES: u32 = 16;

/// Openings in a window of 256 ticks.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Window {
    number: u32,
    opened: u32,
}

impl Window {
    /// How many there were in the window before now.
    fn so_far(&mut self, now: u32) -> u32 {
        if self.number != now >> 8 {
            *self = Self { number: now >> 8, opened: 0 };
        }
        self.opened
    }
}

/// What an entry is good for.
enum Standing {
    /// Its backend takes the packet.
    Kept(Backend),
    /// The client gets a reset.
    Reset,
    /// A new choice.
    Gone,
}

/// Why a packet without a usable entry gets no backend.
enum Refused {
    Dropped(&'static str),
    /// The client is told so.
    Told,
}

/// Whether packets go on without an entry beyond the cap.
fn may_be_stateless(vip: &Vip) -> bool {
    match vip.mode {
        Mode::Dsr | Mode::Ipip => true,
        Mode::Nat => vip.stateless,
        Mode::FullNat => false,
    }
}

/// What becomes of a packet that has no usable entry.
enum Opening {
    /// An entry is made.
    Entered(Backend),
    /// It goes without.
    Stateless(Backend),
}

impl Oracle {
    pub(super) fn balance(&mut self, arrival: &Arrival<'_>, flow: &Flow, vip: &Vip) -> End {
        let key: Key = (arrival.packet.src, flow.sport, vip.id, flow.dport, flow.protocol);
        // Under attack a SYN costs no look-up.
        let opens = flow.segment.is_some_and(|s| s.opens());
        if opens && self.scenario.handing != Handing::Over && !may_be_stateless(vip) && self.beyond_cap() {
            return self.dropped("new_flow_cap", vip.id);
        }
        let whole = arrival.packet.part.is_none();
        let standing = match self.entry(&key) {
            Some(entry) => self.standing(vip, entry, flow.segment, whole),
            None => Standing::Gone,
        };
        match standing {
            Standing::Kept(backend) => {
                self.refresh(&key, vip, arrival.slot, flow.segment);
                let lent = self.entry(&key).map_or(0, |e| e.lent);
                self.forward(arrival, flow, vip, &backend, lent, false)
            }
            Standing::Reset => {
                self.closing(&key, |entry| entry.state = Phase::Closed);
                self.reset(arrival, flow, vip, "reset_answered")
            }
            Standing::Gone
                if match self.scenario.handing {
                    Handing::No => false,
                    Handing::Over => true,
                    Handing::Back => !opens,
                } =>
            {
                if let Some(entry) = self.entry_mut(&key) {
                    entry.state = Phase::Gone;
                }
                End::pass("handed_over")
            }
            Standing::Gone => match self.open(arrival, flow, vip, &key) {
                Ok(Opening::Stateless(backend)) => self.forward(arrival, flow, vip, &backend, 0, false),
                Ok(Opening::Entered(backend)) => self.enter(arrival, flow, vip, &key, &backend),
                Err(Refused::Told) => self.reject(arrival, flow, vip),
                Err(Refused::Dropped(reason)) => self.dropped(reason, vip.id),
            },
        }
    }

    fn beyond_cap(&mut self) -> bool {
        self.scenario.max_new != 0 && self.opened.so_far(self.now) >= self.scenario.max_new
    }

    /// Changes an entry; a connection that is finished by it no longer counts as its backend's.
    pub(super) fn closing<T: Default>(&mut self, key: &Key, change: impl FnOnce(&mut Entry) -> T) -> T {
        let Some(entry) = self.entry_mut(key) else { return T::default() };
        let before = entry.finished();
        let result = change(entry);
        let (ended, backend) = (!before && entry.finished(), entry.backend);
        if ended {
            *self.loads.entry(backend).or_default() -= 1;
        }
        result
    }

    /// The entry of a connection: an established one, else a half-open one.
    pub(super) fn entry(&self, key: &Key) -> Option<&Entry> {
        self.established.get(key).or_else(|| self.half_open.get(key))
    }

    pub(super) fn entry_mut(&mut self, key: &Key) -> Option<&mut Entry> {
        self.established.get_mut(key).or_else(|| self.half_open.get_mut(key))
    }

    /// A live entry and the backend's record that it was made for.
    pub(super) fn live(&self, key: &Key) -> Option<(Entry, Backend)> {
        let entry = self.entry(key).filter(|e| e.live(self.now, &self.scenario.timeouts))?;
        let backend = self.backend(entry.backend)?;
        let same = backend.generation == entry.generation && backend.vip == key.2;
        same.then(|| (*entry, backend.clone()))
    }

    fn standing(&self, vip: &Vip, entry: &Entry, segment: Option<Segment>, whole: bool) -> Standing {
        let opens = segment.is_none_or(|s| s.opens());
        if !entry.live(self.now, &self.scenario.timeouts) || (opens && entry.finished()) {
            return Standing::Gone;
        }
        let Some(backend) = self.backend(entry.backend) else { return Standing::Gone };
        if backend.generation != entry.generation || backend.vip != vip.id {
            return Standing::Gone;
        }
        let up = matches!(backend.state, State::Up | State::Draining);
        match (up || vip.last_known, opens, vip.on_down) {
            (true, ..) | (_, false, OnDown::Keep) => Standing::Kept(backend.clone()),
            (_, false, OnDown::Reset) if whole && segment.is_some_and(|s| !s.rst) => Standing::Reset,
            _ => Standing::Gone,
        }
    }

    /// A packet of the client on a connection that goes on.
    fn refresh(&mut self, key: &Key, vip: &Vip, slot: u16, segment: Option<Segment>) {
        let now = self.now;
        let one_sided = matches!(vip.mode, Mode::Dsr | Mode::Ipip);
        let establishes = self.closing(key, |entry| {
            entry.client_slot = slot;
            entry.last_seen = now;
            segment.is_none_or(|segment| entry.note(segment, true, one_sided))
        });
        if establishes && let Some(entry) = self.half_open.remove(key) {
            self.established.insert(*key, entry);
        }
    }

    /// A flow without a usable entry: may it have one, and which backend?
    fn open(&mut self, arrival: &Arrival<'_>, flow: &Flow, vip: &Vip, key: &Key) -> Result<Opening, Refused> {
        let client = arrival.packet.src;
        let longest = vip.listed.iter().filter(|l| ours::within(client, l.address, l.length));
        let allowed = longest.max_by_key(|l| l.length).map_or(!vip.deny_others, |l| l.allowed);
        if !allowed {
            return Err(Refused::Dropped("denied"));
        }
        let now = self.now;
        if vip.per_source != 0 {
            let window = self.opened_by.entry((client, vip.id)).or_default();
            let so_far = window.so_far(now);
            window.opened += 1;
            if so_far >= vip.per_source {
                return Err(Refused::Dropped("source_limit"));
            }
        }
        if self.beyond_cap() {
            if !may_be_stateless(vip) {
                return Err(Refused::Dropped("new_flow_cap"));
            }
            return self.pick_stateless(vip, key).map(Opening::Stateless).map_err(Refused::Dropped);
        }
        let opens = flow.segment.is_none_or(|s| s.opens());
        let resets = flow.segment.is_some_and(|s| s.rst);
        match self.pick(vip, key, opens) {
            Ok(_) if resets && vip.mode == Mode::FullNat => Err(Refused::Dropped("snat_exhausted")),
            Ok(backend) if resets => Ok(Opening::Stateless(backend)),
            Ok(backend) => Ok(Opening::Entered(backend)),
            Err("no_backend") if vip.reject && !resets && arrival.packet.part.is_none() => Err(Refused::Told),
            Err(reason) => Err(Refused::Dropped(reason)),
        }
    }

    fn enter(&mut self, arrival: &Arrival<'_>, flow: &Flow, vip: &Vip, key: &Key, backend: &Backend) -> End {
        let lent = if vip.mode == Mode::FullNat {
            match self.lend(arrival, flow, vip, key, backend) {
                Some(port) => port,
                None => return self.dropped("snat_exhausted", vip.id),
            }
        } else {
            0
        };
        let mut entry = Entry::open(backend.id, backend.generation, arrival.slot, self.now, flow.segment);
        entry.lent = lent;
        if let Some(old) = self.entry_mut(key) {
            *old = entry;
        } else if self.half_open.len() < self.scenario.connections as usize {
            self.half_open.insert(*key, entry);
        } else {
            return self.dropped("table_full", vip.id);
        }
        self.opened.so_far(self.now);
        self.opened.opened += 1;
        *self.loads.entry(backend.id).or_default() += 1;
        if vip.affinity != 0 {
            self.affinity.insert((key.0, vip.id), (backend.id, backend.generation, self.now));
        }
        self.forward(arrival, flow, vip, backend, lent, true)
    }

    /// A port of full NAT for this connection.
    fn lend(
        &mut self,
        arrival: &Arrival<'_>,
        flow: &Flow,
        vip: &Vip,
        key: &Key,
        backend: &Backend,
    ) -> Option<u16> {
        let at = if backend.port == 0 { flow.dport } else { backend.port };
        let hash = hash::flow(key.0, key.1, key.3, key.4);
        let ports = || (0..TRIES).map(|i| vip.lent.0 + (hash.wrapping_add(i) % u32::from(vip.lent.1)) as u16);
        let free = ports().find(|port| {
            let taken = self.halves.get(&(backend.address, at, *port, flow.protocol));
            taken.is_none_or(|half| {
                let other = half.connection(flow.protocol);
                other == *key
                    || self
                        .entry(&other)
                        .is_none_or(|e| e.lent != *port || !e.live(self.now, &self.scenario.timeouts))
            })
        });
        let port = match free {
            Some(port) => port,
            None => ports().find(|port| self.takes_back(&(backend.address, at, *port, flow.protocol)))?,
        };
        let half = Half {
            client: key.0,
            mac: arrival.packet.from,
            client_port: key.1,
            vip: vip.id,
            vip_port: key.3,
        };
        self.halves.insert((backend.address, at, port, flow.protocol), half);
        Some(port)
    }

    /// Takes a port from a connection that has been over for more than a 128th of its timeout, and says whether it could.
    fn takes_back(&mut self, lent: &HalfKey) -> bool {
        let Some(half) = self.halves.get(lent) else { return false };
        let (other, now) = (half.connection(lent.3), self.now);
        let settled_after = self.scenario.timeouts.closed / 128;
        let Some(entry) = self.entry_mut(&other) else { return false };
        // Another processor's clock may be ahead by a little: that is no age at all.
        let age = now.wrapping_sub(entry.last_seen) as i32;
        if entry.lent != lent.2 || !entry.finished() || i64::from(age) <= i64::from(settled_after) {
            return false;
        }
        entry.state = Phase::Gone;
        true
    }

    fn forward(
        &mut self,
        arrival: &Arrival<'_>,
        flow: &Flow,
        vip: &Vip,
        backend: &Backend,
        lent: u16,
        opened: bool,
    ) -> End {
        self.note_checksum(arrival, flow);
        self.leave_parts(arrival, vip, backend, None);
        if !fits(arrival.packet, vip, backend.address) {
            return too_big(arrival, Some(flow), vip, backend.address);
        }
        let bytes = self.toward(arrival, Some(flow), vip, backend, lent);
        self.traffic(arrival, vip.id, backend.id, "in");
        if opened {
            self.count(&format!("vip:{}:opened", vip.id), 1);
            self.count(&format!("backend:{}:opened", backend.id), 1);
        }
        let action = self.way(vip, arrival.slot, backend.slot);
        let reasons = ["to_backend_redirect", "to_backend_transmit", "to_backend_switch"];
        End::sent(action, by_way(action, reasons), bytes)
    }

    /// The frame as it goes to a backend.
    pub(super) fn toward(
        &self,
        arrival: &Arrival<'_>,
        flow: Option<&Flow>,
        vip: &Vip,
        backend: &Backend,
        lent: u16,
    ) -> Vec<u8> {
        let mut change = Change {
            dst_mac: (backend.mac != [0; 6]).then_some(backend.mac),
            src_mac: (vip.transmit || matches!(vip.mode, Mode::FullNat | Mode::Ipip)).then_some(vip.mac),
            ..Change::default()
        };
        match vip.mode {
            Mode::Dsr => change.apply(arrival, None),
            Mode::Ipip => encapsulate(arrival, vip, backend.address, &change),
            Mode::Nat | Mode::FullNat => {
                change.dst = Some(backend.address);
                change.dport = (backend.port != 0).then_some(backend.port);
                if vip.mode == Mode::FullNat {
                    change.src = Some(vip.source.unwrap_or(vip.address));
                    change.sport = Some(lent);
                }
                change.apply(arrival, flow)
            }
        }
    }

    /// Counts a checksum that its sender left unfinished.
    pub(super) fn note_checksum(&mut self, arrival: &Arrival<'_>, flow: &Flow) {
        let packet = arrival.packet;
        let at = flow.at + if flow.segment.is_some() { 16 } else { 6 };
        let field = super::parse::word(arrival.frame, at);
        let pseudo = sum::pseudo(packet.src, packet.dst, flow.protocol, flow.length);
        if packet.part.is_none() && field == pseudo {
            self.count("partial_checksums", 1);
        }
    }
}
