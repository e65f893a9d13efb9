//! Random traffic that reaches deep: connections with replies, mutations of good frames, changing tables.

use crate::frame::{
    ACK, Arp, BROADCAST, Checksum, FIN, Ip, Ipv4, L4, MORE_FRAGMENTS, Mac, PSH, RST, SYN, raw,
};
use crate::namespace::PORTS;
use crate::random::Random;
use crate::scenario::{Backend, Mode, Port, Protocol, Scenario, Selection, State, Timeouts, Vip};
use crate::side::{Action, Verdict};

/// MAC and address of hosts 1 to 8; the first three are backends, too.
#[must_use]
pub const fn host(number: u8) -> (Mac, Ip) {
    ([2, 0, 0, 0, 0, number], [10, 0, 0, number])
}

const BACKEND_HOSTS: u8 = 3;
const HOSTS: u8 = 8;

/// A data plane in which everything happens: five VIPs that share three hosts.
#[must_use]
pub fn scenario(random: &mut Random) -> Scenario {
    use Protocol::{Tcp, Udp};
    let vip = |id: u16, services: &[(Protocol, u16)], selection| Vip {
        id,
        address: [10, 0, 1, id as u8],
        mac: [2, 0x6c, 10, 0, 1, id as u8],
        mode: Mode::Nat,
        selection,
        repick: false,
        transmit: false,
        last_known: false,
        services: services.to_vec(),
        ring: Vec::new(),
    };
    let mut vips = vec![
        vip(1, &[(Tcp, 80), (Udp, 53)], Selection::RoundRobin),
        Vip { transmit: random.one_in(2), ..vip(2, &[(Tcp, 443)], Selection::Maglev) },
        vip(3, &[(Tcp, 0)], Selection::Random),
        Vip { mode: Mode::Dsr, transmit: true, ..vip(4, &[(Tcp, 80), (Udp, 53)], Selection::Maglev) },
        Vip {
            repick: true,
            last_known: random.one_in(2),
            ..vip(5, &[(Tcp, 80), (Udp, 0)], Selection::RoundRobin)
        },
    ];
    let mut backends = Vec::new();
    for vip in &mut vips {
        for number in 1..=1 + random.below(usize::from(BACKEND_HOSTS)) as u8 {
            let id = vip.id * 10 + u16::from(number);
            let (mac, address) = host(number);
            backends.push(Backend {
                id,
                vip: vip.id,
                address,
                mac,
                state: State::Up,
                port: if vip.id == 2 { 8443 } else { 0 },
                slot: u16::from(number),
                generation: 1,
                shared: vip.mode == Mode::Nat,
            });
            vip.ring.extend(vec![id; 1 + random.below(2)]);
        }
    }
    let port = |(place, ifindex): (usize, &u32)| Port {
        slot: 1 + place as u16,
        ifindex: *ifindex,
        switch: if place == 4 { 2 } else { 1 },
        redirect: place != 3,
    };
    Scenario {
        vips,
        backends,
        // The last interface is not attached.
        ports: PORTS[..5].iter().enumerate().map(port).collect(),
        timeouts: Timeouts { syn: 60, established: 600, closing: 20, closed: 10, udp: 30, suspect: 15 },
        connections: 4096,
        stray_bits: Vec::new(),
    }
}

/// Changes something in the tables, as the daemon would.
pub fn change(random: &mut Random, scenario: &mut Scenario) {
    let place = random.below(scenario.backends.len());
    let backend = &mut scenario.backends[place];
    match random.below(8) {
        0..4 => {
            backend.state =
                random.pick(&[State::Up, State::Up, State::Down, State::Draining, State::Disabled]);
        }
        4 => backend.generation = backend.generation.wrapping_add(1),
        5 => backend.slot = random.below(7) as u16,
        6 => {
            let place = random.below(scenario.ports.len());
            scenario.ports[place].redirect = random.one_in(2);
        }
        7 => {
            let place = random.below(scenario.vips.len());
            let only = random.below(2);
            scenario.vips[place].ring.truncate(only);
        }
        _ => {
            // The tables catch up with the states.
            for vip in &mut scenario.vips {
                let mut ring = Vec::new();
                for b in scenario.backends.iter().filter(|b| b.vip == vip.id && b.state == State::Up) {
                    ring.extend(vec![b.id; 1 + random.below(2)]);
                }
                vip.ring = ring;
            }
        }
    }
}

/// How far a jump of the clock goes.
pub fn jump(random: &mut Random) -> u32 {
    random.pick(&[1, 5, 10, 11, 15, 16, 20, 21, 30, 31, 60, 61, 600, 601, 5000])
}

/// Somebody who can be answered.
#[derive(Clone, Debug)]
struct Talk {
    packet: Ipv4,
    ifindex: u32,
}

/// A source of frames. It listens to what becomes of them, so that it can answer for the backends.
#[derive(Debug)]
pub struct Traffic {
    random: Random,
    /// Packets that clients sent, newest last.
    sent: Vec<Talk>,
    /// Packets as they arrived at backends, newest last.
    arrived: Vec<Ipv4>,
    pending: Option<Talk>,
}

/// How many packets are remembered.
const MEMORY: usize = 64;

impl Traffic {
    /// A source of frames for a seed.
    #[must_use]
    pub const fn new(random: Random) -> Self {
        Self { random, sent: Vec::new(), arrived: Vec::new(), pending: None }
    }

    /// The next frame, at least 14 bytes long, and the interface that it comes in on.
    pub fn next_frame(&mut self) -> (Vec<u8>, u32) {
        self.pending = None;
        let (mut frame, ifindex) = match self.random.below(100) {
            0..45 => self.client(),
            45..75 => self.backend(),
            75..85 => self.arp(),
            85..95 => self.stranger(),
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
        let forwarded = verdict.reason.starts_with("to_backend") && verdict.action != Action::Drop;
        if !forwarded || talk.packet.bytes().len() != verdict.bytes.len() {
            return;
        }
        // Where the rewritten packet went, read at fixed offsets: only packets without tags get here.
        let b = &verdict.bytes;
        let l4 = 14 + 20 + talk.packet.options.len();
        let mut packet = talk.packet.clone();
        packet.dst_mac = [b[0], b[1], b[2], b[3], b[4], b[5]];
        packet.dst = [b[30], b[31], b[32], b[33]];
        packet.dport = u16::from_be_bytes([b[l4 + 2], b[l4 + 3]]);
        remember(&mut self.sent, talk);
        remember(&mut self.arrived, packet);
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
        let length = if self.random.one_in(16) { 1460 } else { self.random.below(40) };
        (0..length).map(|_| self.random.bits() as u8).collect()
    }

    fn decorate(&mut self, mut packet: Ipv4) -> Ipv4 {
        if self.random.one_in(10) {
            packet.options = vec![1; 4 * self.random.below(11)];
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
        packet
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
                    let vip = 1 + self.random.below(5) as u8;
                    (packet.dst_mac, packet.dst) = ([2, 0x6c, 10, 0, 1, vip], [10, 0, 1, vip]);
                }
                if self.random.one_in(20) {
                    ifindex = self.random.pick(&PORTS);
                }
                (packet, ifindex)
            }
            None => self.new_client(),
        };
        let packet = self.decorate(packet);
        self.pending = Some(Talk { packet: packet.clone(), ifindex });
        if self.random.one_in(10) {
            let tagged = packet.tag(self.random.pick(&[0x8100, 0x88a8]), self.random.bits() as u16);
            self.pending = None;
            return (if self.random.one_in(2) { tagged.tag(0x8100, 7) } else { tagged }.bytes(), ifindex);
        }
        (packet.bytes(), ifindex)
    }

    fn new_client(&mut self) -> (Ipv4, u32) {
        let number = 1 + self.random.below(usize::from(HOSTS)) as u8;
        let (mac, address) = host(number);
        let vip = 1 + self.random.below(5) as u8;
        let sport = 4000 + self.random.below(12) as u16;
        let dport = self.random.pick(&[80, 80, 80, 443, 53, 8443, 22, 0]);
        let to_mac = if self.random.one_in(20) { host(1).0 } else { [2, 0x6c, 10, 0, 1, vip] };
        let (from, to) = ((mac, address, sport), (to_mac, [10, 0, 1, vip], dport));
        let (payload, flags, seq) = (self.payload(), self.flags(), self.random.bits() as u32);
        let packet = match self.random.below(20) {
            0 => Ipv4::other(
                self.random.pick(&[1, 2, 4, 47, 132]),
                (mac, address),
                (to_mac, [10, 0, 1, vip]),
                &payload,
            ),
            1..8 => Ipv4::udp(from, to, &payload),
            _ => Ipv4::tcp(from, to, flags, seq, &payload),
        };
        (packet, PORTS[usize::from(number - 1) % PORTS.len()])
    }

    /// A backend answers something that arrived; sometimes another backend, or from another port.
    fn backend(&mut self) -> (Vec<u8>, u32) {
        if self.arrived.is_empty() {
            return self.client();
        }
        let question = self.random.pick(&self.arrived);
        let flags = self.flags();
        let payload = self.payload();
        let (mut mac, mut address, mut port) = (question.dst_mac, question.dst, question.dport);
        if self.random.one_in(10) {
            (mac, address) = host(1 + self.random.below(usize::from(BACKEND_HOSTS)) as u8);
        }
        if self.random.one_in(20) {
            port = self.random.pick(&[80, 443, 8443, 53]);
        }
        let (from, to) = ((mac, address, port), (question.src_mac, question.src, question.sport));
        let packet = match question.l4 {
            L4::Tcp { ack, .. } => {
                let seq = self.seq(ack);
                Ipv4::tcp(from, to, flags, seq, &payload)
            }
            L4::Udp { .. } => Ipv4::udp(from, to, &payload),
            L4::Other(protocol) => {
                Ipv4::other(protocol, (mac, address), (question.src_mac, question.src), &payload)
            }
        };
        let packet = self.decorate(packet);
        let ifindex = if self.random.one_in(20) {
            self.random.pick(&PORTS)
        } else {
            PORTS[usize::from(mac[5]) % PORTS.len()]
        };
        (packet.bytes(), ifindex)
    }

    fn any_address(&mut self) -> Ip {
        match self.random.below(3) {
            0 => [10, 0, 1, self.random.below(7) as u8],
            1 => [10, 0, 0, self.random.below(10) as u8],
            _ => (self.random.bits() as u32).to_be_bytes(),
        }
    }

    fn any_mac(&mut self) -> Mac {
        match self.random.below(4) {
            0 => BROADCAST,
            1 => [2, 0x6c, 10, 0, 1, self.random.below(7) as u8],
            _ => host(self.random.below(10) as u8).0,
        }
    }

    fn arp(&mut self) -> (Vec<u8>, u32) {
        let mut arp = Arp::request((self.any_mac(), self.any_address()), self.any_address());
        if self.random.one_in(3) {
            arp.dst_mac = self.any_mac();
        }
        if self.random.one_in(3) {
            arp.operation = self.random.below(4) as u16;
        }
        if self.random.one_in(4) {
            arp.target.0 = self.any_mac();
        }
        if self.random.one_in(8) {
            arp = arp.tag(self.random.pick(&[0x8100, 0x88a8]), 5);
        }
        arp.padding = self.random.below(20);
        (arp.bytes(), self.random.pick(&PORTS))
    }

    fn stranger(&mut self) -> (Vec<u8>, u32) {
        let from = (self.any_mac(), self.any_address(), self.random.bits() as u16);
        let to = (self.any_mac(), self.any_address(), self.random.pick(&[80, 53, 443, 9]));
        let payload = self.payload();
        let packet = match self.random.below(3) {
            0 => Ipv4::udp(from, to, &payload),
            1 => Ipv4::tcp(from, to, self.flags(), self.random.bits() as u32, &payload),
            _ => Ipv4::other(self.random.bits() as u8, (from.0, from.1), (to.0, to.1), &payload),
        };
        (self.decorate(packet).bytes(), self.random.pick(&PORTS))
    }

    fn rubbish(&mut self) -> (Vec<u8>, u32) {
        let bytes: Vec<u8> = (0..self.random.below(120)).map(|_| self.random.bits() as u8).collect();
        let ethertype = self.random.pick(&[0x0800, 0x0806, 0x8100, 0x88a8, 0x86dd, 0x88cc, 38, 0]);
        (raw(self.any_mac(), self.any_mac(), &[], ethertype, &bytes), self.random.pick(&PORTS))
    }

    fn mutate(&mut self, frame: &mut Vec<u8>) {
        self.pending = None;
        let at = self.random.below(frame.len());
        let in_headers = self.random.below(frame.len().min(60));
        match self.random.below(8) {
            0 => frame[at] = self.random.bits() as u8,
            1..4 => {
                frame[in_headers] =
                    self.random.pick(&[0, 1, 2, 4, 6, 8, 17, 0x40, 0x45, 0x46, 0x4f, 0x7f, 0x80, 0xff]);
            }
            4 => frame[in_headers] ^= 1 << self.random.below(8),
            5 => frame.truncate(at),
            6 => frame.extend(vec![0xa5; self.random.below(30)]),
            // The total length of an untagged packet.
            _ if frame.len() > 18 => {
                let length = (frame.len() - 14 + self.random.below(4)).saturating_sub(2) as u16;
                frame[16..18].copy_from_slice(&length.to_be_bytes());
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
