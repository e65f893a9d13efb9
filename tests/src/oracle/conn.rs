//! Connections as the documentation describes them, kept in an ordered map.

use crate::counters::{Connection, Flags};
use crate::frame::Ip;
use crate::oracle::parse::Segment;
use crate::scenario::Timeouts;

/// What a connection is found by: client, its port, VIP id, the VIP's port, protocol.
pub type Key = (Ip, u16, u16, u16, u8);

/// States, in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Not yet established.
    Syn,
    /// Not yet established, and not opened by a SYN.
    Unverified,
    /// Both sides have spoken.
    Established,
    /// A FIN was seen.
    Closing,
    /// An RST was seen.
    Closed,
    /// Not TCP.
    Udp,
    /// Another balancer has it.
    Gone,
}

/// A connection.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Backend id.
    pub backend: u16,
    /// Generation of its record.
    pub generation: u16,
    /// State.
    pub state: State,
    /// Marks.
    pub flags: Flags,
    /// Slot of the client's port.
    pub client_slot: u16,
    /// When it was seen last.
    pub last_seen: u32,
    /// Client's next sequence number.
    pub client_next: u32,
    /// Backend's next sequence number.
    pub backend_next: u32,
    /// The port that full NAT lent.
    pub lent: u16,
}

impl Entry {
    /// The entry of a packet that opens a connection.
    pub fn open(backend: u16, generation: u16, slot: u16, now: u32, segment: Option<Segment>) -> Self {
        Self {
            backend,
            generation,
            state: match segment {
                None => State::Udp,
                Some(s) if s.opens() => State::Syn,
                Some(_) => State::Unverified,
            },
            flags: Flags { client_seq: segment.is_some(), ..Flags::default() },
            client_slot: slot,
            last_seen: now,
            client_next: segment.map_or(0, |s| s.next),
            backend_next: 0,
            lent: 0,
        }
    }

    /// Whether it still stands for a connection.
    pub fn live(&self, now: u32, timeouts: &Timeouts) -> bool {
        let allowed = match (self.flags.suspect, self.state) {
            (_, State::Gone) => return false,
            (true, _) => timeouts.suspect,
            (_, State::Syn) => timeouts.syn,
            (_, State::Unverified) => timeouts.unverified,
            (_, State::Established) => timeouts.established,
            (_, State::Closing) => timeouts.closing,
            (_, State::Closed) => timeouts.closed,
            (_, State::Udp) => timeouts.udp,
        };
        // Another processor's clock may be ahead by a little: that is no age at all.
        let idle = i64::from(now.wrapping_sub(self.last_seen));
        idle > i64::from(u32::MAX) - 1024 || idle <= i64::from(allowed)
    }

    /// Whether a new SYN may go elsewhere: reset, or both sides have sent FIN.
    pub fn finished(&self) -> bool {
        match self.state {
            State::Closed => true,
            State::Closing => self.flags.client_fin && self.flags.backend_fin,
            _ => false,
        }
    }

    /// Takes note of a segment of the client, or of the backend, and says whether it establishes the connection.
    /// Where replies take another way (`one_sided`) the client's word counts for both.
    pub fn note(&mut self, segment: Segment, of_client: bool, one_sided: bool) -> bool {
        let flags = &mut self.flags;
        let (next, known) = if of_client {
            (&mut self.client_next, &mut flags.client_seq)
        } else {
            (&mut self.backend_next, &mut flags.backend_seq)
        };
        let ahead = i64::from(segment.seq.wrapping_sub(*next) as i32);
        if segment.rst {
            if !*known || ahead.abs() <= 65536 {
                self.state = State::Closed;
            } else {
                flags.suspect = true;
            }
            return false;
        }
        if !*known || (segment.next.wrapping_sub(*next) as i32) > 0 {
            *next = segment.next;
            *known = true;
        }
        flags.suspect = false;
        flags.answered |= !of_client || one_sided;
        let establishes =
            of_client && segment.ack && !segment.syn && flags.answered && self.state != State::Closed;
        if establishes && matches!(self.state, State::Syn | State::Unverified) {
            self.state = State::Established;
        }
        if segment.fin {
            flags.client_fin |= of_client;
            flags.backend_fin |= !of_client;
            if self.state != State::Closed {
                self.state = State::Closing;
            }
        }
        establishes
    }

    /// In the form that is compared.
    pub fn connection(&self, key: &Key, half_open: bool) -> Connection {
        Connection {
            client: key.0,
            client_port: key.1,
            vip: key.2,
            vip_port: key.3,
            protocol: key.4,
            backend: self.backend,
            generation: self.generation,
            half_open,
            state: match self.state {
                State::Syn => "syn",
                State::Unverified => "unverified",
                State::Established => "established",
                State::Closing => "closing",
                State::Closed => "closed",
                State::Udp => "udp",
                State::Gone => "gone",
            },
            flags: self.flags,
            client_slot: self.client_slot,
            last_seen: self.last_seen,
            client_next: self.client_next,
            backend_next: self.backend_next,
            lent: self.lent,
        }
    }
}
