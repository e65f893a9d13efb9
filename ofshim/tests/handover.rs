//! Balancing in the place of a daemon, in memory and in both versions: what it gives, what it gets back, and what the
//! switches have meanwhile.

mod model;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use lb_core::conn::{flag, state};
use lb_core::host::config::Config;
use lb_core::host::handover::{Connection, Handover, Standing, Told};
use lb_core::host::health::{FULL_SHARE, Neighbour, State};
use lb_core::host::ids::{BackendKey, Ids};
use lb_core::host::plan::{HealthView, Plan, Seen};
use model::segment::{ACK, SYN, TCP};
use model::{BROADCAST, Fabric, Model, Segment, Station, arp, host, parts};
use ofshim::core::net::handover::{StandBy, Taken};
use ofshim::core::{Event, Placement, Settings, Source, VipKnowledge};
use openflow::{MacAddr, MatchField, Version};

const BOTH: [Version; 2] = [Version::V1_0, Version::V1_3];
const VIRTUAL: MacAddr = MacAddr([2, 0x6c, 10, 0, 1, 1]);
const VIP: [u8; 4] = [10, 0, 1, 1];
/// Where hosts are: 1 and 2 are backends, 9 is a client; three switches in a row.
const AT: [(u8, (u64, u32)); 3] = [(1, (2, 1)), (2, (3, 1)), (9, (1, 1))];

fn config(more: &str) -> Config {
    let text = format!(
        "[health]\nprobe_address = \"10.0.0.250\"\n[[vip]]\nname = \"web\"\naddress = \"10.0.1.1\"\nport = 80\nselection = \"round-robin\"\n{more}\n\
         [[vip.backend]]\naddress = \"10.0.0.1\"\nport = 8080\n[[vip.backend]]\naddress = \"10.0.0.2\"\nport = 8080\n"
    );
    Config::from_toml(&text, "lb.toml").unwrap()
}

/// What a daemon gives: these backends are up, and connections from these ports are with the first.
fn given(config: &Config, up: &[u8], ports: &[u16]) -> Handover {
    let vip = &config.vips[0];
    let view: HealthView = vip
        .backends
        .iter()
        .map(|backend| {
            let IpAddr::V4(address) = backend.address else { panic!("IPv4") };
            let number = address.octets()[3];
            let neighbour = Neighbour { mac: lb_core::host::addr::MacAddr(host(number).0), interface: 77 };
            let state = if up.contains(&number) { State::Up } else { State::Down };
            let seen = Seen { state, neighbour: Some(neighbour), share: FULL_SHARE };
            (BackendKey::of(vip, backend), seen)
        })
        .collect();
    let plan = Plan::from_config(config, &mut Ids::default(), &view, None).unwrap();
    let connection = |port: &u16| Connection {
        client: SocketAddr::new(IpAddr::from([10, 0, 0, 9]), *port),
        vip: 1,
        vip_port: 80,
        protocol: TCP,
        backend: 1,
        generation: 0,
        state: state::ESTABLISHED,
        flags: flag::ANSWERED,
        idle_ms: 100,
        client_next: 0,
        backend_next: 0,
    };
    Handover {
        health: view.into_iter().collect(),
        tickets: vec![(1, 1)],
        connections: ports.iter().map(connection).collect(),
        ..Handover::of_plan(config, &plan)
    }
}

struct Bed {
    fabric: Fabric,
}

impl Bed {
    /// Hosts of which the controller has not heard, and a daemon that balances by XDP.
    fn new(version: Version) -> Self {
        let settings = Settings { stand_by: StandBy::Ready { seed: 7 }, ..Settings::default() };
        let wires = [((1, 3), (2, 2)), ((2, 3), (3, 2))];
        let mut bed = Self { fabric: Fabric::new(version, settings, 1..=3, 9, &wires) };
        for (number, end) in AT {
            let addresses = vec![IpAddr::from([10, 0, 0, number])];
            bed.fabric.stations.insert(end, Station { mac: host(number), addresses, lives: true });
        }
        bed.know();
        bed
    }

    fn know(&mut self) {
        let backends = [1, 2].map(|number| [10, 0, 0, number].into());
        let known = VipKnowledge::new([(VIP.into(), VIRTUAL)], backends, [], Placement::Inline);
        self.fabric.net.handle(Event::Knowledge { known, source: Source::Daemon });
        self.fabric.run();
    }

    fn told(&mut self, standing: Standing, state: Handover, asked: bool) {
        self.fabric.net.handle(Event::Told { told: Box::new(Ok(Told { standing, state })), asked });
        self.fabric.run();
    }

    /// Gives all this, and waits for the end.
    fn take(&mut self, given: &Handover) -> Result<Taken, String> {
        let now = self.fabric.net.now;
        let commands = self.fabric.net.controller.take(given, now)?;
        self.fabric.net.order(commands);
        self.fabric.run();
        for _ in 0..80 {
            if let Some(done) = self.fabric.net.controller.take_done() {
                return done;
            }
            self.fabric.pass(Duration::from_millis(100));
        }
        panic!("no end: {:#?}", self.fabric.net.log);
    }

    fn release(&mut self) -> Result<usize, String> {
        let now = self.fabric.net.now;
        let (connections, commands) = self.fabric.net.controller.release(now)?;
        self.fabric.net.order(commands);
        self.fabric.run();
        Ok(connections)
    }

    fn handover(&self) -> Result<Handover, String> {
        self.fabric.net.controller.handover(self.fabric.net.now)
    }

    /// A packet that arrives at one host alone: which, and what arrives; `None` if it arrives nowhere.
    fn send(&mut self, from: u8, segment: &Segment) -> Option<(u8, Segment)> {
        let end = AT.iter().find(|(number, _)| *number == from).unwrap().1;
        self.fabric.inject(end, &segment.bytes());
        self.arrived()
    }

    fn arrived(&mut self) -> Option<(u8, Segment)> {
        let arrived = std::mem::take(&mut self.fabric.arrived);
        let mut segments = arrived.iter().filter_map(|(end, bytes)| Some((*end, Segment::read(bytes)?)));
        let (at, segment) = segments.next()?;
        assert!(segments.next().is_none(), "it arrives once");
        Some((AT.iter().find(|(_, end)| *end == at).expect("a host").0, segment))
    }

    /// Entries of balanced connections on all switches.
    fn legs(&self) -> usize {
        let all = self.fabric.net.switches.values().flat_map(|model| &model.flows);
        all.filter(|flow| flow.cookie.0 >> 24 == 0x6f_6673_6808).count()
    }
}

fn request(port: u16, flags: u8) -> Segment {
    Segment {
        src_mac: host(9),
        dst_mac: VIRTUAL,
        vlan: None,
        src: SocketAddr::new(IpAddr::from([10, 0, 0, 9]), port),
        dst: SocketAddr::new(IpAddr::from(VIP), 80),
        protocol: TCP,
        flags,
        payload: b"hello".to_vec(),
    }
}

#[test]
fn what_is_taken_has_its_entries_and_comes_back() {
    for version in BOTH {
        let mut bed = Bed::new(version);
        let given = given(&config(""), &[1, 2], &[40_000, 40_001, 40_002]);
        bed.told(Standing::Xdp, Handover { connections: Vec::new(), ..given.clone() }, false);
        assert_eq!(bed.take(&given), Ok(Taken { installed: 3, remembered: 0, refused: 0 }));
        assert_eq!(bed.legs(), 6, "one for each direction");
        let before = bed.fabric.packet_ins();
        for port in 40_000..40_003 {
            let (to, seen) = bed.send(9, &request(port, ACK)).expect("a backend");
            assert_eq!((to, seen.dst.port(), seen.dst_mac), (1, 8080, host(1)));
            assert_eq!(bed.send(1, &seen.answer(ACK)), Some((9, request(port, ACK).answer(ACK))));
        }
        assert_eq!(bed.fabric.packet_ins(), before, "no packet comes to the controller");

        // Given again, what is there stays; what is new comes along.
        let more = Handover {
            connections: self::given(&config(""), &[1, 2], &[40_000, 40_007]).connections,
            ..given.clone()
        };
        assert_eq!(bed.take(&more), Ok(Taken { installed: 2, remembered: 0, refused: 0 }));
        assert_eq!(bed.legs(), 8);
        // The next ticket is the giver's.
        assert_eq!(bed.send(9, &request(50_000, SYN)).expect("a backend").0, 2);

        let back = bed.handover().unwrap();
        assert_eq!((&back.config, &back.vips, &back.backends), (&given.config, &given.vips, &given.backends));
        assert_eq!((&back.health, &back.tickets), (&given.health, &vec![(1, 2)]));
        let ports: Vec<(u16, u16)> =
            back.connections.iter().map(|one| (one.client.port(), one.backend)).collect();
        assert_eq!(ports, [(40_000, 1), (40_001, 1), (40_002, 1), (40_007, 1), (50_000, 2)]);

        assert_eq!(bed.release(), Ok(5));
        assert_eq!(bed.legs(), 0);
        assert!(bed.handover().unwrap_err().contains("does not balance for a daemon"));
        assert!(bed.release().is_err());
        assert_eq!(bed.send(9, &request(40_000, ACK)), None, "it keeps off VIPs as before");
        assert_eq!(bed.fabric.net.asks, 0, "late packets ask nobody");
    }
}

/// Between the first time that a daemon tells of its connections and the second, ports are used again.
#[test]
fn of_a_port_that_was_used_again_the_latest_connection_counts() {
    for version in BOTH {
        let mut bed = Bed::new(version);
        let with = |changes: &[(u16, u16, u8)]| {
            let ports: Vec<u16> = changes.iter().map(|(port, ..)| *port).collect();
            let mut given = given(&config(""), &[1, 2], &ports);
            for (connection, (_, backend, state)) in given.connections.iter_mut().zip(changes) {
                (connection.backend, connection.state) = (*backend, *state);
            }
            given
        };
        let (a, b, c, d) = (40_000, 40_001, 40_002, 40_003);
        let begin = [
            (a, 1, state::ESTABLISHED),
            (b, 1, state::ESTABLISHED),
            (c, 1, state::CLOSED),
            (d, 1, state::SYN),
        ];
        assert_eq!(bed.take(&with(&begin)), Ok(Taken { installed: 2, remembered: 2, refused: 0 }));
        // The second has ended there, and may have begun again here since.
        let then = [
            (a, 2, state::ESTABLISHED),
            (b, 2, state::CLOSED),
            (c, 2, state::ESTABLISHED),
            (d, 1, state::ESTABLISHED),
        ];
        assert_eq!(bed.take(&with(&then)), Ok(Taken { installed: 4, remembered: 0, refused: 0 }));
        assert_eq!(bed.legs(), 8, "none is left of those before");
        let before = bed.fabric.packet_ins();
        for (port, backend) in [(a, 2), (b, 1), (c, 2), (d, 1)] {
            let (to, seen) = bed.send(9, &request(port, ACK)).expect("a backend");
            assert_eq!((to, seen.dst_mac), (backend, host(backend)), "{port}");
            assert_eq!(bed.send(backend, &seen.answer(ACK)), Some((9, request(port, ACK).answer(ACK))));
        }
        assert_eq!(bed.fabric.packet_ins(), before, "no packet comes to the controller");
    }
}

/// What has ended is not given back: the tables there would take the next connection from the port for the last one.
#[test]
fn what_has_ended_is_not_given_back() {
    let mut bed = Bed::new(Version::V1_3);
    let mut given = given(&config(""), &[1, 2], &[40_000, 40_001, 40_002]);
    given.connections[0].state = state::CLOSED;
    given.connections[1].flags |= flag::CLIENT_FIN | flag::BACKEND_FIN;
    given.connections[1].state = state::CLOSING;
    assert_eq!(bed.take(&given), Ok(Taken { installed: 1, remembered: 2, refused: 0 }));
    // A new one from the first's port, which is known to be open as soon as it has its entries.
    let (to, _) = bed.send(9, &request(40_000, SYN)).expect("a backend");
    assert_eq!(to, 2);
    let known = bed.handover().unwrap().connections;
    let known: Vec<(u16, u16, u8)> =
        known.iter().map(|one| (one.client.port(), one.backend, one.state)).collect();
    assert_eq!(known, [(40_000, 2, state::ESTABLISHED), (40_002, 1, state::ESTABLISHED)]);
}

#[test]
fn what_entries_cannot_do_is_refused_and_nothing_has_changed() {
    let mut bed = Bed::new(Version::V1_3);
    let snat = "mode = \"fullnat\"\nsnat = \"10.0.0.250\"";
    let refused = bed.take(&given(&config(snat), &[1, 2], &[40_000])).unwrap_err();
    assert!(refused.starts_with("VIP web: mode fullnat is not among"), "{refused}");
    assert!(bed.handover().is_err() && bed.legs() == 0);
    let settings = Settings::default();
    bed.fabric = Fabric::new(Version::V1_3, settings, 1..=1, 9, &[]);
    let refused = bed.take(&given(&config(""), &[1, 2], &[])).unwrap_err();
    assert!(refused.starts_with("this controller does not balance for a daemon"), "{refused}");
}

#[test]
fn hosts_that_do_not_answer_get_entries_with_their_first_packets() {
    let mut bed = Bed::new(Version::V1_3);
    bed.fabric.stations.get_mut(&(1, 1)).unwrap().lives = false;
    let mut given = given(&config(""), &[1, 2], &[40_000, 40_001]);
    given.connections[1].backend = 9;
    assert_eq!(bed.take(&given), Ok(Taken { installed: 0, remembered: 1, refused: 1 }));
    assert_eq!(bed.send(9, &request(40_000, ACK)).expect("a backend").0, 1);
    assert_eq!(bed.legs(), 2);
}

#[test]
fn packets_for_a_vip_wait_until_the_daemon_has_said_who_balances() {
    for version in BOTH {
        let mut bed = Bed::new(version);
        let given = given(&config(""), &[1, 2], &[40_000]);
        let without = Handover { connections: Vec::new(), ..given.clone() };
        bed.told(Standing::Xdp, without.clone(), false);
        // It is a stray: XDP is there.
        assert_eq!(bed.send(9, &request(40_000, ACK)), None);
        assert_eq!(bed.fabric.net.asks, 1);
        bed.told(Standing::Xdp, without.clone(), true);
        assert_eq!((bed.arrived(), bed.send(9, &request(40_000, ACK))), (None, None));
        assert_eq!(bed.fabric.net.asks, 1, "not again at once");
        bed.fabric.pass(Duration::from_millis(300));
        assert_eq!(bed.send(9, &request(40_000, ACK)), None);
        assert_eq!(bed.send(9, &request(40_009, SYN)), None);
        assert_eq!(bed.fabric.net.asks, 2, "once for all");
        // XDP has gone.
        bed.told(Standing::Detached, given.clone(), true);
        let arrived: Vec<(u64, u32)> = bed
            .fabric
            .arrived
            .iter()
            .filter(|(_, frame)| frame[12..14] == [8, 0])
            .map(|(end, _)| *end)
            .collect();
        assert_eq!(arrived, [AT[0].1, AT[1].1], "both packets that waited, the old connection where it was");
        bed.fabric.arrived.clear();
        assert_eq!(bed.legs(), 4);
        assert_eq!(bed.send(9, &request(40_000, ACK)).expect("a backend").0, 1);
        let status = bed.fabric.net.controller.status(&[], bed.fabric.net.now);
        assert!(status.balancer.balances.contains("XDP is not attached"), "{}", status.balancer.balances);
        // The daemon balances again, and has forgotten what it gave.
        for _ in 0..3 {
            bed.told(Standing::Xdp, without.clone(), false);
        }
        assert_eq!(bed.legs(), 0, "{:#?}", bed.fabric.net.log);
    }
}

#[test]
fn health_follows_the_daemon() {
    let mut bed = Bed::new(Version::V1_3);
    let config = config("on_down = \"repick\"");
    bed.take(&given(&config, &[1, 2], &[40_000])).unwrap();
    assert_eq!(bed.send(9, &request(40_000, ACK)).expect("a backend").0, 1);
    bed.told(Standing::OpenFlow, given(&config, &[2], &[]), false);
    assert_eq!(bed.legs(), 0, "entries to a dead backend go at once");
    assert_eq!(bed.send(9, &request(40_000, ACK)).expect("a backend").0, 2);
    assert_eq!(bed.fabric.net.logged("backend 10.0.0.1 down, says the balancer's daemon"), 1);
    bed.fabric.pass(Duration::from_secs(3));
    let asks = |frame: &Vec<u8>| frame[12..14] == [8, 6] && frame[38..42] == [10, 0, 0, 1];
    assert!(!bed.fabric.arrived.iter().any(|(_, frame)| asks(frame)), "it does not probe by itself");
}

#[test]
fn a_silent_daemon_is_stood_in_for_by_what_it_said_last() {
    let mut bed = Bed::new(Version::V1_3);
    bed.told(Standing::Xdp, given(&config(""), &[1, 2], &[]), false);
    assert_eq!(bed.send(9, &request(40_000, SYN)), None);
    bed.fabric.net.handle(Event::Told { told: Box::new(Err("gone".to_owned())), asked: true });
    bed.fabric.run();
    assert!(bed.arrived().is_some(), "{:#?}", bed.fabric.net.log);
    assert_eq!(bed.legs(), 2);
}

impl Bed {
    /// The daemon does not answer for so many seconds.
    fn silence(&mut self, seconds: u32) {
        for _ in 0..seconds {
            self.fabric.net.handle(Event::Told { told: Box::new(Err("gone".to_owned())), asked: false });
            self.fabric.pass(Duration::from_secs(1));
        }
    }

    /// The backends' states.
    fn states(&self) -> Vec<String> {
        let status = self.fabric.net.controller.status(&[], self.fabric.net.now);
        let vips = status.balancing.expect("it balances").vips;
        vips[0].backends.iter().map(|backend| backend.state.clone()).collect()
    }

    fn lives(&mut self, number: u8, lives: bool) {
        let end = AT.iter().find(|(other, _)| *other == number).expect("a host").1;
        self.fabric.stations.get_mut(&end).expect("a station").lives = lives;
    }

    /// The backends of new connections from these ports.
    fn opened(&mut self, ports: std::ops::Range<u16>) -> Vec<u8> {
        ports.map(|port| self.send(9, &request(port, SYN)).expect("a backend").0).collect()
    }
}

#[test]
fn backends_of_a_silent_daemon_are_probed_from_here_and_nobody_flaps() {
    for version in BOTH {
        let mut bed = Bed::new(version);
        let config = config("on_down = \"repick\"");
        bed.take(&given(&config, &[1, 2], &[40_000])).unwrap();
        assert_eq!(bed.send(9, &request(40_000, ACK)).expect("a backend").0, 1);
        bed.silence(2);
        assert_eq!(bed.fabric.net.logged("the balancer's daemon is silent"), 0, "not at once");
        bed.silence(4);
        assert_eq!(bed.fabric.net.logged("the balancer's daemon is silent"), 1);
        let changes = |bed: &Bed| bed.fabric.net.logged(" down") + bed.fabric.net.logged(" up ");
        assert_eq!((bed.states(), changes(&bed)), (vec!["up".to_owned(); 2], 0), "{:#?}", bed.fabric.net.log);
        let status = bed.fabric.net.controller.status(&[], bed.fabric.net.now);
        assert!(status.balancer.balances.contains("probed from here"), "{}", status.balancer.balances);

        bed.lives(1, false);
        bed.silence(2);
        assert_eq!(bed.states(), ["down", "up"], "{:#?}", bed.fabric.net.log);
        assert_eq!(bed.opened(41_000..41_004), [2, 2, 2, 2]);
        assert_eq!(bed.send(9, &request(40_000, ACK)).expect("a backend").0, 2, "as on_down says");
        bed.lives(1, true);
        bed.silence(2);
        assert_eq!(bed.states(), ["up", "up"], "{:#?}", bed.fabric.net.log);

        // The daemon is back, and does not know one of them yet; then it does.
        bed.lives(1, false);
        bed.silence(2);
        let mut begins = given(&config, &[1, 2], &[]);
        begins.health[0].1.state = State::Probing;
        bed.told(Standing::OpenFlow, begins, false);
        assert_eq!(bed.states(), ["down", "up"]);
        bed.told(Standing::OpenFlow, given(&config, &[1], &[]), false);
        assert_eq!(bed.states(), ["up", "down"], "what the daemon says holds");
        assert_eq!(bed.fabric.net.logged("the balancer's daemon answers again"), 1);
        bed.fabric.pass(Duration::from_secs(2));
        assert_eq!(bed.states(), ["up", "down"]);
    }
}

/// A service is asked by the daemon alone: one that it found dead is not brought back because its host answers.
#[test]
fn what_a_check_took_out_stays_out_while_the_daemon_is_silent() {
    let mut bed = Bed::new(Version::V1_3);
    let config = config("check = { type = \"tcp\" }");
    bed.take(&given(&config, &[1], &[])).unwrap();
    bed.silence(6);
    assert_eq!(bed.fabric.net.logged("VIP web: its tcp check is not done meanwhile"), 1);
    assert_eq!(bed.states(), ["up", "down"], "{:#?}", bed.fabric.net.log);
    bed.lives(1, false);
    bed.silence(2);
    assert_eq!(bed.states(), ["down", "down"]);
}

#[test]
fn a_new_controller_goes_on_where_the_one_before_balanced() {
    for version in BOTH {
        let mut bed = Bed::new(version);
        let given = given(&config(""), &[1, 2], &[40_000, 40_001]);
        bed.take(&given).unwrap();
        assert_eq!(bed.send(9, &request(50_000, SYN)).expect("a backend").0, 2);
        let models: Vec<Model> = (1..=3).map(|dpid| bed.fabric.disconnect(dpid)).collect();
        let (wires, stations, now) =
            (bed.fabric.wires.clone(), bed.fabric.stations.clone(), bed.fabric.net.now);
        let settings = Settings { stand_by: StandBy::Ready { seed: 9 }, ..Settings::default() };
        bed.fabric = Fabric::new(version, settings, [], 9, &[]);
        (bed.fabric.wires, bed.fabric.stations, bed.fabric.net.now) = (wires, stations, now);
        for model in models {
            bed.fabric.connect(model);
        }
        bed.know();
        assert_eq!(bed.legs(), 6, "entries stay");
        let without = Handover { connections: Vec::new(), ..given };
        bed.told(Standing::OpenFlow, without.clone(), false);
        assert_eq!(bed.fabric.net.asks, 1, "nobody balances: it asks by itself");
        bed.told(Standing::OpenFlow, without, true);
        bed.fabric.pass(Duration::from_secs(1));
        let known = bed.handover().unwrap().connections;
        let ports: Vec<(u16, u16)> = known.iter().map(|one| (one.client.port(), one.backend)).collect();
        assert_eq!(ports, [(40_000, 1), (40_001, 1), (50_000, 2)], "from the entries that were found");
        assert_eq!(bed.legs(), 6);
    }
}

/// Hosts that are heard anyway are not asked.
#[test]
fn a_host_that_is_known_is_not_asked() {
    let mut bed = Bed::new(Version::V1_3);
    for (number, end) in AT {
        let frame = arp(1, host(number), BROADCAST, [10, 0, 0, number], [10, 0, 0, number]);
        bed.fabric.inject(end, &frame);
    }
    bed.fabric.arrived.clear();
    let began = bed.fabric.net.now;
    bed.take(&given(&config(""), &[1, 2], &[40_000])).unwrap();
    assert_eq!(bed.fabric.net.now, began, "no time passed");
    assert!(!bed.fabric.arrived.iter().any(|(_, frame)| frame[12..14] == [8, 6]), "nobody was asked");
}

#[test]
fn entries_that_would_hide_fragments_of_answers_end_when_balancing_begins() {
    for version in BOTH {
        let mut bed = Bed::new(version);
        let given = given(&config(""), &[1, 2], &[40_000]);
        bed.told(Standing::Xdp, Handover { connections: Vec::new(), ..given.clone() }, false);
        let direct = Segment {
            dst_mac: host(1),
            dst: SocketAddr::new(IpAddr::from([10, 0, 0, 1]), 5_000),
            payload: vec![7; 100],
            ..request(40_000, ACK)
        };
        bed.fabric.inject((1, 1), &direct.bytes());
        for part in parts(&direct.answer(ACK).bytes(), 5, &[24]) {
            bed.fabric.inject((2, 1), &part);
        }
        let hiding = |bed: &Bed| {
            let from = MatchField::EthSrc { value: host(1), mask: None };
            let flows = bed.fabric.net.switches.values().flat_map(|model| &model.flows);
            let has = |flow: &&model::Flow, field: &MatchField| flow.match_.fields.contains(field);
            flows.filter(|flow| has(flow, &from) && has(flow, &MatchField::TcpSrc(0))).count()
        };
        assert_eq!(hiding(&bed), 2, "{version}: on both switches of the way");
        assert!(bed.take(&given).is_ok());
        assert_eq!(hiding(&bed), 0, "{version}");
    }
}
