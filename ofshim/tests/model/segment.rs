//! TCP and UDP packets, built and read from the specifications alone; what is read has right checksums.

use std::net::{IpAddr, SocketAddr};

use openflow::MacAddr;

pub const SYN: u8 = 2;
pub const ACK: u8 = 16;
pub const FIN: u8 = 1;
pub const RST: u8 = 4;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;

/// A packet with one port each side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    pub src_mac: MacAddr,
    pub dst_mac: MacAddr,
    pub vlan: Option<u16>,
    pub src: SocketAddr,
    pub dst: SocketAddr,
    pub protocol: u8,
    /// Flags of TCP; 0 for UDP.
    pub flags: u8,
    pub payload: Vec<u8>,
}

impl Segment {
    pub fn bytes(&self) -> Vec<u8> {
        let mut transport = Vec::new();
        transport.extend(self.src.port().to_be_bytes());
        transport.extend(self.dst.port().to_be_bytes());
        let check_at = if self.protocol == TCP {
            transport.extend([0, 0, 1, 0, 0, 0, 2, 0, 0x50, self.flags, 0x20, 0, 0, 0, 0, 0]);
            16
        } else {
            transport.extend((8 + self.payload.len() as u16).to_be_bytes());
            transport.extend([0, 0]);
            6
        };
        transport.extend(&self.payload);
        let sum = !sum(&[self.pseudo(transport.len()).as_slice(), &transport].concat());
        transport[check_at..check_at + 2].copy_from_slice(&sum.to_be_bytes());
        let mut frame = [self.dst_mac.0, self.src_mac.0].concat();
        if let Some(vid) = self.vlan {
            frame.extend([0x81, 0x00]);
            frame.extend(vid.to_be_bytes());
        }
        match (self.src.ip(), self.dst.ip()) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let mut header = vec![0x45, 0];
                header.extend((20 + transport.len() as u16).to_be_bytes());
                header.extend([0, 7, 0x40, 0, 64, self.protocol, 0, 0]);
                header.extend(src.octets());
                header.extend(dst.octets());
                let sum = !self::sum(&header);
                header[10..12].copy_from_slice(&sum.to_be_bytes());
                frame.extend([0x08, 0x00]);
                frame.extend(header);
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
                frame.extend((transport.len() as u16).to_be_bytes());
                frame.extend([self.protocol, 64]);
                frame.extend(src.octets());
                frame.extend(dst.octets());
            }
            _ => panic!("two families"),
        }
        frame.extend(transport);
        frame
    }

    fn pseudo(&self, length: usize) -> Vec<u8> {
        let mut pseudo = Vec::new();
        for address in [self.src.ip(), self.dst.ip()] {
            match address {
                IpAddr::V4(address) => pseudo.extend(address.octets()),
                IpAddr::V6(address) => pseudo.extend(address.octets()),
            }
        }
        pseudo.extend((length as u32).to_be_bytes());
        pseudo.extend([0, 0, 0, self.protocol]);
        pseudo
    }

    /// Reads a packet; `None` if it is neither TCP nor UDP. Wrong checksums end the test.
    pub fn read(frame: &[u8]) -> Option<Self> {
        let (segment, sound) = Self::parse(frame)?;
        assert!(sound, "checksums of {segment:?}");
        Some(segment)
    }

    fn parse(frame: &[u8]) -> Option<(Self, bool)> {
        let mut sound = true;
        let mac = |at: usize| MacAddr(frame[at..at + 6].try_into().unwrap());
        let be16 = |bytes: &[u8], at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let (vlan, at) =
            if frame[12..14] == [0x81, 0x00] { (Some(be16(frame, 14) & 0xfff), 18) } else { (None, 14) };
        let packet = &frame[at..];
        let (src, dst, protocol, transport): (IpAddr, IpAddr, u8, &[u8]) = match be16(frame, at - 2) {
            0x0800 => {
                sound &= sum(packet.get(..20)?) == 0xffff;
                let v4 = |at: usize| <[u8; 4]>::try_from(&packet[at..at + 4]).unwrap().into();
                let end = usize::from(be16(packet, 2));
                (v4(12), v4(16), packet[9], packet.get(20..end)?)
            }
            0x86dd => {
                let v6 = |at: usize| <[u8; 16]>::try_from(&packet[at..at + 16]).unwrap().into();
                (v6(8), v6(24), packet[6], packet.get(40..40 + usize::from(be16(packet, 4)))?)
            }
            _ => return None,
        };
        if ![TCP, UDP].contains(&protocol) || transport.len() < if protocol == TCP { 20 } else { 8 } {
            return None;
        }
        let header = if protocol == TCP { usize::from(transport[12] >> 4) * 4 } else { 8 };
        let segment = Self {
            src_mac: mac(6),
            dst_mac: mac(0),
            vlan,
            src: SocketAddr::new(src, be16(transport, 0)),
            dst: SocketAddr::new(dst, be16(transport, 2)),
            protocol,
            flags: if protocol == TCP { transport[13] } else { 0 },
            payload: transport.get(header..)?.to_vec(),
        };
        let whole = [segment.pseudo(transport.len()).as_slice(), transport].concat();
        sound &= sum(&whole) == 0xffff;
        Some((segment, sound))
    }

    /// What the other side sends back.
    pub fn answer(&self, flags: u8) -> Self {
        Self {
            src_mac: self.dst_mac,
            dst_mac: self.src_mac,
            src: self.dst,
            dst: self.src,
            flags,
            ..self.clone()
        }
    }
}

/// The sum of RFC 1071, without the complement.
pub fn sum(bytes: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}
