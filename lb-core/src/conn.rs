//! Connection states and timeouts.
//!
//! ```text
//!            SYN or first packet                backend answered and client's ACK seen
//!   (none) -----------------------> SYN -------------------------------------------------> ESTABLISHED
//!                                    |                                                          |
//!                 RST in the window  |   FIN of either side                 FIN of either side  |
//!                        +-----------+----------------------> CLOSING <-------------------------+
//!                        v                                      | RST in the window             |
//!                     CLOSED <----------------------------------+-------------------------------+
//!
//!   UDP: one state, refreshed by either side.
//! ```
//! An entry is GONE when, while another balancer takes over or gives back, a packet that it cannot keep passes to that one:
//! what follows under its key passes, too.
//! Timeouts are decided at look-up: an entry idle for longer than its state allows is as good as none.
//! A connection that begins with anything but a SYN starts as UNVERIFIED, and goes on as from SYN.
//! With DSR and IPIP only the client's side is seen, and the client's ACK alone establishes.

use crate::table::{ConnEntry, ConnValue, Settings, Ticks, ticks_since};

/// States of a connection, the numbers in [`ConnValue::state`].
pub mod state {
    /// Another balancer has what goes on under this key: as good as no entry.
    pub const GONE: u8 = 0;
    /// TCP, not yet established.
    pub const SYN: u8 = 1;
    /// TCP, both sides have spoken.
    pub const ESTABLISHED: u8 = 2;
    /// TCP, a side has sent its FIN.
    pub const CLOSING: u8 = 3;
    /// TCP, reset.
    pub const CLOSED: u8 = 4;
    /// UDP.
    pub const UDP: u8 = 5;
    /// TCP, begun in its middle: no SYN of it was seen, and no answer yet.
    pub const UNVERIFIED: u8 = 6;
}

/// Name of a connection state, as printed.
pub const fn state_name(state: u8) -> &'static str {
    match state {
        state::GONE => "gone",
        state::SYN => "syn",
        state::ESTABLISHED => "established",
        state::CLOSING => "closing",
        state::CLOSED => "closed",
        state::UDP => "udp",
        state::UNVERIFIED => "unverified",
        _ => "unknown",
    }
}

/// Flags of a connection, the bits in [`ConnValue::flags`].
pub mod flag {
    /// The backend has answered.
    pub const ANSWERED: u8 = 1;
    /// The client has sent its FIN.
    pub const CLIENT_FIN: u8 = 2;
    /// The backend has sent its FIN.
    pub const BACKEND_FIN: u8 = 4;
    /// An RST outside the window was seen, and no data since.
    pub const SUSPECT: u8 = 8;
    /// `client_next` is known.
    pub const CLIENT_SEQ: u8 = 16;
    /// `backend_next` is known.
    pub const BACKEND_SEQ: u8 = 32;
}

/// How far an RST's sequence number may be from the last seen one to close at once.
pub const RST_WINDOW: u32 = 1 << 16;

/// What a TCP segment means for its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Flags, the low byte: FIN 1, SYN 2, RST 4, PSH 8, ACK 16.
    pub flags: u8,
    /// Sequence number.
    pub seq: u32,
    /// The sequence number behind this segment.
    pub next: u32,
}

impl Segment {
    /// What stands in for a segment where the protocol is not TCP.
    pub const NONE: Self = Self { flags: 0, seq: 0, next: 0 };

    const FIN: u8 = 1;
    const SYN: u8 = 2;
    const RST: u8 = 4;
    const ACK: u8 = 16;

    /// Reads what matters. `seq` as it stands in the header, `offset_flags` the header's bytes 12 and 13,
    /// `l4_length` header and data in bytes.
    #[inline(always)]
    pub const fn new(seq: u32, offset_flags: [u8; 2], l4_length: u16) -> Self {
        let seq = u32::from_be(seq);
        let [offset, flags] = offset_flags;
        let data = (l4_length as u32).saturating_sub(((offset >> 4) as u32) << 2);
        let control = (flags & Self::SYN != 0) as u32 + (flags & Self::FIN != 0) as u32;
        Self { flags, seq, next: seq.wrapping_add(data).wrapping_add(control) }
    }

    /// Opens a connection: SYN without ACK, whatever the ECN bits say (RFC 3168, section 6.1.1).
    #[inline(always)]
    pub const fn opens(&self) -> bool {
        self.flags & (Self::SYN | Self::ACK | Self::RST) == Self::SYN
    }

    /// Acknowledges without opening or resetting.
    #[inline(always)]
    pub const fn acknowledges(&self) -> bool {
        self.flags & (Self::SYN | Self::ACK | Self::RST) == Self::ACK
    }

    /// Resets a connection.
    #[inline(always)]
    pub const fn resets(&self) -> bool {
        self.flags & Self::RST != 0
    }
}

/// Which side a segment comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The client.
    Client,
    /// The backend.
    Backend,
}

/// A new connection's entry; `segment` is the packet that opens it, for `tcp`.
#[inline(always)]
pub fn open(
    backend: u16,
    generation: u16,
    client_slot: u16,
    now: Ticks,
    tcp: bool,
    segment: Segment,
) -> ConnValue {
    let (state, flags) = match (tcp, segment.opens()) {
        (false, _) => (state::UDP, 0),
        (true, true) => (state::SYN, flag::CLIENT_SEQ),
        (true, false) => (state::UNVERIFIED, flag::CLIENT_SEQ),
    };
    ConnValue {
        backend,
        generation,
        state,
        flags,
        client_slot,
        last_seen: now,
        client_next: segment.next,
        backend_next: 0,
        snat_port: 0,
        reserved: 0,
    }
}

/// Whether an entry still stands for a connection: not closed, and not idle for too long.
#[inline(always)]
pub fn is_live(entry: &ConnEntry, now: Ticks, settings: &Settings) -> bool {
    // By index, not by comparison: fewer paths for the verifier. The state of those that are gone has a timeout of 0.
    let state = entry.state.get();
    let timeout = settings.timeouts[state as usize & 7];
    let suspect = entry.flags.get() & flag::SUSPECT != 0;
    let timeout = if suspect { settings.suspect_timeout } else { timeout };
    state != state::GONE && ticks_since(now, entry.last_seen.get()) <= timeout
}

/// Whether a new SYN on this entry begins another connection, which may be given another backend.
#[inline(always)]
pub fn is_finished(entry: &ConnEntry) -> bool {
    const BOTH: u8 = flag::CLIENT_FIN | flag::BACKEND_FIN;
    match entry.state.get() {
        state::CLOSED => true,
        state::CLOSING => entry.flags.get() & BOTH == BOTH,
        _ => false,
    }
}

/// Whether a half-open TCP connection has become an established one by this segment of the client, which is in its
/// entry already.
#[inline(always)]
pub fn is_established_by(entry: &ConnEntry, segment: Segment) -> bool {
    segment.acknowledges() && entry.flags.get() & flag::ANSWERED != 0 && entry.state.get() != state::CLOSED
}

/// Carries a segment of an established or opening TCP connection into its entry.
#[inline(always)]
pub fn track(entry: &ConnEntry, side: Side, segment: Segment, dsr: bool) {
    let mut state = entry.state.get();
    let mut flags = entry.flags.get();
    let (next, known, fin) = match side {
        Side::Client => (&entry.client_next, flag::CLIENT_SEQ, flag::CLIENT_FIN),
        Side::Backend => (&entry.backend_next, flag::BACKEND_SEQ, flag::BACKEND_FIN),
    };
    if segment.resets() {
        // RFC 5961 wants the exact number; the last one that passed here may lag behind the end points.
        let distance = segment.seq.wrapping_sub(next.get()).wrapping_add(RST_WINDOW);
        if flags & known == 0 || distance <= 2 * RST_WINDOW {
            state = state::CLOSED;
        } else {
            flags |= flag::SUSPECT;
        }
    } else {
        flags &= !flag::SUSPECT;
        if flags & known == 0 || (segment.next.wrapping_sub(next.get()) as i32) > 0 {
            next.set(segment.next);
            flags |= known;
        }
        if matches!(side, Side::Backend) || dsr {
            flags |= flag::ANSWERED;
        }
        let acknowledged = matches!(side, Side::Client) && segment.acknowledges();
        let begun = state == state::SYN || state == state::UNVERIFIED;
        if begun && acknowledged && flags & flag::ANSWERED != 0 {
            state = state::ESTABLISHED;
        }
        if segment.flags & Segment::FIN != 0 {
            flags |= fin;
            if state != state::CLOSED {
                state = state::CLOSING;
            }
        }
    }
    entry.state.set(state);
    entry.flags.set(flags);
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Settings = Settings {
        schema: 0,
        suspect_timeout: 0,
        timeouts: [0; 8],
        flags: 0,
        max_new: 0,
        fragment_timeout: 0,
        reserved: 0,
    };
    const SETTINGS: Settings =
        Settings { suspect_timeout: 10, timeouts: [0, 60, 600, 10, 10, 30, 0, 0], ..NONE };

    fn segment(flags: u8, seq: u32, data: u16) -> Segment {
        Segment::new(seq.to_be(), [0x50, flags], 20 + data)
    }

    fn entry() -> ConnEntry {
        let entry = ConnEntry::default();
        entry.set(&open(1, 0, 0, 1000, true, segment(2, 100, 0)));
        entry
    }

    fn established() -> ConnEntry {
        let e = entry();
        track(&e, Side::Backend, segment(0x12, 500, 0), false);
        track(&e, Side::Client, segment(0x10, 101, 0), false);
        assert_eq!(e.state.get(), state::ESTABLISHED);
        e
    }

    #[test]
    fn a_syn_occupies_a_sequence_number_and_data_its_length() {
        assert_eq!(segment(2, 100, 0).next, 101);
        assert_eq!(segment(0x18, 100, 7).next, 107);
        assert_eq!(segment(0x11, u32::MAX, 0).next, 0);
        // A data offset beyond the segment is no data, not a wrap-around.
        assert_eq!(Segment::new(5u32.to_be(), [0xf0, 0x10], 20).next, 5);
    }

    #[test]
    fn only_a_syn_opens_with_or_without_ecn() {
        for (flags, opens) in [(0x02, true), (0xc2, true), (0x12, false), (0x06, false), (0x10, false)] {
            assert_eq!(segment(flags, 0, 0).opens(), opens, "{flags:#x}");
        }
    }

    #[test]
    fn established_needs_both_sides() {
        let e = entry();
        track(&e, Side::Client, segment(0x10, 101, 0), false);
        assert_eq!(e.state.get(), state::SYN);
        track(&e, Side::Backend, segment(0x12, 500, 0), false);
        assert_eq!(e.state.get(), state::SYN);
        track(&e, Side::Client, segment(0x10, 101, 0), false);
        assert_eq!(e.state.get(), state::ESTABLISHED);
    }

    #[test]
    fn with_dsr_the_clients_ack_establishes() {
        let e = entry();
        track(&e, Side::Client, segment(0x10, 101, 0), true);
        assert_eq!(e.state.get(), state::ESTABLISHED);
    }

    #[test]
    fn a_connection_is_finished_by_both_fins() {
        let e = established();
        track(&e, Side::Client, segment(0x11, 101, 0), false);
        assert_eq!((e.state.get(), is_finished(&e)), (state::CLOSING, false));
        track(&e, Side::Backend, segment(0x11, 501, 0), false);
        assert_eq!((e.state.get(), is_finished(&e)), (state::CLOSING, true));
    }

    #[test]
    fn an_rst_closes_inside_the_window_and_only_shortens_outside() {
        let e = established();
        track(&e, Side::Client, segment(4, 101 + RST_WINDOW + 1, 0), false);
        assert_eq!(e.state.get(), state::ESTABLISHED);
        assert!(is_live(&e, 1010, &SETTINGS) && !is_live(&e, 1011, &SETTINGS), "shortened to closing");
        track(&e, Side::Backend, segment(0x10, 501, 3), false);
        assert!(is_live(&e, 1600, &SETTINGS), "data lifts the suspicion");
        track(&e, Side::Client, segment(4, 101, 0), false);
        assert_eq!((e.state.get(), is_finished(&e)), (state::CLOSED, true));
    }

    #[test]
    fn an_rst_before_any_answer_closes() {
        let e = entry();
        track(&e, Side::Backend, segment(0x14, 0, 0), false);
        assert_eq!(e.state.get(), state::CLOSED);
    }

    #[test]
    fn old_segments_do_not_move_the_sequence_back() {
        let e = established();
        track(&e, Side::Client, segment(0x18, 101, 50), false);
        track(&e, Side::Client, segment(0x18, 101, 10), false);
        assert_eq!(e.client_next.get(), 151);
    }

    #[test]
    fn every_state_has_its_timeout() {
        for (state, timeout) in [
            (state::SYN, 60),
            (state::ESTABLISHED, 600),
            (state::CLOSING, 10),
            (state::CLOSED, 10),
            (state::UDP, 30),
        ] {
            let e = entry();
            e.state.set(state);
            assert!(is_live(&e, 1000 + timeout, &SETTINGS), "{state}");
            assert!(!is_live(&e, 1001 + timeout, &SETTINGS), "{state}");
        }
        let e = entry();
        e.state.set(state::GONE);
        assert!(!is_live(&e, 1000, &SETTINGS) && !is_finished(&e));
    }

    #[test]
    fn a_clock_of_another_processor_may_be_ahead() {
        let e = entry();
        e.last_seen.set(1003);
        assert!(is_live(&e, 1000, &SETTINGS));
    }
}
