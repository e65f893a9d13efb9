//! The filter of the prober's packet sockets: classic BPF that lets answers to probes and the traffic of the probe
//! addresses through, and keeps everything else from ever waking the daemon.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

// Instructions (linux/filter.h): size and mode of a load, the test of a jump.
const LD_W: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const LD_H: u16 = 0x28; // BPF_LD | BPF_H | BPF_ABS
const LD_B: u16 = 0x30; // BPF_LD | BPF_B | BPF_ABS
const TAX: u16 = 0x07; // BPF_MISC | BPF_TAX
const JEQ: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const JEQ_X: u16 = 0x1d; // BPF_JMP | BPF_JEQ | BPF_X
const RET: u16 = 0x06; // BPF_RET | BPF_K

// Where things are in an untagged frame, in bytes.
const ETHERTYPE: u32 = 12;
const ARP_HEAD: u32 = 14;
const ARP_LENGTHS_OP: u32 = 18;
const ARP_SENDER: u32 = 28;
const ARP_TARGET: u32 = 38;
const IPV4_DESTINATION: u32 = 30;
const IPV6_NEXT_HEADER: u32 = 20;
const IPV6_DESTINATION: u32 = 38;
const ICMPV6_TYPE: u32 = 54;
const NDP_TARGET: u32 = 62;

const ICMPV6: u32 = 58;
/// ICMPv6 types of RFC 4861, 4.3 and 4.4.
const SOLICITATION: u32 = 135;
const ADVERTISEMENT: u32 = 136;

/// Where a test goes on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Goto {
    /// At the next instruction.
    Next,
    /// At the end that accepts the frame.
    Accept,
    /// At the end that refuses it.
    Refuse,
    Arp,
    Ipv4,
    Ipv6,
    OtherIpv6,
}

/// The program for these probe addresses: ARP replies and announcements, neighbour advertisements, requests that ask
/// for a probe address, and packets to one.
pub fn program(probe: &[IpAddr]) -> Vec<libc::sock_filter> {
    let v4 = probe.iter().find_map(|address| match address {
        IpAddr::V4(address) => Some(*address),
        IpAddr::V6(_) => None,
    });
    let v6 = probe.iter().find_map(|address| match address {
        IpAddr::V6(address) => Some(*address),
        IpAddr::V4(_) => None,
    });
    let mut code = Assembler::default();
    code.load(LD_H, ETHERTYPE);
    code.equal(0x0806, Goto::Arp, Goto::Next);
    code.equal(0x86dd, Goto::Ipv6, Goto::Next);
    code.equal(0x0800, Goto::Ipv4, Goto::Refuse);
    arp(&mut code, v4);
    code.label(Goto::Ipv4);
    if let Some(address) = v4 {
        code.load(LD_W, IPV4_DESTINATION);
        code.equal(u32::from(address), Goto::Accept, Goto::Refuse);
    } else {
        code.ret(0);
    }
    ipv6(&mut code, v6);
    code.label(Goto::Accept);
    code.ret(u32::MAX);
    code.label(Goto::Refuse);
    code.ret(0);
    code.finish()
}

fn arp(code: &mut Assembler, probe: Option<Ipv4Addr>) {
    code.label(Goto::Arp);
    code.load(LD_W, ARP_HEAD);
    code.equal(0x0001_0800, Goto::Next, Goto::Refuse); // Ethernet and IPv4
    code.load(LD_W, ARP_LENGTHS_OP);
    code.equal(0x0604_0002, Goto::Accept, Goto::Next); // a reply
    code.equal(0x0604_0001, Goto::Next, Goto::Refuse); // not a request either
    code.load(LD_W, ARP_SENDER);
    code.push(TAX, 0, Goto::Next, Goto::Next);
    code.load(LD_W, ARP_TARGET);
    code.push(JEQ_X, 0, Goto::Accept, Goto::Next); // an announcement
    match probe {
        Some(address) => code.equal(u32::from(address), Goto::Accept, Goto::Refuse),
        None => code.ret(0),
    }
}

fn ipv6(code: &mut Assembler, probe: Option<Ipv6Addr>) {
    code.label(Goto::Ipv6);
    code.load(LD_B, IPV6_NEXT_HEADER);
    code.equal(ICMPV6, Goto::Next, Goto::OtherIpv6);
    code.load(LD_B, ICMPV6_TYPE);
    code.equal(ADVERTISEMENT, Goto::Accept, Goto::Next);
    code.equal(SOLICITATION, Goto::Next, Goto::OtherIpv6);
    match probe {
        Some(address) => code.address(NDP_TARGET, address),
        None => code.ret(0),
    }
    code.label(Goto::OtherIpv6);
    match probe {
        Some(address) => code.address(IPV6_DESTINATION, address),
        None => code.ret(0),
    }
}

/// Instructions whose jumps have names until all of them are there.
#[derive(Default)]
struct Assembler {
    code: Vec<(u16, u32, Goto, Goto)>,
    labels: BTreeMap<Goto, usize>,
}

impl Assembler {
    fn push(&mut self, op: u16, k: u32, if_true: Goto, if_false: Goto) {
        self.code.push((op, k, if_true, if_false));
    }

    fn load(&mut self, op: u16, offset: u32) {
        self.push(op, offset, Goto::Next, Goto::Next);
    }

    fn equal(&mut self, value: u32, if_true: Goto, if_false: Goto) {
        self.push(JEQ, value, if_true, if_false);
    }

    fn ret(&mut self, length: u32) {
        self.push(RET, length, Goto::Next, Goto::Next);
    }

    /// Accepts a frame with this address at `offset`, and refuses all others.
    fn address(&mut self, offset: u32, address: Ipv6Addr) {
        let bits = u128::from(address);
        for (at, shift) in (offset..).step_by(4).zip([96, 64, 32]) {
            self.load(LD_W, at);
            self.equal((bits >> shift) as u32, Goto::Next, Goto::Refuse);
        }
        self.load(LD_W, offset + 12);
        self.equal(bits as u32, Goto::Accept, Goto::Refuse);
    }

    fn label(&mut self, label: Goto) {
        self.labels.insert(label, self.code.len());
    }

    fn finish(self) -> Vec<libc::sock_filter> {
        let distance = |at: usize, goto: Goto| {
            let target = self.labels.get(&goto).copied().unwrap_or(at + 1);
            u8::try_from(target - at - 1).unwrap_or(u8::MAX)
        };
        let op = |(at, &(code, k, if_true, if_false)): (usize, &(u16, u32, Goto, Goto))| libc::sock_filter {
            code,
            jt: distance(at, if_true),
            jf: distance(at, if_false),
            k,
        };
        self.code.iter().enumerate().map(op).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::arp::{self, ArpOp, ArpPacket};
    use crate::io::mac::Mac;
    use crate::io::ndp;

    const HOST: Mac = Mac([0xaa, 0xbb, 0xcc, 0xdd, 0xee, 1]);
    const V4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 250);
    const V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x250);

    /// Runs a program as the kernel would; enough of it for these instructions. A load beyond the end refuses.
    fn accepts(code: &[libc::sock_filter], frame: &[u8]) -> bool {
        let bytes = |at: u32, n: usize| frame.get(at as usize..at as usize + n);
        let (mut a, mut x, mut pc) = (0u32, 0u32, 0usize);
        loop {
            let op = code[pc];
            pc += 1;
            let loaded = match op.code {
                LD_W => bytes(op.k, 4),
                LD_H => bytes(op.k, 2),
                LD_B => bytes(op.k, 1),
                TAX => {
                    x = a;
                    continue;
                }
                JEQ => {
                    pc += usize::from(if a == op.k { op.jt } else { op.jf });
                    continue;
                }
                JEQ_X => {
                    pc += usize::from(if a == x { op.jt } else { op.jf });
                    continue;
                }
                RET => return op.k != 0,
                other => panic!("unknown instruction {other:#x}"),
            };
            let Some(loaded) = loaded else { return false };
            a = loaded.iter().fold(0, |word, byte| word << 8 | u32::from(*byte));
        }
    }

    fn arp_frame(op: ArpOp, sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
        let packet = ArpPacket {
            op,
            sender_mac: HOST,
            sender_ip: sender.into(),
            target_mac: Mac::default(),
            target_ip: target.into(),
        };
        arp::build(Mac::BROADCAST, HOST, &packet).to_vec()
    }

    fn ipv4_to(destination: Ipv4Addr) -> Vec<u8> {
        let mut frame = vec![0u8; 60];
        frame[12] = 8;
        frame[30..34].copy_from_slice(&destination.octets());
        frame
    }

    fn ipv6_to(destination: Ipv6Addr, next_header: u8) -> Vec<u8> {
        let mut frame = vec![0u8; 80];
        frame[12..14].copy_from_slice(&[0x86, 0xdd]);
        frame[20] = next_header;
        frame[38..54].copy_from_slice(&destination.octets());
        frame
    }

    #[test]
    fn without_a_probe_address_only_neighbours_are_heard() {
        let code = program(&[]);
        let accepts = |frame: &[u8]| accepts(&code, frame);
        assert!(accepts(&arp_frame(ArpOp::Reply, [10, 0, 0, 1], [0; 4])));
        assert!(accepts(&arp_frame(ArpOp::Request, [10, 0, 0, 1], [10, 0, 0, 1])), "an announcement");
        assert!(!accepts(&arp_frame(ArpOp::Request, [10, 0, 0, 1], V4.octets())), "a request");
        assert!(accepts(&ndp::advertisement(HOST, HOST, V6, V6)));
        assert!(!accepts(&ndp::solicitation(HOST, V6, V6, None)));
        assert!(!accepts(&ipv4_to(V4)));
        assert!(!accepts(&ipv6_to(V6, 6)));
        assert!(!accepts(&[]), "nothing at all");
    }

    #[test]
    fn requests_for_a_probe_address_and_packets_to_it_are_heard() {
        let code = program(&[V4.into(), V6.into()]);
        let accepts = |frame: &[u8]| accepts(&code, frame);
        assert!(accepts(&arp_frame(ArpOp::Request, [10, 0, 0, 1], V4.octets())));
        assert!(!accepts(&arp_frame(ArpOp::Request, [10, 0, 0, 1], [10, 0, 0, 251])));
        assert!(accepts(&ipv4_to(V4)));
        assert!(!accepts(&ipv4_to(Ipv4Addr::new(10, 0, 0, 251))));
        let other = Ipv6Addr::from(u128::from(V6) ^ 1);
        assert!(accepts(&ndp::solicitation(HOST, other, V6, None)));
        assert!(!accepts(&ndp::solicitation(HOST, V6, other, None)), "of another");
        for protocol in [6, 17, 58] {
            assert!(accepts(&ipv6_to(V6, protocol)), "{protocol}");
            for bit in [0, 40, 80, 127] {
                assert!(!accepts(&ipv6_to(Ipv6Addr::from(u128::from(V6) ^ 1 << bit), protocol)), "{bit}");
            }
        }
    }

    #[test]
    fn other_kinds_of_arp_are_refused() {
        let code = program(&[V4.into()]);
        for (at, value, what) in [
            (13, 0x35, "RARP"),
            (15, 0x06, "IEEE 802"),
            (16, 0x86, "protocol"),
            (18, 8, "lengths"),
            (21, 4, "RARP reply"),
        ] {
            let mut frame = arp_frame(ArpOp::Reply, [10, 0, 0, 1], [0; 4]);
            frame[at] = value;
            assert!(!accepts(&code, &frame), "{what}");
        }
    }
}
