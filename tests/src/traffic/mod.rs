//! Random traffic that reaches deep: connections with replies, errors about them, parts of packets, mutations of good
//! frames, changing tables.

mod data_plane;

use std::collections::VecDeque;

pub use data_plane::{BACKEND_HOSTS, HOSTS, VIPS, change, host, host6, jump, scenario, vip};

use crate::frame::{
    ACK, Arp, BROADCAST, Checksum, Extension, FIN, Ip, L4, MORE_FRAGMENTS, Mac, Ndp, PSH, Packet, RST, SYN,
    raw, v4, v6,
};
use crate::namespace::PORTS;
use crate::oracle::parse::{self, Content, Frame};
use crate::random::Random;
use crate::side::{Action, Verdict};

/// How many packets are remembered.
const MEMORY: usize = 64;

/// Somebody who can be answered.
#[derive(Clone, Debug)]
struct Talk {
    packet: Packet,
    ifindex: u32,
}

/// A source of frames. It listens to what becomes of them, so that it can answer for backends and clients.
#[derive(Debug)]
pub struct Traffic {
    random: Random,
    /// Packets that clients sent, newest last.
    sent: Vec<Talk>,
    /// Packets as they arrived at backends, newest last.
    arrived: Vec<Packet>,
    /// Packets as they arrived at clients, newest last.
    delivered: Vec<Packet>,
    /// Parts of packets that are still to come.
    parts: VecDeque<(Vec<u8>, u32)>,
    pending: Option<Talk>,
}

impl Traffic {
    /// A source of frames for a seed.
    #[must_use]
    pub const fn new(random: Random) -> Self {
        Self {
            random,
            sent: Vec::new(),
            arrived: Vec::new(),
            delivered: Vec::new(),
            parts: VecDeque::new(),
            pending: None,
        }
    }

    /// The next frame, at least 14 bytes long, and the interface that it comes in on.
    pub fn next_frame(&mut self) -> (Vec<u8>, u32) {
        self.pending = None;
        if !self.parts.is_empty() && self.random.one_in(2) {
            let at = self.random.below(self.parts.len());
            if let Some(part) = self.parts.remove(at) {
                return part;
            }
        }
        let (mut frame, ifindex) = match self.random.below(100) {
            0..42 => self.client(),
            42..68 => self.backend(),
            68..76 => self.error(),
            76..80 => self.echo(),
            80..85 => self.arp(),
            85..90 => self.ndp(),
            90..96 => self.stranger(),
            _ => self.rubbish(),
        };
        if self.random.one_in(4) {
            for _ in 0..=self.random.below(3) {
                self.mutate(&mut frame);
            }
        }
        frame.resize(frame.len().clamp(14, 1600), 0);
        (frame, ifindex)
    }

    /// What became of the last frame.
    pub fn heard(&mut self, verdict: &Verdict) {
        let Some(talk) = self.pending.take() else { return };
        let to_backend = verdict.reason.starts_with("to_backend");
        if verdict.action == Action::Drop || !(to_backend || verdict.reason.starts_with("to_client")) {
            return;
        }
        let Frame::Ip(parsed) = parse::frame(&verdict.bytes) else { return };
        let Content::Flow(flow) = parsed.content else { return };
        let packet = talk.packet.clone().to((parsed.to, parsed.dst, flow.dport)).from((
            parsed.from,
            parsed.src,
            flow.sport,
        ));
        if to_backend {
            remember(&mut self.sent, talk);
            remember(&mut self.arrived, packet);
        } else {
            remember(&mut self.delivered, packet);
        }
    }

    fn flags(&mut self) -> u8 {
        self.random.pick(&[
            SYN,
            SYN,
            SYN | ACK,
            ACK,
            ACK,
            ACK | PSH,
            ACK | PSH,
            FIN | ACK,
            RST,
            RST | ACK,
            0,
            SYN | RST,
            SYN | FIN,
        ])
    }

    fn seq(&mut self, base: u32) -> u32 {
        match self.random.below(8) {
            0 => self.random.bits() as u32,
            1 => base.wrapping_add(65536 - 2).wrapping_add(self.random.below(5) as u32),
            2 => base.wrapping_sub(65536 - 2).wrapping_sub(self.random.below(5) as u32),
            _ => base.wrapping_add(self.random.below(3) as u32),
        }
    }

    fn payload(&mut self) -> Vec<u8> {
        let length = if self.random.one_in(16) { 1400 } else { self.random.below(60) };
        (0..length).map(|_| self.random.bits() as u8).collect()
    }

    fn decorate(&mut self, mut packet: Packet) -> Packet {
        if self.random.one_in(10) {
            packet.options = vec![1; 4 * self.random.below(11)];
        }
        if self.random.one_in(8) {
            for _ in 0..self.random.pick(&[1, 1, 1, 2, 3, 4, 5]) {
                packet.extensions.push(self.extension());
            }
        }
        if self.random.one_in(20) {
            packet.checksum = Checksum::Partial;
        }
        if self.random.one_in(20) {
            packet.checksum = Checksum::Value(self.random.pick(&[0, 0xffff, 1, 0x8000]));
        }
        if self.random.one_in(30) {
            packet.fragment = self.random.pick(&[MORE_FRAGMENTS, 1, 185, MORE_FRAGMENTS | 1, 0x8000, 0]);
        }
        if self.random.one_in(10) {
            packet.padding = self.random.below(20);
        }
        if self.random.one_in(10) {
            (packet.class, packet.ttl) = (self.random.bits() as u8, self.random.bits() as u8);
            packet.flow = self.random.bits() as u32 & 0xf_ffff;
        }
        packet
    }

    fn extension(&mut self) -> Extension {
        match self.random.below(6) {
            0 => Extension::options(0, 1),
            1 => Extension::options(60, 1 + self.random.below(5) as u8),
            2 => Extension::options(60, 1 + self.random.below(26) as u8),
            3 => Extension::routing(self.random.below(2) as u8),
            4 => Extension::fragment(0, false, 7),
            _ => Extension { kind: self.random.pick(&[51, 50, 135, 59, 43]), bytes: vec![0; 8] },
        }
    }

    /// The frame of a packet, or of one of its parts, of which the others follow.
    fn frame(&mut self, packet: Packet, ifindex: u32) -> (Vec<u8>, u32) {
        if self.random.one_in(12) && packet.payload.len() > 24 {
            let mut packet = packet.id(self.random.below(20) as u32);
            packet.fragment = 0;
            if packet.extensions.len() > 2 {
                packet.extensions.clear();
            }
            let first = self.random.pick(&[8, 16, 24, 24, 32]);
            let second = first + 8 * (1 + self.random.below(3));
            let mut parts = vec![packet.part(0, first).bytes(), packet.part(first, second).bytes()];
            // Every transport header is eight bytes long at least.
            if second < packet.payload.len() + 8 {
                parts.push(packet.part(second, usize::MAX).bytes());
            }
            if self.random.one_in(8) {
                parts.reverse();
            }
            let now = parts.remove(0);
            self.parts.extend(parts.into_iter().map(|part| (part, ifindex)));
            return (now, ifindex);
        }
        self.pending = Some(Talk { packet: packet.clone(), ifindex });
        if self.random.one_in(10) {
            let tagged = packet.tag(self.random.pick(&[0x8100, 0x88a8]), self.random.bits() as u16);
            self.pending = None;
            return (if self.random.one_in(2) { tagged.tag(0x8100, 7) } else { tagged }.bytes(), ifindex);
        }
        (packet.bytes(), ifindex)
    }

    fn client(&mut self) -> (Vec<u8>, u32) {
        let old = if self.sent.is_empty() || self.random.one_in(3) {
            None
        } else {
            Some(self.random.pick(&self.sent))
        };
        let (packet, ifindex) = match old {
            Some(Talk { mut packet, mut ifindex }) => {
                let (flags, payload) = (self.flags(), self.payload());
                if let L4::Tcp { seq, flags: old, .. } = &mut packet.l4 {
                    let base = seq.wrapping_add(packet.payload.len() as u32);
                    *seq = self.seq(base);
                    *old = flags;
                }
                packet.payload = payload;
                if self.random.one_in(6) {
                    // The same client port at another VIP.
                    let other = self.any_vip(packet.src.is_ipv4());
                    (packet.dst_mac, packet.dst) = other;
                }
                if self.random.one_in(20) {
                    ifindex = self.random.pick(&PORTS);
                }
                (packet, ifindex)
            }
            None => self.new_client(),
        };
        let packet = self.decorate(packet);
        self.frame(packet, ifindex)
    }

    /// A VIP of a family; of the prefix one of its addresses.
    fn any_vip(&mut self, fourth: bool) -> (Mac, Ip) {
        loop {
            let (mac, address) = vip(1 + self.random.below(usize::from(VIPS)) as u8);
            if address == vip(7).1 && !fourth {
                return (mac, v6(7, self.random.below(3) as u16));
            }
            if address.is_ipv4() == fourth {
                return (mac, address);
            }
        }
    }

    fn new_client(&mut self) -> (Packet, u32) {
        let number = 1 + self.random.below(usize::from(HOSTS)) as u8;
        let fourth = !self.random.one_in(3);
        let (mac, address) = if fourth { host(number) } else { host6(number) };
        let (vip_mac, vip) = self.any_vip(fourth);
        let sport = 4000 + self.random.below(12) as u16;
        let dport = self.random.pick(&[80, 80, 80, 443, 53, 8443, 22, 0, 450, 55, 20003]);
        let to_mac = if self.random.one_in(20) { host(1).0 } else { vip_mac };
        let (from, to) = ((mac, address, sport), (to_mac, vip, dport));
        let (payload, flags, seq) = (self.payload(), self.flags(), self.random.bits() as u32);
        let packet = match self.random.below(20) {
            0 => {
                let protocol = self.random.pick(&[1, 2, 4, 47, 132, 58, 44]);
                Packet::other(protocol, (mac, address), (to_mac, vip), &payload)
            }
            1..8 => Packet::udp(from, to, &payload),
            _ => Packet::tcp(from, to, flags, seq, &payload),
        };
        (packet, PORTS[usize::from(number - 1) % PORTS.len()])
    }

    /// A backend answers something that arrived; sometimes another backend, or from another port.
    fn backend(&mut self) -> (Vec<u8>, u32) {
        if self.arrived.is_empty() {
            return self.client();
        }
        let question = self.random.pick(&self.arrived);
        let (flags, payload) = (self.flags(), self.payload());
        let (mut mac, mut address, mut port) = (question.dst_mac, question.dst, question.dport);
        if self.random.one_in(10) {
            let number = 1 + self.random.below(usize::from(BACKEND_HOSTS)) as u8;
            (mac, address) = if address.is_ipv4() { host(number) } else { host6(number) };
        }
        if self.random.one_in(20) {
            port = self.random.pick(&[80, 443, 8443, 53]);
        }
        let (from, to) = ((mac, address, port), (question.src_mac, question.src, question.sport));
        let packet = match question.l4 {
            L4::Tcp { ack, .. } => {
                let seq = self.seq(ack);
                Packet::tcp(from, to, flags, seq, &payload)
            }
            _ => Packet::udp(from, to, &payload),
        };
        let packet = self.decorate(packet);
        let ifindex = self.near(mac);
        self.frame(packet, ifindex)
    }

    fn near(&mut self, mac: Mac) -> u32 {
        if self.random.one_in(20) {
            self.random.pick(&PORTS)
        } else {
            PORTS[usize::from(mac[5]) % PORTS.len()]
        }
    }

    /// An ICMP error: of a backend or a router about what it got, of a client about a reply.
    fn error(&mut self) -> (Vec<u8>, u32) {
        let of_client = self.random.one_in(2);
        let list = if of_client { &self.delivered } else { &self.arrived };
        if list.is_empty() {
            return self.client();
        }
        let about = self.random.pick(list);
        let mut quoted = about.ip_bytes();
        let length = self.random.pick(&[28, 48, 56, 60, 68, 128, 20, 27, 47, 1000]);
        quoted.truncate(length);
        let fourth = about.src.is_ipv4();
        let kind = if fourth {
            self.random.pick(&[(3, 4), (3, 3), (11, 0), (12, 0), (4, 0), (5, 0)])
        } else {
            self.random.pick(&[(1, 4), (2, 0), (3, 0), (4, 1), (127, 0)])
        };
        // Sometimes a router on the way.
        let router = if fourth { host(8) } else { host6(8) };
        let from = if self.random.one_in(3) { router } else { (about.dst_mac, about.dst) };
        let rest = if self.random.one_in(2) { [0, 0, 5, 0xdc] } else { [0; 4] };
        let packet = Packet::icmp(from, (about.src_mac, about.src), kind, rest, &quoted);
        let packet = self.decorate(packet);
        let ifindex = self.near(from.0);
        (packet.bytes(), ifindex)
    }

    fn echo(&mut self) -> (Vec<u8>, u32) {
        let fourth = self.random.one_in(2);
        let to = self.any_vip(fourth);
        let number = 1 + self.random.below(usize::from(HOSTS)) as u8;
        let from = if fourth { host(number) } else { host6(number) };
        let kind = self.random.pick(if fourth { &[8, 8, 8, 0, 13] } else { &[128, 128, 128, 129, 130] });
        let code = if self.random.one_in(8) { 1 } else { 0 };
        let payload = self.payload();
        let packet = Packet::icmp(from, to, (kind, code), [1, 2, 3, 4], &payload);
        let packet = self.decorate(packet);
        let ifindex = self.near(from.0);
        self.frame(packet, ifindex)
    }

    fn any_address4(&mut self) -> Ip {
        match self.random.below(3) {
            0 => v4(10, 0, 1, self.random.below(14) as u8),
            1 => host(self.random.below(10) as u8).1,
            _ => Ip::from((self.random.bits() as u32).to_be_bytes()),
        }
    }

    fn any_address6(&mut self) -> Ip {
        match self.random.below(6) {
            0 => vip(self.random.pick(&[6, 10, 11])).1,
            1 => v6(7, self.random.below(3) as u16),
            2 | 3 => host6(self.random.below(10) as u8).1,
            4 => Ip::V6(std::net::Ipv6Addr::UNSPECIFIED),
            _ => match self.any_address4() {
                Ip::V4(v4) => Ip::V6(v4.to_ipv6_mapped()),
                other => other,
            },
        }
    }

    fn any_mac(&mut self) -> Mac {
        match self.random.below(4) {
            0 => BROADCAST,
            1 => [2, 0x6c, 10, 0, 1, self.random.below(14) as u8],
            _ => host(self.random.below(10) as u8).0,
        }
    }

    fn arp(&mut self) -> (Vec<u8>, u32) {
        let mut arp = Arp::request((self.any_mac(), self.any_address4()), self.any_address4());
        if self.random.one_in(3) {
            arp.dst_mac = self.any_mac();
        }
        if self.random.one_in(3) {
            arp.operation = self.random.below(4) as u16;
        }
        if self.random.one_in(4) {
            arp.target.0 = self.any_mac();
        }
        if self.random.one_in(3) {
            // A backend in a VIP's name, or an answer to it.
            let number = self.random.pick(&[4, 9]);
            let (mac, address) = vip(number);
            let client = host(4 + self.random.below(2) as u8);
            arp = Arp::request((host(1).0, address), client.1);
            if self.random.one_in(2) {
                arp = arp.answered_by(client.0);
                arp.dst_mac = mac;
            }
        }
        if self.random.one_in(8) {
            arp = arp.tag(self.random.pick(&[0x8100, 0x88a8]), 5);
        }
        arp.padding = self.random.below(20);
        (arp.bytes(), self.random.pick(&PORTS))
    }

    fn ndp(&mut self) -> (Vec<u8>, u32) {
        let asker = (self.any_mac(), self.any_address6());
        let mut ndp = Ndp::solicit(asker, self.any_address6());
        match self.random.below(6) {
            0 => ndp = Ndp::probe(asker.0, ndp.target),
            1 => ndp = Ndp::advertise(asker),
            2 => {
                // A backend in a VIP's name, or an answer to it.
                let id = self.random.pick(&[7, 11]);
                let (mac, address) = vip(id);
                let client = host6(4 + self.random.below(2) as u8);
                ndp = Ndp::solicit((host6(1).0, address), client.1);
                if self.random.one_in(2) {
                    ndp.src_mac = mac;
                    ndp = ndp.answered_by(client.0);
                }
            }
            _ => {}
        }
        if self.random.one_in(4) {
            ndp.dst_mac = self.any_mac();
        }
        if self.random.one_in(6) {
            ndp.dst = self.any_address6();
        }
        if self.random.one_in(6) {
            ndp.options = self.random.pick(&[
                vec![],
                vec![14, 1, 1, 2, 3, 4, 5, 6],
                vec![1, 1, 2, 0, 0, 0, 0, 1, 14, 1, 1, 2, 3, 4, 5, 6],
                vec![2, 1, 2, 0x6c, 10, 0, 1, 6],
                vec![1, 0, 1],
            ]);
        }
        if self.random.one_in(10) {
            (ndp.hop_limit, ndp.code) = self.random.pick(&[(254, 0), (255, 1), (64, 0)]);
        }
        if self.random.one_in(8) {
            ndp = ndp.tag(self.random.pick(&[0x8100, 0x88a8]), 5);
        }
        ndp.padding = self.random.pick(&[0, 0, 4, 8, 20]);
        (ndp.bytes(), self.random.pick(&PORTS))
    }

    fn stranger(&mut self) -> (Vec<u8>, u32) {
        let fourth = self.random.one_in(2);
        let mut address = || if fourth { self.any_address4() } else { self.any_address6() };
        let (src, dst) = (address(), address());
        let from = (self.any_mac(), src, self.random.bits() as u16);
        let to = (self.any_mac(), dst, self.random.pick(&[80, 53, 443, 9]));
        let payload = self.payload();
        let packet = match self.random.below(3) {
            0 => Packet::udp(from, to, &payload),
            1 => Packet::tcp(from, to, self.flags(), self.random.bits() as u32, &payload),
            _ => Packet::other(self.random.bits() as u8, (from.0, from.1), (to.0, to.1), &payload),
        };
        (self.decorate(packet).bytes(), self.random.pick(&PORTS))
    }

    fn rubbish(&mut self) -> (Vec<u8>, u32) {
        let bytes: Vec<u8> = (0..self.random.below(120)).map(|_| self.random.bits() as u8).collect();
        let ethertype = self.random.pick(&[0x0800, 0x0806, 0x8100, 0x88a8, 0x86dd, 0x86dd, 0x88cc, 38, 0]);
        (raw(self.any_mac(), self.any_mac(), &[], ethertype, &bytes), self.random.pick(&PORTS))
    }

    fn mutate(&mut self, frame: &mut Vec<u8>) {
        self.pending = None;
        let at = self.random.below(frame.len());
        let in_headers = self.random.below(frame.len().min(90));
        match self.random.below(8) {
            0 => frame[at] = self.random.bits() as u8,
            1..4 => {
                frame[in_headers] = self
                    .random
                    .pick(&[0, 1, 2, 4, 6, 8, 17, 44, 58, 60, 0x40, 0x45, 0x46, 0x4f, 0x7f, 0x80, 0xff]);
            }
            4 => frame[in_headers] ^= 1 << self.random.below(8),
            5 => frame.truncate(at),
            6 => frame.extend(vec![0xa5; self.random.below(30)]),
            // The total length of an untagged packet, or its payload length.
            _ if frame.len() > 60 => {
                let (place, header) = if frame[12] == 0x86 { (18, 54) } else { (16, 14) };
                let length = (frame.len() - header + self.random.below(4)).saturating_sub(2) as u16;
                frame[place..place + 2].copy_from_slice(&length.to_be_bytes());
            }
            _ => {}
        }
        if frame.is_empty() {
            frame.push(0);
        }
    }
}

fn remember<T>(list: &mut Vec<T>, item: T) {
    if list.len() >= MEMORY {
        list.remove(0);
    }
    list.push(item);
}
