//! Every action, each in a message of its own.

use super::{Sample, doing, doing_with, refused, sample, sending};
use openflow::{
    Action, Bundle, BundleLoad, CT_COMMIT, CT_FORCE, ConnTrack, Controller2, Controller2Property as C2,
    Cookie, CtZone, Encap, EncapProperty, ExperimenterField, FieldId, GroupId, Learn, Learn2, LearnField,
    LearnSource, LearnSpec, LearnTarget, MacAddr, Match, MatchField, MeterId, MoveBits, NAT_DST,
    NAT_PERSISTENT, NAT_PROTO_RANDOM, NAT_SRC, NICIRA, Nat, NxAction as Nx, NxmField, OutputField, PortNo,
    Sample4, SampleId, TableId,
    Version::{V1_0, V1_3},
    ct_state,
};

pub fn all() -> Vec<Sample> {
    let mut samples = standard();
    samples.extend(nicira());
    samples.extend(tracking());
    samples.extend(learning());
    samples.extend(odd());
    samples
}

fn standard() -> Vec<Sample> {
    let field = |field| Action::SetField(field);
    let mac = MacAddr([2, 0, 0, 0, 0, 9]);
    let v1_0 = vec![
        Action::output(PortNo(3)),
        Action::to_controller(),
        Action::SetVlanVid(9),
        Action::SetVlanPcp(6),
        Action::StripVlan,
        field(MatchField::EthSrc { value: mac, mask: None }),
        field(MatchField::EthDst { value: mac, mask: None }),
        field(MatchField::Ipv4Src { value: [1, 2, 3, 4].into(), mask: None }),
        field(MatchField::Ipv4Dst { value: [5, 6, 7, 8].into(), mask: None }),
        field(MatchField::IpDscp(12)),
        field(MatchField::TpSrc(80)),
        field(MatchField::TpDst(443)),
        Action::Enqueue { port: PortNo(3), queue_id: 55 },
    ];
    let v1_3 = vec![
        Action::CopyTtlOut,
        Action::CopyTtlIn,
        Action::SetMplsTtl(5),
        Action::DecMplsTtl,
        Action::PushVlan(0x8100),
        Action::PopVlan,
        Action::PushMpls(0x8847),
        Action::PopMpls(0x0800),
        Action::SetQueue(3),
        Action::Group(GroupId(4)),
        Action::SetNwTtl(64),
        Action::DecNwTtl,
        Action::PushPbb(0x88e7),
        Action::PopPbb,
    ];
    let read_by_ovs = v1_3.iter().filter(|action| {
        !matches!(action, Action::CopyTtlOut | Action::CopyTtlIn | Action::PushPbb(_) | Action::PopPbb)
    });
    let says_10 = &[
        "output:3,CONTROLLER:65535,mod_vlan_vid:9,mod_vlan_pcp:6,strip_vlan",
        "mod_dl_src:02:00:00:00:00:09,mod_dl_dst:02:00:00:00:00:09,mod_nw_src:1.2.3.4,mod_nw_dst:5.6.7.8",
        "mod_nw_tos:48,mod_tp_src:80,mod_tp_dst:443,enqueue:3:55",
    ];
    let says_13 = &[
        "set_mpls_ttl(5),dec_mpls_ttl,push_vlan:0x8100,pop_vlan,push_mpls:0x8847,pop_mpls:0x0800",
        "set_queue:3,group:4,mod_nw_ttl:64,dec_ttl",
    ];
    vec![
        sample("actions_10", V1_0, sending(v1_0), says_10),
        sample("actions_13", V1_3, sending(read_by_ovs.cloned().collect()), says_13),
        refused("actions_13_all", V1_3, doing(v1_3), "it has no PBB and copies no TTLs"),
    ]
}

/// Nicira's actions that Open vSwitch takes in both versions.
fn nicira() -> Vec<Sample> {
    let reg = |index: u8| FieldId::reg(index);
    let port = PortNo(5);
    let bundle = Bundle {
        algorithm: 1,
        fields: 1,
        basis: 3,
        member_type: FieldId::IN_PORT,
        members: vec![PortNo(4), PortNo(8)],
    };
    let load = BundleLoad { bundle: bundle.clone(), dst: reg(0).whole() };
    let moved =
        MoveBits { n_bits: 16, src_offset_bits: 0, dst_offset_bits: 16, src: FieldId::IN_PORT, dst: reg(1) };
    let mut samples = Vec::new();
    for (name, action, says) in [
        ("resubmit", Nx::Resubmit { in_port: port }, &["resubmit:5"][..]),
        (
            "resubmit_table",
            Nx::ResubmitTable { in_port: PortNo::IN_PORT, table: TableId(9) },
            &["resubmit(,9)"],
        ),
        ("set_tunnel", Nx::SetTunnel { tun_id: 0x1234 }, &["set_tunnel:0x1234"]),
        ("set_tunnel64", Nx::SetTunnel64 { tun_id: 1 << 40 }, &["set_tunnel64:0x10000000000"]),
        ("pop_queue", Nx::PopQueue, &["pop_queue"]),
        ("reg_move", Nx::RegMove(moved), &["move:NXM_OF_IN_PORT[]->NXM_NX_REG1[16..31]"]),
        ("reg_load", Nx::RegLoad { dst: reg(2).bits(8, 8), value: 0x7f }, &["load:0x7f->NXM_NX_REG2[8..15]"]),
        ("note", Nx::Note { note: vec![1, 2, 3, 4, 5, 6] }, &["note:01.02.03.04.05.06"]),
        (
            "multipath",
            Nx::Multipath { fields: 1, basis: 50, algorithm: 2, max_link: 7, arg: 0, dst: reg(0).whole() },
            &["multipath(symmetric_l4,50,hrw,8,0,NXM_NX_REG0[])"],
        ),
        ("bundle", Nx::Bundle(Box::new(bundle)), &["bundle(symmetric_l4,3,hrw,ofport,members:4,8)"]),
        (
            "bundle_load",
            Nx::BundleLoad(Box::new(load)),
            &["bundle_load(symmetric_l4,3,hrw,ofport,NXM_NX_REG0[],members:4,8)"],
        ),
        (
            "output_reg",
            Nx::OutputReg { src: reg(1).bits(5, 6), max_len: 128 },
            &["output:NXM_NX_REG1[5..10]"],
        ),
        (
            "output_reg2",
            Nx::OutputReg2 { src: OutputField { src: reg(1).whole(), max_len: 65535 } },
            &["output:NXM_NX_REG1[]"],
        ),
        ("exit", Nx::Exit, &["exit"]),
        (
            "fin_timeout",
            Nx::FinTimeout { fin_idle_timeout: 10, fin_hard_timeout: 20 },
            &["fin_timeout(idle_timeout=10,hard_timeout=20)"],
        ),
        (
            "controller",
            Nx::Controller { max_len: 128, controller_id: 7, reason: 2 },
            &["controller(reason=invalid_ttl,max_len=128,id=7)"],
        ),
        ("dec_ttl_ids", Nx::DecTtlCntIds { controller_ids: vec![1, 2, 3] }, &["dec_ttl(1,2,3)"]),
        ("stack_push", Nx::StackPush { src: reg(2).bits(0, 5) }, &["push:NXM_NX_REG2[0..4]"]),
        ("stack_pop", Nx::StackPop { dst: reg(2).bits(3, 5) }, &["pop:NXM_NX_REG2[3..7]"]),
        (
            "sample",
            Nx::Sample { probability: 9, collector_set_id: 1, obs_domain_id: 2, obs_point_id: 3 },
            &["sample(probability=9,collector_set_id=1,obs_domain_id=2,obs_point_id=3)"],
        ),
        (
            "sample2",
            Nx::Sample2 {
                probability: 9,
                collector_set_id: 1,
                obs_domain_id: 2,
                obs_point_id: 3,
                sampling_port: port,
            },
            &["sampling_port=5"],
        ),
        (
            "sample3",
            Nx::Sample3 {
                probability: 9,
                collector_set_id: 1,
                obs_domain_id: 2,
                obs_point_id: 3,
                sampling_port: port,
                direction: 2,
            },
            &["sampling_port=5,egress"],
        ),
        (
            "reg_load2",
            Nx::RegLoad2 { field: NxmField::Reg { index: 4, value: 0x30, mask: Some(0xf0) }.into() },
            &["set_field:0x30/0xf0->reg4"],
        ),
        ("conjunction", Nx::Conjunction { clause: 0, n_clauses: 2, id: 77 }, &["conjunction(77,1/2)"]),
        ("output_trunc", Nx::OutputTrunc { port, max_len: 100 }, &["output(port=5,max_len=100)"]),
        (
            "clone",
            Nx::Clone { actions: vec![Action::output(PortNo(1)), Nx::Exit.into()] },
            &["clone(output:1,exit)"],
        ),
        ("ct_clear", Nx::CtClear, &["ct_clear"]),
        (
            "check_pkt_larger",
            Nx::CheckPktLarger { packet_bytes: 1500, dst: reg(0).bits(3, 1) },
            &["check_pkt_larger(1500)->NXM_NX_REG0[3]"],
        ),
        (
            "delete_field",
            Nx::DeleteField { field: FieldId::new(1, 45, 124) },
            &["delete_field:tun_metadata5"],
        ),
        ("write_metadata", Nx::WriteMetadata { metadata: 5, mask: 7 }, &["write_metadata:0x5/0x7"]),
    ] {
        for version in [V1_0, V1_3] {
            let name = format!("nx_{name}_{}", version.to_wire());
            let message = doing(vec![action.clone().into()]);
            samples.push(sample(&name, version, message, says));
        }
    }
    for (name, action, says) in [
        ("set_queue", Nx::SetQueue { queue_id: 7 }, &["set_queue:7"][..]),
        ("push_mpls", Nx::PushMpls { ethertype: 0x8847 }, &["push_mpls:0x8847"]),
        ("pop_mpls", Nx::PopMpls { ethertype: 0x0800 }, &["pop_mpls:0x0800"]),
        ("set_mpls_ttl", Nx::SetMplsTtl { ttl: 5 }, &["set_mpls_ttl(5)"]),
        ("dec_mpls_ttl", Nx::DecMplsTtl, &["dec_mpls_ttl"]),
        ("set_mpls_label", Nx::SetMplsLabel { label: 10 }, &["set_mpls_label(10)"]),
        ("set_mpls_tc", Nx::SetMplsTc { tc: 3 }, &["set_mpls_tc(3)"]),
        ("dec_ttl", Nx::DecTtl, &["dec_ttl"]),
        ("group", Nx::Group { group_id: GroupId(3) }, &["group:3"]),
    ] {
        samples.push(sample(&format!("nx_{name}"), V1_0, sending(vec![action.into()]), says));
    }
    samples
}

fn tracking() -> Vec<Sample> {
    let ct = |flags, zone, actions| {
        Nx::Ct(Box::new(ConnTrack { flags, zone, recirc_table: TableId::ALL, alg: 0, actions }))
    };
    let to_table =
        ConnTrack { flags: 0, zone: CtZone::Immediate(5), recirc_table: TableId(3), alg: 0, actions: vec![] };
    let range = Nat {
        flags: NAT_SRC | NAT_PERSISTENT | NAT_PROTO_RANDOM,
        ipv4_min: Some([10, 0, 0, 1].into()),
        ipv4_max: Some([10, 0, 0, 9].into()),
        port_min: Some(1000),
        port_max: Some(2000),
        ..Nat::default()
    };
    let one =
        Nat { flags: NAT_DST, ipv6_min: Some("2001::1".parse().expect("an address")), ..Nat::default() };
    let wide = Nat { ipv6_max: Some("2001::ffff".parse().expect("an address")), ..one.clone() };
    let back = Nat::default();
    let nat = |nat: &Nat| vec![Nx::Nat(Box::new(nat.clone())).into()];
    let mark = Nx::RegLoad { dst: FieldId::CT_MARK.whole(), value: 0xf009 };
    let ftp = ConnTrack {
        flags: CT_COMMIT,
        zone: CtZone::Immediate(0),
        recirc_table: TableId::ALL,
        alg: 21,
        actions: vec![],
    };
    let from_field = CtZone::Field(FieldId::reg(0).bits(0, 16));
    let zone = CtZone::Immediate(7);
    let mut samples = Vec::new();
    for (name, action, says) in [
        ("table", Nx::Ct(Box::new(to_table)), &["ct(table=3,zone=5)"][..]),
        (
            "commit",
            ct(CT_COMMIT | CT_FORCE, from_field, vec![]),
            &["ct(commit,force,zone=NXM_NX_REG0[0..15])"],
        ),
        ("alg", Nx::Ct(Box::new(ftp)), &["ct(commit,alg=ftp)"]),
        (
            "mark",
            ct(CT_COMMIT, zone, vec![mark.into()]),
            &["ct(commit,zone=7,exec(load:0xf009->NXM_NX_CT_MARK[]))"],
        ),
        (
            "nat",
            ct(CT_COMMIT, zone, nat(&range)),
            &["nat(src=10.0.0.1-10.0.0.9:1000-2000,persistent,random)"],
        ),
        ("nat_v6", ct(CT_COMMIT, zone, nat(&one)), &["nat(dst=2001::1)"]),
        ("nat_v6_range", ct(CT_COMMIT, zone, nat(&wide)), &["nat(dst=2001::1-2001::ffff)"]),
        ("nat_back", ct(0, zone, nat(&back)), &["ct(zone=7,nat)"]),
    ] {
        for version in [V1_0, V1_3] {
            let name = format!("nx_ct_{name}_{}", version.to_wire());
            let eth_type = if says[0].contains("2001::") { 0x86dd } else { 0x0800 };
            let match_ = Match::new().eth_type(eth_type).ip_proto(6);
            samples.push(sample(&name, version, doing_with(match_, vec![action.clone().into()]), says));
        }
    }
    samples
}

fn learning() -> Vec<Sample> {
    let at = |field, offset_bits| LearnField { field, offset_bits };
    let copy = |n_bits, from, target| LearnSpec { n_bits, source: LearnSource::Field(at(from, 0)), target };
    let specs = vec![
        copy(12, FieldId::VLAN_TCI, LearnTarget::Match(at(FieldId::VLAN_TCI, 0))),
        copy(48, FieldId::ETH_SRC, LearnTarget::Match(at(FieldId::ETH_DST, 0))),
        LearnSpec {
            n_bits: 16,
            source: LearnSource::Immediate(vec![0, 99]),
            target: LearnTarget::Match(at(FieldId::IN_PORT, 0)),
        },
        LearnSpec {
            n_bits: 4,
            source: LearnSource::Immediate(vec![0, 5]),
            target: LearnTarget::Load(at(FieldId::reg(1), 4)),
        },
        copy(16, FieldId::IN_PORT, LearnTarget::Output),
    ];
    let learn = Learn {
        idle_timeout: 10,
        hard_timeout: 20,
        priority: 80,
        cookie: Cookie(0x1234),
        flags: 3,
        table_id: TableId(2),
        fin_idle_timeout: 2,
        fin_hard_timeout: 4,
        specs,
    };
    let limited = Learn2 { learn: learn.clone(), limit: 100, result: None };
    let result = Some(at(FieldId::reg(0), 7));
    let told = Learn2 { learn: Learn { flags: 4, ..learn.clone() }, limit: 100, result };
    let mut samples = Vec::new();
    for (name, action, says) in [
        (
            "learn",
            Nx::Learn(Box::new(learn)),
            &[
                "learn(table=2,idle_timeout=10,hard_timeout=20,fin_idle_timeout=2,fin_hard_timeout=4,priority=80,send_flow_rem,delete_learned,cookie=0x1234,NXM_OF_VLAN_TCI[0..11],NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],in_port=99,load:0x5->NXM_NX_REG1[4..7],output:NXM_OF_IN_PORT[])",
            ][..],
        ),
        ("learn2", Nx::Learn2(Box::new(limited)), &["limit=100"]),
        ("learn2_result", Nx::Learn2(Box::new(told)), &["limit=100,result_dst=NXM_NX_REG0[7]"]),
    ] {
        for version in [V1_0, V1_3] {
            let name = format!("nx_{name}_{}", version.to_wire());
            samples.push(sample(&name, version, doing(vec![action.clone().into()]), says));
        }
    }
    samples
}

/// Actions of one version, lists of properties, and what is kept as it came.
fn odd() -> Vec<Sample> {
    let controller = |properties| Action::from(Nx::Controller2(Controller2 { properties }));
    let paused = controller(vec![
        C2::MaxLen(1234),
        C2::ControllerId(5678),
        C2::Reason(2),
        C2::Userdata(vec![1, 2, 3, 4, 5]),
        C2::Pause,
        C2::MeterId(MeterId(3)),
    ]);
    let encap = Encap {
        header_bytes: 0,
        new_packet_type: 0x0001_894f,
        properties: vec![EncapProperty { class: 4, kind: 1, body: vec![1, 0, 0, 0] }],
    };
    let copied = MoveBits {
        n_bits: 8,
        src_offset_bits: 0,
        dst_offset_bits: 8,
        src: FieldId::reg(0),
        dst: FieldId::reg(1),
    };
    let mut theirs = FieldId::new(0xffff, 43, 8);
    theirs.experimenter = Some(0x4f4e_4600);
    let from_theirs =
        MoveBits { n_bits: 16, src_offset_bits: 0, dst_offset_bits: 0, src: theirs, dst: FieldId::reg(1) };
    let flags = ExperimenterField::TcpFlags { value: 2, mask: None };
    let resubmit = Nx::ResubmitTableCt { in_port: PortNo(5), table: TableId(9) };
    let established = ct_state::TRK | ct_state::EST;
    let state = NxmField::CtState { value: established, mask: Some(established) };
    let tracked = Match::new().eth_type(0x0800).with(state.into());
    let sample4 = Sample4 {
        probability: 9,
        collector_set_id: 1,
        obs_domain: SampleId::Immediate(2),
        obs_point: SampleId::Field(FieldId::reg(0).whole()),
        sampling_port: PortNo(5),
        direction: 1,
    };
    let unknown = vec![
        Action::Experimenter { experimenter: 0x99, body: vec![7; 8] },
        Action::Experimenter { experimenter: NICIRA, body: [&[0xab, 0xcd][..], &[7; 6]].concat() },
        Action::Other { kind: 99, body: vec![7; 4] },
    ];
    vec![
        sample(
            "nx_controller2_1",
            V1_0,
            doing(vec![paused.clone()]),
            &["controller(reason=invalid_ttl,max_len=1234,id=5678,userdata=01.02.03.04.05,pause,meter_id=3)"],
        ),
        sample("nx_controller2_4", V1_3, doing(vec![paused]), &["userdata=01.02.03.04.05,pause,meter_id=3"]),
        refused(
            "nx_controller2_odd",
            V1_3,
            doing(vec![controller(vec![C2::Other { kind: 77, body: vec![1] }])]),
            "it knows no such property",
        ),
        sample("nx_encap", V1_3, doing(vec![Nx::Encap(encap).into()]), &["encap(nsh(md_type=1))"]),
        sample("nx_decap", V1_3, doing(vec![Nx::Decap { new_packet_type: 0xfffe }.into()]), &["decap()"]),
        sample(
            "nx_dec_nsh_ttl",
            V1_3,
            doing_with(Match::new().eth_type(0x894f), vec![Nx::DecNshTtl.into()]),
            &["dec_nsh_ttl"],
        ),
        sample("nx_resubmit_ct", V1_3, doing_with(tracked, vec![resubmit.into()]), &["resubmit(5,9,ct)"]),
        sample(
            "onf_copy_field",
            V1_3,
            doing(vec![Action::CopyField(copied)]),
            &["move:NXM_NX_REG0[0..7]->NXM_NX_REG1[8..15]"],
        ),
        sample(
            "nx_move_experimenter",
            V1_3,
            doing(vec![Nx::RegMove(from_theirs).into()]),
            &["move:ONFOXM_ET_ACTSET_OUTPUT"],
        ),
        refused(
            "set_field_experimenter",
            V1_3,
            doing(vec![Action::SetField(MatchField::Experimenter(flags))]),
            "TCP flags cannot be set",
        ),
        refused(
            "nx_sample4",
            V1_3,
            doing(vec![Nx::Sample4(Box::new(sample4)).into()]),
            "only version 3.4 has it",
        ),
        refused("actions_unknown_10", V1_0, doing(unknown.clone()), "it knows none of them"),
        refused("actions_unknown_13", V1_3, doing(unknown), "it knows none of them"),
    ]
}
