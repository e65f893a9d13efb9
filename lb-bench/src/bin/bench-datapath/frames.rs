//! Frames, and the templates that make a frame for each flow of a row.

use std::net::IpAddr;

use anyhow::{Result, ensure};
use testbed::frame::{ACK, Arp, Ip, Mac, Packet, SYN, v4, v6};

use crate::layout::{BODY_HALVES, ETHERNET_BYTES, FRAME_BYTES, Template};

/// MAC, address and port.
pub type Host = (Mac, Ip, u16);

/// The MAC of every client.
pub const CLIENT_MAC: Mac = [2, 0, 0, 0, 0xc, 1];
/// Where a field goes that a kind of packet does not have: behind what is sent.
const NOWHERE: u32 = BODY_HALVES as u32 - 1;
/// The port of a row's first flow.
const FIRST_PORT: u16 = 20_000;

/// The client of a flow; every row has a network of clients of its own.
pub fn client(network: u8, is_v6: bool, flow: u32) -> Host {
    let (low, port) = (flow as u16, FIRST_PORT + (flow >> 16) as u16);
    let [high_octet, low_octet] = low.to_be_bytes();
    let address = if is_v6 {
        v6(0x100 + u16::from(network), low)
    } else {
        v4(10, 100 + network, high_octet, low_octet)
    };
    (CLIENT_MAC, address, port)
}

/// A TCP segment without data, padded.
pub fn tcp(from: Host, to: Host, flags: u8, seq: u32) -> Vec<u8> {
    padded(Packet::tcp(from, to, flags, seq, b""))
}

/// A SYN.
pub fn syn(from: Host, to: Host) -> Vec<u8> {
    tcp(from, to, SYN, 1)
}

/// The answer to a SYN.
pub fn syn_ack(from: Host, to: Host) -> Vec<u8> {
    tcp(from, to, SYN | ACK, 1)
}

/// A segment of an established connection, with data up to the end of the frame.
pub fn data(from: Host, to: Host) -> Vec<u8> {
    let header = if from.1.is_ipv4() { 20 } else { 40 };
    let room = FRAME_BYTES - ETHERNET_BYTES - header - 20;
    Packet::tcp(from, to, ACK, 2, &vec![0x61; room]).bytes()
}

/// A UDP datagram that fills the frame.
pub fn udp(from: Host, to: Host) -> Vec<u8> {
    let header = if from.1.is_ipv4() { 20 } else { 40 };
    let room = FRAME_BYTES - ETHERNET_BYTES - header - 8;
    Packet::udp(from, to, &vec![0x61; room]).bytes()
}

/// A TCP segment whose IP length goes beyond the frame.
pub fn malformed(from: Host, to: Host) -> Vec<u8> {
    padded(Packet::tcp(from, to, ACK, 2, b"").total_length(1400))
}

/// An ARP request.
pub fn arp(from: Host, target: Ip) -> Vec<u8> {
    let request = Arp::request((from.0, from.1), target);
    let mut bytes = request.bytes();
    bytes.resize(FRAME_BYTES, 0);
    bytes
}

fn padded(packet: Packet) -> Vec<u8> {
    let length = packet.bytes().len();
    packet.padding(FRAME_BYTES.saturating_sub(length)).bytes()
}

/// Which address and port differ between the flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotates {
    /// None: all packets are the same.
    Nothing,
    /// The packets' source is the client.
    Source,
    /// Their destination is.
    Destination,
}

/// The template of so many flows, from the frame of flow 0.
pub fn template(frame: &[u8], rotates: Rotates, flows: u32) -> Result<Template> {
    ensure!(frame.len() == FRAME_BYTES, "a frame of {} bytes, not {FRAME_BYTES}", frame.len());
    ensure!(flows.is_power_of_two(), "{flows} flows are no power of two");
    let word = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    let mut template = Template {
        head: u64::from_ne_bytes(std::array::from_fn(|i| frame[i])),
        head_rest: u64::from_ne_bytes(std::array::from_fn(|i| if i < 6 { frame[8 + i] } else { 0 })),
        body: [0; BODY_HALVES],
        flow: 0,
        mask: flows - 1,
        ip_sum: 0,
        l4_sum: 0,
        port: u32::from(FIRST_PORT),
        address_at: NOWHERE,
        port_at: NOWHERE,
        ip_sum_at: NOWHERE,
        l4_sum_at: NOWHERE,
        reserved: 0,
    };
    for (half, bytes) in template.body.iter_mut().zip(frame[ETHERNET_BYTES..].chunks_exact(2)) {
        *half = u16::from_ne_bytes([bytes[0], bytes[1]]);
    }
    if rotates == Rotates::Nothing {
        return Ok(template);
    }
    let is_v6 = word(12) == 0x86dd;
    let l4 = if is_v6 { 54 } else { 34 };
    let is_udp = frame[if is_v6 { 20 } else { 23 }] == 17;
    let sum_at = l4 + if is_udp { 6 } else { 16 };
    let to_client = usize::from(rotates == Rotates::Destination);
    let (address_end, address_length) = if is_v6 { (38, 16) } else { (30, 4) };
    let address_at = address_end - 2 + to_client * address_length;
    let port_at = l4 + 2 * to_client;
    ensure!(word(address_at) == 0 && word(port_at) == FIRST_PORT, "the frame is not of flow 0");
    let half = |at: usize| ((at - ETHERNET_BYTES) / 2) as u32;
    template.address_at = half(address_at);
    template.port_at = half(port_at);
    template.l4_sum_at = half(sum_at);
    template.l4_sum = u32::from(!word(sum_at));
    if !is_v6 {
        template.ip_sum_at = half(24);
        template.ip_sum = u32::from(!word(24));
    }
    Ok(template)
}

/// The same template, about to send this flow.
pub fn at_flow(mut template: Template, flow: u32) -> Template {
    let patch = template.patch(flow);
    let fields = [
        (template.address_at, patch.address),
        (template.port_at, patch.port),
        (template.ip_sum_at, patch.ip_sum),
        (template.l4_sum_at, patch.l4_sum),
    ];
    for (at, value) in fields {
        if at != NOWHERE {
            template.body[at as usize] = value.to_be();
        }
    }
    template.flow = flow;
    template
}

/// The frame that a template sends next.
pub fn next_frame(template: &Template) -> Vec<u8> {
    let mut frame = template.head.to_ne_bytes().to_vec();
    frame.extend(&template.head_rest.to_ne_bytes()[..6]);
    frame.extend(template.body.iter().flat_map(|half| half.to_ne_bytes()));
    frame.truncate(FRAME_BYTES);
    frame
}

/// Where an IP packet in an Ethernet frame without tags goes to, or comes from.
pub fn end(frame: &[u8], destination: bool) -> Host {
    let side = usize::from(destination);
    let mac = std::array::from_fn(|i| frame[6 * (1 - side) + i]);
    let is_v6 = frame[12..14] == [0x86, 0xdd];
    let (address, l4) = if is_v6 {
        (IpAddr::from(std::array::from_fn::<u8, 16, _>(|i| frame[22 + 16 * side + i])), 54)
    } else {
        (IpAddr::from(std::array::from_fn::<u8, 4, _>(|i| frame[26 + 4 * side + i])), 34)
    };
    let port = u16::from_be_bytes([frame[l4 + 2 * side], frame[l4 + 2 * side + 1]]);
    (mac, address, port)
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIP: Host = ([2, 0x6c, 10, 0, 1, 1], v4(10, 0, 1, 1), 80);
    const VIP6: Host = ([2, 0x6d, 0, 0, 0, 1], v6(1, 1), 80);

    #[test]
    fn every_flow_of_a_template_is_the_packet_built_by_hand() {
        type Build = fn(Host, Host) -> Vec<u8>;
        let kinds: [(Build, bool); 5] =
            [(data, false), (data, true), (udp, false), (udp, true), (syn, false)];
        for (build, is_v6) in kinds {
            let vip = if is_v6 { VIP6 } else { VIP };
            for rotates in [Rotates::Source, Rotates::Destination] {
                let frame = |flow| match rotates {
                    Rotates::Destination => build(vip, client(3, is_v6, flow)),
                    _ => build(client(3, is_v6, flow), vip),
                };
                let first = template(&frame(0), rotates, 1 << 20).unwrap();
                for flow in [0, 1, 2, 255, 256, 65_535, 65_536, 70_001, (1 << 20) - 1] {
                    assert_eq!(next_frame(&at_flow(first, flow)), frame(flow), "flow {flow}, {rotates:?}");
                }
            }
        }
    }

    #[test]
    fn all_flows_have_their_turn() {
        let first = template(&data(client(1, false, 0), VIP), Rotates::Source, 4096).unwrap();
        let mut seen = vec![false; 4096];
        let mut flow = 0;
        for _ in 0..4096 {
            flow = first.after(flow);
            assert!(!std::mem::replace(&mut seen[flow as usize], true));
        }
        assert_eq!(flow, 0, "and then from the first again");
    }

    #[test]
    fn ends_are_read_out_of_frames() {
        let from = client(2, true, 7);
        assert_eq!(end(&data(from, VIP6), true), VIP6);
        assert_eq!(end(&data(from, VIP6), false), from);
        assert_eq!(end(&udp(VIP, client(2, false, 9)), true), client(2, false, 9));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(template(&[0; 60], Rotates::Nothing, 1).is_err());
        assert!(template(&data(client(1, false, 0), VIP), Rotates::Source, 3).is_err());
        assert!(template(&data(client(1, false, 5), VIP), Rotates::Source, 4).is_err());
    }
}
