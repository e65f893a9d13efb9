//! Both modes on the same packets: `lb compare equivalence`, and the test that replays thousands of flows.
//!
//! ```text
//!                      +--> flow entries: ofshim's balancer and a switch in memory --+
//!   frame, barrier ----|        clock, random number, ticket, loads |                |--> same backend? same bytes?
//!                      +--> XDP: the loaded program, one packet at a time <----------+
//! ```
//!
//! Both make their tables of the same configuration and health, and their plans have to be equal. A packet goes through
//! the flow entries first; the program then gets it with the clock, the random number, the round-robin ticket and the
//! loads that were there. What is left to choose is the decision, and what is left to write are the bytes.

pub mod capture;
pub mod command;
pub mod judge;
pub mod render;
pub mod shim;
pub mod xdp;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Result, bail};
use lb_core::host::config::ConnectionsConfig;
use lb_core::host::replay::{Change, Replayed, Reply, Request, Station, from_hex, to_hex};
use lb_core::reason::Reason;
use serde::Serialize;

use self::judge::{Fate, Kind, Left};
use self::xdp::Xdp;
use crate::explain::frame::{self, Flow, Layout};

/// The other side: a process, or the same in this one.
pub trait FlowEntries {
    /// Answers a request.
    ///
    /// # Errors
    /// It cannot be asked any more.
    fn ask(&mut self, request: &Request) -> Result<Reply>;
}

/// Differences that are told one by one; the others are counted.
const MOST_TOLD: usize = 100;
/// The data of an answer that is made up.
const MADE_UP: &[u8] = b"lb compare equivalence";

/// A flow as its client sees it: the client, where it sends to, and whether it is TCP.
pub type FlowId = (SocketAddr, SocketAddr, bool);

/// What came of a comparison.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Flows to VIPs.
    pub flows: u64,
    /// Those of which every frame went to the same backend with the same bytes.
    pub equal_flows: u64,
    /// Frames that went through both sides.
    pub frames: u64,
    /// Those of them that a side balanced.
    pub balanced: u64,
    /// Those that differ.
    pub different: u64,
    /// Frames that the controller was asked about.
    pub packet_ins: u64,
    /// How frames ended in XDP, by the name of the reason.
    pub reasons: BTreeMap<&'static str, u64>,
    /// Frames by the address of the backend that they came to.
    pub backends: BTreeMap<IpAddr, u64>,
    /// Frames of the file that were not compared, by why.
    pub skipped: BTreeMap<&'static str, u64>,
    /// Frames to a VIP that had another destination MAC than the VIP's, and were given that.
    pub readdressed: u64,
    /// The first differences.
    pub differences: Vec<Difference>,
}

impl Report {
    /// Whether there is no difference.
    #[must_use]
    pub const fn is_equal(&self) -> bool {
        self.different == 0 && self.flows == self.equal_flows
    }
}

/// A frame with which both sides did not do the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Its number in the file, from 1; of an answer that was made up, the number of what it answers.
    pub frame: u64,
    /// Whether it was made up to answer what came to a backend.
    pub made_up: bool,
    /// In what they differ.
    pub kind: Kind,
    /// What it holds.
    pub packet: String,
    /// How it ended in XDP.
    pub reason: &'static str,
    /// What XDP did.
    pub xdp: String,
    /// What flow entries did.
    pub entries: String,
    /// The first byte that differs, where both let it out.
    pub first_byte: Option<usize>,
}

/// Both sides and the books.
pub struct Comparison<E> {
    xdp: Xdp,
    entries: E,
    ports: BTreeMap<[u8; 6], u32>,
    names: BTreeMap<[u8; 6], String>,
    flows: BTreeMap<FlowId, bool>,
    report: Report,
}

/// What both sides made of a frame, if they made the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How it ended in XDP.
    pub reason: Reason,
    /// Whether the controller was asked.
    pub asked: bool,
    /// Where it left, and its bytes; `None` where it did not, or the sides differ.
    pub left: Option<(u32, Vec<u8>)>,
}

impl<E: FlowEntries> Comparison<E> {
    /// Both sides with the same tables, and a network of these hosts.
    ///
    /// # Errors
    /// A side refuses the configuration or cannot be had.
    pub fn new(
        object: &[u8],
        connections: &ConnectionsConfig,
        hosts: &[Station],
        entries: E,
    ) -> Result<Self> {
        let mut comparison = Self {
            xdp: Xdp::load(object, connections)?,
            entries,
            ports: hosts.iter().map(|host| (host.mac.0, host.port)).collect(),
            names: BTreeMap::new(),
            flows: BTreeMap::new(),
            report: Report::default(),
        };
        comparison.follow(&Request::Hosts(hosts.to_vec()))?;
        Ok(comparison)
    }

    /// A barrier: something happens to the backends at an address, on both sides.
    ///
    /// # Errors
    /// A side refuses it.
    pub fn change(&mut self, backend: IpAddr, change: Change) -> Result<()> {
        self.follow(&Request::Change { backend, change })
    }

    fn follow(&mut self, request: &Request) -> Result<()> {
        let sources = match self.entries.ask(request)? {
            Reply::Tables(sources) => sources,
            Reply::Refused(why) => bail!("{why}"),
            Reply::Frame(_) => {
                bail!("ofshim answered something else: are lb and ofshim of the same version?")
            }
        };
        self.xdp.follow(&sources)?;
        for backend in self.xdp.plan().backends.values() {
            if let Some(neighbour) = backend.neighbour {
                self.names.insert(neighbour.mac.0, backend.name.clone());
            }
        }
        Ok(())
    }

    /// The XDP side.
    #[must_use]
    pub const fn xdp(&self) -> &Xdp {
        &self.xdp
    }

    /// The other side.
    #[must_use]
    pub const fn entries(&self) -> &E {
        &self.entries
    }

    /// The port that a MAC is at.
    #[must_use]
    pub fn port_of(&self, mac: [u8; 6]) -> Option<u32> {
        self.ports.get(&mac).copied()
    }

    /// Both sides get a frame: `number` is its own in the file.
    ///
    /// # Errors
    /// A side cannot take it.
    pub fn frame(&mut self, number: u64, at_ns: u64, port: u32, frame: &[u8]) -> Result<Outcome> {
        self.compare(number, false, at_ns, port, frame)
    }

    /// What came to a backend is answered, once for a packet: whether there was an answer to compare.
    ///
    /// # Errors
    /// A side cannot take it.
    pub fn answer(&mut self, number: u64, at_ns: u64, arrived: &(u32, Vec<u8>)) -> Result<bool> {
        let Some(answer) = answer_to(&arrived.1) else { return Ok(false) };
        self.compare(number, true, at_ns, arrived.0, &answer)?;
        Ok(true)
    }

    fn compare(
        &mut self,
        number: u64,
        made_up: bool,
        at_ns: u64,
        port: u32,
        frame: &[u8],
    ) -> Result<Outcome> {
        let request = Request::Frame { at_ns, port, frame: to_hex(frame) };
        let replayed = match self.entries.ask(&request)? {
            Reply::Frame(replayed) => replayed,
            Reply::Refused(why) => bail!("frame {number}: {why}"),
            Reply::Tables(_) => {
                bail!("ofshim answered something else: are lb and ofshim of the same version?")
            }
        };
        let left = left_of(&replayed)?;
        let verdict = self.xdp.frame(&replayed.inputs, frame)?;
        let xdp = judge::by_xdp(&verdict, (port, frame), &self.ports);
        let entries = judge::by_entries(&left, frame, xdp == Fate::Untouched);
        let kind = judge::difference(&xdp, &entries);
        let layout = frame::layout(frame);
        self.count(&verdict, layout.as_ref(), &left, kind.is_none());
        if let Some(kind) = kind
            && self.report.differences.len() < MOST_TOLD
        {
            let first_byte = match (&xdp, &entries) {
                (Fate::Left(_, a), Fate::Left(_, b)) => judge::first_difference(a, b),
                _ => None,
            };
            self.report.differences.push(Difference {
                frame: number,
                made_up,
                kind,
                packet: frame::summary(frame),
                reason: verdict.reason.name(),
                xdp: xdp.words(&self.names),
                entries: entries.words(&self.names),
                first_byte,
            });
        }
        let left = match xdp {
            Fate::Left(port, bytes) if kind.is_none() => Some((port, bytes)),
            _ => None,
        };
        Ok(Outcome { reason: verdict.reason, asked: replayed.asked, left })
    }

    fn count(&mut self, verdict: &xdp::Verdict, layout: Option<&Layout>, left: &Left, equal: bool) {
        let report = &mut self.report;
        report.frames += 1;
        report.packet_ins += u64::from(left.asked);
        report.different += u64::from(!equal);
        *report.reasons.entry(verdict.reason.name()).or_default() += 1;
        report.balanced += u64::from(judge::is_balanced(verdict.reason));
        let plan = self.xdp.plan();
        let is_virtual = |mac: [u8; 6]| plan.vips.values().any(|vip| vip.mac.0 == mac);
        let behind = frame::layout(&verdict.bytes);
        if judge::is_to_backend(verdict.reason) {
            let mac = behind.map(|behind| behind.macs.1);
            let backend = plan.backends.values().find(|b| b.neighbour.is_some_and(|n| Some(n.mac.0) == mac));
            if let Some(backend) = backend {
                *report.backends.entry(backend.key.address).or_default() += 1;
            }
        }
        let flow = match (layout, behind) {
            (Some(came), _) if is_virtual(came.macs.1) => flow_of(came).map(|(flow, _)| flow),
            (_, Some(behind)) if judge::is_to_client(verdict.reason) => {
                flow_of(&behind).map(|(_, back)| back)
            }
            _ => None,
        };
        if let Some(flow) = flow {
            *self.flows.entry(flow).or_insert(true) &= equal;
        }
    }

    /// The end: what came of it.
    #[must_use]
    pub fn finish(self) -> Report {
        let flows = self.flows.len() as u64;
        let equal_flows = self.flows.values().filter(|equal| **equal).count() as u64;
        Report { flows, equal_flows, ..self.report }
    }
}

/// The flow of a packet, and the one of its answer.
fn flow_of(layout: &Layout) -> Option<(FlowId, FlowId)> {
    let ip = layout.ip?;
    let (from, to) = ip.ports?;
    let (src, dst) = (SocketAddr::new(ip.addresses.0, from), SocketAddr::new(ip.addresses.1, to));
    let tcp = ip.protocol == 6;
    Some(((src, dst, tcp), (dst, src, tcp)))
}

fn left_of(replayed: &Replayed) -> Result<Left> {
    let mut out = Vec::new();
    for (port, digits) in &replayed.out {
        let Some(bytes) = from_hex(digits) else {
            bail!("ofshim answered with a frame that is none: {digits:?}");
        };
        out.push((*port, bytes));
    }
    Ok(Left { asked: replayed.asked, out })
}

/// What a host answers to a TCP or UDP packet without a VLAN: to a SYN that it accepts it, to others some data.
#[must_use]
pub fn answer_to(bytes: &[u8]) -> Option<Vec<u8>> {
    let layout = frame::layout(bytes).filter(|layout| layout.vlan.is_none())?;
    let ip = layout.ip?;
    let (from, to) = ip.ports?;
    let tcp = ip.protocol == 6;
    if tcp && ip.flags & frame::RST != 0 {
        return None;
    }
    let is_syn = tcp && ip.flags & frame::SYN_ACK == frame::SYN;
    let flow = Flow {
        macs: (layout.macs.1, layout.macs.0),
        source: SocketAddr::new(ip.addresses.1, to),
        destination: SocketAddr::new(ip.addresses.0, from),
        tcp,
        flags: if is_syn { frame::SYN_ACK } else { 0x10 },
    };
    flow.frame_with(if is_syn { &[] } else { MADE_UP })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(tcp: bool, flags: u8) -> Vec<u8> {
        let flow = Flow {
            macs: ([2, 0, 0, 0, 0, 9], [2, 0, 0, 0, 0, 1]),
            source: "10.0.0.9:40000".parse().expect("an address"),
            destination: "10.0.0.1:80".parse().expect("an address"),
            tcp,
            flags,
        };
        flow.frame().expect("a frame")
    }

    #[test]
    fn answers_go_back_and_a_reset_has_none() {
        let answer = answer_to(&packet(true, frame::SYN)).expect("an answer");
        let layout = frame::layout(&answer).expect("a frame");
        let ip = layout.ip.expect("IP");
        assert_eq!(layout.macs, ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 9]));
        assert_eq!((ip.ports, ip.flags), (Some((80, 40000)), frame::SYN_ACK));
        let data = answer_to(&packet(false, 0)).expect("an answer");
        assert!(data.ends_with(MADE_UP));
        assert_eq!(answer_to(&packet(true, frame::RST)), None);
    }
}
