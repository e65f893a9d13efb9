//! Flow-mods of one form, written by copying one that the codec wrote and filling in what differs.
//!
//! A learning switch sends the same flow-mod again and again, with other addresses, ports and cookies. Where those are
//! in the message is found by encoding the form with different values and comparing.

use std::ops::Range;

use openflow::{MacAddr, Message, PortNo, Version, Xid};

use super::cookie::{Purpose, Sequence, cookie};
use super::entries::{Entry, Key};
use super::pipeline::{Layout, Timeouts};

/// Where the transaction id is in every message.
const XID: Range<usize> = 4..8;

/// A flow-mod to be filled in.
#[derive(Clone, Debug)]
pub struct Stencil {
    bytes: Vec<u8>,
    timeouts: Timeouts,
    version: Version,
    in_port: Range<usize>,
    src: Range<usize>,
    dst: Range<usize>,
    vlan: Range<usize>,
    out: Range<usize>,
    sequence: Range<usize>,
}

/// Two values of each field that differ in every byte, but for the upper byte of sequence numbers, which have 24 bits.
const ONE: (u32, u8, u16) = (0x0101_0101, 0x11, 0x0101);
const TWO: (u32, u8, u16) = (0x0202_0202, 0x22, 0x0202);

impl Stencil {
    /// The form of entries for `purpose` with an output, with a VLAN tag or without; `None` if the tables do not admit
    /// it, or the version cannot say it.
    #[must_use]
    pub fn new(
        layout: Layout,
        version: Version,
        purpose: Purpose,
        tagged: bool,
        timeouts: Timeouts,
    ) -> Option<Self> {
        let port = |value: u32| if version == Version::V1_0 { PortNo(value & 0xffff) } else { PortNo(value) };
        let key = Key {
            in_port: port(ONE.0),
            vlan: tagged.then_some(ONE.2),
            src: MacAddr([ONE.1; 6]),
            dst: MacAddr([ONE.1; 6]),
        };
        let entry = Entry {
            purpose,
            out: Some(port(ONE.0)),
            sequence: Sequence::of(ONE.0),
            since: std::time::Duration::ZERO,
        };
        let encoded = |key: &Key, entry: &Entry| {
            let flow_mod = layout.add(key, entry, timeouts).ok()?;
            let mut bytes = Vec::new();
            Message::FlowMod(flow_mod).encode(version, Xid(0), &mut bytes).ok()?;
            Some(bytes)
        };
        let bytes = encoded(&key, &entry)?;
        let place = |key: &Key, entry: &Entry| Some(difference(&bytes, &encoded(key, entry)?));
        Some(Self {
            in_port: place(&Key { in_port: port(TWO.0), ..key }, &entry)?,
            src: place(&Key { src: MacAddr([TWO.1; 6]), ..key }, &entry)?,
            dst: place(&Key { dst: MacAddr([TWO.1; 6]), ..key }, &entry)?,
            vlan: place(&Key { vlan: tagged.then_some(TWO.2), ..key }, &entry)?,
            out: place(&key, &Entry { out: Some(port(TWO.0)), ..entry })?,
            sequence: place(&key, &Entry { sequence: Sequence::of(TWO.0), ..entry })?,
            timeouts,
            version,
            bytes,
        })
    }

    /// Whether it has these timeouts.
    #[must_use]
    pub fn has(&self, timeouts: Timeouts) -> bool {
        self.timeouts == timeouts
    }

    /// Appends the flow-mod that adds an entry of this form; false if a port cannot be written, and then nothing is.
    pub fn write(&self, xid: Xid, key: &Key, entry: &Entry, message: &mut Vec<u8>) -> bool {
        let ports = (self.port(key.in_port), entry.out.and_then(|out| self.port(out)));
        let (Some(in_port), Some(out)) = ports else { return false };
        let start = message.len();
        message.extend_from_slice(&self.bytes);
        let Some(bytes) = message.get_mut(start..) else { return false };
        let cookie = cookie(entry.purpose, entry.sequence).0.to_be_bytes();
        // The tag's presence is in the upper bits of its field in 1.3, and nowhere in 1.0; both are in the form.
        let vlan = key.vlan.unwrap_or_default().to_be_bytes();
        fill(bytes, &XID, &xid.0.to_be_bytes());
        fill(bytes, &self.in_port, &in_port);
        fill(bytes, &self.src, &key.src.0);
        fill(bytes, &self.dst, &key.dst.0);
        fill(bytes, &self.out, &out);
        fill(bytes, &self.sequence, &cookie);
        if let Some([high, low]) = bytes.get_mut(self.vlan.clone()).filter(|place| place.len() == 2) {
            *high = (*high & 0xf0) | (vlan[0] & 0x0f);
            *low = vlan[1];
        }
        true
    }

    /// A port in four bytes, of which 1.0 takes the last two.
    fn port(&self, port: PortNo) -> Option<[u8; 4]> {
        match self.version {
            Version::V1_0 => port.to_v1_0().map(|port| u32::from(port).to_be_bytes()),
            Version::V1_3 => Some(port.0.to_be_bytes()),
        }
    }
}

/// Writes the end of `value`, as long as the place is.
fn fill(bytes: &mut [u8], place: &Range<usize>, value: &[u8]) {
    let skip = value.len().saturating_sub(place.len());
    if let (Some(place), Some(value)) = (bytes.get_mut(place.clone()), value.get(skip..)) {
        place.copy_from_slice(value);
    }
}

/// From the first byte that differs to the last.
fn difference(one: &[u8], other: &[u8]) -> Range<usize> {
    let differ = |at: &usize| one.get(*at) != other.get(*at);
    let all = 0..one.len();
    match (all.clone().find(differ), all.rev().find(differ)) {
        (Some(first), Some(last)) => first..last + 1,
        _ => 0..0,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_it_writes_is_what_the_codec_writes() {
        let timeouts = Timeouts { idle_s: 10, hard_s: 120 };
        let mut sequence = Sequence::default();
        for (layout, version) in [
            (Layout::Three, Version::V1_3),
            (Layout::Single(Version::V1_3), Version::V1_3),
            (Layout::Single(Version::V1_0), Version::V1_0),
        ] {
            for (purpose, vlan, in_port, out) in [
                (Purpose::Forward, None, PortNo(1), PortNo(300)),
                (Purpose::Forward, Some(0), PortNo(300), PortNo::LOCAL),
                (Purpose::Transit, Some(4095), PortNo::LOCAL, PortNo(2)),
                (Purpose::Transit, None, PortNo(0xfeff), PortNo(0xff)),
            ] {
                sequence = sequence.next();
                let key = Key {
                    in_port,
                    vlan,
                    src: MacAddr([2, 0xff, 0, 1, 2, 3]),
                    dst: MacAddr([4, 5, 0x80, 7, 8, 9]),
                };
                let entry = Entry { purpose, out: Some(out), sequence, since: Duration::ZERO };
                let mut expected = b"before".to_vec();
                let flow_mod = layout.add(&key, &entry, timeouts).unwrap();
                Message::FlowMod(flow_mod).encode(version, Xid(77), &mut expected).unwrap();
                let stencil = Stencil::new(layout, version, purpose, vlan.is_some(), timeouts).unwrap();
                let mut written = b"before".to_vec();
                assert!(stencil.write(Xid(77), &key, &entry, &mut written));
                assert_eq!(written, expected, "{layout:?} {key:?}");
            }
        }
    }

    #[test]
    fn a_port_without_a_number_in_1_0_is_left_to_the_codec() {
        let layout = Layout::Single(Version::V1_0);
        let never = Timeouts { idle_s: 0, hard_s: 0 };
        let stencil = Stencil::new(layout, Version::V1_0, Purpose::Forward, false, never).unwrap();
        let key = Key { in_port: PortNo(70_000), vlan: None, src: MacAddr([2; 6]), dst: MacAddr([4; 6]) };
        let entry = Entry {
            purpose: Purpose::Forward,
            out: Some(PortNo(1)),
            sequence: Sequence::default(),
            since: Duration::ZERO,
        };
        let mut written = Vec::new();
        assert!(!stencil.write(Xid(1), &key, &entry, &mut written) && written.is_empty());
    }
}
