//! Floods through the loaded program: SYNs from random sources, ACKs without a connection, five times as many as the
//! connection table has slots. Ten thousand established connections, silent meanwhile, go on in both directions.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use testbed::frame::{ACK, Ip, Mac, PSH, Packet, RST, SYN, v4};
use testbed::namespace::with_ports;
use testbed::program::{Program, object_path};
use testbed::random::Random;
use testbed::root_or_say_so;
use testbed::scenario::{Backend, Handing, Mode, Port, Protocol, Scenario, Selection, Timeouts, Vip};
use testbed::side::Action;

/// Established connections.
const FLOWS: u32 = 10_000;
/// Slots of the connection table, about three for each of them.
const TABLE: u32 = 1 << 15;
/// Slots of the half-open connections' table.
const HALF_OPEN: u32 = 1 << 13;
/// Packets of a flood.
const FLOOD: u32 = 5 * TABLE;
/// Packets of a flood in one tick, 1.05 ms: about a million a second.
const IN_A_TICK: u32 = 1_000;
/// New connections in a window of 256 ticks, where there is a cap: 30,000 a second.
const CAP: u32 = 8_000;

const BACKENDS: u16 = 4;
const VIP: (Mac, Ip, u16) = ([2, 0x6c, 10, 0, 1, 1], v4(10, 0, 1, 1), 80);
const CLIENT_MAC: Mac = [2, 0, 0, 0, 0, 99];
const PORT: u32 = 11;

fn backend(number: u16) -> (Mac, Ip) {
    ([2, 0, 0, 0, 0, number as u8], v4(10, 0, 0, number as u8))
}

fn scenario(mode: Mode, cap: u32) -> Scenario {
    const SECOND: u32 = 954;
    let vip = Vip {
        mode,
        selection: Selection::Random,
        transmit: true,
        services: vec![(Protocol::Tcp, 80)],
        ring: (1..=BACKENDS).collect(),
        lent: (1024, 64_512),
        source: (mode == Mode::Ipip).then_some(v4(10, 0, 0, 254)),
        tunnel_mtu: 1500,
        ..Vip::new(1, VIP.1, VIP.0)
    };
    Scenario {
        vips: vec![vip],
        backends: (1..=BACKENDS).map(|number| Backend::new(number, 1, backend(number), 1)).collect(),
        ports: vec![Port { slot: 1, ifindex: PORT, switch: 1, redirect: true }],
        timeouts: Timeouts {
            syn: 60 * SECOND,
            unverified: 60 * SECOND,
            established: 7440 * SECOND,
            closing: 240 * SECOND,
            closed: 10 * SECOND,
            udp: 300 * SECOND,
            suspect: 15 * SECOND,
            fragment: 30 * SECOND,
        },
        max_new: cap,
        handing: Handing::No,
        connections: TABLE,
        stray_bits: Vec::new(),
    }
}

/// A data plane under fire.
struct Target {
    program: Program,
    mode: Mode,
    now: u32,
    random: Random,
}

impl Target {
    fn new(mut program: Program, mode: Mode, cap: u32) -> Result<Self> {
        program.reset()?;
        program.change(&scenario(mode, cap))?;
        Ok(Self { program, mode, now: 1_000_000, random: Random::new(7) })
    }

    /// Lets ticks pass; the random number, by which backends are picked, is another one.
    fn pass(&mut self, ticks: u32) -> Result<()> {
        self.now += ticks;
        self.program.inputs(self.now, self.random.bits() as u32)
    }

    /// A client's segment; its frame behind the balancer, if it was sent on.
    fn send(&mut self, client: (Ip, u16), flags: u8, seq: u32) -> Result<Option<Vec<u8>>> {
        let frame = Packet::tcp((CLIENT_MAC, client.0, client.1), VIP, flags, seq, b"").bytes();
        let (action, bytes) = self.program.send(&frame, PORT)?;
        Ok((action == Action::Transmit).then_some(bytes))
    }

    /// Whether the balancer sees the backends' answers.
    fn sees_answers(&self) -> bool {
        matches!(self.mode, Mode::Nat | Mode::FullNat)
    }

    /// The answer of a backend that got this frame; whether it went on to the client at the address the VIP has.
    fn answer(&mut self, frame: &[u8], client: (Ip, u16), flags: u8) -> Result<bool> {
        let (to, from) = (ends(frame, 26), ends(frame, 30));
        let to_mac = if self.mode == Mode::FullNat { VIP.0 } else { CLIENT_MAC };
        let answer = Packet::tcp((mac(frame), from.0, from.1), (to_mac, to.0, to.1), flags, 1, b"").bytes();
        let (action, bytes) = self.program.send(&answer, PORT)?;
        Ok(action == Action::Transmit && ends(&bytes, 26) == (VIP.1, VIP.2) && ends(&bytes, 30) == client)
    }
}

/// Who a frame is for.
fn mac(frame: &[u8]) -> Mac {
    frame[..6].try_into().expect("six of six bytes")
}

/// Source (the address at byte 26) or destination (30) of a frame without tags and options.
fn ends(frame: &[u8], address: usize) -> (Ip, u16) {
    let port = if address == 26 { 34 } else { 36 };
    let ip: [u8; 4] = frame[address..address + 4].try_into().expect("four of four bytes");
    (ip.into(), u16::from_be_bytes([frame[port], frame[port + 1]]))
}

fn flow(number: u32) -> (Ip, u16) {
    (v4(172, 16, (number >> 8) as u8, number as u8), 40_000)
}

/// Opens the connections; the frame that each backend got last.
fn establish(target: &mut Target) -> Result<Vec<Vec<u8>>> {
    (0..FLOWS)
        .map(|number| {
            // As slowly as every cap allows.
            target.pass(1)?;
            let client = flow(number);
            let syn = target.send(client, SYN, 1)?.context("a SYN is sent on")?;
            if target.sees_answers() {
                ensure!(target.answer(&syn, client, SYN | ACK)?, "the answer to {client:?} gets lost");
            }
            target.send(client, ACK, 2)?.context("an ACK is sent on")
        })
        .collect()
}

/// How many connections do not go on as before, to their backend and back.
fn broken(target: &mut Target, before: &[Vec<u8>]) -> Result<u32> {
    let mut broken = 0;
    for (number, before) in (0..FLOWS).zip(before) {
        let client = flow(number);
        let after = target.send(client, ACK | PSH, 2)?;
        let goes_on = match after {
            // Who gets it, and what for: full NAT has the same port lent.
            Some(after) if mac(&after) == mac(before) && ends(&after, 26) == ends(before, 26) => {
                !target.sees_answers() || target.answer(&after, client, ACK)?
            }
            _ => false,
        };
        broken += u32::from(!goes_on);
    }
    Ok(broken)
}

/// Sends the flood; the backends answer what reaches them, as far as the balancer is on the way.
fn flood(target: &mut Target, flags: u8) -> Result<()> {
    let answer = if flags == SYN { SYN | ACK } else { RST };
    for number in 0..FLOOD {
        if number % IN_A_TICK == 0 {
            target.pass(1)?;
        }
        let bits = target.random.bits();
        let [a, b, c, ports @ ..] = bits.to_be_bytes();
        let client = (v4(100 + a % 64, b, c, number as u8), u16::from_be_bytes([ports[0] | 4, ports[1]]));
        if let Some(frame) = target.send(client, flags, bits as u32)?
            && target.sees_answers()
        {
            target.answer(&frame, client, answer)?;
        }
    }
    Ok(())
}

/// What the reasons counted since an earlier look.
fn moved(target: &mut Target, before: &BTreeMap<String, u64>) -> Result<BTreeMap<String, u64>> {
    let after = reasons(target)?;
    Ok(after.into_iter().map(|(name, n)| (name.clone(), n - before.get(&name).unwrap_or(&0))).collect())
}

fn reasons(target: &mut Target) -> Result<BTreeMap<String, u64>> {
    let counters = target.program.snapshot()?.counters.into_iter();
    Ok(counters.filter_map(|(name, n)| Some((name.strip_prefix("reason:")?.to_owned(), n))).collect())
}

/// One flood; the program, for the next one: loading it takes seconds.
fn under_fire(program: Program, mode: Mode, flags: u8, cap: u32) -> Result<Program> {
    let what = format!("{mode:?}, {}, cap {cap}", if flags == SYN { "SYNs" } else { "ACKs" });
    let mut target = Target::new(program, mode, cap)?;
    let before = establish(&mut target)?;
    ensure!(broken(&mut target, &before)? == 0, "{what}: broken without a flood");
    let counted = reasons(&mut target)?;
    flood(&mut target, flags)?;
    let counted = moved(&mut target, &counted)?;
    let broken = broken(&mut target, &before)?;
    println!("{what}: {FLOOD} packets, {broken} of {FLOWS} connections broken; {counted:?}");
    ensure!(broken == 0, "{what}: {broken} of {FLOWS} connections are broken");

    // The flood's own packets: forwarded, or dropped by the cap's name where the mode cannot go on without an entry.
    let count = |name: &str| counted.get(name).copied().unwrap_or(0);
    let (forwarded, refused) = (count("to_backend_transmit"), count("new_flow_cap"));
    let windows = u64::from(FLOOD / IN_A_TICK / 256 + 2);
    match (mode, cap) {
        (Mode::Nat | Mode::FullNat, 1..) => {
            ensure!(
                forwarded <= windows * u64::from(cap),
                "{what}: {forwarded} are more than the cap allows"
            );
            ensure!(refused > 0, "{what}: the cap was not reached");
        }
        _ => ensure!(refused == 0, "{what}: {refused} refused"),
    }
    let exhausted = count("snat_exhausted");
    ensure!(
        forwarded + refused + exhausted == u64::from(FLOOD),
        "{what}: {forwarded} forwarded, {refused} refused, {exhausted} without a port, of {FLOOD}"
    );
    ensure!(mode == Mode::FullNat || exhausted == 0, "{what}: {exhausted} without a port");
    Ok(target.program)
}

#[test]
fn floods_break_no_established_connection() {
    if !root_or_say_so("floods through the loaded program") {
        return;
    }
    let all = || {
        let sizes = [("CONNS", TABLE), ("HALF_OPEN", HALF_OPEN), ("SNATS", TABLE), ("HALF_SNATS", HALF_OPEN)];
        let mut program = Program::load_sized(&object_path(), &scenario(Mode::Nat, 0), &sizes)?;
        for mode in [Mode::Nat, Mode::FullNat, Mode::Dsr, Mode::Ipip] {
            for flags in [SYN, ACK] {
                for cap in [0, CAP] {
                    program = under_fire(program, mode, flags, cap)?;
                }
            }
        }
        Ok(())
    };
    with_ports(all).unwrap_or_else(|failure: anyhow::Error| panic!("{failure:#}"));
}
