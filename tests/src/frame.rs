//! Frames written byte by byte, with checksums of our own: nothing here comes from the code under test.

/// An Ethernet address.
pub type Mac = [u8; 6];
/// An IPv4 address.
pub type Ip = [u8; 4];

/// The broadcast address.
pub const BROADCAST: Mac = [0xff; 6];

/// TCP flag FIN.
pub const FIN: u8 = 0x01;
/// TCP flag SYN.
pub const SYN: u8 = 0x02;
/// TCP flag RST.
pub const RST: u8 = 0x04;
/// TCP flag PSH.
pub const PSH: u8 = 0x08;
/// TCP flag ACK.
pub const ACK: u8 = 0x10;

/// Flag "more fragments" in the IPv4 fragment field.
pub const MORE_FRAGMENTS: u16 = 0x2000;
/// Flag "don't fragment" in the IPv4 fragment field.
pub const DONT_FRAGMENT: u16 = 0x4000;

/// The one's complement sum of 16-bit words, an odd byte padded with zero (RFC 1071); not inverted.
#[must_use]
pub fn ones_sum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0u32;
    for part in parts {
        for pair in part.chunks(2) {
            sum += u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low));
            if sum > 0xffff {
                sum -= 0xffff;
            }
        }
    }
    sum as u16
}

fn pseudo_header(src: Ip, dst: Ip, protocol: u8, length: usize) -> [u8; 12] {
    let [high, low] = (length as u16).to_be_bytes();
    [src[0], src[1], src[2], src[3], dst[0], dst[1], dst[2], dst[3], 0, protocol, high, low]
}

fn ethernet(dst: Mac, src: Mac, tags: &[(u16, u16)], ethertype: u16) -> Vec<u8> {
    let mut out = [dst, src].concat();
    for (tpid, tci) in tags {
        out.extend(tpid.to_be_bytes());
        out.extend(tci.to_be_bytes());
    }
    out.extend(ethertype.to_be_bytes());
    out
}

/// What stands in the checksum field of TCP or UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// The right one.
    Full,
    /// The pseudo header's sum, not inverted, as a sender leaves it that has offload on.
    Partial,
    /// Just this.
    Value(u16),
}

/// The transport part of an [`Ipv4`] packet.
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
    /// Another protocol: its number; the payload is all of it.
    Other(u8),
}

/// An IPv4 packet in its Ethernet frame. All fields in the order of people: ports are numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ipv4 {
    /// Destination MAC.
    pub dst_mac: Mac,
    /// Source MAC.
    pub src_mac: Mac,
    /// VLAN tags: TPID and TCI, outermost first.
    pub tags: Vec<(u16, u16)>,
    /// Source address.
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
    /// The fragment field.
    pub fragment: u16,
    /// First byte of the header instead of version 4 and the right length.
    pub version_ihl: Option<u8>,
    /// The total length field instead of the right one.
    pub total_length: Option<u16>,
    /// Bytes behind the packet, as Ethernet pads short frames.
    pub padding: usize,
}

impl Ipv4 {
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
            fragment: DONT_FRAGMENT,
            version_ihl: None,
            total_length: None,
            padding: 0,
        }
    }

    /// A TCP segment between two (MAC, address, port).
    #[must_use]
    pub fn tcp(from: (Mac, Ip, u16), to: (Mac, Ip, u16), flags: u8, seq: u32, payload: &[u8]) -> Self {
        let ack = if flags & ACK != 0 { 0x0102_0304 } else { 0 };
        Self::new(from, to, L4::Tcp { seq, ack, flags, options: Vec::new(), offset: None }, payload)
    }

    /// A UDP datagram between two (MAC, address, port).
    #[must_use]
    pub fn udp(from: (Mac, Ip, u16), to: (Mac, Ip, u16), payload: &[u8]) -> Self {
        Self::new(from, to, L4::Udp { length: None }, payload)
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

    /// With TCP options.
    #[must_use]
    pub fn tcp_options(mut self, bytes: &[u8]) -> Self {
        if let L4::Tcp { options, .. } = &mut self.l4 {
            *options = bytes.to_vec();
        }
        self
    }

    /// With this fragment field.
    #[must_use]
    pub fn fragment(mut self, field: u16) -> Self {
        self.fragment = field;
        self
    }

    /// With this in the checksum field.
    #[must_use]
    pub fn checksum(mut self, checksum: Checksum) -> Self {
        self.checksum = checksum;
        self
    }

    /// With this total length field.
    #[must_use]
    pub fn total_length(mut self, length: u16) -> Self {
        self.total_length = Some(length);
        self
    }

    /// With this first byte of the IPv4 header.
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

    /// IP protocol number.
    #[must_use]
    pub fn protocol(&self) -> u8 {
        match self.l4 {
            L4::Tcp { .. } => 6,
            L4::Udp { .. } => 17,
            L4::Other(protocol) => protocol,
        }
    }

    /// The transport header with its checksum, and the payload.
    fn transport(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if !matches!(self.l4, L4::Other(_)) {
            out.extend(self.sport.to_be_bytes());
            out.extend(self.dport.to_be_bytes());
        }
        let checksum_at = match &self.l4 {
            L4::Tcp { seq, ack, flags, options, offset } => {
                out.extend(seq.to_be_bytes());
                out.extend(ack.to_be_bytes());
                out.push(offset.unwrap_or(5 + (options.len() / 4) as u8) << 4);
                out.push(*flags);
                out.extend([0x72, 0x10, 0, 0, 0, 0]);
                out.extend(options);
                Some(16)
            }
            L4::Udp { length } => {
                out.extend(length.unwrap_or(8 + self.payload.len() as u16).to_be_bytes());
                out.extend([0, 0]);
                Some(6)
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
        let pseudo = pseudo_header(self.src, self.dst, self.protocol(), transport.len());
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

    /// The frame.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let transport = self.transport();
        let header = 20 + self.options.len();
        let total = self.total_length.unwrap_or((header + transport.len()) as u16);
        let mut ip = vec![self.version_ihl.unwrap_or(0x40 | (header / 4) as u8), 0];
        ip.extend(total.to_be_bytes());
        ip.extend([0x1c, 0x46]);
        ip.extend(self.fragment.to_be_bytes());
        ip.extend([64, self.protocol(), 0, 0]);
        ip.extend(self.src);
        ip.extend(self.dst);
        ip.extend(&self.options);
        let checksum = !ones_sum(&[&ip]);
        ip[10..12].copy_from_slice(&checksum.to_be_bytes());

        let mut out = ethernet(self.dst_mac, self.src_mac, &self.tags, 0x0800);
        out.extend(ip);
        out.extend(transport);
        out.extend(vec![0; self.padding]);
        out
    }
}

/// An ARP packet for IPv4 over Ethernet (RFC 826).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arp {
    /// Destination MAC of the frame.
    pub dst_mac: Mac,
    /// Source MAC of the frame.
    pub src_mac: Mac,
    /// VLAN tags: TPID and TCI, outermost first.
    pub tags: Vec<(u16, u16)>,
    /// Hardware type, protocol type, their lengths.
    pub head: [u8; 6],
    /// 1 request, 2 reply.
    pub operation: u16,
    /// Sender MAC and address.
    pub sender: (Mac, Ip),
    /// Target MAC and address.
    pub target: (Mac, Ip),
    /// Bytes behind the packet.
    pub padding: usize,
}

impl Arp {
    /// A broadcast request.
    #[must_use]
    pub fn request(sender: (Mac, Ip), target: Ip) -> Self {
        Self {
            dst_mac: BROADCAST,
            src_mac: sender.0,
            tags: Vec::new(),
            head: [0, 1, 8, 0, 6, 4],
            operation: 1,
            sender,
            target: ([0; 6], target),
            padding: 18,
        }
    }

    /// The answer of `mac` to this request.
    #[must_use]
    pub fn answered_by(&self, mac: Mac) -> Self {
        Self {
            dst_mac: self.sender.0,
            src_mac: mac,
            operation: 2,
            sender: (mac, self.target.1),
            target: self.sender,
            ..self.clone()
        }
    }

    /// With a VLAN tag put outside of those there are.
    #[must_use]
    pub fn tag(mut self, tpid: u16, tci: u16) -> Self {
        self.tags.insert(0, (tpid, tci));
        self
    }

    /// The frame.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = ethernet(self.dst_mac, self.src_mac, &self.tags, 0x0806);
        out.extend(self.head);
        out.extend(self.operation.to_be_bytes());
        for (mac, address) in [self.sender, self.target] {
            out.extend(mac);
            out.extend(address);
        }
        out.extend(vec![0; self.padding]);
        out
    }
}

/// A frame of any EtherType.
#[must_use]
pub fn raw(dst: Mac, src: Mac, tags: &[(u16, u16)], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut out = ethernet(dst, src, tags, ethertype);
    out.extend(payload);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: (Mac, Ip, u16) = ([2, 0, 0, 0, 0, 1], [192, 168, 0, 1], 0x1234);
    const B: (Mac, Ip, u16) = ([2, 0, 0, 0, 0, 2], [192, 168, 0, 199], 53);

    #[test]
    fn udp_bytes_by_hand() {
        // Pseudo header c0a8+0001+c0a8+00c7+0011+000a, header 1234+0035+000a, data 6869: sum fd10.
        let bytes = Ipv4::udp(A, B, b"hi").bytes();
        assert_eq!(bytes[..14], [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0]);
        assert_eq!(bytes[14..24], [0x45, 0, 0, 30, 0x1c, 0x46, 0x40, 0, 64, 17]);
        assert_eq!(bytes[34..], [0x12, 0x34, 0, 53, 0, 10, 0x02, 0xef, b'h', b'i']);
    }

    #[test]
    fn checksums_verify() {
        for packet in [Ipv4::tcp(A, B, SYN, 7, b"odd"), Ipv4::udp(A, B, b"odd").ip_options(&[1; 4])] {
            let bytes = packet.bytes();
            let header = 20 + packet.options.len();
            assert_eq!(ones_sum(&[&bytes[14..14 + header]]), 0xffff);
            let transport = &bytes[14 + header..];
            let pseudo = pseudo_header(A.1, B.1, packet.protocol(), transport.len());
            assert_eq!(ones_sum(&[&pseudo, transport]), 0xffff);
        }
    }

    #[test]
    fn tags_stand_in_front_of_the_ethertype() {
        let bytes = Ipv4::udp(A, B, b"").tag(0x8100, 5).tag(0x88a8, 7).bytes();
        assert_eq!(bytes[12..22], [0x88, 0xa8, 0, 7, 0x81, 0, 0, 5, 8, 0]);
    }
}
