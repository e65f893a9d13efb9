//! Hello, handshake, keep-alive and refusals, by bytes.

mod model;

use std::time::Duration;

use model::{BROADCAST, Model, Net, frame, host};
use ofshim::core::{AskedRole, Command, ConnId, Controller, Event, Level, Settings};
use openflow::{
    ErrorKind, ErrorMsg, MacAddr, Message, NiciraMsg, OnfMsg, PortNo, PortReason, PortStatus, RequestBody,
    Role, RoleMsg, RoleStatus, Version, Xid,
};

/// What the controller says on a new connection to these bytes: its messages, whether it closes, its log.
struct Talk {
    controller: Controller,
    messages: Vec<(u8, Message)>,
    /// Their transaction ids.
    xids: Vec<u32>,
    closed: bool,
    log: Vec<(Level, String)>,
    now: Duration,
}

const CONN: ConnId = ConnId(0);

impl Talk {
    fn new(versions: &[Version]) -> Self {
        let settings = Settings { versions: versions.to_vec(), ..Settings::learning() };
        let controller = Controller::new(settings);
        let mut talk = Self {
            controller,
            messages: Vec::new(),
            xids: Vec::new(),
            closed: false,
            log: Vec::new(),
            now: Duration::ZERO,
        };
        talk.event(Event::Connected { conn: CONN, peer: "10.9.8.7:1".to_owned() });
        talk
    }

    fn event(&mut self, event: Event) {
        for command in self.controller.handle(event, self.now) {
            match command {
                Command::Send { bytes, .. } => {
                    assert!(!self.closed, "nothing is sent after closing");
                    for bytes in model::messages(&bytes) {
                        let (_, xid, message) = Message::decode(bytes).unwrap();
                        self.messages.push((bytes[0], message));
                        self.xids.push(xid.0);
                    }
                }
                Command::Close { .. } => self.closed = true,
                Command::AskDaemon => panic!("nobody stands by"),
                Command::Log { level, text } => self.log.push((level, text)),
            }
        }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.event(Event::Bytes { conn: CONN, bytes: bytes.to_vec() });
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now += Duration::from_millis(250);
            self.event(Event::Tick);
        }
    }

    fn last_error(&self) -> &ErrorMsg {
        match self.messages.last() {
            Some((_, Message::Error(error))) => error,
            other => panic!("no error was sent but {other:?}"),
        }
    }

    fn warned(&self, part: &str) -> bool {
        self.log.iter().any(|(level, text)| *level == Level::Warn && text.contains(part))
    }
}

const BOTH: [Version; 2] = [Version::V1_0, Version::V1_3];

#[test]
fn our_hello_offers_what_was_asked_for() {
    let offered = |versions: &[Version]| {
        let talk = Talk::new(versions);
        let [(header, Message::Hello(hello))] = talk.messages.as_slice() else {
            panic!("{:?}", talk.messages)
        };
        (*header, hello.version_bitmap().map(<[u32]>::to_vec))
    };
    assert_eq!(offered(&BOTH), (4, Some(vec![0b1_0010])));
    assert_eq!(offered(&[Version::V1_3]), (4, Some(vec![0b1_0000])));
    assert_eq!(offered(&[Version::V1_0]), (1, None));
}

#[test]
fn the_highest_common_version_is_taken() {
    let bitmap = |header: u8, bits: u32| {
        let mut bytes = vec![header, 0, 0, 16, 0, 0, 0, 9, 0, 1, 0, 8];
        bytes.extend(bits.to_be_bytes());
        bytes
    };
    let plain = |header: u8| vec![header, 0, 0, 8, 0, 0, 0, 9];
    for (ours, hello, agreed) in [
        (&BOTH[..], plain(1), 1),
        (&BOTH[..], plain(4), 4),
        (&BOTH[..], plain(6), 4),
        (&BOTH[..], bitmap(6, 0b111_1010), 4),
        (&BOTH[..], bitmap(5, 0b10_0010), 1),
        (&BOTH[..1], bitmap(4, 0b1_0010), 1),
        (&BOTH[..1], plain(4), 1),
        (&BOTH[1..], plain(6), 4),
    ] {
        let mut talk = Talk::new(ours);
        talk.bytes(&hello);
        let [_, (version, Message::FeaturesRequest)] = talk.messages.as_slice() else {
            panic!("{hello:?}: {:?}", talk.messages)
        };
        assert_eq!(*version, agreed, "{hello:?}");
    }
}

#[test]
fn without_a_common_version_the_switch_is_told_in_words() {
    for (ours, hello) in [
        (&BOTH[..], vec![3, 0, 0, 8, 0, 0, 0, 9]),
        (&BOTH[1..], vec![1, 0, 0, 8, 0, 0, 0, 9]),
        (&BOTH[..], vec![6, 0, 0, 16, 0, 0, 0, 9, 0, 1, 0, 8, 0, 0, 0, 0b110_0000]),
    ] {
        let mut talk = Talk::new(ours);
        talk.bytes(&hello);
        let error = talk.last_error();
        assert_eq!(error.kind, ErrorKind::HelloIncompatible, "{hello:?}");
        let text = String::from_utf8(error.data.clone()).unwrap();
        assert!(text.starts_with("no common version: this controller speaks OpenFlow 1."), "{text}");
        assert!(talk.closed && talk.warned("no common version"), "{:?}", talk.log);
    }
}

#[test]
fn rubbish_is_answered_logged_and_dropped() {
    let hello = [4, 0, 0, 8, 0, 0, 0, 1];
    for (bytes, kind, told) in [
        (&[4, 10, 0, 7, 0, 0, 0, 2][..], ErrorKind::BadRequestBadLen, "message header says 7 bytes"),
        (&[4, 99, 0, 8, 0, 0, 0, 2][..], ErrorKind::BadRequestBadType, "sent rubbish"),
        (&[1, 3, 0, 8, 0, 0, 0, 2][..], ErrorKind::BadRequestBadVersion, "wire version 1"),
        (&[4, 6, 0, 9, 0, 0, 0, 2, 0][..], ErrorKind::BadRequestBadLen, "sent rubbish"),
        (&[4, 5, 0, 8, 0, 0, 0, 2][..], ErrorKind::BadRequestBadType, "only controllers send"),
    ] {
        let mut talk = Talk::new(&BOTH);
        talk.bytes(&hello);
        talk.bytes(bytes);
        assert_eq!(talk.last_error().kind, kind, "{bytes:?}");
        assert_eq!(talk.last_error().data, bytes[..bytes.len().min(64)], "{bytes:?}");
        assert!(talk.closed && talk.warned(told), "{bytes:?}: {:?}", talk.log);
        let before = talk.messages.len();
        talk.bytes(&[4, 2, 0, 8, 0, 0, 0, 3]);
        assert_eq!(talk.messages.len(), before, "a closed connection is not heard");
    }
}

#[test]
fn something_else_than_openflow_is_refused() {
    let mut talk = Talk::new(&BOTH);
    talk.bytes(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    // "T /" as a length asks for more than comes; the handshake's time limit ends it.
    talk.pass(Duration::from_secs(9));
    assert!(!talk.closed);
    talk.pass(Duration::from_secs(2));
    assert!(
        talk.closed && talk.warned("10.9.8.7:1: connection closed: its handshake was not done within 10 s")
    );

    let mut talk = Talk::new(&BOTH);
    talk.bytes(&[4, 2, 0, 8, 0, 0, 0, 1]);
    assert_eq!(talk.last_error().kind, ErrorKind::HelloIncompatible);
    assert!(talk.closed && talk.warned("a hello has to come first"));
}

#[test]
fn a_switch_that_breaks_down_does_not_disturb_another() {
    let mut net = Net::new(Settings::learning());
    let s1 = net.connect(Model::new(Version::V1_3, 1, 3));
    let s2 = net.connect(Model::new(Version::V1_3, 2, 3));
    net.inject(s1, 1, &frame(host(1), BROADCAST));
    net.bytes(s2, vec![4, 99, 0, 8, 0, 0, 0, 2]);
    assert_eq!(net.closed, [s2]);
    assert_eq!(net.inject(s1, 2, &frame(host(2), host(1))), [1]);
    assert_eq!(net.controller.topology().switches.len(), 1);
}

#[test]
fn bytes_may_be_cut_anywhere() {
    let whole = Model::new(Version::V1_3, 1, 3);
    let mut net = Net::new(Settings::learning());
    let conn = ConnId(50);
    net.switches.insert(conn, whole.clone());
    net.handle(Event::Connected { conn, peer: "p".to_owned() });
    for byte in whole.hello() {
        net.bytes(conn, vec![byte]);
    }
    assert!(net.is_ready());
}

#[test]
fn echo_keeps_the_connection_and_silence_ends_it() {
    let (mut net, s1) = Net::single(Version::V1_3, 2);
    net.send(s1, &Message::EchoRequest(vec![1, 2, 3]));
    assert!(net.model(s1).inbox.contains(&Message::EchoReply(vec![1, 2, 3])));
    net.pass(Duration::from_secs(60));
    assert_eq!(net.closed, [], "the switch answers");
    let asked = net.model(s1).inbox.iter().filter(|m| matches!(m, Message::EchoRequest(_))).count();
    assert!((25..=31).contains(&asked), "{asked} times in a minute");
    net.switches.remove(&s1);
    net.pass(Duration::from_secs(9));
    assert_eq!(net.closed, [s1]);
    assert_eq!(net.logged("it was silent for 8 s"), 1);
    assert!(!net.is_ready());
}

#[test]
fn a_switch_that_connects_again_replaces_its_dead_connection() {
    let (mut net, old) = Net::single(Version::V1_3, 2);
    // Nobody answers on the old connection any more, and nobody has said that it ended.
    net.switches.remove(&old);
    let new = net.connect(Model::new(Version::V1_3, 1, 2));
    assert_eq!(net.closed, []);
    net.pass(Duration::from_millis(1100));
    assert_eq!(net.closed, [old]);
    assert_eq!(net.logged("the same switch connected again, and this connection is silent"), 1);
    assert_eq!(net.inject(new, 1, &frame(host(1), BROADCAST)), [2]);
    assert_eq!(net.controller.topology().switches.len(), 1);
    // One that ends at once lets the other on at once.
    let third = net.connect(Model::new(Version::V1_3, 1, 2));
    assert_eq!(net.closed, [old, third], "the second one lives");
    net.switches.remove(&new);
    let fourth = net.connect(Model::new(Version::V1_3, 1, 2));
    net.handle(Event::Closed { conn: new, reason: "gone".to_owned() });
    assert_eq!(net.inject(fourth, 1, &frame(host(1), BROADCAST)), [2]);
}

#[test]
fn a_datapath_id_cannot_be_taken_from_a_switch_that_lives() {
    let (mut net, old) = Net::single(Version::V1_3, 2);
    for _ in 0..3 {
        let new = net.connect(Model::new(Version::V1_3, 1, 2));
        assert_eq!(net.closed.pop(), Some(new));
        net.switches.remove(&new);
    }
    assert_eq!(net.logged("a switch with this datapath id is connected already and answers"), 3);
    assert_eq!(net.inject(old, 1, &frame(host(1), BROADCAST)), [2]);
}

/// A switch of `version` up to where it is asked for a role; what it is asked, and the transaction id.
fn asked_for_role(version: Version) -> (Talk, Message) {
    let mut talk = Talk::new(&[version]);
    let role = Some(AskedRole { role: Role::Master, generation_id: 7 });
    talk.controller = Controller::new(Settings { role, ..Settings::learning() });
    talk.messages.clear();
    talk.xids.clear();
    talk.event(Event::Connected { conn: CONN, peer: "10.9.8.7:1".to_owned() });
    let mut model = Model::new(version, 1, 2);
    talk.bytes(&model.hello());
    let mut request = Vec::new();
    Message::FeaturesRequest.encode(version, Xid(1), &mut request).unwrap();
    model.receive(&request);
    talk.bytes(&model.outbox);
    let asked = talk.messages.last().unwrap().1.clone();
    (talk, asked)
}

#[test]
fn a_role_is_asked_for_with_its_generation_and_a_refused_one_is_a_fault() {
    let granted = |version, role| match version {
        Version::V1_3 => Message::RoleReply(RoleMsg { role, generation_id: 7 }),
        Version::V1_0 => Message::Nicira(NiciraMsg::RoleReply(role)),
    };
    for version in BOTH {
        let (_, asked) = asked_for_role(version);
        match version {
            Version::V1_3 => {
                assert_eq!(asked, Message::RoleRequest(RoleMsg { role: Role::Master, generation_id: 7 }));
            }
            Version::V1_0 => assert_eq!(asked, Message::Nicira(NiciraMsg::RoleRequest(Role::Master))),
        }
        let mut answers =
            vec![(granted(version, Role::Master), true), (granted(version, Role::Slave), false)];
        // Open vSwitch has an error of Nicira's for it in 1.0.
        let kind = match version {
            Version::V1_3 => ErrorKind::RoleRequestStale,
            Version::V1_0 => ErrorKind::Vendor { vendor: 0x2320, kind: 1, code: 0x201 },
        };
        answers.push((Message::Error(ErrorMsg { kind, data: Vec::new() }), false));
        let kind = ErrorKind::BadRequestBadExperimenter;
        answers.push((Message::Error(ErrorMsg { kind, data: Vec::new() }), false));
        for (answer, goes_on) in answers {
            let (mut talk, _) = asked_for_role(version);
            let before = talk.messages.len();
            let mut bytes = Vec::new();
            // Hello, features request, role request: the third message of ours.
            answer.encode(version, Xid(3), &mut bytes).unwrap();
            talk.bytes(&bytes);
            assert_eq!(talk.closed, !goes_on, "{answer:?}: {:?}", talk.log);
            assert_eq!(talk.messages.len() > before, goes_on, "{answer:?}");
            assert_eq!(talk.warned("role"), !goes_on);
        }
    }
}

fn error(kind: ErrorKind) -> Message {
    Message::Error(ErrorMsg { kind, data: Vec::new() })
}

fn role_status(role: Role, reason: u8) -> Message {
    let status = RoleStatus { role, reason, generation_id: 8, properties: Vec::new() };
    Message::Onf(OnfMsg::RoleStatus(status))
}

/// A switch that has granted this role, or was asked for none.
fn with_role(version: Version, role: Option<Role>) -> (Net, ConnId) {
    let role = role.map(|role| AskedRole { role, generation_id: 7 });
    let mut net = Net::new(Settings { role, ..Settings::learning() });
    let conn = net.connect(Model::new(version, 1, 2));
    (net, conn)
}

/// The role that `ofshim status` shows; `None` while the switch is not ready.
fn shown_role(net: &Net) -> Option<String> {
    net.controller.status(&[], net.now).switches.first().map(|switch| switch.role.clone())
}

#[test]
fn a_role_that_is_lost_later_is_a_fault_too() {
    let primary = Some(Role::Master);
    for (version, asked, message, told) in [
        (Version::V1_3, primary, role_status(Role::Slave, 0), "is secondary now, not primary: another"),
        (Version::V1_3, primary, role_status(Role::Equal, 1), "is equal now, not primary: its configuration"),
        (Version::V1_3, primary, error(ErrorKind::BadRequestIsSlave), "not primary any more"),
        (Version::V1_3, Some(Role::Equal), error(ErrorKind::BadRequestIsSlave), "not equal any more"),
        (Version::V1_3, None, role_status(Role::Slave, 1), "is secondary now, not equal"),
        (Version::V1_3, None, error(ErrorKind::BadRequestIsSlave), "not equal any more"),
        // As Open vSwitch tells a secondary controller of 1.0.
        (Version::V1_0, primary, error(ErrorKind::BadRequestEperm), "not primary any more"),
    ] {
        let (mut net, s1) = with_role(version, asked);
        let before = if asked == primary { "primary" } else { "equal" };
        assert_eq!(shown_role(&net).as_deref(), Some(before), "{version}: {:?}", net.log);
        net.send(s1, &message);
        assert_eq!(net.closed, [s1], "{version}: {message:?}");
        assert_eq!(net.logged("its role for this controller"), 1, "{:?}", net.log);
        assert_eq!(net.logged(told), 1, "{told}: {:?}", net.log);
        assert_eq!(shown_role(&net), None, "it is not ready any more");
    }
}

#[test]
fn a_role_that_stays_and_errors_of_others_end_nothing() {
    for (version, asked, message, shown) in [
        (Version::V1_3, Some(Role::Master), role_status(Role::Master, 1), "primary"),
        (Version::V1_3, Some(Role::Master), error(ErrorKind::BadRequestEperm), "primary"),
        (Version::V1_3, None, role_status(Role::Master, 1), "primary"),
        (Version::V1_3, None, role_status(Role::Equal, 1), "equal"),
        (Version::V1_0, None, error(ErrorKind::BadRequestEperm), "equal"),
    ] {
        let (mut net, s1) = with_role(version, asked);
        net.send(s1, &message);
        assert!(net.closed.is_empty(), "{version}: {message:?}: {:?}", net.log);
        assert_eq!(shown_role(&net).as_deref(), Some(shown), "{version}: {message:?}");
    }
}

#[test]
fn time_that_the_controller_lost_is_no_silence_of_switches() {
    let (mut net, _) = Net::single(Version::V1_3, 2);
    net.pass(Duration::from_secs(1));
    net.now += Duration::from_secs(60);
    net.handle(Event::Tick);
    net.pass(Duration::from_secs(20));
    assert_eq!(net.closed, []);
}

#[test]
fn errors_of_a_switch_are_logged_once_in_a_while() {
    let (mut net, s1) = Net::single(Version::V1_3, 2);
    let error = |kind| Message::Error(ErrorMsg { kind, data: vec![4, 14, 0, 80, 0, 0, 0, 7] });
    for _ in 0..5 {
        net.send(s1, &error(ErrorKind::FlowModTableFull));
        net.send(s1, &error(ErrorKind::BadRequestBufferUnknown));
    }
    assert_eq!(net.logged("error OFPFMFC_TABLE_FULL about our message of type 14"), 1);
    assert_eq!(net.log.iter().filter(|(level, _)| *level == Level::Warn).count(), 1, "{:?}", net.log);
    assert!(net.is_ready() && net.closed.is_empty());
}

#[test]
fn what_a_switch_can_make_the_controller_remember_is_bounded() {
    let (mut net, s1) = Net::single(Version::V1_3, 2);
    for number in 1..70_000 {
        let port = net.model(s1).port(PortNo(number), true);
        net.send(s1, &Message::PortStatus(PortStatus { reason: PortReason::Add, port }));
    }
    assert_eq!(net.controller.topology().switches[0].ports.len(), 65_536);
    let mut sender = 0_u32;
    for _ in 0..70_000 {
        sender += 1;
        let [_, a, b, c] = sender.to_be_bytes();
        net.inject(s1, 1, &frame(MacAddr([2, 9, 9, a, b, c]), MacAddr([1, 0x80, 0xc2, 0, 0, 0])));
        net.inject(s1, 1, &frame(MacAddr([2, 0, 0, a, b, c]), host(1)));
    }
    assert_eq!(net.controller.status(&[], net.now).hosts, 65_536);
    assert_eq!(net.logged("too many hosts, new ones are not learned"), 1);
}

#[test]
fn messages_out_of_place_do_nothing() {
    for version in BOTH {
        let (mut net, s1) = Net::single(version, 2);
        let sent = net.model(s1).inbox.len();
        let bytes = net.model(s1).encode(&Message::BarrierReply, Xid(12345));
        net.bytes(s1, bytes);
        net.send(s1, &Message::EchoReply(Vec::new()));
        let hello = net.model(s1).hello();
        net.bytes(s1, hello);
        assert_eq!(net.model(s1).inbox.len(), sent);
        assert!(net.is_ready() && net.closed.is_empty());
    }
}

/// A switch that answers everything up to the request that `keeps` names, and nothing after it.
fn silent_about(version: Version, keeps: impl Fn(&Message) -> bool) -> Talk {
    let mut talk = Talk::new(&[version]);
    let mut model = Model::new(version, 1, 2);
    let mut bytes = model.hello();
    let mut seen = 0;
    while !bytes.is_empty() {
        talk.bytes(&bytes);
        for (at, (_, message)) in talk.messages.iter().enumerate().skip(seen) {
            if !keeps(message) {
                let bytes = model.encode(message, Xid(talk.xids[at]));
                model.receive(&bytes);
            }
        }
        seen = talk.messages.len();
        bytes = std::mem::take(&mut model.outbox);
    }
    talk
}

#[test]
fn a_request_that_is_not_answered_is_named() {
    let of = |body: fn(&RequestBody) -> bool| move |message: &Message| matches!(message, Message::MultipartRequest(request) if body(&request.body));
    let mut talk = silent_about(Version::V1_3, of(|body| matches!(body, RequestBody::Flow(_))));
    assert!(!talk.closed);
    talk.pass(Duration::from_millis(10_500));
    assert!(talk.closed && talk.warned("handshake was not done"), "{:?}", talk.log);
    // One that keeps silent about bundles gets its changes one by one.
    let mut talk = silent_about(Version::V1_3, |message| matches!(message, Message::Onf(_)));
    let adds = |talk: &Talk| talk.messages.iter().filter(|(_, m)| matches!(m, Message::FlowMod(_))).count();
    assert_eq!(adds(&talk), 0);
    talk.pass(Duration::from_millis(2500));
    assert_eq!((adds(&talk), talk.closed), (3, false), "{:?}", talk.log);
    assert!(talk.messages.iter().any(|(_, message)| *message == Message::BarrierRequest));
}

#[test]
fn a_request_that_is_refused_ends_the_handshake_at_once() {
    let asks = |message: &Message| matches!(message, Message::MultipartRequest(_));
    let mut talk = silent_about(Version::V1_3, asks);
    let at = talk.messages.iter().position(|(_, message)| asks(message)).unwrap();
    let mut bytes = Vec::new();
    let refusal = Message::Error(ErrorMsg { kind: ErrorKind::BadRequestEperm, data: Vec::new() });
    refusal.encode(Version::V1_3, Xid(talk.xids[at]), &mut bytes).unwrap();
    talk.bytes(&bytes);
    assert!(
        talk.closed && talk.warned("it refuses the request for its ports: OFPBRC_EPERM"),
        "{:?}",
        talk.log
    );
}

mod any_bytes {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever comes, nothing panics, and another switch goes on.
        #[test]
        fn never_panic(prefix in 0_usize..3, body in proptest::collection::vec(any::<u8>(), 0..300), kind in 0_u8..36) {
            let version = if prefix == 1 { Version::V1_0 } else { Version::V1_3 };
            let (mut net, _) = Net::single(Version::V1_3, 3);
            let s2 = net.connect(Model::new(version, 2, 3));
            let mut bytes = body.clone();
            if prefix > 0 {
                let length = u16::try_from(8 + body.len()).unwrap().to_be_bytes();
                bytes = [&[version.to_wire(), kind, length[0], length[1], 0, 0, 0, 5][..], &body].concat();
            }
            net.switches.remove(&s2);
            net.bytes(s2, bytes);
            prop_assert_eq!(net.inject(ConnId(0), 1, &frame(host(1), BROADCAST)), [2, 3]);
        }
    }
}
