//! Frames that are out of the ordinary, byte by byte: VLAN tags, fragments, IP options. What is not for a VIP arrives
//! as it was sent; what is for one is balanced, or dropped by name.

mod e2e_bed;

use std::time::Duration;

use e2e_bed::{Lb, Net, Server, Tagger, Wire, echo_udp, must, root};
use testbed::frame::{Arp, Ip, MORE_FRAGMENTS, Mac, Packet, v4};

const VIP: (Mac, Ip, u16) = ([0x02, 0x6c, 10, 0, 1, 1], v4(10, 0, 1, 1), 9000);
const DOT1Q: u16 = 0x8100;
const DOT1AD: u16 = 0x88a8;
/// No operation, and router alert (RFC 2113).
const OPTIONS: [u8; 8] = [1, 1, 1, 1, 148, 4, 0, 0];
const QUIET: Duration = Duration::from_millis(300);
const PATIENCE: Duration = Duration::from_secs(3);

const UDP: &str = r#"
[[vip]]
name = "udp"
address = "10.0.1.1"
port = 9000
protocol = "udp"
selection = "round-robin"
backend = [{ address = "10.0.0.1" }]
"#;

fn host(number: u8, port: u16) -> (Mac, Ip, u16) {
    ([2, 0, 0, 0, 0, number], v4(10, 0, 0, number), port)
}

/// A bed with host 1 as the only backend, and hosts 2 and 3.
struct Bed {
    net: Net,
    lb: Lb,
    wires: [Wire; 3],
}

impl Bed {
    fn new() -> Self {
        let net = Net::new(3);
        let lb = Lb::with(&net, UDP, &[1]);
        let wires = [1, 2, 3].map(|number| Wire::of_host(&net, number));
        Self { net, lb, wires }
    }

    fn wire(&self, number: usize) -> &Wire {
        &self.wires[number - 1]
    }

    /// Sends frames from a host; the frames with one of these contents at another host.
    fn carry(&self, from: usize, frames: &[Vec<u8>], to: usize, marks: &[&[u8]]) -> Vec<Vec<u8>> {
        let _ = self.wire(to).collect(usize::MAX, Duration::from_millis(1), |_| false);
        for frame in frames {
            self.wire(from).send(frame);
        }
        self.wire(to).collect(frames.len(), PATIENCE, |frame| {
            marks.iter().any(|mark| frame.windows(mark.len()).any(|part| part == *mark))
        })
    }

    /// Asserts that frames arrive as they were sent, and that XDP let them pass as nobody's business.
    fn assert_untouched(&self, from: usize, to: usize, frame: &[u8], mark: &[u8]) {
        assert_eq!(self.carry(from, &[frame.to_vec()], to, &[mark]), [frame]);
    }
}

#[test]
fn tags_in_the_bytes() {
    if !root("tags_in_the_bytes") {
        return;
    }
    let bed = Bed::new();
    let plain = Packet::udp(host(3, 1000), host(2, 2000), b"no vip, one tag");
    bed.assert_untouched(3, 2, &plain.clone().tag(DOT1Q, 0x6005).bytes(), b"no vip, one tag");
    bed.assert_untouched(3, 2, &plain.clone().tag(DOT1Q, 7).tag(DOT1AD, 9).bytes(), b"no vip, one tag");
    // Not even what goes to a backend, or comes from it, is touched, unless a connection says so.
    let direct = Packet::udp(host(3, 1000), host(1, 9000), b"to a backend");
    bed.assert_untouched(3, 1, &direct.tag(DOT1Q, 5).bytes(), b"to a backend");
    let direct = Packet::udp(host(1, 9000), host(3, 1000), b"from a backend");
    bed.assert_untouched(1, 3, &direct.tag(DOT1Q, 5).bytes(), b"from a backend");
    assert_eq!(bed.lb.reason("to_backend_redirect"), 0);

    let asked = Packet::udp(host(3, 1000), VIP, b"question").tag(DOT1Q, 5);
    let arrived = bed.carry(3, &[asked.bytes()], 1, &[b"question"]);
    assert_eq!(arrived, [asked.to(host(1, 9000)).bytes()], "balanced, with its tag");
    let answer = Packet::udp(host(1, 9000), host(3, 1000), b"answer").tag(DOT1Q, 5);
    let arrived = bed.carry(1, &[answer.bytes()], 3, &[b"answer"]);
    assert_eq!(arrived, [answer.from(VIP).bytes()], "and back");
    assert_eq!((bed.lb.reason("to_backend_redirect"), bed.lb.reason("to_client_redirect")), (1, 1));

    let request = Arp::request((host(3, 0).0, host(3, 0).1), VIP.1).tag(DOT1Q, 5);
    let answers = bed.lb.reason("arp_answered");
    bed.wire(3).send(&request.bytes());
    let reply = request.answered_by(VIP.0).bytes();
    let got = bed.wire(3).collect(1, PATIENCE, |frame| frame[..12] == reply[..12]);
    assert_eq!(got, [reply], "ARP in a VLAN is answered in it");
    assert_eq!(bed.lb.reason("arp_answered"), answers + 1);

    let missed = bed.lb.reason("vip_no_service");
    let nobody = Packet::udp(host(3, 1000), (VIP.0, VIP.1, 9001), b"no such port").tag(DOT1Q, 5).bytes();
    bed.wire(3).send(&nobody);
    assert!(bed.wire(1).collect(1, QUIET, |frame| frame.ends_with(b"no such port")).is_empty());
    assert_eq!(bed.lb.reason("vip_no_service"), missed + 1);
    bed.lb.assert_ledger();
}

#[test]
fn tags_beside_the_frame() {
    if !root("tags_beside_the_frame") {
        return;
    }
    let net = Net::new(3);
    let wires = [1, 2, 3].map(|number| Wire::of_host(&net, number));
    let _tagger = Tagger::new(&net, 3, 7);
    let plain = Packet::udp(host(3, 1000), host(2, 2000), b"not for a vip");
    let tagged = plain.clone().tag(DOT1Q, 7).bytes();
    let at_2 = |mark: &'static [u8]| wires[1].collect(1, PATIENCE, |frame| frame.ends_with(mark));
    // Without a balancer, to see that the tag is there.
    wires[2].send(&plain.bytes());
    assert_eq!(at_2(b"not for a vip"), std::slice::from_ref(&tagged));

    let lb = Lb::with(&net, UDP, &[1]);
    wires[2].send(&plain.bytes());
    assert_eq!(at_2(b"not for a vip"), [tagged], "not for a VIP: untouched, with its tag");
    let asked = Packet::udp(host(3, 1000), VIP, b"question");
    let at_1 = || wires[0].collect(1, PATIENCE, |frame| frame.ends_with(b"question"));
    wires[2].send(&asked.bytes());
    let with_tag = asked.clone().to(host(1, 9000)).tag(DOT1Q, 7).bytes();
    assert_eq!(at_1(), [with_tag], "for a VIP: balanced, with its tag");
    assert_eq!(lb.reason("to_backend_redirect"), 1);
    lb.assert_ledger();

    // What lb turned off is what hides the tag from XDP.
    net.on(3, "ethtool -K eth0 txvlan on");
    wires[2].send(&asked.bytes());
    assert_eq!(at_1(), [asked.to(host(1, 9000)).bytes()], "the tag is lost with the offload on");
}

#[test]
fn fragments() {
    if !root("fragments") {
        return;
    }
    let bed = Bed::new();
    let part = |to: (Mac, Ip, u16)| {
        let first = Packet::udp(host(3, 1000), to, &[b'a'; 1472]).fragment(MORE_FRAGMENTS);
        let middle = Packet::other(17, (host(3, 0).0, host(3, 0).1), (to.0, to.1), &[b'b'; 1480]);
        let last = Packet::other(17, (host(3, 0).0, host(3, 0).1), (to.0, to.1), &[b'c'; 100]);
        [first, middle.fragment(MORE_FRAGMENTS | 185), last.fragment(370)].map(|part| part.bytes())
    };
    let marks: [&[u8]; 3] = [&[b'a'; 100], &[b'b'; 100], &[b'c'; 100]];
    for number in [2, 1] {
        let parts = part(host(number, 2000));
        assert_eq!(
            bed.carry(3, &parts, usize::from(number), &marks),
            parts,
            "not for a VIP: as they were sent"
        );
    }
    assert_eq!(bed.lb.reason("fragment_to_backend"), 0);
    assert_eq!(
        bed.carry(3, &part(VIP), 1, &marks),
        part(host(1, 9000)),
        "for a VIP: the later parts follow the first"
    );
    assert_eq!(bed.lb.reason("fragment_to_backend"), 2);

    // And as hosts send them, both ways.
    let _server = Server::udp(&bed.net, 2, 7);
    let _backend = Server::udp(&bed.net, 1, 9000);
    let text = "x".repeat(1900);
    must(&format!("ip -n {} link set eth0 mtu 1000", bed.net.ns(3)));
    for number in [1, 2] {
        must(&format!("ip -n {} link set eth0 mtu 1000", bed.net.ns(number)));
    }
    bed.net.on(3, "sysctl -q -w net.ipv4.ip_no_pmtu_disc=1");
    assert_eq!(echo_udp(&bed.net, 3, "10.0.0.2:7", &text).unwrap(), format!("2 {text}"));
    assert_eq!(echo_udp(&bed.net, 3, "10.0.1.1:9000", &text).unwrap(), format!("1 {text}"));
    assert!(bed.lb.reason("fragment_to_backend") > 2 && bed.lb.reason("fragment_to_client") > 0);
    bed.lb.assert_ledger();
}

#[test]
fn ip_options() {
    if !root("ip_options") {
        return;
    }
    let bed = Bed::new();
    for number in [2, 1] {
        let other = Packet::udp(host(3, 1000), host(number, 2000), b"options, no vip").ip_options(&OPTIONS);
        bed.assert_untouched(3, usize::from(number), &other.bytes(), b"options, no vip");
    }
    let asked = Packet::udp(host(3, 1000), VIP, b"options").ip_options(&OPTIONS);
    assert_eq!(bed.carry(3, &[asked.bytes()], 1, &[b"options"]), [asked.clone().to(host(1, 9000)).bytes()]);
    let answer = Packet::udp(host(1, 9000), host(3, 1000), b"answer").ip_options(&OPTIONS);
    assert_eq!(bed.carry(1, &[answer.bytes()], 3, &[b"answer"]), [answer.clone().from(VIP).bytes()]);
    let longest = asked.ip_options(&[1; 40]);
    assert_eq!(bed.carry(3, &[longest.bytes()], 1, &[b"options"]), [longest.to(host(1, 9000)).bytes()]);
    assert_eq!((bed.lb.reason("to_backend_redirect"), bed.lb.reason("to_client_redirect")), (2, 1));

    // A length that lies about the options is dropped by name, and goes to nobody.
    let lie = Packet::udp(host(3, 1000), VIP, b"a lie").version_ihl(0x44).bytes();
    bed.wire(3).send(&lie);
    assert!(bed.wire(1).collect(1, QUIET, |frame| frame.ends_with(b"a lie")).is_empty());
    assert_eq!(bed.lb.reason("vip_malformed"), 1);
    bed.lb.assert_ledger();
}
