//! Frames written byte by byte, with checksums of our own: nothing here comes from the code under test.

mod arp;
mod ndp;
mod packet;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub use arp::Arp;
pub use ndp::{Ndp, solicited_node};
pub use packet::{Checksum, Extension, L4, Packet};

/// An Ethernet address.
pub type Mac = [u8; 6];
/// An IP address of either family.
pub type Ip = IpAddr;

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

/// An IPv4 address.
#[must_use]
pub const fn v4(a: u8, b: u8, c: u8, d: u8) -> Ip {
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}

/// The IPv6 address `2001:db8::` with this at its end.
#[must_use]
pub const fn v6(a: u16, b: u16) -> Ip {
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, a, b))
}

/// The octets of an address, as they stand in a packet.
#[must_use]
pub fn octets(address: Ip) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

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

/// RFC 793, section 3.1, and RFC 8200, section 8.1.
fn pseudo_header(src: Ip, dst: Ip, protocol: u8, length: usize) -> Vec<u8> {
    let mut out = octets(src);
    out.extend(octets(dst));
    let length = (length as u32).to_be_bytes();
    if src.is_ipv4() {
        out.extend([0, protocol, length[2], length[3]]);
    } else {
        out.extend(length);
        out.extend([0, 0, 0, protocol]);
    }
    out
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

/// A frame of any EtherType.
#[must_use]
pub fn raw(dst: Mac, src: Mac, tags: &[(u16, u16)], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut out = ethernet(dst, src, tags, ethertype);
    out.extend(payload);
    out
}
