//! Fragments of balanced packets, in memory and in both versions: they come out where whole packets do, with the same
//! addresses, whatever entries there are.

mod model;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use lb_core::host::config::Config;
use model::segment::{ACK, SYN, TCP, UDP};
use model::{BROADCAST, Fabric, Model, Segment, Station, arp, host, parts, whole};
use ofshim::core::Settings;
use ofshim::core::balance::{self, EntriesKind};
use openflow::{MacAddr, MatchField, Version};

const CUTS: [usize; 2] = [24, 64];

type End = (u64, u32);
/// Host 1 is the backend, 9 the client; at one switch, or at the ends of a row of three.
const SINGLE: [(u8, End); 2] = [(1, (1, 1)), (9, (1, 9))];
const ROW: [(u8, End); 2] = [(1, (3, 1)), (9, (1, 9))];
const WIRES: [(End, End); 2] = [((1, 3), (2, 2)), ((2, 3), (3, 2))];

struct Bed {
    fabric: Fabric,
    at: [(u8, End); 2],
    next_id: u16,
}

/// VIPs of both protocols at port 80 of this address, served on port 8080.
fn config(sixth: bool) -> String {
    let (vip, backend) = if sixth { ("2001:db8:1::1", "2001:db8::1") } else { ("10.0.1.1", "10.0.0.1") };
    let vip = |protocol: &str| {
        format!(
            "[[vip]]\nname = \"{protocol}\"\naddress = \"{vip}\"\nport = 80\nprotocol = \"{protocol}\"\n\
             [[vip.backend]]\naddress = \"{backend}\"\nport = 8080\n"
        )
    };
    vip("tcp") + &vip("udp")
}

fn balancing(sixth: bool) -> Settings {
    let config = Config::from_toml(&config(sixth), "lb.toml").unwrap();
    let entries = EntriesKind::Reactive;
    Settings { balancing: Some(balance::Settings { config, entries, seed: 7 }), ..Settings::default() }
}

fn address(sixth: bool, number: u8) -> IpAddr {
    if sixth { format!("2001:db8::{number}").parse().unwrap() } else { [10, 0, 0, number].into() }
}

impl Bed {
    fn new(version: Version, settings: Settings, at: [(u8, End); 2]) -> Self {
        let mut bed = Self { fabric: Fabric::new(version, settings, 1..=3, 9, &WIRES), at, next_id: 1 };
        for (number, end) in at {
            let addresses = vec![address(false, number), address(true, number)];
            bed.fabric.stations.insert(end, Station { mac: host(number), addresses, lives: true });
            let announcement = arp(1, host(number), BROADCAST, [10, 0, 0, number], [10, 0, 0, number]);
            bed.fabric.inject(end, &announcement);
        }
        bed.pass(2_000);
        bed
    }

    fn pass(&mut self, ms: u64) {
        self.fabric.pass(Duration::from_millis(ms));
    }

    fn end(&self, number: u8) -> End {
        self.at.iter().find(|(of, _)| *of == number).unwrap().1
    }

    /// A frame leaves a host; what comes out at the other one, and nowhere else.
    fn frames(&mut self, from: u8, frame: &[u8]) -> Vec<Vec<u8>> {
        self.fabric.inject(self.end(from), frame);
        let other = self.end(10 - from);
        let arrived = std::mem::take(&mut self.fabric.arrived);
        assert!(arrived.iter().all(|(end, _)| *end == other), "{arrived:x?}");
        arrived.into_iter().map(|(_, bytes)| bytes).collect()
    }

    /// The same, of a frame that makes one come out at most.
    fn frame(&mut self, from: u8, frame: &[u8]) -> Option<Vec<u8>> {
        let mut arrived = self.frames(from, frame);
        assert!(arrived.len() <= 1, "{arrived:x?}");
        arrived.pop()
    }

    fn packet(&mut self, from: u8, packet: &Segment) -> Segment {
        let arrived = self.frame(from, &packet.bytes()).expect("it arrives");
        Segment::read(&arrived).unwrap()
    }

    /// The fragments of a packet, each packet with a number of its own.
    fn parts(&mut self, packet: &Segment) -> Vec<Vec<u8>> {
        self.next_id += 1;
        parts(&packet.bytes(), self.next_id, &CUTS)
    }

    /// A packet leaves a host in three fragments; what they are together at the other one.
    fn fragmented(&mut self, from: u8, packet: &Segment) -> Segment {
        let parts = self.parts(packet);
        let arrived: Vec<Vec<u8>> =
            parts.iter().map(|part| self.frame(from, part).expect("it arrives")).collect();
        whole(&arrived)
    }

    fn packet_ins(&self) -> usize {
        self.fabric.packet_ins()
    }

    /// Entries of balanced connections.
    fn legs(&self) -> usize {
        let all = self.fabric.net.switches.values().flat_map(|model| &model.flows);
        all.filter(|flow| flow.cookie.0 >> 24 == 0x6f_6673_6808).count()
    }

    /// Entries of routes that take fragments of UDP from this host.
    fn of_fragments(&self, from: MacAddr) -> usize {
        let all = self.fabric.net.switches.values().flat_map(|model| &model.flows);
        let has = |flow: &&model::Flow, field: &MatchField| flow.match_.fields.contains(field);
        all.filter(|flow| has(flow, &MatchField::UdpSrc(0)) || has(flow, &MatchField::IpProto(44)))
            .filter(|flow| has(flow, &MatchField::EthSrc { value: from, mask: None }))
            .count()
    }
}

fn request(sixth: bool, protocol: u8, flags: u8) -> Segment {
    let config = Config::from_toml(&config(sixth), "lb.toml").unwrap();
    Segment {
        src_mac: host(9),
        dst_mac: MacAddr(config.vips[0].mac.0),
        vlan: None,
        src: SocketAddr::new(address(sixth, 9), 40_000),
        dst: SocketAddr::new(config.vips[0].address, 80),
        protocol,
        flags,
        payload: (0..100).collect(),
    }
}

/// Straight to the backend, by UDP.
fn direct(sixth: bool) -> Segment {
    let dst = SocketAddr::new(address(sixth, 1), 5_000);
    Segment { dst_mac: host(1), dst, ..request(sixth, UDP, 0) }
}

/// A connection with entries.
fn open(bed: &mut Bed, sixth: bool, protocol: u8) {
    let (there, back) = if protocol == TCP { (SYN, SYN | ACK) } else { (0, 0) };
    let first = request(sixth, protocol, there);
    let seen = bed.packet(9, &first);
    assert_eq!(bed.packet(1, &seen.answer(back)), first.answer(back));
}

/// A packet of an open connection and its answer, both in fragments.
fn exchange(bed: &mut Bed, sixth: bool, protocol: u8) {
    let flags = if protocol == TCP { ACK } else { 0 };
    let asked = request(sixth, protocol, flags);
    let seen = bed.fragmented(9, &asked);
    let dst = SocketAddr::new(address(sixth, 1), 8_080);
    assert_eq!(seen, Segment { dst, dst_mac: host(1), ..asked.clone() });
    assert_eq!(bed.fragmented(1, &seen.answer(flags)), asked.answer(flags), "as from the VIP");
}

fn each(mut test: impl FnMut(Version, bool, [(u8, End); 2])) {
    for (version, sixth) in [(Version::V1_0, false), (Version::V1_3, false), (Version::V1_3, true)] {
        for at in [SINGLE, ROW] {
            test(version, sixth, at);
        }
    }
}

#[test]
fn a_connection_with_entries_has_its_fragments_rewritten_both_ways() {
    each(|version, sixth, at| {
        for protocol in [TCP, UDP] {
            let mut bed = Bed::new(version, balancing(sixth), at);
            open(&mut bed, sixth, protocol);
            assert_eq!(bed.legs(), 2);
            for _ in 0..2 {
                let before = bed.packet_ins();
                exchange(&mut bed, sixth, protocol);
                assert_eq!(bed.packet_ins(), before + 6, "{version}: each comes to the controller, once");
            }
            let before = bed.packet_ins();
            open(&mut bed, sixth, protocol);
            // In 1.3 each SYN is seen.
            let begins = usize::from(version == Version::V1_3 && protocol == TCP);
            assert_eq!(
                (bed.packet_ins(), bed.legs()),
                (before + begins, 2),
                "whole packets have their entries"
            );
        }
    });
}

#[test]
fn a_connection_that_begins_in_fragments_is_balanced_and_has_entries_later() {
    each(|version, sixth, at| {
        let mut bed = Bed::new(version, balancing(sixth), at);
        exchange(&mut bed, sixth, UDP);
        assert_eq!(bed.legs(), 0, "{version}: a part makes none");
        open(&mut bed, sixth, UDP);
        assert_eq!(bed.legs(), 2);
    });
}

#[test]
fn fragments_ahead_of_their_first_wait_for_it_a_moment() {
    each(|version, sixth, at| {
        let mut bed = Bed::new(version, balancing(sixth), at);
        open(&mut bed, sixth, UDP);
        let asked = request(sixth, UDP, 0);
        let parts = bed.parts(&asked);
        for ahead in [2, 1] {
            assert_eq!(bed.frame(9, &parts[ahead]), None, "{version}: where to?");
        }
        let seen = whole(&bed.frames(9, &parts[0]));
        assert_eq!((seen.dst_mac, seen.dst.port()), (host(1), 8_080));
        let answer = bed.parts(&seen.answer(0));
        assert_eq!(bed.frame(1, &answer[2]), None);
        let mut arrived = bed.frames(1, &answer[0]);
        arrived.extend(bed.frames(1, &answer[1]));
        assert_eq!(whole(&arrived), asked.answer(0));
    });
}

#[test]
fn fragments_without_their_first_end_and_those_of_others_go_on() {
    each(|version, sixth, at| {
        let mut bed = Bed::new(version, balancing(sixth), at);
        open(&mut bed, sixth, UDP);
        let asked = request(sixth, UDP, 0);
        let parts = bed.parts(&asked);
        assert_eq!(bed.frame(9, &parts[1]), None);
        let other = bed.parts(&direct(sixth).answer(0));
        assert_eq!(bed.frame(1, &other[1]), None);
        bed.fabric.arrived.clear();
        bed.pass(300);
        let is_part = |bytes: &[u8]| [parts[1].len(), other[1].len()].contains(&bytes.len());
        let arrived: Vec<_> = bed.fabric.arrived.drain(..).filter(|(_, bytes)| is_part(bytes)).collect();
        assert_eq!(arrived, [(bed.end(9), other[1].clone())], "{version}: as any packet of its sender");
        // Nobody waits any more.
        assert_eq!(bed.frame(9, &parts[2]), None);
        assert_eq!(bed.frame(1, &other[2]).as_ref(), Some(&other[2]));
        assert_eq!(bed.frames(9, &parts[0]).len(), 1);
        assert!(bed.frame(9, &parts[1]).is_some());
    });
}

#[test]
fn fragments_of_other_traffic_hide_no_answers() {
    each(|version, sixth, at| {
        let mut bed = Bed::new(version, balancing(sixth), at);
        open(&mut bed, sixth, UDP);
        for _ in 0..2 {
            let asked = direct(sixth);
            assert_eq!(bed.fragmented(9, &asked), asked, "{version}: as it was sent");
            assert_eq!(bed.fragmented(1, &asked.answer(0)), asked.answer(0));
            exchange(&mut bed, sixth, UDP);
        }
        assert_eq!(bed.of_fragments(host(1)), 0);
        let before = bed.packet_ins();
        bed.fragmented(9, &direct(sixth));
        assert_eq!(bed.packet_ins(), before, "to a backend there are entries");
    });
}

#[test]
fn entries_from_before_that_would_hide_answers_are_deleted() {
    each(|version, sixth, at| {
        let mut bed = Bed::new(version, Settings::default(), at);
        let asked = direct(sixth);
        bed.fragmented(9, &asked);
        bed.fragmented(1, &asked.answer(0));
        assert!(bed.of_fragments(host(1)) > 0, "nobody is balanced");
        let models: Vec<Model> = (1..=3).map(|dpid| bed.fabric.disconnect(dpid)).collect();
        let (wires, stations, now) =
            (bed.fabric.wires.clone(), bed.fabric.stations.clone(), bed.fabric.net.now);
        let mut fabric = Fabric::new(version, balancing(sixth), [], 9, &[]);
        (fabric.wires, fabric.stations, fabric.net.now) = (wires, stations, now);
        for model in models {
            fabric.connect(model);
        }
        bed.fabric = fabric;
        bed.pass(2_000);
        assert_eq!(bed.of_fragments(host(1)), 0, "{version}");
        assert!(bed.of_fragments(host(9)) > 0, "those of others stay");
        exchange(&mut bed, sixth, UDP);
    });
}

#[test]
fn where_a_packet_went_is_forgotten() {
    let mut bed = Bed::new(Version::V1_3, balancing(false), SINGLE);
    open(&mut bed, false, UDP);
    let asked = request(false, UDP, 0);
    let parts = bed.parts(&asked);
    bed.frame(9, &parts[0]).expect("it arrives");
    bed.pass(40_000);
    assert_eq!(bed.frame(9, &parts[1]), None, "after 30 s it is of nobody");
    exchange(&mut bed, false, UDP);
}
