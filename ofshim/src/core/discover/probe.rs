//! The frames that links are found with.
//!
//! ```text
//!   to 01:80:c2:00:00:0e, type 0x88cc (LLDP, IEEE 802.1AB): bridges keep it to the wire, so it finds direct links
//!   to ff:ff:ff:ff:ff:ff, type 0x8942 (the same body, "BDDP"): bridges flood it, so it finds links across them
//!
//!   chassis id (1): locally assigned, "dpid:" and 16 hex digits      port id (2): locally assigned, the port's number
//!   time to live (3)
//!   organisation (127): 00:26:e1, subtype 0x6f | kind (8) | dpid (64) | port (32) | nonce (64) | check value (64)
//!   end (0)
//! ```
//!
//! The check value is SipHash-2-4 over kind, dpid, port and nonce under a secret of the controller's run, so nobody
//! else can make such a frame; the nonce is new in each, so that an old one is known as such.

use openflow::{DatapathId, MacAddr, PortNo};

use super::tag::{Secret, tag};
use crate::core::topo::Place;

/// EtherType of LLDP.
const ETHERTYPE_LLDP: u16 = 0x88cc;
/// EtherType of the frames that bridges flood.
const ETHERTYPE_BDDP: u16 = 0x8942;
/// The group address that bridges keep to the wire.
const NEAREST_BRIDGE: MacAddr = MacAddr([0x01, 0x80, 0xc2, 0, 0, 0x0e]);
/// The organisation that OpenFlow controllers sign with, and our subtype.
const ORGANISATION: [u8; 4] = [0x00, 0x26, 0xe1, 0x6f];
/// Seconds that other listeners may keep what they read.
const TTL_S: u16 = 120;
/// Kind, datapath id, port and nonce.
const CLAIM_BYTES: usize = 21;

/// Which links a frame finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProbeKind {
    /// Those without a bridge in between.
    Lldp,
    /// Those with bridges in between too.
    Bddp,
}

impl ProbeKind {
    const fn number(self) -> u8 {
        match self {
            Self::Lldp => 1,
            Self::Bddp => 2,
        }
    }
}

/// What a frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Which links it finds.
    pub kind: ProbeKind,
    /// The port that it was sent out of.
    pub from: Place,
    /// Tells it from every other frame of this port.
    pub nonce: u64,
}

/// What a received frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// Ours, with the right check value.
    Ours(Probe),
    /// It says that it is ours, and the check value is wrong.
    Forged,
    /// LLDP of somebody else, or no discovery frame.
    Other,
}

impl Probe {
    fn claim(&self) -> [u8; CLAIM_BYTES] {
        let mut bytes = [0; CLAIM_BYTES];
        bytes[0] = self.kind.number();
        bytes[1..9].copy_from_slice(&self.from.dpid.0.to_be_bytes());
        bytes[9..13].copy_from_slice(&self.from.port.0.to_be_bytes());
        bytes[13..].copy_from_slice(&self.nonce.to_be_bytes());
        bytes
    }

    /// The frame, from the port's own address.
    #[must_use]
    pub fn frame(&self, source: MacAddr, secret: Secret) -> Vec<u8> {
        let (to, ethertype) = match self.kind {
            ProbeKind::Lldp => (NEAREST_BRIDGE, ETHERTYPE_LLDP),
            ProbeKind::Bddp => (MacAddr::BROADCAST, ETHERTYPE_BDDP),
        };
        let mut frame = [&to.0[..], &source.0, &ethertype.to_be_bytes()].concat();
        let local = |text: String| [&[7], text.as_bytes()].concat();
        put(&mut frame, 1, &local(format!("dpid:{}", self.from.dpid)));
        put(&mut frame, 2, &local(self.from.port.0.to_string()));
        put(&mut frame, 3, &TTL_S.to_be_bytes());
        let claim = self.claim();
        put(&mut frame, 127, &[&ORGANISATION[..], &claim, &tag(secret, &claim).to_be_bytes()].concat());
        put(&mut frame, 0, &[]);
        frame
    }

    /// Reads a received frame.
    #[must_use]
    pub fn read(frame: &[u8], secret: Secret) -> Read {
        let ethertype = frame.get(12..14).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]));
        let kind = match ethertype {
            Some(ETHERTYPE_LLDP) => ProbeKind::Lldp,
            Some(ETHERTYPE_BDDP) => ProbeKind::Bddp,
            _ => return Read::Other,
        };
        let Some(body) = frame.get(14..).and_then(our_part) else { return Read::Other };
        let read = || {
            let (claim, check) = body.split_first_chunk::<CLAIM_BYTES>()?;
            let check = u64::from_be_bytes(*check.first_chunk()?);
            let dpid = DatapathId(u64::from_be_bytes(claim[1..9].try_into().ok()?));
            let port = PortNo(u32::from_be_bytes(claim[9..13].try_into().ok()?));
            let nonce = u64::from_be_bytes(claim[13..].try_into().ok()?);
            let probe = Self { kind, from: Place::new(dpid, port), nonce };
            (probe.claim() == *claim && tag(secret, claim) == check).then_some(probe)
        };
        read().map_or(Read::Forged, Read::Ours)
    }
}

/// Whether a frame is meant for discovery, whoever sent it.
#[must_use]
pub const fn is_discovery(ethertype: u16) -> bool {
    matches!(ethertype, ETHERTYPE_LLDP | ETHERTYPE_BDDP)
}

fn put(frame: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(value.len()).unwrap_or(0x1ff) & 0x1ff;
    frame.extend((kind << 9 | length).to_be_bytes());
    frame.extend(value);
}

/// The value of our organisation's part, behind its subtype.
fn our_part(mut rest: &[u8]) -> Option<&[u8]> {
    while let Some((head, tail)) = rest.split_first_chunk::<2>() {
        let head = u16::from_be_bytes(*head);
        let (value, after) = tail.split_at_checked(usize::from(head & 0x1ff))?;
        match head >> 9 {
            0 => return None,
            127 if value.starts_with(&ORGANISATION) => return value.get(ORGANISATION.len()..),
            _ => rest = after,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: Secret = Secret([7; 16]);
    const PROBE: Probe = Probe {
        kind: ProbeKind::Lldp,
        from: Place::new(DatapathId(0xab), PortNo(3)),
        nonce: 0x0102_0304_0506_0708,
    };
    const SOURCE: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);

    #[test]
    fn the_bytes_of_a_frame() {
        let frame = PROBE.frame(SOURCE, SECRET);
        let head = [0x01, 0x80, 0xc2, 0, 0, 0x0e, 2, 0, 0, 0, 0, 9, 0x88, 0xcc];
        assert_eq!(frame[..14], head);
        assert_eq!(frame[14..16], [0x02, 22], "chassis id: subtype and 21 characters");
        assert_eq!(&frame[16..38], b"\x07dpid:00000000000000ab");
        assert_eq!(&frame[38..42], b"\x04\x02\x073");
        assert_eq!(frame[42..46], [0x06, 2, 0, 120]);
        assert_eq!(frame[46..53], [0xfe, 33, 0x00, 0x26, 0xe1, 0x6f, 1]);
        assert_eq!(frame[frame.len() - 2..], [0, 0]);
        assert_eq!(frame.len(), 14 + 24 + 4 + 4 + 35 + 2);
    }

    #[test]
    fn what_is_written_reads_back_under_the_same_secret_only() {
        for kind in [ProbeKind::Lldp, ProbeKind::Bddp] {
            let probe = Probe { kind, ..PROBE };
            let frame = probe.frame(SOURCE, SECRET);
            assert_eq!(Probe::read(&frame, SECRET), Read::Ours(probe));
            assert_eq!(Probe::read(&frame, Secret([8; 16])), Read::Forged);
        }
    }

    #[test]
    fn no_changed_bit_of_our_part_and_no_other_kind_of_frame_passes() {
        let frame = PROBE.frame(SOURCE, SECRET);
        for at in 52..frame.len() - 2 {
            for bit in 0..8 {
                let mut changed = frame.clone();
                changed[at] ^= 1 << bit;
                assert_eq!(Probe::read(&changed, SECRET), Read::Forged, "byte {at}");
            }
        }
        let mut other = frame;
        other[12..14].copy_from_slice(&ETHERTYPE_BDDP.to_be_bytes());
        assert_eq!(Probe::read(&other, SECRET), Read::Forged, "an LLDP body in the other kind of frame");
    }

    #[test]
    fn no_length_panics_and_lldp_of_others_is_no_forgery() {
        let frame = PROBE.frame(SOURCE, SECRET);
        for length in 0..frame.len() {
            assert!(
                !matches!(Probe::read(&frame[..length], SECRET), Read::Ours(_)) || length >= frame.len() - 2
            );
        }
        let mut others = frame[..46].to_vec();
        others.extend([0xfe, 5, 0x00, 0x80, 0xc2, 1, 1, 0, 0]);
        assert_eq!(Probe::read(&others, SECRET), Read::Other);
    }
}
