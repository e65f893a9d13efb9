//! A switch that does nothing but its handshake.

use std::io::{Read, Write};

use openflow::{
    BufferId, Cookie, DatapathId, ErrorKind, ErrorMsg, FeaturesReply, Framer, Hello, MacAddr, Message,
    MultipartReply, PacketIn, PacketInReason, Port, PortNo, ReplyBody, RequestBody, TableId, Version, Xid,
};

fn port(number: u32) -> Port {
    Port {
        port_no: PortNo(number),
        hw_addr: MacAddr([2, 0xee, 0, 0, 0, number as u8]),
        name: format!("eth{number}").as_str().into(),
        config: 0,
        state: 0,
        curr: 0,
        advertised: 0,
        supported: 0,
        peer: 0,
        curr_speed_kbps: 0,
        max_speed_kbps: 0,
    }
}

/// A frame of host `from` to `to`: ARP if that is everybody, by which it names its address 10.0.0.`from`.
fn frame(from: u8, to: Option<u8>) -> Vec<u8> {
    let mac = |number: u8| [2, 0, 0, 0, 0, number];
    let mut bytes = [to.map_or([0xff; 6], mac), mac(from)].concat();
    match to {
        None => {
            bytes.extend([0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1]);
            bytes.extend([&mac(from)[..], &[10, 0, 0, from], &[0; 6], &[10, 0, 0, from]].concat());
        }
        Some(to) => {
            bytes
                .extend([0x08, 0x00, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, from, 10, 0, 0, to]);
            bytes.extend([0x9c, 0x40, 0, 80, 0, 26, 0, 0]);
        }
    }
    bytes.resize(60, 0);
    bytes
}

/// Hosts 1 and 2 at the ports with their numbers: both say that they are there, then 1 sends a datagram to 2.
pub fn two_hosts(stream: &mut impl Write) {
    for (port, data) in [(1, frame(1, None)), (2, frame(2, None)), (1, frame(1, Some(2)))] {
        let packet = PacketIn {
            buffer_id: BufferId::NO_BUFFER,
            total_len: data.len() as u16,
            reason: PacketInReason::NoMatch,
            in_port: PortNo(port),
            table_id: Some(TableId(2)),
            cookie: Some(Cookie(0)),
            match_: None,
            data,
        };
        let mut bytes = Vec::new();
        Message::PacketIn(packet).encode(Version::V1_3, Xid(9), &mut bytes).unwrap();
        stream.write_all(&bytes).unwrap();
    }
}

/// Answers the controller, as a switch with two ports, until its handshake is done.
pub fn become_ready(stream: &mut (impl Read + Write), dpid: u64) {
    let send = |stream: &mut dyn Write, message: &Message, xid| {
        let mut bytes = Vec::new();
        message.encode(Version::V1_3, xid, &mut bytes).unwrap();
        stream.write_all(&bytes).unwrap();
    };
    send(stream, &Message::Hello(Hello::offering(&[Version::V1_3])), Xid(1));
    let (mut framer, mut buffer) = (Framer::new(), [0; 4096]);
    loop {
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0, "closed");
        framer.push(&buffer[..count]).unwrap();
        while let Some(frame) = framer.next_frame() {
            let (_, xid, message) = Message::decode(&frame.unwrap().bytes).unwrap();
            let answer = match message {
                Message::FeaturesRequest => Message::FeaturesReply(FeaturesReply {
                    datapath_id: DatapathId(dpid),
                    n_buffers: 0,
                    n_tables: 254,
                    auxiliary_id: 0,
                    capabilities: 0,
                    actions: 0,
                    ports: None,
                }),
                Message::MultipartRequest(request) => {
                    let body = match request.body {
                        RequestBody::PortDesc => ReplyBody::PortDesc(vec![port(1), port(2)]),
                        _ => ReplyBody::Flow(Vec::new()),
                    };
                    Message::MultipartReply(MultipartReply { flags: 0, body })
                }
                Message::EchoRequest(data) => Message::EchoReply(data),
                Message::Onf(_) => {
                    Message::Error(ErrorMsg { kind: ErrorKind::BadRequestBadExperimenter, data: Vec::new() })
                }
                Message::BarrierRequest => return send(stream, &Message::BarrierReply, xid),
                _ => continue,
            };
            send(stream, &answer, xid);
        }
    }
}
