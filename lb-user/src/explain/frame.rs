//! Frames for `lb explain`: the first packet of a flow, its answer, and what a frame holds in a line.

use std::net::{IpAddr, SocketAddr};

use lb_core::checksum::fold;

const TCP: u8 = 6;
const UDP: u8 = 17;
/// Flags of a TCP segment.
pub const SYN: u8 = 2;
/// A reset.
pub const RST: u8 = 4;
/// SYN and ACK.
pub const SYN_ACK: u8 = 0x12;

/// A packet that can be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Source and destination MAC.
    pub macs: ([u8; 6], [u8; 6]),
    /// Where it comes from.
    pub source: SocketAddr,
    /// Where it goes to, of the same family.
    pub destination: SocketAddr,
    /// TCP, else UDP.
    pub tcp: bool,
    /// TCP flags.
    pub flags: u8,
}

impl Flow {
    /// The frame without data.
    pub fn frame(&self) -> Option<Vec<u8>> {
        self.frame_with(&[])
    }

    /// The frame with all checksums; `None` where the families differ.
    pub fn frame_with(&self, data: &[u8]) -> Option<Vec<u8>> {
        let mut transport =
            [self.source.port().to_be_bytes(), self.destination.port().to_be_bytes()].concat();
        let (protocol, checksum_at) = if self.tcp { (TCP, 16) } else { (UDP, 6) };
        if self.tcp {
            let acknowledged = u8::from(self.flags & 0x10 != 0);
            transport.extend([0, 0, 0, 1, 0, 0, 0, acknowledged, 0x50, self.flags, 0xff, 0xff, 0, 0, 0, 0]);
        } else {
            transport.extend((8 + data.len() as u16).to_be_bytes());
            transport.extend([0, 0]);
        }
        transport.extend(data);
        let length = transport.len() as u16;
        let mut pseudo = Vec::new();
        let (ethertype, ip) = match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                pseudo.extend([source.octets(), destination.octets()].concat());
                let mut ip = vec![0x45, 0];
                ip.extend((20 + length).to_be_bytes());
                ip.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
                ip.extend(&pseudo);
                let sum = checksum(&ip);
                ip[10..12].copy_from_slice(&sum);
                (0x0800u16, ip)
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                pseudo.extend([source.octets(), destination.octets()].concat());
                let mut ip = vec![0x60, 0, 0, 0];
                ip.extend(length.to_be_bytes());
                ip.extend([protocol, 64]);
                ip.extend(&pseudo);
                (0x86dd, ip)
            }
            _ => return None,
        };
        pseudo.extend([0, protocol]);
        pseudo.extend(length.to_be_bytes());
        pseudo.extend(&transport);
        let sum = match checksum(&pseudo) {
            [0, 0] if !self.tcp => [0xff; 2],
            sum => sum,
        };
        transport[checksum_at..checksum_at + 2].copy_from_slice(&sum);
        let (source, destination) = self.macs;
        Some([&destination[..], &source, &ethertype.to_be_bytes(), &ip, &transport].concat())
    }
}

/// The Internet checksum of an even number of bytes, or of any with a zero behind (RFC 1071).
fn checksum(bytes: &[u8]) -> [u8; 2] {
    let word = |pair: &[u8]| u64::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u64::from(*low));
    (!fold(bytes.chunks(2).map(word).sum())).to_be_bytes()
}

/// What stands where in a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// Source and destination MAC.
    pub macs: ([u8; 6], [u8; 6]),
    /// The type behind all VLAN tags.
    pub ethertype: u16,
    /// The outermost VLAN's number.
    pub vlan: Option<u16>,
    /// The IP header.
    pub ip: Option<Ip>,
}

/// The IP header of a frame and what follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ip {
    /// Source and destination.
    pub addresses: (IpAddr, IpAddr),
    /// The protocol, of IPv6 the next header.
    pub protocol: u8,
    /// Ports of TCP and UDP, unless a later fragment.
    pub ports: Option<(u16, u16)>,
    /// TCP's flags.
    pub flags: u8,
    /// Type and code of ICMP.
    pub icmp: Option<(u8, u8)>,
    /// Offset of the packet inside, for IP in IP.
    pub inner: Option<usize>,
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// Reads a frame as far as it goes; `None` if it has no Ethernet header.
pub fn layout(frame: &[u8]) -> Option<Layout> {
    let macs = (frame.get(6..12)?.try_into().ok()?, frame.get(..6)?.try_into().ok()?);
    let (mut at, mut ethertype, mut vlan) = (14, word(frame, 12)?, None);
    while matches!(ethertype, 0x8100 | 0x88a8) && at <= 18 {
        let Some(next) = word(frame, at + 2) else { break };
        vlan = vlan.or_else(|| word(frame, at).map(|tag| tag & 0x0fff));
        (ethertype, at) = (next, at + 4);
    }
    let ip = matches!(ethertype, 0x0800 | 0x86dd).then(|| ip(frame, at)).flatten();
    Some(Layout { macs, ethertype, vlan, ip })
}

fn ip(frame: &[u8], at: usize) -> Option<Ip> {
    let version = frame.get(at)? >> 4;
    let (addresses, protocol, behind, later): (_, u8, _, _) = match version {
        4 => {
            let part = |at: usize| Some(IpAddr::from(<[u8; 4]>::try_from(frame.get(at..at + 4)?).ok()?));
            let header = usize::from(frame.get(at)? & 15) * 4;
            let later = word(frame, at + 6)? & 0x1fff != 0;
            ((part(at + 12)?, part(at + 16)?), *frame.get(at + 9)?, at + header, later)
        }
        6 => {
            let part = |at: usize| Some(IpAddr::from(<[u8; 16]>::try_from(frame.get(at..at + 16)?).ok()?));
            ((part(at + 8)?, part(at + 24)?), *frame.get(at + 6)?, at + 40, false)
        }
        _ => return None,
    };
    let has_ports = matches!(protocol, TCP | UDP) && !later;
    let pair = |at: usize| Some((*frame.get(at)?, *frame.get(at + 1)?));
    Some(Ip {
        addresses,
        protocol,
        ports: if has_ports { word(frame, behind).zip(word(frame, behind + 2)) } else { None },
        flags: if protocol == TCP && !later { frame.get(behind + 13).copied().unwrap_or(0) } else { 0 },
        icmp: if matches!(protocol, 1 | 58) && !later { pair(behind) } else { None },
        inner: matches!(protocol, 4 | 41).then_some(behind),
    })
}

/// `02:00:00:00:00:03`.
pub fn mac(mac: [u8; 6]) -> String {
    crate::io::mac::Mac(mac).to_string()
}

/// What a frame holds, in a line.
pub fn summary(frame: &[u8]) -> String {
    let Some(layout) = layout(frame) else { return format!("{} bytes, no Ethernet header", frame.len()) };
    let vlan = layout.vlan.map_or_else(String::new, |vlan| format!(" vlan {vlan}"));
    let what = match (&layout.ip, layout.ethertype) {
        (Some(ip), _) => ip_summary(frame, ip),
        (None, 0x0806) => arp_summary(frame).unwrap_or_else(|| "arp".to_owned()),
        (None, ethertype) => format!("ethertype 0x{ethertype:04x}"),
    };
    format!("{} > {}{vlan}  {what}, {} bytes", mac(layout.macs.0), mac(layout.macs.1), frame.len())
}

fn arp_summary(frame: &[u8]) -> Option<String> {
    let at = 14 + frame.windows(2).skip(12).position(|pair| pair == [8, 6])?;
    let address = |at: usize| Some(IpAddr::from(<[u8; 4]>::try_from(frame.get(at..at + 4)?).ok()?));
    let (sender, target) = (address(at + 14)?, address(at + 24)?);
    Some(match word(frame, at + 6)? {
        1 => format!("arp: who has {target}? {sender} asks"),
        2 => format!("arp: {sender} is at {}", mac(frame.get(at + 8..at + 14)?.try_into().ok()?)),
        other => format!("arp: operation {other}"),
    })
}

fn ip_summary(frame: &[u8], ip: &Ip) -> String {
    let (source, destination) = ip.addresses;
    let protocol = match ip.protocol {
        TCP => "tcp".to_owned(),
        UDP => "udp".to_owned(),
        1 => "icmp".to_owned(),
        58 => "icmpv6".to_owned(),
        other => format!("protocol {other}"),
    };
    if let Some(inner) = ip.inner.and_then(|at| self::ip(frame, at)) {
        return format!("{source} > {destination}, inside: {}", ip_summary(frame, &inner));
    }
    let mut out = match ip.ports {
        Some((from, to)) => {
            format!("{} > {} {protocol}", SocketAddr::new(source, from), SocketAddr::new(destination, to))
        }
        None => format!("{source} > {destination} {protocol}"),
    };
    if ip.protocol == TCP && ip.ports.is_some() {
        let names = [(2, "SYN"), (16, "ACK"), (1, "FIN"), (4, "RST"), (8, "PSH"), (32, "URG")];
        for (_, name) in names.iter().filter(|(bit, _)| ip.flags & bit != 0) {
            out.push(' ');
            out.push_str(name);
        }
    }
    if let Some((kind, code)) = ip.icmp {
        out.push_str(&format!(" type {kind} code {code}"));
    }
    out
}

/// Whether a frame is from or to an address, or speaks of it in ARP.
pub fn mentions(frame: &[u8], address: IpAddr) -> bool {
    let Some(layout) = layout(frame) else { return false };
    match (layout.ip, address) {
        (Some(ip), _) => {
            let inner = ip.inner.and_then(|at| self::ip(frame, at)).map(|inner| inner.addresses);
            let (inner_source, inner_destination) = inner.unzip();
            [Some(ip.addresses.0), Some(ip.addresses.1), inner_source, inner_destination]
                .contains(&Some(address))
        }
        (None, IpAddr::V4(address)) if layout.ethertype == 0x0806 => {
            frame.windows(4).skip(14).any(|part| part == address.octets())
        }
        _ => false,
    }
}

/// The answer to a frame: everything exchanged, SYN and ACK set for TCP. `None` for what has no ports.
pub fn answer(frame: &[u8]) -> Option<Flow> {
    let layout = layout(frame)?;
    let ip = layout.ip?;
    let (from, to) = ip.ports?;
    Some(Flow {
        macs: (layout.macs.1, layout.macs.0),
        source: SocketAddr::new(ip.addresses.1, to),
        destination: SocketAddr::new(ip.addresses.0, from),
        tcp: ip.protocol == TCP,
        flags: SYN_ACK,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(source: &str, destination: &str, tcp: bool) -> Flow {
        Flow {
            macs: ([2, 0, 0, 0, 0, 3], [10, 0, 10, 0, 1, 1]),
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            tcp,
            flags: SYN,
        }
    }

    /// The one's complement sum over header and pseudo header is all ones where the checksum is right.
    fn is_whole(frame: &[u8]) -> bool {
        let v4 = frame[12..14] == [8, 0];
        let (addresses, behind) = if v4 { (26..34, 34) } else { (22..54, 54) };
        let protocol = if v4 { frame[23] } else { frame[20] };
        let length = (frame.len() - behind) as u16;
        let pseudo = [&frame[addresses], &[0, protocol], &length.to_be_bytes(), &frame[behind..]].concat();
        checksum(&pseudo) == [0, 0] && (!v4 || checksum(&frame[14..34]) == [0, 0])
    }

    #[test]
    fn frames_are_built_whole_and_read_back() {
        for (source, destination) in [("10.0.0.3:40000", "10.0.1.1:80"), ("[fd00::3]:40000", "[fd00::1]:80")]
        {
            for tcp in [true, false] {
                let flow = flow(source, destination, tcp);
                let frame = flow.frame().unwrap();
                assert!(is_whole(&frame), "{frame:02x?}");
                let layout = layout(&frame).unwrap();
                assert_eq!(layout.macs, flow.macs);
                let ip = layout.ip.unwrap();
                assert_eq!(ip.addresses, (flow.source.ip(), flow.destination.ip()));
                assert_eq!(ip.ports, Some((40_000, 80)));
                let back = answer(&frame).unwrap();
                assert_eq!((back.source, back.destination), (flow.destination, flow.source));
                assert!(is_whole(&back.frame().unwrap()));
                assert!(is_whole(&flow.frame_with(b"odd").unwrap()));
                let word = if tcp { "tcp SYN" } else { "udp" };
                let expected = format!(
                    "02:00:00:00:00:03 > 0a:00:0a:00:01:01  {source} > {destination} {word}, {} bytes",
                    frame.len()
                );
                assert_eq!(summary(&frame), expected);
            }
        }
        assert_eq!(flow("10.0.0.3:1", "[fd00::1]:1", true).frame(), None);
    }

    #[test]
    fn other_frames_in_a_line() {
        let mut tagged = flow("10.0.0.3:40000", "10.0.1.1:80", true).frame().unwrap();
        tagged.splice(12..12, [0x81, 0, 0, 5]);
        assert!(summary(&tagged).contains(" vlan 5  10.0.0.3:40000 > 10.0.1.1:80 tcp SYN"));
        let mut arp = vec![0xff; 6];
        arp.extend([2, 0, 0, 0, 0, 3, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 3, 10, 0, 0, 3]);
        arp.extend([0, 0, 0, 0, 0, 0, 10, 0, 1, 1]);
        assert!(summary(&arp).contains("arp: who has 10.0.1.1? 10.0.0.3 asks"), "{}", summary(&arp));
        assert!(mentions(&arp, [10, 0, 1, 1].into()) && !mentions(&arp, [10, 0, 1, 2].into()));
        assert!(mentions(&tagged, [10, 0, 0, 3].into()) && !mentions(&tagged, [10, 0, 0, 4].into()));
        assert_eq!(summary(&[1, 2]), "2 bytes, no Ethernet header");
        for length in 0..tagged.len() {
            summary(&tagged[..length]);
            summary(&arp[..length.min(arp.len())]);
        }
    }
}
