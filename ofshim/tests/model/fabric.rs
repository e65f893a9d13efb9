//! Switches in memory with wires between them: a frame goes in somewhere, and comes out where the network leads it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ofshim::core::{ConnId, Event, Settings};
use openflow::{Message, PortNo, PortReason, PortStatus, Version};

use super::{Model, Net, Station};

/// A port: datapath id and number.
pub type End = (u64, u32);

/// More frames than this from one that came in are a storm.
const STORM: usize = 20_000;

pub struct Fabric {
    pub net: Net,
    pub conns: BTreeMap<u64, ConnId>,
    pub wires: BTreeMap<End, End>,
    /// Switches that nobody controls: what comes in on one of these ports leaves by all others; LLDP ends there.
    pub bridges: Vec<Vec<End>>,
    /// Hosts that answer for their addresses.
    pub stations: BTreeMap<End, Station>,
    /// Ports whose frames are lost on the wire.
    pub eaten: BTreeSet<End>,
    /// Ports whose discovery frames take so long on the wire, and those that are on their way.
    pub slow: BTreeMap<End, Duration>,
    under_way: Vec<(Duration, End, Vec<u8>)>,
    /// Frames that came out where no wire is.
    pub arrived: Vec<(End, Vec<u8>)>,
    /// Frames that passed a wire.
    pub passed: Vec<(End, Vec<u8>)>,
}

impl Fabric {
    /// Switches with these ids, each with so many ports, and wires; all connected and settled.
    pub fn new(
        version: Version,
        settings: Settings,
        switches: impl IntoIterator<Item = u64>,
        ports: u32,
        wires: &[(End, End)],
    ) -> Self {
        let mut fabric = Self {
            net: Net::new(settings),
            conns: BTreeMap::new(),
            wires: BTreeMap::new(),
            bridges: Vec::new(),
            stations: BTreeMap::new(),
            eaten: BTreeSet::new(),
            slow: BTreeMap::new(),
            under_way: Vec::new(),
            arrived: Vec::new(),
            passed: Vec::new(),
        };
        for (a, b) in wires {
            fabric.wires.insert(*a, *b);
            fabric.wires.insert(*b, *a);
        }
        for dpid in switches {
            fabric.connect(Model::new(version, dpid, ports));
        }
        fabric.pass(Duration::from_secs(1));
        fabric
    }

    pub fn connect(&mut self, mut model: Model) {
        model.now = self.net.now;
        let dpid = model.dpid;
        let conn = self.net.connect(model);
        self.conns.insert(dpid, conn);
        self.run();
    }

    pub fn disconnect(&mut self, dpid: u64) -> Model {
        let conn = self.conns.remove(&dpid).unwrap();
        self.net.disconnect(conn)
    }

    pub fn model(&mut self, dpid: u64) -> &mut Model {
        let conn = self.conns[&dpid];
        self.net.switches.get_mut(&conn).unwrap()
    }

    /// Lets frames and messages go on until all is still.
    pub fn run(&mut self) {
        let mut count = 0;
        loop {
            let conns: Vec<(u64, ConnId)> = self.conns.iter().map(|(dpid, conn)| (*dpid, *conn)).collect();
            let mut still = true;
            for (dpid, conn) in conns {
                let Some(model) = self.net.switches.get_mut(&conn) else { continue };
                model.now = self.net.now;
                let emitted = std::mem::take(&mut model.emitted);
                let outbox = std::mem::take(&mut model.outbox);
                still &= emitted.is_empty() && outbox.is_empty();
                if !outbox.is_empty() {
                    self.net.bytes(conn, outbox);
                }
                for (port, frame) in emitted {
                    count += 1;
                    assert!(count < STORM, "a storm: frames without end");
                    self.out((dpid, port.0), frame);
                }
            }
            if still {
                return;
            }
        }
    }

    fn out(&mut self, from: End, frame: Vec<u8>) {
        if self.eaten.contains(&from) {
            return;
        }
        if let Some(to) = self.wires.get(&from).copied() {
            self.passed.push((from, frame.clone()));
            match self.slow.get(&from).filter(|_| frame[12..14] == [0x88, 0xcc]) {
                Some(delay) => self.under_way.push((self.net.now + *delay, to, frame)),
                None => self.arrive(to, &frame),
            }
            return;
        }
        let segment = self.bridges.iter().find(|ends| ends.contains(&from)).cloned();
        match segment {
            Some(_) if frame[..6] == [1, 0x80, 0xc2, 0, 0, 0x0e] => {}
            Some(ends) => {
                self.passed.push((from, frame.clone()));
                ends.into_iter().filter(|to| *to != from).for_each(|to| self.arrive(to, &frame));
            }
            None => {
                let answer = self.stations.get(&from).and_then(|station| station.answer(&frame));
                self.arrived.push((from, frame));
                if let Some(answer) = answer {
                    self.arrive(from, &answer);
                }
            }
        }
    }

    /// A frame comes in on a port, unless that is dead or its switch is away.
    fn arrive(&mut self, (dpid, port): End, frame: &[u8]) {
        let Some(conn) = self.conns.get(&dpid) else { return };
        let Some(model) = self.net.switches.get_mut(conn) else { return };
        model.now = self.net.now;
        if model.ports.get(&PortNo(port)).is_some_and(|up| *up) {
            model.frame_in(PortNo(port), frame, None);
        }
    }

    /// A host's frame comes in; where copies come out, in order. Discovery is not shown.
    pub fn inject(&mut self, from: End, frame: &[u8]) -> Vec<End> {
        self.run();
        self.arrived.clear();
        self.passed.clear();
        self.arrive(from, frame);
        self.run();
        let mut out: Vec<End> =
            self.arrived.iter().filter(|(_, bytes)| bytes == frame).map(|(end, _)| *end).collect();
        out.sort_unstable();
        out
    }

    /// What else came out, as frames of others: answers of the controller.
    pub fn answers(&self, frame: &[u8]) -> Vec<(End, Vec<u8>)> {
        let ethertype = |bytes: &[u8]| u16::from_be_bytes([bytes[12], bytes[13]]);
        let others = self.arrived.iter().filter(|(_, bytes)| bytes != frame);
        others.filter(|(_, bytes)| ![0x88cc, 0x8942].contains(&ethertype(bytes))).cloned().collect()
    }

    /// The wires that a frame passed, as the ports that it left by.
    pub fn way(&self, frame: &[u8]) -> Vec<End> {
        self.passed.iter().filter(|(_, bytes)| bytes == frame).map(|(end, _)| *end).collect()
    }

    /// Lets time pass, in ticks.
    pub fn pass(&mut self, time: Duration) {
        let end = self.net.now + time;
        while self.net.now < end {
            let next = self.net.next_time();
            self.net.now = self.under_way.iter().map(|(due, ..)| *due).fold(next, Duration::min);
            let now = self.net.now;
            self.net.switches.values_mut().for_each(|model| model.expire(now));
            let (due, later) = self.under_way.drain(..).partition(|(due, ..)| *due <= now);
            self.under_way = later;
            let due: Vec<(Duration, End, Vec<u8>)> = due;
            due.iter().for_each(|(_, to, frame)| self.arrive(*to, frame));
            self.run();
            self.net.handle(Event::Tick);
            self.run();
        }
    }

    /// Takes a port down or up, and says so.
    pub fn set_port(&mut self, (dpid, port): End, up: bool) {
        let model = self.model(dpid);
        model.ports.insert(PortNo(port), up);
        let port = model.port(PortNo(port), up);
        let conn = self.conns[&dpid];
        self.net.send(conn, &Message::PortStatus(PortStatus { reason: PortReason::Modify, port }));
        self.run();
    }

    /// Cuts or joins a wire: both its ends notice.
    pub fn set_wire(&mut self, end: End, up: bool) {
        let other = self.wires[&end];
        self.set_port(end, up);
        self.set_port(other, up);
    }

    /// Packet-ins of all switches so far.
    pub fn packet_ins(&self) -> usize {
        self.net.switches.values().map(|model| model.packet_ins).sum()
    }

    /// Entries of routes on a switch.
    pub fn routes(&mut self, dpid: u64) -> usize {
        let purpose = |flow: &super::Flow| flow.cookie.0 >> 24;
        self.model(dpid)
            .flows
            .iter()
            .filter(|flow| [0x6f_6673_6805, 0x6f_6673_6806].contains(&purpose(flow)))
            .count()
    }
}
