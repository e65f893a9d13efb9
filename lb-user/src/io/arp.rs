//! ARP packets for IPv4 over Ethernet (RFC 826): what the prober asks, and what it answers for its own address.
//!
//! A probe is that of RFC 5227, 2.1.1: sender address 0.0.0.0, so that nobody changes a neighbour entry because of it.
//!
//! ```text
//!  0      6      12     14     16     18   19   20     22      28      32      38     42
//!  | dst  | src  | 0806 | 0001 | 0800 | 06 | 04 | op   | smac  | sip   | tmac  | tip  |
//!  '--- Ethernet II ----'------------------ ARP for IPv4 over Ethernet (RFC 826) -------'
//! ```

use std::net::Ipv4Addr;

use serde::Serialize;

use super::mac::Mac;

/// Bytes of an Ethernet frame that carries ARP for IPv4, without padding.
pub const FRAME_LEN: usize = 42;
/// EtherType of ARP.
const ETH_P_ARP: u16 = 0x0806;
/// Hardware type Ethernet, protocol type IPv4, lengths 6 and 4.
const ARP_HEAD: [u8; 6] = [0x00, 0x01, 0x08, 0x00, 6, 4];

/// What an ARP packet asks or says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ArpOp {
    /// ares_op$REQUEST, 1.
    Request,
    /// ares_op$REPLY, 2.
    Reply,
}

/// An ARP packet for IPv4 over Ethernet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ArpPacket {
    /// Request or reply.
    pub op: ArpOp,
    /// The sender's hardware address, as the packet says.
    pub sender_mac: Mac,
    /// The sender's protocol address.
    pub sender_ip: Ipv4Addr,
    /// The target's hardware address.
    pub target_mac: Mac,
    /// The target's protocol address.
    pub target_ip: Ipv4Addr,
}

impl ArpPacket {
    /// Whether the sender announces its own address (RFC 5227, 1.1: sender and target address are equal).
    pub fn is_announcement(&self) -> bool {
        self.sender_ip == self.target_ip && !self.sender_ip.is_unspecified()
    }

    /// Whether it tells where its sender is: a reply or an announcement.
    pub fn says_where(&self) -> bool {
        self.op == ArpOp::Reply || self.is_announcement()
    }
}

/// Builds the frame of a probe for `target` (RFC 5227, 2.1.1). `source` is both the frame's source and the
/// packet's sender hardware address, so the reply is addressed to it.
pub fn build_probe(source: Mac, target: Ipv4Addr, destination: Mac) -> [u8; FRAME_LEN] {
    build(
        destination,
        source,
        &ArpPacket {
            op: ArpOp::Request,
            sender_mac: source,
            sender_ip: Ipv4Addr::UNSPECIFIED,
            target_mac: Mac::default(),
            target_ip: target,
        },
    )
}

/// Builds the answer to `request`, which asks for its target address: that is at `mac`. `None` unless it is a request.
pub fn build_answer(request: &ArpPacket, mac: Mac) -> Option<[u8; FRAME_LEN]> {
    if request.op != ArpOp::Request {
        return None;
    }
    let answer = ArpPacket {
        op: ArpOp::Reply,
        sender_mac: mac,
        sender_ip: request.target_ip,
        target_mac: request.sender_mac,
        target_ip: request.sender_ip,
    };
    Some(build(request.sender_mac, mac, &answer))
}

/// Builds an Ethernet frame around an ARP packet.
pub fn build(destination: Mac, source: Mac, packet: &ArpPacket) -> [u8; FRAME_LEN] {
    let mut frame = [0u8; FRAME_LEN];
    let op: u16 = match packet.op {
        ArpOp::Request => 1,
        ArpOp::Reply => 2,
    };
    frame[0..6].copy_from_slice(&destination.0);
    frame[6..12].copy_from_slice(&source.0);
    frame[12..14].copy_from_slice(&ETH_P_ARP.to_be_bytes());
    frame[14..20].copy_from_slice(&ARP_HEAD);
    frame[20..22].copy_from_slice(&op.to_be_bytes());
    frame[22..28].copy_from_slice(&packet.sender_mac.0);
    frame[28..32].copy_from_slice(&packet.sender_ip.octets());
    frame[32..38].copy_from_slice(&packet.target_mac.0);
    frame[38..42].copy_from_slice(&packet.target_ip.octets());
    frame
}

/// Reads an untagged Ethernet frame that carries ARP for IPv4; padding after it is ignored. `None` for
/// everything else, truncated frames included.
pub fn parse(frame: &[u8]) -> Option<ArpPacket> {
    let frame: &[u8; FRAME_LEN] = frame.get(..FRAME_LEN)?.try_into().ok()?;
    if frame[12..14] != ETH_P_ARP.to_be_bytes() || frame[14..20] != ARP_HEAD {
        return None;
    }
    let op = match u16::from_be_bytes([frame[20], frame[21]]) {
        1 => ArpOp::Request,
        2 => ArpOp::Reply,
        _ => return None,
    };
    let mac = |at: usize| Mac(std::array::from_fn(|i| frame[at + i]));
    let ip = |at: usize| Ipv4Addr::from(std::array::from_fn::<u8, 4, _>(|i| frame[at + i]));
    Some(ArpPacket { op, sender_mac: mac(22), sender_ip: ip(28), target_mac: mac(32), target_ip: ip(38) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROBER: Mac = Mac([2, 0, 0x0a, 0, 1, 1]);
    const HOST: Mac = Mac([0xaa, 0xbb, 0xcc, 0xdd, 0xee, 1]);

    /// RFC 826 and RFC 5227, 2.1.1, by hand: who has 10.0.0.1? tell 0.0.0.0.
    #[rustfmt::skip]
    const PROBE: [u8; FRAME_LEN] = [
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0x00, 0x0a, 0x00, 0x01, 0x01, 0x08, 0x06,
        0x00, 0x01, 0x08, 0x00, 0x06, 0x04, 0x00, 0x01,
        0x02, 0x00, 0x0a, 0x00, 0x01, 0x01, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x0a, 0x00, 0x00, 0x01,
    ];

    /// The answer: 10.0.0.1 is at aa:bb:cc:dd:ee:01.
    #[rustfmt::skip]
    const REPLY: [u8; FRAME_LEN] = [
        0x02, 0x00, 0x0a, 0x00, 0x01, 0x01, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0x01, 0x08, 0x06,
        0x00, 0x01, 0x08, 0x00, 0x06, 0x04, 0x00, 0x02,
        0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0x01, 0x0a, 0x00, 0x00, 0x01,
        0x02, 0x00, 0x0a, 0x00, 0x01, 0x01, 0x00, 0x00, 0x00, 0x00,
    ];

    const ANSWER: ArpPacket = ArpPacket {
        op: ArpOp::Reply,
        sender_mac: HOST,
        sender_ip: Ipv4Addr::new(10, 0, 0, 1),
        target_mac: PROBER,
        target_ip: Ipv4Addr::UNSPECIFIED,
    };

    #[test]
    fn a_probe_is_these_bytes() {
        let target = Ipv4Addr::new(10, 0, 0, 1);
        assert_eq!(build_probe(PROBER, target, Mac::BROADCAST), PROBE);
        assert_eq!(build_probe(PROBER, target, HOST)[..6], HOST.0);
    }

    #[test]
    fn a_reply_is_read_and_written() {
        assert_eq!(parse(&REPLY), Some(ANSWER));
        assert_eq!(build(PROBER, HOST, &ANSWER), REPLY);
        let mut padded = REPLY.to_vec();
        padded.resize(60, 0xa5);
        assert_eq!(parse(&padded), Some(ANSWER));
    }

    #[test]
    fn every_truncation_is_refused() {
        for len in 0..FRAME_LEN {
            assert_eq!(parse(&REPLY[..len]), None, "{len}");
        }
    }

    #[test]
    fn other_packets_are_refused() {
        for (at, value, what) in [
            (13, 0x00, "IPv4"),
            (15, 0x06, "IEEE 802"),
            (16, 0x86, "protocol"),
            (18, 8, "hardware length"),
            (19, 16, "protocol length"),
            (21, 3, "RARP request"),
            (20, 2, "op 514"),
        ] {
            let mut frame = REPLY;
            frame[at] = value;
            assert_eq!(parse(&frame), None, "{what}");
        }
    }

    #[test]
    fn an_announcement_has_equal_addresses() {
        let address = Ipv4Addr::new(10, 0, 0, 1);
        let announcement = ArpPacket { op: ArpOp::Request, target_ip: address, ..ANSWER };
        assert!(announcement.is_announcement());
        assert!(!ANSWER.is_announcement());
        let zero = ArpPacket { sender_ip: Ipv4Addr::UNSPECIFIED, ..ANSWER };
        assert!(!zero.is_announcement());
    }

    #[test]
    fn an_answer_goes_to_who_asked() {
        let mut asked = parse(&PROBE).expect("a probe");
        asked.sender_ip = Ipv4Addr::new(10, 0, 0, 9);
        let answer = build_answer(&asked, HOST).expect("an answer");
        let want = ArpPacket { target_ip: asked.sender_ip, ..ANSWER };
        assert_eq!((&answer[..6], parse(&answer)), (&PROBER.0[..], Some(want)));
        assert_eq!(build_answer(&ANSWER, HOST), None, "an answer is not answered");
    }
}
