//! One trace through the loaded XDP program and through reactive flow entries: of more than ten thousand flows each
//! packet has to come to the same backend with the same bytes, and each answer to its client.
//!
//! The trace is the same in every run. Its answers are those of the backend that a packet came to. Backends go down, are
//! drained and disabled, and come back at barriers, between which hundreds of connections stay open. Some packets of either
//! side come in fragments, in any order.

mod network;

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use lb_core::host::config::{Config, Selection};
use lb_core::host::replay::{Change, Reply, Request};
use lb_core::reason::Reason;
use lb_user::equivalence::xdp::Candidates;
use lb_user::equivalence::{Comparison, FlowEntries, Report};
use lb_user::explain::frame as read;
use network::{ADDRESSES, CLIENTS, VIPS, backend, client, client_address, config, hosts, service};
use ofshim::replay::lines::Session;
use testbed::frame::{ACK, Checksum, FIN, L4, Mac, PSH, Packet, SYN};
use testbed::program::object_path;
use testbed::random::Random;
use testbed::root_or_say_so;
use testbed::scenario::Protocol;

/// Flows of the trace.
const FLOWS: usize = 12_000;
/// Stack of the thread that replays.
const STACK_BYTES: usize = 64 << 20;
/// Flows that are open at a time.
const OPEN: usize = 500;
/// From one packet to the next.
const GAP_NS: u64 = 4_000_000;
/// One packet with data in so many comes in fragments.
const SPLIT: usize = 20;
/// New flows from one barrier to the next.
const BARRIER: usize = 400;
/// What happens at the barriers, in turn: to the backend of this number.
const CHANGES: [(u8, Change); 14] = [
    (1, Change::Down),
    (2, Change::Drain),
    (1, Change::Up),
    (3, Change::Disable),
    (2, Change::Enable),
    (4, Change::Down),
    (3, Change::Enable),
    (5, Change::Down),
    (4, Change::Up),
    (5, Change::Up),
    (6, Change::Drain),
    (6, Change::Down),
    (6, Change::Up),
    (6, Change::Enable),
];

/// Flow entries without a process between.
struct InProcess(Session);

impl FlowEntries for InProcess {
    fn ask(&mut self, request: &Request) -> Result<Reply> {
        Ok(self.0.ask(request))
    }
}

/// MAC, address and port of one end.
type End = (Mac, IpAddr, u16);
/// How often packets ended for each reason, by the VIP's way to choose.
type Ends = BTreeMap<(&'static str, &'static str), u64>;

/// A flow under way.
struct Flow {
    vip: usize,
    client: u8,
    from: End,
    to: End,
    /// Packets so far.
    step: usize,
    /// Where the last packet came to, and its bytes there.
    arrived: Option<(u32, Vec<u8>)>,
}

/// Of a TCP connection: whether the client sends, and with which flags.
const TCP: [(bool, u8); 9] = [
    (true, SYN),
    (false, SYN | ACK),
    (true, ACK),
    (true, PSH | ACK),
    (false, PSH | ACK),
    (true, PSH | ACK),
    (true, FIN | ACK),
    (false, FIN | ACK),
    (true, ACK),
];
/// Packets of a handshake.
const ESTABLISHED: usize = 3;
/// Of an exchange by UDP.
const UDP: [(bool, u8); 6] = [(true, 0), (false, 0), (true, 0), (false, 0), (true, 0), (false, 0)];

struct Trace {
    comparison: Comparison<InProcess>,
    random: Random,
    macs: BTreeMap<(bool, usize), Mac>,
    open: Vec<Flow>,
    opened: usize,
    frames: u64,
    ends: Ends,
}

impl Trace {
    fn new() -> Result<Self> {
        let config = Config::from_toml(&config(), "equivalence.toml")?;
        let object = std::fs::read(object_path())
            .with_context(|| format!("{}: `cargo xtask build-ebpf --release`", object_path().display()))?;
        let entries = InProcess(Session::new(config.clone()));
        let comparison = Comparison::new(&object, &config.connections, &hosts(), entries)?;
        let macs =
            [false, true].into_iter().flat_map(|sixth| (0..VIPS.len()).map(move |index| (sixth, index)));
        let macs = macs
            .map(|key| {
                let vip = config.vips.iter().find(|vip| vip.address == service(key.1, key.0).0);
                Ok((key, vip.context("a VIP")?.mac.0))
            })
            .collect::<Result<_>>()?;
        let (open, ends) = (Vec::new(), BTreeMap::new());
        Ok(Self { comparison, random: Random::new(12), macs, open, opened: 0, frames: 0, ends })
    }

    fn run(mut self) -> Result<(Report, Ends)> {
        self.same_candidates()?;
        let mut barriers = 0;
        while self.opened < FLOWS || !self.open.is_empty() {
            if self.opened / BARRIER > barriers {
                self.finish_handshakes()?;
                self.barrier(barriers)?;
                barriers += 1;
            }
            if self.opened < FLOWS
                && (self.open.len() < OPEN / 2 || (self.open.len() < OPEN && self.random.one_in(4)))
            {
                let flow = self.flow();
                self.open.push(flow);
                self.opened += 1;
            }
            let which = self.random.below(self.open.len());
            let flow = self.open.swap_remove(which);
            if let Some(flow) = self.step(flow)? {
                self.open.push(flow);
            }
        }
        ensure!(barriers >= 2 * CHANGES.len(), "only {barriers} barriers");
        Ok((self.comparison.finish(), self.ends))
    }

    /// A flow of a client to a VIP; each has a port of its own.
    fn flow(&mut self) -> Flow {
        let (vip, sixth) = (self.random.below(VIPS.len()), self.random.one_in(2));
        let number = 1 + self.random.below(CLIENTS.into()) as u8;
        let address = client_address(number, 1 + self.random.below(ADDRESSES.into()) as u8, sixth);
        let (to, port) = service(vip, sixth);
        Flow {
            vip,
            client: number,
            from: (client(number).0, address, 1024 + self.opened as u16),
            to: (self.macs[&(sixth, vip)], to, port),
            step: 0,
            arrived: None,
        }
    }

    /// The next packet of a flow; the flow, unless it has ended.
    fn step(&mut self, mut flow: Flow) -> Result<Option<Flow>> {
        let is_tcp = is_tcp(&flow);
        let steps: &[(bool, u8)] = if is_tcp { &TCP } else { &UDP };
        let (by_client, flags) = steps[flow.step];
        let (port, packet) = if by_client {
            (client(flow.client).1, self.packet(is_tcp, flow.from, flow.to, flags))
        } else {
            let Some((port, question)) = &flow.arrived else { return Ok(None) };
            let (port, (from, to)) = (*port, ends(question)?);
            (port, self.packet(is_tcp, to, from, flags))
        };
        // The report finds the flow of an IPv6 packet by its ports only where it is whole.
        let is_data = !is_tcp || flags & PSH != 0;
        let splits = is_data && (flow.step > 0 || flow.from.1.is_ipv4()) && self.random.one_in(SPLIT);
        let frames = if splits { self.fragments(packet) } else { vec![(true, packet.bytes())] };
        for (has_ports, bytes) in frames {
            self.frames += 1;
            let outcome = self.comparison.frame(self.frames, self.frames * GAP_NS, port, &bytes)?;
            *self.ends.entry((VIPS[flow.vip].selection, outcome.reason.name())).or_default() += 1;
            if by_client && has_ports {
                flow.arrived = outcome.left.filter(|_| outcome.reason == Reason::ToBackendSwitch);
            }
        }
        flow.step += 1;
        // A client that hears nothing, or a reset, goes away.
        let goes_on = flow.step < steps.len() && (flow.arrived.is_some() || !by_client);
        Ok(goes_on.then_some(flow))
    }

    fn payload(&mut self, bytes: usize) -> Vec<u8> {
        (0..bytes).map(|_| self.random.bits() as u8).collect()
    }

    /// A packet in three fragments, half of the time out of order, and whether each is the first.
    fn fragments(&mut self, mut packet: Packet) -> Vec<(bool, Vec<u8>)> {
        const CUTS: (usize, usize) = (24, 48);
        packet.payload = self.payload(64);
        let parts = [(0, CUTS.0), CUTS, (CUTS.1, usize::MAX)];
        let mut parts: Vec<_> =
            parts.iter().map(|(from, to)| (*from == 0, packet.part(*from, *to).bytes())).collect();
        if self.random.one_in(2) {
            parts.swap(self.random.below(3), self.random.below(3));
        }
        parts
    }

    fn packet(&mut self, tcp: bool, from: End, to: End, flags: u8) -> Packet {
        let size = if flags & (SYN | FIN) == 0 { self.random.below(80) } else { 0 };
        let payload = self.payload(size);
        let mut packet = if tcp {
            Packet::tcp(from, to, flags, self.random.bits() as u32, &payload)
        } else {
            Packet::udp(from, to, &payload)
        };
        packet.id = self.random.below(1 << 16) as u32;
        packet.ttl = 2 + self.random.below(250) as u8;
        packet.class = self.random.below(256) as u8;
        if let L4::Tcp { options, window, .. } = &mut packet.l4 {
            *window = self.random.bits() as u16;
            *options = if flags & SYN != 0 { vec![2, 4, 5, 0xb4, 1, 3, 3, 7] } else { Vec::new() };
        } else if from.1.is_ipv4() && self.random.one_in(8) {
            // None (RFC 768).
            packet.checksum = Checksum::Value(0);
        }
        packet
    }

    /// Brings every connection past its handshake: a controller that has handed both directions to the switches does not
    /// see the end of it, and takes the connection for established.
    fn finish_handshakes(&mut self) -> Result<()> {
        for flow in std::mem::take(&mut self.open) {
            let mut flow = Some(flow);
            while let Some(under_way) = flow.take_if(|flow| is_tcp(flow) && flow.step < ESTABLISHED) {
                flow = self.step(under_way)?;
            }
            self.open.extend(flow);
        }
        Ok(())
    }

    fn barrier(&mut self, number: usize) -> Result<()> {
        let (host, change) = CHANGES[number % CHANGES.len()];
        for address in backend(host).1 {
            let what = || format!("barrier {number}: {} {address}", change.word());
            self.comparison.change(address, change).with_context(what)?;
        }
        self.same_candidates().with_context(|| format!("barrier {number}"))
    }

    /// The same backends may be chosen, with the same weights, in the kernel's tables and in the controller's.
    fn same_candidates(&self) -> Result<()> {
        let replay = self.comparison.entries().0.replay().context("no replay")?;
        let balancer = replay.balancer().map_err(anyhow::Error::msg)?;
        let model = balancer.model();
        let mut by_chance = 0;
        for (id, vip) in &balancer.plan().vips {
            let table = model.selections.get(id).context("no selection table")?;
            let members = table.members.iter().take(table.member_count as usize);
            let expected = Candidates {
                ring: table.ring.iter().take(table.ring_len as usize).copied().collect(),
                members: members.map(|id| (*id, model.backends[id].weight)).collect(),
            };
            let found = self.comparison.xdp().candidates(*id)?;
            ensure!(found == expected, "VIP {}: {found:?} in XDP, {expected:?} in the controller", vip.name);
            ensure!(!found.members.is_empty(), "VIP {}: nobody is in rotation", vip.name);
            by_chance +=
                usize::from(matches!(vip.selection, Selection::Random | Selection::LeastConnections));
        }
        ensure!(by_chance == 8, "{by_chance} VIPs that choose by chance");
        Ok(())
    }
}

fn is_tcp(flow: &Flow) -> bool {
    VIPS[flow.vip].protocol == Protocol::Tcp
}

/// Both ends of a packet, or of a first fragment.
fn ends(bytes: &[u8]) -> Result<(End, End)> {
    let layout = read::layout(bytes).context("an Ethernet header")?;
    let ip = layout.ip.context("an IP header")?;
    /// Ethernet, IPv6 and fragment header.
    const BEHIND_FRAGMENT_HEADER: usize = 14 + 40 + 8;
    let behind = || match bytes.get(BEHIND_FRAGMENT_HEADER..)? {
        [a, b, c, d, ..] => Some((u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]))),
        _ => None,
    };
    let (from, to) = ip.ports.or_else(behind).context("ports")?;
    Ok(((layout.macs.0, ip.addresses.0, from), (layout.macs.1, ip.addresses.1, to)))
}

#[test]
fn ten_thousand_flows_are_the_same_by_xdp_and_by_flow_entries() {
    if !root_or_say_so("the comparison of XDP and flow entries") {
        return;
    }
    // A selection table is large, and its copies are on the stack.
    let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
    let thread = thread.spawn(|| Trace::new().and_then(Trace::run)).expect("a thread");
    let (report, ends) = thread.join().expect("an end").unwrap_or_else(|error| panic!("{error:#}"));
    println!(
        "{} of {} flows, {} frames, {} packet-ins",
        report.equal_flows, report.flows, report.frames, report.packet_ins
    );
    println!("{:?}\n{ends:?}", report.reasons);
    assert!(report.is_equal(), "{}", lb_user::equivalence::render::report(&report));
    assert_eq!(report.flows, FLOWS as u64);
    // The bytes are those of flow entries: the controller sees first packets, FINs and fragments, and little more.
    assert!(report.packet_ins * 2 < report.frames, "{} of {}", report.packet_ins, report.frames);
    let parts = ["fragment_to_backend", "fragment_to_client", "fragment_unknown", "no_connection"];
    for reason in ["to_backend_switch", "to_client_switch", "reset_answered"].iter().chain(&parts) {
        assert!(
            report.reasons.get(reason).is_some_and(|count| *count >= 10),
            "{reason}: {:?}",
            report.reasons
        );
    }
    for selection in ["source-hash", "flow-hash", "maglev", "round-robin", "random", "least-connections"] {
        let balanced = ends.get(&(selection, "to_backend_switch")).copied().unwrap_or(0);
        assert!(balanced > 1000, "{selection}: {balanced} packets");
    }
}
