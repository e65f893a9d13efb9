//! Which backend a flow gets.

use super::conn::Key;
use super::{Oracle, hash};
use crate::scenario::{Backend, Mode, Scenario, Selection, State, Vip};

/// Why nobody was found.
pub(super) type Refusal = &'static str;

impl Oracle {
    /// The backend of the client's last opening, if it may take this flow.
    fn affine(&self, vip: &Vip, key: &Key) -> Option<u16> {
        let (id, generation, at) = *self.affinity.get(&(key.0, vip.id))?;
        let backend = self.backend(id)?;
        let usable = vip.affinity != 0
            && self.now.wrapping_sub(at) <= vip.affinity
            && backend.generation == generation
            && backend.vip == vip.id
            && self.admit(vip, key, id) == Ok(());
        usable.then_some(id)
    }

    /// A backend for a new flow (`opens`), or for a packet in the middle of one.
    pub(super) fn pick(&mut self, vip: &Vip, key: &Key, opens: bool) -> Result<Backend, Refusal> {
        let affine = self.affine(vip, key);
        let turn = self.turn(vip, key, opens, affine)?;
        let at = self.first_admitted(vip, key, &turn[..3])?;
        let confusable = |id: u16| self.backend(id).is_none_or(|b| b.shared && self.confusable(vip, key, b));
        if !confusable(turn[at]) {
            return self.backend(turn[at]).cloned().ok_or("no_backend");
        }
        // Its reply could belong to another VIP: three more are looked at for somebody else.
        let other = turn[at + 1..at + 4]
            .iter()
            .copied()
            .find(|id| *id != turn[at] && self.admit(vip, key, *id) == Ok(()))
            .filter(|id| !confusable(*id));
        other.and_then(|id| self.backend(id)).cloned().ok_or("reply_ambiguous")
    }

    /// A backend for a packet that gets no entry.
    pub(super) fn pick_stateless(&mut self, vip: &Vip, key: &Key) -> Result<Backend, Refusal> {
        let turn = self.turn(vip, key, false, None)?;
        let at = self.first_admitted(vip, key, &turn[..3])?;
        self.backend(turn[at]).cloned().ok_or("no_backend")
    }

    /// The first choice, the client's backend if it has one, then everybody in turn.
    fn turn(&mut self, vip: &Vip, key: &Key, opens: bool, affine: Option<u16>) -> Result<Vec<u16>, Refusal> {
        let members = Scenario::members(&vip.ring);
        if members.is_empty() {
            return Err("no_backend");
        }
        let selection = match (opens, vip.selection) {
            // What is not the beginning of a flow goes where everybody would send it.
            (false, s) if s != Selection::SourceHash => Selection::Maglev,
            (_, s) => s,
        };
        let flow = hash::flow(key.0, key.1, key.3, key.4);
        let of_maglev = |hash: u32| (Scenario::maglev(&members, hash::maglev_slot(hash)), hash);
        let of_ring = |hash: u32| (vip.ring[hash::ring_slot(hash, vip.ring.len())], hash);
        let (first, start) = match selection {
            _ if affine.is_some() => (affine.unwrap_or(0), 0),
            Selection::Random => of_ring(self.random),
            Selection::RoundRobin => {
                let ticket = self.tickets.entry(vip.id).or_default();
                let mine = *ticket;
                *ticket += 1;
                (vip.ring[mine as usize % vip.ring.len()], mine)
            }
            Selection::Maglev => of_maglev(flow),
            Selection::SourceHash => of_maglev(hash::source(key.0, key.4)),
            Selection::FlowHash => of_ring(flow),
            Selection::LeastConnections => {
                let draw = |bits: u32| members[bits as usize * members.len() / 65536];
                let (a, b) = (draw(self.random & 0xffff), draw(self.random >> 16));
                let load = |id: u16| self.loads.get(&id).copied().unwrap_or(0);
                let weight = |id: u16| self.backend(id).map_or(1, |b| i64::from(b.weight));
                (if load(b) * weight(a) < load(a) * weight(b) { b } else { a }, self.random)
            }
        };
        let in_turn = (0..8).map(|i| members[(start as usize % members.len() + i) % members.len()]);
        Ok([first].into_iter().chain(in_turn).collect())
    }

    fn first_admitted(&self, vip: &Vip, key: &Key, turn: &[u16]) -> Result<usize, Refusal> {
        turn.iter().position(|id| self.admit(vip, key, *id) == Ok(())).ok_or_else(|| {
            let itself = turn.iter().any(|id| self.admit(vip, key, *id) == Err("hairpin"));
            if itself { "hairpin" } else { "no_backend" }
        })
    }

    /// Whether a backend may take a flow at all.
    fn admit(&self, vip: &Vip, key: &Key, id: u16) -> Result<(), Refusal> {
        let backend = self.backend(id).ok_or("no_backend")?;
        if backend.state != State::Up && !vip.last_known {
            return Err("no_backend");
        }
        if backend.address == key.0 && vip.mode != Mode::FullNat { Err("hairpin") } else { Ok(()) }
    }

    /// Whether the client already reaches the same service of this backend through another VIP.
    fn confusable(&self, vip: &Vip, key: &Key, backend: &Backend) -> bool {
        let at = if backend.port == 0 { key.3 } else { backend.port };
        self.established.iter().chain(&self.half_open).any(|(other, entry)| {
            let Some(theirs) = self.backend(entry.backend) else { return false };
            let their_port = if theirs.port == 0 { other.3 } else { theirs.port };
            (other.0, other.1, other.4) == (key.0, key.1, key.4)
                && other.2 != vip.id
                && (theirs.address, their_port) == (backend.address, at)
                && entry.live(self.now, &self.scenario.timeouts)
                && self.vip(other.2).is_some_and(|v| v.mode == Mode::Nat)
        })
    }
}
