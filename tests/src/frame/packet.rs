//! IPv4 and IPv6 packets.

use super::{ACK, DONT_FRAGMENT, Ip, MORE_FRAGMENTS, Mac, ethernet, octets, ones_sum, pseudo_header};

/// What stands in the checksum field of TCP, UDP or ICMP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// The right one.
    Full,
    /// The pseudo header's sum, not inverted, as a sender leaves it that has offload on.
    Partial,
    /// Just this.
    Value(u16),
}

/// The transport part of a [`Packet`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum L4 {
    /// TCP.
    Tcp {
        /// Sequence number.
        seq: u32,
        /// Acknowledgement number.
        ack: u32,
        /// Flags.
        flags: u8,
        /// Window.
        window: u16,
        /// Options, a multiple of four bytes.
        options: Vec<u8>,
        /// Overrides the data offset, in words.
        offset: Option<u8>,
    },
    /// UDP.
    Udp {
        /// Overrides the length field.
        length: Option<u16>,
    },
    /// ICMP, or ICMPv6 in an IPv6 packet.
    Icmp {
        /// Type and code.
        kind: (u8, u8),
        /// The four bytes behind the checksum.
        rest: [u8; 4],
    },
    /// Another protocol: its number; the payload is all of it.
    Other(u8),
}

/// An extension header of IPv6: its number and its bytes, of which the first is filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    /// The number by which the header in front names it.
    pub kind: u8,
    /// All of its bytes.
    pub bytes: Vec<u8>,
}

impl Extension {
    /// Hop-by-hop options (0) or destination options (60) of so many times eight bytes: one `PadN` option.
    #[must_use]
    pub fn options(kind: u8, units: u8) -> Self {
        let mut bytes = vec![0; 8 * usize::from(units)];
        bytes[1] = units - 1;
        bytes[2] = 1;
        bytes[3] = (bytes.len() - 4) as u8;
        Self { kind, bytes }
    }

    /// A routing header of an unknown type with so many segments left.
    #[must_use]
    pub fn routing(left: u8) -> Self {
        Self { kind: 43, bytes: vec![0, 0, 99, left, 0, 0, 0, 0] }
    }

    /// A fragment header: offset in bytes, a multiple of eight.
    #[must_use]
    pub fn fragment(offset: u16, more: bool, id: u32) -> Self {
        let mut bytes = vec![0, 0];
        bytes.extend((offset | u16::from(more)).to_be_bytes());
        bytes.extend(id.to_be_bytes());
        Self { kind: 44, bytes }
    }
}

/// An IP packet in its Ethernet frame. All fields in the order of people: ports are numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Destination MAC.
    pub dst_mac: Mac,
    /// Source MAC.
    pub src_mac: Mac,
    /// VLAN tags: TPID and TCI, outermost first.
    pub tags: Vec<(u16, u16)>,
    /// Source address; its family is the packet's.
    pub src: Ip,
    /// Destination address.
    pub dst: Ip,
    /// Source port.
    pub sport: u16,
    /// Destination port.
    pub dport: u16,
    /// Transport.
    pub l4: L4,
    /// What follows the transport header.
    pub payload: Vec<u8>,
    /// The transport checksum.
    pub checksum: Checksum,
    /// IPv4 options, a multiple of four bytes.
    pub options: Vec<u8>,
    /// IPv6 extension headers.
    pub extensions: Vec<Extension>,
    /// IPv4's fragment field.
    pub fragment: u16,
    /// The identification; of IPv6 in the fragment header of a [`part`](Self::part).
    pub id: u32,
    /// TTL or hop limit.
    pub ttl: u8,
    /// DSCP and ECN, or the traffic class.
    pub class: u8,
    /// IPv6's flow label.
    pub flow: u32,
    /// First byte of the IPv4 header, or of the IPv6 header, instead of the right one.
    pub version_ihl: Option<u8>,
    /// The total length field, or IPv6's payload length, instead of the right one.
    pub total_length: Option<u16>,
    /// Bytes behind the packet, as Ethernet pads short frames.
    pub padding: usize,
}

impl Packet {
    fn new(from: (Mac, Ip, u16), to: (Mac, Ip, u16), l4: L4, payload: &[u8]) -> Self {
        Self {
            dst_mac: to.0,
            src_mac: from.0,
            tags: Vec::new(),
            src: from.1,
            dst: to.1,
            sport: from.2,
            dport: to.2,
            l4,
            payload: payload.to_vec(),
            checksum: Checksum::Full,
            options: Vec::new(),
            extensions: Vec::new(),
            fragment: DONT_FRAGMENT,
            id: 0x1c46,
            ttl: 64,
            class: 0,
            flow: 0,
            version_ihl: None,
            total_length: None,
            padding: 0,
        }
    }

    /// A TCP segment between two (MAC, address, port).
    #[must_use]
    pub fn tcp(from: (Mac, Ip, u16), to: (Mac, Ip, u16), flags: u8, seq: u32, payload: &[u8]) -> Self {
        let ack = if flags & ACK != 0 { 0x0102_0304 } else { 0 };
        let l4 = L4::Tcp { seq, ack, flags, window: 0x7210, options: Vec::new(), offset: None };
        Self::new(from, to, l4, payload)
    }

    /// A UDP datagram between two (MAC, address, port).
    #[must_use]
    pub fn udp(from: (Mac, Ip, u16), to: (Mac, Ip, u16), payload: &[u8]) -> Self {
        Self::new(from, to, L4::Udp { length: None }, payload)
    }

    /// An ICMP or ICMPv6 message: type, code, and the four bytes behind the checksum.
    #[must_use]
    pub fn icmp(from: (Mac, Ip), to: (Mac, Ip), kind: (u8, u8), rest: [u8; 4], payload: &[u8]) -> Self {
        Self::new((from.0, from.1, 0), (to.0, to.1, 0), L4::Icmp { kind, rest }, payload)
    }

    /// A packet of another protocol.
    #[must_use]
    pub fn other(protocol: u8, from: (Mac, Ip), to: (Mac, Ip), payload: &[u8]) -> Self {
        Self::new((from.0, from.1, 0), (to.0, to.1, 0), L4::Other(protocol), payload)
    }

    /// With a VLAN tag put outside of those there are.
    #[must_use]
    pub fn tag(mut self, tpid: u16, tci: u16) -> Self {
        self.tags.insert(0, (tpid, tci));
        self
    }

    /// With IPv4 options.
    #[must_use]
    pub fn ip_options(mut self, options: &[u8]) -> Self {
        self.options = options.to_vec();
        self
    }

    /// With one more extension header, behind those there are.
    #[must_use]
    pub fn extension(mut self, extension: Extension) -> Self {
        self.extensions.push(extension);
        self
    }

    /// With TCP options.
    #[must_use]
    pub fn tcp_options(mut self, bytes: &[u8]) -> Self {
        if let L4::Tcp { options, .. } = &mut self.l4 {
            *options = bytes.to_vec();
        }
        self
    }

    /// With this fragment field (IPv4).
    #[must_use]
    pub fn fragment(mut self, field: u16) -> Self {
        self.fragment = field;
        self
    }

    /// With this identification.
    #[must_use]
    pub fn id(mut self, id: u32) -> Self {
        self.id = id;
        self
    }

    /// With this TTL or hop limit.
    #[must_use]
    pub fn ttl(mut self, ttl: u8) -> Self {
        self.ttl = ttl;
        self
    }

    /// With this DSCP and ECN, or traffic class.
    #[must_use]
    pub fn class(mut self, class: u8) -> Self {
        self.class = class;
        self
    }

    /// With this in the checksum field.
    #[must_use]
    pub fn checksum(mut self, checksum: Checksum) -> Self {
        self.checksum = checksum;
        self
    }

    /// With this total length field (IPv6: payload length).
    #[must_use]
    pub fn total_length(mut self, length: u16) -> Self {
        self.total_length = Some(length);
        self
    }

    /// With this first byte of the IP header.
    #[must_use]
    pub fn version_ihl(mut self, byte: u8) -> Self {
        self.version_ihl = Some(byte);
        self
    }

    /// Padded with bytes that belong to no header.
    #[must_use]
    pub fn padding(mut self, bytes: usize) -> Self {
        self.padding = bytes;
        self
    }

    /// Sent to another (MAC, address, port): what a balancer makes of the way to a backend.
    #[must_use]
    pub fn to(mut self, to: (Mac, Ip, u16)) -> Self {
        (self.dst_mac, self.dst, self.dport) = to;
        self
    }

    /// Sent from another (MAC, address, port): what a balancer makes of a reply.
    #[must_use]
    pub fn from(mut self, from: (Mac, Ip, u16)) -> Self {
        (self.src_mac, self.src, self.sport) = from;
        self
    }

    /// With another destination MAC.
    #[must_use]
    pub fn to_mac(mut self, mac: Mac) -> Self {
        self.dst_mac = mac;
        self
    }

    /// With another source MAC.
    #[must_use]
    pub fn from_mac(mut self, mac: Mac) -> Self {
        self.src_mac = mac;
        self
    }

    /// The bytes `from..to` of its transport part, header included, as a fragment; `from` is a multiple of eight.
    #[must_use]
    pub fn part(&self, from: usize, to: usize) -> Self {
        let transport = self.transport();
        let more = to < transport.len();
        let (from, to) = (from.min(transport.len()), to.min(transport.len()));
        let mut part =
            Self { l4: L4::Other(self.protocol()), payload: transport[from..to].to_vec(), ..self.clone() };
        if self.src.is_ipv4() {
            part.fragment = (from / 8) as u16 | if more { MORE_FRAGMENTS } else { 0 };
        } else {
            part.extensions.push(Extension::fragment(from as u16, more, self.id));
        }
        part
    }

    /// The frame of this packet inside another one between two (MAC, address) (RFC 2003, RFC 2473).
    #[must_use]
    pub fn inside(&self, from: (Mac, Ip), to: (Mac, Ip)) -> Vec<u8> {
        let protocol = if self.src.is_ipv4() { 4 } else { 41 };
        let mut outer = Self::other(protocol, from, to, &self.ip_bytes()).id(0).class(self.class);
        outer.tags.clone_from(&self.tags);
        outer.padding = self.padding;
        outer.bytes()
    }

    /// The first bytes of its IP packet, up to the eighth of the transport: what an ICMP error quotes.
    #[must_use]
    pub fn quoted(&self) -> Vec<u8> {
        let mut bytes = self.ip_bytes();
        bytes.truncate(self.header_length() + 8);
        bytes
    }

    /// IP protocol number of the transport.
    #[must_use]
    pub fn protocol(&self) -> u8 {
        match self.l4 {
            L4::Tcp { .. } => 6,
            L4::Udp { .. } => 17,
            L4::Icmp { .. } if self.src.is_ipv4() => 1,
            L4::Icmp { .. } => 58,
            L4::Other(protocol) => protocol,
        }
    }

    /// Where the transport header begins in the frame.
    #[must_use]
    pub fn l4_at(&self) -> usize {
        14 + 4 * self.tags.len() + self.header_length()
    }

    fn header_length(&self) -> usize {
        if self.src.is_ipv4() {
            20 + self.options.len()
        } else {
            40 + self.extensions.iter().map(|e| e.bytes.len()).sum::<usize>()
        }
    }

    /// The transport header with its checksum, and the payload.
    fn transport(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if matches!(self.l4, L4::Tcp { .. } | L4::Udp { .. }) {
            out.extend(self.sport.to_be_bytes());
            out.extend(self.dport.to_be_bytes());
        }
        let checksum_at = match &self.l4 {
            L4::Tcp { seq, ack, flags, window, options, offset } => {
                out.extend(seq.to_be_bytes());
                out.extend(ack.to_be_bytes());
                out.push(offset.unwrap_or(5 + (options.len() / 4) as u8) << 4);
                out.push(*flags);
                out.extend(window.to_be_bytes());
                out.extend([0; 4]);
                out.extend(options);
                Some(16)
            }
            L4::Udp { length } => {
                out.extend(length.unwrap_or(8 + self.payload.len() as u16).to_be_bytes());
                out.extend([0, 0]);
                Some(6)
            }
            L4::Icmp { kind, rest } => {
                out.extend([kind.0, kind.1, 0, 0]);
                out.extend(rest);
                Some(2)
            }
            L4::Other(_) => None,
        };
        out.extend(&self.payload);
        if let Some(at) = checksum_at {
            let value = self.checksum_value(&out);
            out[at..at + 2].copy_from_slice(&value.to_be_bytes());
        }
        out
    }

    fn checksum_value(&self, transport: &[u8]) -> u16 {
        let mut pseudo = pseudo_header(self.src, self.dst, self.protocol(), transport.len());
        if self.protocol() == 1 {
            // RFC 792 has no pseudo header.
            pseudo.clear();
        }
        match self.checksum {
            Checksum::Value(value) => value,
            Checksum::Partial => ones_sum(&[&pseudo]),
            Checksum::Full => match !ones_sum(&[&pseudo, transport]) {
                // RFC 768: a sum of zero is sent as all ones, zero means that there is none.
                0 if self.protocol() == 17 => 0xffff,
                value => value,
            },
        }
    }

    /// The IP packet without its Ethernet header and padding.
    #[must_use]
    pub fn ip_bytes(&self) -> Vec<u8> {
        let transport = self.transport();
        let mut ip =
            if self.src.is_ipv4() { self.header4(transport.len()) } else { self.header6(transport.len()) };
        ip.extend(transport);
        ip
    }

    fn header4(&self, transport: usize) -> Vec<u8> {
        let header = self.header_length();
        let total = self.total_length.unwrap_or((header + transport) as u16);
        let mut ip = vec![self.version_ihl.unwrap_or(0x40 | (header / 4) as u8), self.class];
        ip.extend(total.to_be_bytes());
        ip.extend((self.id as u16).to_be_bytes());
        ip.extend(self.fragment.to_be_bytes());
        ip.extend([self.ttl, self.protocol(), 0, 0]);
        ip.extend(octets(self.src));
        ip.extend(octets(self.dst));
        ip.extend(&self.options);
        let checksum = !ones_sum(&[&ip]);
        ip[10..12].copy_from_slice(&checksum.to_be_bytes());
        ip
    }

    fn header6(&self, transport: usize) -> Vec<u8> {
        let payload = self.total_length.unwrap_or((self.header_length() - 40 + transport) as u16);
        let mut ip = (6 << 28 | u32::from(self.class) << 20 | self.flow).to_be_bytes().to_vec();
        ip[0] = self.version_ihl.unwrap_or(ip[0]);
        ip.extend(payload.to_be_bytes());
        let kinds: Vec<u8> = self.extensions.iter().map(|e| e.kind).chain([self.protocol()]).collect();
        ip.extend([kinds[0], self.ttl]);
        ip.extend(octets(self.src));
        ip.extend(octets(self.dst));
        for (extension, next) in self.extensions.iter().zip(&kinds[1..]) {
            ip.push(*next);
            ip.extend(&extension.bytes[1..]);
        }
        ip
    }

    /// The frame.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let ethertype = if self.src.is_ipv4() { 0x0800 } else { 0x86dd };
        let mut out = ethernet(self.dst_mac, self.src_mac, &self.tags, ethertype);
        out.extend(self.ip_bytes());
        out.extend(vec![0; self.padding]);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::super::{SYN, v4, v6};
    use super::*;

    const A: (Mac, Ip, u16) = ([2, 0, 0, 0, 0, 1], v4(192, 168, 0, 1), 0x1234);
    const B: (Mac, Ip, u16) = ([2, 0, 0, 0, 0, 2], v4(192, 168, 0, 199), 53);
    const A6: (Mac, Ip, u16) = ([2, 0, 0, 0, 0, 1], v6(0, 1), 0x1234);
    const B6: (Mac, Ip, u16) = ([2, 0, 0, 0, 0, 2], v6(0, 2), 53);

    #[test]
    fn udp_bytes_by_hand() {
        // Pseudo header c0a8+0001+c0a8+00c7+0011+000a, header 1234+0035+000a, data 6869: sum fd10.
        let bytes = Packet::udp(A, B, b"hi").bytes();
        assert_eq!(bytes[..14], [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0]);
        assert_eq!(bytes[14..24], [0x45, 0, 0, 30, 0x1c, 0x46, 0x40, 0, 64, 17]);
        assert_eq!(bytes[34..], [0x12, 0x34, 0, 53, 0, 10, 0x02, 0xef, b'h', b'i']);
    }

    #[test]
    fn udp_over_ipv6_by_hand() {
        // Pseudo header 2001+0db8+0001 + 2001+0db8+0002 + 000a + 0011, header 1234+0035+000a, data 6869: d66c.
        let bytes = Packet::udp(A6, B6, b"hi").bytes();
        assert_eq!(bytes[12..22], [0x86, 0xdd, 0x60, 0, 0, 0, 0, 10, 17, 64]);
        assert_eq!(bytes[54..], [0x12, 0x34, 0, 53, 0, 10, 0x29, 0x93, b'h', b'i']);
    }

    #[test]
    fn checksums_verify() {
        let (a, b) = ((A.0, A.1), (B.0, B.1));
        for packet in [
            Packet::tcp(A, B, SYN, 7, b"odd"),
            Packet::udp(A, B, b"odd").ip_options(&[1; 4]),
            Packet::icmp(a, b, (8, 0), [0; 4], b"odd"),
            Packet::icmp((A6.0, A6.1), (B6.0, B6.1), (128, 0), [0; 4], b"odd"),
            Packet::tcp(A6, B6, SYN, 7, b"odd").extension(Extension::options(60, 2)),
        ] {
            let bytes = packet.bytes();
            if packet.src.is_ipv4() {
                assert_eq!(ones_sum(&[&bytes[14..packet.l4_at()]]), 0xffff);
            }
            let transport = &bytes[packet.l4_at()..];
            let pseudo = pseudo_header(packet.src, packet.dst, packet.protocol(), transport.len());
            let pseudo = if packet.protocol() == 1 { &[][..] } else { &pseudo };
            assert_eq!(ones_sum(&[pseudo, transport]), 0xffff);
        }
    }

    #[test]
    fn parts_make_up_the_whole() {
        for packet in [Packet::udp(A, B, b"0123456789abcdef"), Packet::udp(A6, B6, b"0123456789abcdef")] {
            let (first, last) = (packet.part(0, 16), packet.part(16, 99));
            let whole = packet.bytes();
            let both = [&first.bytes()[first.l4_at()..], &last.bytes()[last.l4_at()..]].concat();
            assert_eq!(both, whole[packet.l4_at()..]);
        }
        assert_eq!(Packet::udp(A, B, b"0123456789abcdef").part(8, 16).fragment, 0x2001);
        let last = Packet::udp(A6, B6, b"0123456789abcdef").part(16, 24).bytes();
        assert_eq!(last[54..62], [17, 0, 0, 16, 0, 0, 0x1c, 0x46]);
    }

    #[test]
    fn tags_stand_in_front_of_the_ethertype() {
        let bytes = Packet::udp(A, B, b"").tag(0x8100, 5).tag(0x88a8, 7).bytes();
        assert_eq!(bytes[12..22], [0x88, 0xa8, 0, 7, 0x81, 0, 0, 5, 8, 0]);
    }
}
