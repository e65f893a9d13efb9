//! Our bytes read by another implementation: `ovs-ofctl ofp-print` of Open vSwitch.

use std::process::Command;

use crate::common::{encode, say, to_hex};
use openflow::{
    Action, BufferId, Cookie, FlowMod, FlowModCommand, FlowModFlags, FlowStatsRequest, GroupId, Hello,
    Instruction, MacAddr, Match, MatchField, Message, PacketOut, PortMod, PortNo, RequestBody, Role, RoleMsg,
    SwitchConfig, TableId, Version, Version::V1_0, Version::V1_3,
};

/// What Open vSwitch prints for a message, or what it complains of; `None` where it is not installed and may be missing.
pub fn read(message: &Message, version: Version) -> Option<Result<String, String>> {
    let hex = to_hex(&encode(message, version, 0x77));
    let output = match Command::new("ovs-ofctl").args(["ofp-print", &hex]).output() {
        Ok(output) => output,
        Err(error) => {
            assert!(
                !is_root(),
                "ovs-ofctl is needed: {error}; install it with: apt-get install openvswitch-switch"
            );
            say(&format!(
                "SKIPPED: ovs-ofctl does not run ({error}); install it: apt-get install openvswitch-switch"
            ));
            return None;
        }
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = String::from_utf8_lossy(&output.stderr);
    // That 1.3 would rather have another action is no complaint about the bytes.
    let complaints: Vec<&str> = said.lines().filter(|line| !line.contains("|INFO|")).collect();
    let is_read = output.status.success() && complaints.is_empty() && !text.contains("***decode error");
    Some(if is_read { Ok(text) } else { Err(format!("{message:?}\n{hex}\n{text}{said}")) })
}

fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().any(|line| line.starts_with("Uid:") && line.split_whitespace().nth(2) == Some("0"))
}

/// Open vSwitch reads `message` and its words contain each of `expected`.
fn reads(message: &Message, version: Version, expected: &[&str]) {
    let Some(text) = read(message, version) else { return };
    let text = text.unwrap_or_else(|complaints| panic!("{complaints}"));
    assert!(text.contains("xid=0x77"), "{text}");
    for part in expected {
        assert!(text.contains(part), "{part:?} is not in what Open vSwitch read: {text}");
    }
}

fn tcp_entry() -> FlowMod {
    FlowMod {
        cookie: Cookie(0xabc),
        idle_timeout: 10,
        hard_timeout: 300,
        priority: 100,
        flags: FlowModFlags::SEND_FLOW_REM,
        match_: Match::new()
            .in_port(PortNo(3))
            .eth_src(MacAddr([2, 0, 0, 0, 0, 1]))
            .eth_type(0x0800)
            .ip_proto(6)
            .ipv4_src_prefix([10, 0, 0, 0].into(), 24)
            .ipv4_dst([10, 0, 1, 1].into())
            .tcp_dst(80),
        instructions: vec![Instruction::ApplyActions(vec![
            Action::SetField(MatchField::EthDst { value: MacAddr([2, 0, 0, 0, 0, 9]), mask: None }),
            Action::SetField(MatchField::Ipv4Dst { value: [10, 0, 0, 1].into(), mask: None }),
            Action::output(PortNo(2)),
            Action::to_controller(),
        ])],
        ..FlowMod::default()
    }
}

const TCP_WORDS: [&str; 6] = [
    "priority=100,tcp,in_port=3,dl_src=02:00:00:00:00:01,nw_src=10.0.0.0/24,nw_dst=10.0.1.1,tp_dst=80",
    "cookie:0xabc",
    "idle:10",
    "hard:300",
    "send_flow_rem",
    "output:2,CONTROLLER:65535",
];

#[test]
fn flow_mods() {
    reads(&Message::FlowMod(tcp_entry()), V1_0, &TCP_WORDS);
    reads(&Message::FlowMod(tcp_entry()), V1_0, &["mod_dl_dst:02:00:00:00:00:09,mod_nw_dst:10.0.0.1"]);
    reads(&Message::FlowMod(tcp_entry()), V1_3, &TCP_WORDS);
    reads(
        &Message::FlowMod(tcp_entry()),
        V1_3,
        &["set_field:02:00:00:00:00:09->eth_dst,set_field:10.0.0.1->ip_dst"],
    );
    let miss = FlowMod {
        instructions: vec![
            Instruction::ApplyActions(vec![Action::to_controller()]),
            Instruction::GotoTable(TableId(1)),
        ],
        ..FlowMod::default()
    };
    reads(&Message::FlowMod(miss), V1_3, &["ADD priority=0 actions=CONTROLLER:65535,goto_table:1"]);
    let delete = FlowMod {
        command: FlowModCommand::Delete,
        table_id: TableId::ALL,
        cookie: Cookie(0x100),
        cookie_mask: 0xff00,
        ..FlowMod::default()
    };
    reads(&Message::FlowMod(delete), V1_3, &["DEL table:255", "cookie:0x100/0xff00"]);
}

#[test]
fn matches() {
    let entry = |match_: Match| Message::FlowMod(FlowMod { match_, ..FlowMod::default() });
    let arp = entry(Match::new().eth_type(0x0806).arp_op(1).arp_tpa([10, 0, 1, 1].into()));
    reads(&arp, V1_0, &["arp,arp_tpa=10.0.1.1,arp_op=1"]);
    reads(&arp, V1_3, &["arp,arp_tpa=10.0.1.1,arp_op=1"]);
    let untagged = entry(Match::new().no_vlan());
    reads(&untagged, V1_0, &["vlan_tci=0x0000"]);
    reads(&untagged, V1_3, &["vlan_tci=0x0000"]);
    let tagged = entry(Match::new().vlan_vid(100));
    reads(&tagged, V1_0, &["dl_vlan=100"]);
    reads(&tagged, V1_3, &["dl_vlan=100"]);
    let group_addresses = MacAddr([1, 0, 0, 0, 0, 0]);
    let multicast = entry(Match::new().eth_dst_masked(group_addresses, group_addresses));
    reads(&multicast, V1_3, &["dl_dst=01:00:00:00:00:00/01:00:00:00:00:00"]);
}

#[test]
fn packet_outs() {
    let packet = PacketOut {
        buffer_id: BufferId::NO_BUFFER,
        in_port: PortNo(4),
        actions: vec![Action::output(PortNo::FLOOD), Action::output(PortNo::IN_PORT)],
        data: vec![0xff; 60],
    };
    for version in [V1_0, V1_3] {
        let expected = ["OFPT_PACKET_OUT", "in_port=4 actions=FLOOD,IN_PORT", "data_len=60"];
        reads(&Message::PacketOut(packet.clone()), version, &expected);
    }
}

#[test]
fn session_messages() {
    let offers = Message::Hello(Hello::offering(&[V1_0, V1_3]));
    reads(&offers, V1_3, &["OFPT_HELLO (OF1.3)", "version bitmap: 0x01, 0x04"]);
    for version in [V1_0, V1_3] {
        reads(&Message::FeaturesRequest, version, &["OFPT_FEATURES_REQUEST"]);
        reads(&Message::BarrierRequest, version, &["OFPT_BARRIER_REQUEST"]);
        reads(&Message::EchoRequest(b"abc".to_vec()), version, &["OFPT_ECHO_REQUEST", "3 bytes of payload"]);
        let config = SwitchConfig { flags: 0, miss_send_len: 0xffff };
        reads(&Message::SetConfig(config), version, &["OFPT_SET_CONFIG", "miss_send_len=65535"]);
        let port_mod = PortMod {
            port_no: PortNo(3),
            hw_addr: MacAddr([2, 0, 0, 0, 0, 3]),
            config: 1,
            mask: 1,
            advertise: 0,
        };
        reads(
            &Message::PortMod(port_mod),
            version,
            &["port: 3: addr:02:00:00:00:00:03", "config: PORT_DOWN"],
        );
    }
    let master = RoleMsg { role: Role::Master, generation_id: 12 };
    reads(&Message::RoleRequest(master), V1_3, &["OFPT_ROLE_REQUEST", "generation_id=12"]);
}

#[test]
fn multipart_requests() {
    let request = |body: RequestBody| Message::MultipartRequest(body.into());
    for version in [V1_0, V1_3] {
        reads(&request(RequestBody::Desc), version, &["OFPST_DESC request"]);
        reads(&request(RequestBody::Table), version, &["OFPST_TABLE request"]);
        reads(&request(RequestBody::PortStats(PortNo(5))), version, &["OFPST_PORT request", "port_no=5"]);
        let all =
            FlowStatsRequest { out_port: PortNo(1), out_group: GroupId::ANY, ..FlowStatsRequest::default() };
        reads(&request(RequestBody::Flow(all.clone())), version, &["OFPST_FLOW request", "out_port=1"]);
        reads(&request(RequestBody::Aggregate(all)), version, &["OFPST_AGGREGATE request", "out_port=1"]);
    }
    reads(&request(RequestBody::PortDesc), V1_3, &["OFPST_PORT_DESC request"]);
}
