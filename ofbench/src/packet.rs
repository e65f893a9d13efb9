//! The packets of the hosts behind a fake switch, as whole PACKET_IN messages that are patched in place.
//!
//! ```text
//!   OpenFlow header, packet-in fields | Ethernet, IPv4, UDP | zeros | MARK (4) | sequence number (4)
//!                                       60 bytes in all
//! ```
//!
//! The mark and the number come back at the end of the packet-out that answers, and tell which packet it answers.

use std::net::{Ipv4Addr, SocketAddrV4};

use openflow::{BufferId, Message, PacketIn, PacketInReason, PortNo, TableId, Version, Xid};

/// Shortest Ethernet frame without its check sequence.
const FRAME_BYTES: usize = 60;
/// Marks our frames: a controller sends others, such as LLDP, too.
const MARK: [u8; 4] = *b"ofbn";
/// What a frame ends with: mark and number.
const TAIL_BYTES: usize = 8;
/// ARP, as a reply that nobody asked for (RFC 826, RFC 5227 section 3).
const ARP: [u8; 10] = [0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 2];
/// EtherType IPv4; version 4, no options, 46 bytes, TTL 64, UDP.
const IPV4: [u8; 14] = [0x08, 0x00, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0];
/// UDP port 5001 to port 5001, 26 bytes, without a check sum.
const UDP: [u8; 8] = [0x13, 0x89, 0x13, 0x89, 0, 26, 0, 0];
/// EtherType IPv4; version 4, no options, 46 bytes, TTL 64, TCP.
const IPV4_TCP: [u8; 14] = [0x08, 0x00, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 6, 0, 0];
/// TCP behind its ports: sequence number 1, no acknowledgement, 20 bytes, SYN, window.
const TCP_SYN: [u8; 12] = [0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0x20, 0];
/// Source ports that a host opens connections from, one after the other.
const PORTS: u32 = 60_000;
const FIRST_PORT: u32 = 1024;
/// Where the sum of the IPv4 header is in the frame.
const SUM_AT: usize = 24;

/// A host: the switch that it is behind, and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Host {
    /// The switch's number.
    pub switch: u16,
    /// The host's, below 2^16.
    pub number: u32,
}

impl Host {
    /// Its address: locally administered, unicast.
    #[must_use]
    pub const fn mac(self) -> [u8; 6] {
        let ([a, b], [_, c, d, e]) = (self.switch.to_be_bytes(), self.number.to_be_bytes());
        [0x02, a, b, c, d, e]
    }

    /// Its IPv4 address, `10.S.H.H`.
    #[must_use]
    pub const fn address(self) -> [u8; 4] {
        let ([_, a], [_, _, b, c]) = (self.switch.to_be_bytes(), self.number.to_be_bytes());
        [10, a, b, c]
    }
}

/// PACKET_IN messages of one version, written by patching one that the codec wrote.
#[derive(Clone, Debug)]
pub struct Template {
    message: Vec<u8>,
    /// Where the port is, and in how many bytes.
    port_at: std::ops::Range<usize>,
    frame_at: usize,
}

impl Template {
    /// The messages of `version`.
    ///
    /// # Errors
    /// The codec refuses them, which would be a mistake here.
    pub fn new(version: Version) -> Result<Self, openflow::EncodeError> {
        let three = version == Version::V1_3;
        let packet = PacketIn {
            buffer_id: BufferId::NO_BUFFER,
            total_len: 60,
            reason: PacketInReason::NoMatch,
            in_port: PortNo(1),
            table_id: three.then_some(TableId(0)),
            cookie: three.then_some(openflow::Cookie(u64::MAX)),
            match_: None,
            data: vec![0; FRAME_BYTES],
        };
        let mut message = Vec::new();
        Message::PacketIn(packet).encode(version, Xid(0), &mut message)?;
        // 1.0: header 8, buffer 4, length 2. 1.3: header 8, 16 bytes of fields, match header 4, OXM header 4.
        let port_at = if three { 32..36 } else { 14..16 };
        let frame_at = message.len() - FRAME_BYTES;
        Ok(Self { message, port_at, frame_at })
    }

    /// Appends a UDP packet from one host to another.
    pub fn udp(&self, from: Host, port: u16, to: Host, number: u32, out: &mut Vec<u8>) {
        let frame = self.begin(port, out);
        put(frame, 0, &to.mac());
        put(frame, 6, &from.mac());
        put(frame, 12, &IPV4);
        put(frame, 26, &from.address());
        put(frame, 30, &to.address());
        put(frame, 34, &UDP);
        let sum = header_sum(frame);
        put(frame, SUM_AT, &sum.to_be_bytes());
        end(frame, number);
    }

    /// Appends the SYN of a connection to a VIP: each number is another connection. The mark lies over what nobody looks at,
    /// the urgent pointer and six bytes of data.
    pub fn syn(&self, from: Host, port: u16, vip: SocketAddrV4, number: u32, out: &mut Vec<u8>) {
        let frame = self.begin(port, out);
        let source = FIRST_PORT + number % PORTS;
        put(frame, 0, &virtual_mac(*vip.ip()));
        put(frame, 6, &from.mac());
        put(frame, 12, &IPV4_TCP);
        put(frame, 26, &from.address());
        put(frame, 30, &vip.ip().octets());
        put(frame, 34, &(source as u16).to_be_bytes());
        put(frame, 36, &vip.port().to_be_bytes());
        put(frame, 38, &TCP_SYN);
        let sum = header_sum(frame);
        put(frame, SUM_AT, &sum.to_be_bytes());
        end(frame, number);
    }

    /// Appends the answer of a host to the ARP request in `request`.
    pub fn answer(&self, of: Host, port: u16, request: &[u8], out: &mut Vec<u8>) {
        let (asker, asked) =
            (request.get(6..12).unwrap_or_default(), request.get(22..32).unwrap_or_default());
        let frame = self.begin(port, out);
        put(frame, 0, asker);
        put(frame, 6, &of.mac());
        put(frame, 12, &ARP);
        put(frame, 22, &of.mac());
        put(frame, 28, &of.address());
        put(frame, 32, asked);
    }

    /// Appends an announcement of a host's address, to all.
    pub fn announcement(&self, of: Host, port: u16, number: u32, out: &mut Vec<u8>) {
        let frame = self.begin(port, out);
        put(frame, 0, &[0xff; 6]);
        put(frame, 6, &of.mac());
        put(frame, 12, &ARP);
        put(frame, 22, &of.mac());
        put(frame, 28, &of.address());
        put(frame, 32, &[0xff; 6]);
        put(frame, 38, &of.address());
        end(frame, number);
    }

    /// Appends the message with its port; its frame, to be filled.
    fn begin<'a>(&self, port: u16, out: &'a mut Vec<u8>) -> &'a mut [u8] {
        let start = out.len();
        out.extend_from_slice(&self.message);
        let message = out.get_mut(start..).unwrap_or_default();
        let wide = u32::from(port).to_be_bytes();
        let skip = wide.len() - self.port_at.len();
        if let (Some(place), Some(value)) = (message.get_mut(self.port_at.clone()), wide.get(skip..)) {
            place.copy_from_slice(value);
        }
        message.get_mut(self.frame_at..).unwrap_or_default()
    }
}

fn put(frame: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = frame.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

fn end(frame: &mut [u8], number: u32) {
    let at = frame.len() - TAIL_BYTES;
    put(frame, at, &MARK);
    put(frame, at + 4, &number.to_be_bytes());
}

/// The check sum of the IPv4 header (RFC 1071).
fn header_sum(frame: &[u8]) -> u16 {
    let words = frame.get(14..34).unwrap_or_default().chunks_exact(2);
    let sum: u32 = words.map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    !(((sum & 0xffff) + (sum >> 16)) as u16)
}

/// The number, behind its switch, of the host that an ARP request asks for; `None` if the frame is none.
#[must_use]
pub fn asked_for(switch: u16, frame: &[u8]) -> Option<Host> {
    let request = [ARP.get(..9)?, &[1]].concat();
    let [net, of, a, b] = *frame.get(38..42)?.first_chunk()?;
    let number = u32::from(u16::from_be_bytes([a, b]));
    let its = net == 10 && u16::from(of) == switch && frame.get(12..22)? == request;
    its.then_some(Host { switch, number })
}

/// The MAC that a VIP has unless its configuration says otherwise.
const fn virtual_mac(vip: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = vip.octets();
    [0x02, 0x6c, a, b, c, d]
}

/// The connection that a number stands for: which of the hosts opens it.
#[must_use]
pub const fn opener(number: u32, hosts: u32) -> u32 {
    number / PORTS % hosts
}

/// The number of the packet that a whole PACKET_OUT message sends on; `None` if it is none of ours.
#[must_use]
pub fn answered(message: &[u8]) -> Option<u32> {
    let [a, b, c, d, number @ ..] = *message.last_chunk::<TAIL_BYTES>()?;
    ([a, b, c, d] == MARK).then(|| u32::from_be_bytes(number))
}

#[cfg(test)]
mod tests {
    use openflow::Message;

    use super::*;

    #[test]
    fn messages_decode_to_what_was_asked_for() {
        let (from, to) = (Host { switch: 3, number: 258 }, Host { switch: 3, number: 7 });
        for version in [Version::V1_0, Version::V1_3] {
            let template = Template::new(version).unwrap();
            let mut bytes = Vec::new();
            template.udp(from, 5, to, 77, &mut bytes);
            assert_eq!((bytes.len(), answered(&bytes)), (template.message.len(), Some(77)));
            let (_, _, Message::PacketIn(packet)) = Message::decode(&bytes).unwrap() else { panic!() };
            assert_eq!((packet.in_port, packet.total_len), (PortNo(5), 60));
            assert_eq!(packet.data[..12], [[2, 0, 3, 0, 0, 7], [2, 0, 3, 0, 1, 2]].concat());
            assert_eq!(packet.data[26..34], [10, 3, 1, 2, 10, 3, 0, 7]);
            let sum: u32 = packet.data[14..34]
                .chunks(2)
                .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
                .sum();
            assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff, "the header adds up");
            bytes.clear();
            template.announcement(from, 2, 5, &mut bytes);
            let (_, _, Message::PacketIn(packet)) = Message::decode(&bytes).unwrap() else { panic!() };
            assert_eq!(packet.data[..14], [255, 255, 255, 255, 255, 255, 2, 0, 3, 0, 1, 2, 8, 6]);
            assert_eq!(packet.data[28..32], packet.data[38..42]);
        }
    }

    #[test]
    fn connections_to_a_vip_and_answers_to_its_probes() {
        let host = Host { switch: 0, number: 2 };
        let template = Template::new(Version::V1_3).unwrap();
        let data = |bytes: &[u8]| match Message::decode(bytes).unwrap() {
            (_, _, Message::PacketIn(packet)) => packet.data,
            other => panic!("{other:?}"),
        };
        let mut bytes = Vec::new();
        template.syn(host, 3, "10.0.1.1:80".parse().unwrap(), 60_007, &mut bytes);
        let frame = data(&bytes);
        assert_eq!((answered(&bytes), frame.len()), (Some(60_007), 60));
        assert_eq!(frame[..6], [2, 0x6c, 10, 0, 1, 1]);
        assert_eq!(frame[26..38], [10, 0, 0, 2, 10, 0, 1, 1, 4, 7, 0, 80]);
        assert_eq!((frame[46], frame[47], opener(60_007, 10)), (0x50, 2, 1), "a SYN of the second host");
        // Who has 10.0.0.2? Tell nobody.
        let mut probe = [[0xff; 6], [2, 0, 0, 0, 0, 9]].concat();
        probe.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 9, 0, 0, 0, 0]);
        probe.extend([0, 0, 0, 0, 0, 0, 10, 0, 0, 2]);
        assert_eq!((asked_for(0, &probe), asked_for(1, &probe)), (Some(host), None));
        bytes.clear();
        template.answer(host, 3, &probe, &mut bytes);
        let frame = data(&bytes);
        assert_eq!(frame[..6], [2, 0, 0, 0, 0, 9]);
        assert_eq!(frame[20..42], [0, 2, 2, 0, 0, 0, 0, 2, 10, 0, 0, 2, 2, 0, 0, 0, 0, 9, 0, 0, 0, 0]);
        assert_eq!(asked_for(0, &frame), None, "an answer is no question");
    }

    #[test]
    fn other_frames_are_not_counted() {
        assert_eq!(answered(&[0; 80]), None);
        assert_eq!(answered(b"ofbn"), None);
    }
}
