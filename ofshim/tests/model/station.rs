//! Hosts in memory that answer for their addresses.

use std::net::{IpAddr, Ipv6Addr};

use openflow::MacAddr;

use super::segment::sum;

/// A host at a port.
#[derive(Clone, Debug)]
pub struct Station {
    pub mac: MacAddr,
    pub addresses: Vec<IpAddr>,
    /// Whether it answers anything.
    pub lives: bool,
}

impl Station {
    /// Its answer to an ARP request or a neighbour solicitation.
    pub fn answer(&self, frame: &[u8]) -> Option<Vec<u8>> {
        let to: [u8; 6] = frame[..6].try_into().unwrap();
        let heard = to[0] & 1 != 0 || to == self.mac.0;
        if !self.lives || !heard || frame[6..12] == self.mac.0 {
            return None;
        }
        match frame[12..14] {
            [0x08, 0x06] => self.answer_arp(frame),
            [0x86, 0xdd] if frame[20] == 58 && frame[54] == 135 => self.answer_solicitation(frame),
            _ => None,
        }
    }

    fn answer_arp(&self, frame: &[u8]) -> Option<Vec<u8>> {
        let target: [u8; 4] = frame[38..42].try_into().unwrap();
        if frame[21] != 1 || !self.addresses.contains(&IpAddr::from(target)) {
            return None;
        }
        let mut reply = frame[6..12].to_vec();
        reply.extend(self.mac.0);
        reply.extend([0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 2]);
        reply.extend(self.mac.0);
        reply.extend(target);
        reply.extend(&frame[22..32]);
        Some(reply)
    }

    fn answer_solicitation(&self, frame: &[u8]) -> Option<Vec<u8>> {
        let target = Ipv6Addr::from(<[u8; 16]>::try_from(&frame[62..78]).unwrap());
        if !self.addresses.contains(&IpAddr::from(target)) {
            return None;
        }
        let asker = Ipv6Addr::from(<[u8; 16]>::try_from(&frame[22..38]).unwrap());
        // Duplicate address detection asks from `::`: the answer goes to all nodes (RFC 4861, 7.2.4).
        let (mac, to, flags) = if asker.is_unspecified() {
            (vec![0x33, 0x33, 0, 0, 0, 1], "ff02::1".parse().unwrap(), 0x20)
        } else {
            (frame[6..12].to_vec(), asker, 0x60)
        };
        let mut message = vec![136, 0, 0, 0, flags, 0, 0, 0];
        message.extend(target.octets());
        message.extend([2, 1]);
        message.extend(self.mac.0);
        let pseudo = [&target.octets()[..], &to.octets(), &[0, 0, 0, 32, 0, 0, 0, 58], &message].concat();
        let check = !sum(&pseudo);
        message[2..4].copy_from_slice(&check.to_be_bytes());
        let mut reply = mac;
        reply.extend(self.mac.0);
        reply.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 32, 58, 255]);
        reply.extend(target.octets());
        reply.extend(to.octets());
        reply.extend(message);
        Some(reply)
    }
}
