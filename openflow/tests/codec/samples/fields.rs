//! Every match field of 1.3, of NXM, and of experimenters.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{Sample, matching, refused, sample};
use openflow::{
    ExperimenterField as E, MacAddr, Match, MatchField as F, NxmField as N, PortNo,
    Version::{V1_0, V1_3},
    ct_state,
};

const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);
const V4: Ipv4Addr = Ipv4Addr::new(10, 1, 2, 3);
const NET: Ipv4Addr = Ipv4Addr::new(10, 1, 2, 0);
const V4_MASK: Ipv4Addr = Ipv4Addr::new(255, 255, 255, 0);
const V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 9);

pub fn all() -> Vec<Sample> {
    let mut samples = basic();
    samples.extend(fixed());
    samples.extend(nxm());
    samples.extend(unread());
    samples
}

fn of(name: &str, fields: Vec<F>, says: &'static [&'static str]) -> Sample {
    sample(name, V1_3, matching(Match::from(fields)), says)
}

fn basic() -> Vec<Sample> {
    let with = |fields: Vec<F>, ethertype| [vec![F::EthType(ethertype)], fields].concat();
    let ip = |proto, fields: Vec<F>| with([vec![F::IpProto(proto)], fields].concat(), 0x0800);
    let v6 = |proto, fields: Vec<F>| with([vec![F::IpProto(proto)], fields].concat(), 0x86dd);
    vec![
        of(
            "match_ethernet",
            vec![
                F::InPort(PortNo(7)),
                F::Metadata { value: 5, mask: Some(0xff) },
                F::EthDst { value: MAC, mask: None },
                F::EthSrc {
                    value: MacAddr([2, 0, 0, 0, 0, 0]),
                    mask: Some(MacAddr([0xff, 0xff, 0, 0, 0, 0])),
                },
                F::VlanVid { value: 0x1005, mask: None },
                F::VlanPcp(3),
                F::TunnelId { value: 0x1234, mask: Some(0xffff) },
            ],
            &[
                "metadata=0x5/0xff",
                "in_port=7",
                "dl_vlan=5,dl_vlan_pcp=3",
                "dl_src=02:00:00:00:00:00/ff:ff:00:00:00:00",
            ],
        ),
        of(
            "match_ipv4",
            ip(
                17,
                vec![
                    F::IpDscp(10),
                    F::IpEcn(1),
                    F::Ipv4Src { value: V4, mask: None },
                    F::Ipv4Dst { value: NET, mask: Some(V4_MASK) },
                    F::UdpSrc(53),
                    F::UdpDst(5353),
                ],
            ),
            &["udp", "nw_src=10.1.2.3,nw_dst=10.1.2.0/24,nw_tos=40,nw_ecn=1,tp_src=53,tp_dst=5353"],
        ),
        of("match_tcp", ip(6, vec![F::TcpSrc(1), F::TcpDst(2)]), &["tcp,tp_src=1,tp_dst=2"]),
        of("match_sctp", ip(132, vec![F::SctpSrc(1), F::SctpDst(2)]), &["sctp,tp_src=1,tp_dst=2"]),
        of("match_icmp", ip(1, vec![F::Icmpv4Type(3), F::Icmpv4Code(4)]), &["icmp,icmp_type=3,icmp_code=4"]),
        of(
            "match_arp",
            with(
                vec![
                    F::ArpOp(1),
                    F::ArpSpa { value: V4, mask: None },
                    F::ArpTpa { value: V4, mask: None },
                    F::ArpSha { value: MAC, mask: None },
                    F::ArpTha { value: MAC, mask: None },
                ],
                0x0806,
            ),
            &[
                "arp,arp_spa=10.1.2.3,arp_tpa=10.1.2.3,arp_op=1,arp_sha=02:00:00:00:00:09,arp_tha=02:00:00:00:00:09",
            ],
        ),
        of(
            "match_ipv6",
            with(
                vec![
                    F::Ipv6Src { value: V6, mask: None },
                    F::Ipv6Dst {
                        value: "fe80::".parse().expect("an address"),
                        mask: Some("ffff::".parse().expect("a mask")),
                    },
                    F::Ipv6Flabel { value: 5, mask: None },
                ],
                0x86dd,
            ),
            &["ipv6,ipv6_src=fe80::9,ipv6_dst=fe80::/16,ipv6_label=0x00005"],
        ),
        of(
            "match_nd",
            v6(58, vec![F::Icmpv6Type(136), F::Icmpv6Code(0), F::Ipv6NdTarget(V6), F::Ipv6NdTll(MAC)]),
            &["icmp6", "nd_target=fe80::9,nd_tll=02:00:00:00:00:09"],
        ),
        of(
            "match_nd_sll",
            v6(58, vec![F::Icmpv6Type(135), F::Icmpv6Code(0), F::Ipv6NdSll(MAC)]),
            &["nd_sll=02:00:00:00:00:09"],
        ),
        of(
            "match_mpls",
            with(vec![F::MplsLabel(9), F::MplsTc(2), F::MplsBos(1)], 0x8847),
            &["mpls,mpls_label=9,mpls_tc=2,mpls_bos=1"],
        ),
        of(
            "match_masked_port",
            ip(6, vec![F::Raw { class: 0x8000, field: 14, has_mask: true, body: vec![0, 80, 0xff, 0xf0] }]),
            &["tp_dst=0x50/0xfff0"],
        ),
        of(
            "match_packet_reg",
            vec![F::PacketReg { index: 1, value: 7, mask: Some(0xff) }],
            &["reg3=0x7/0xff"],
        ),
        of(
            "match_onf_tcp_flags",
            ip(6, vec![F::Experimenter(E::TcpFlags { value: 2, mask: None })]),
            &["tcp_flags=syn"],
        ),
        of(
            "match_onf_actset_output",
            vec![F::Experimenter(E::ActsetOutput(PortNo(3)))],
            &["actset_output=3"],
        ),
    ]
}

/// Fields that 1.0 alone has, or writes in its own way.
fn fixed() -> Vec<Sample> {
    let of = |name: &str, fields: Vec<F>, says| sample(name, V1_0, matching(Match::from(fields)), says);
    vec![
        of("match_10_any", vec![], &["ADD priority=0"]),
        of(
            "match_10_tcp",
            vec![
                F::InPort(PortNo::LOCAL),
                F::EthDst { value: MAC, mask: None },
                F::EthType(0x0800),
                F::VlanVid { value: 0x1007, mask: None },
                F::VlanPcp(5),
                F::IpDscp(10),
                F::IpProto(6),
                F::Ipv4Src { value: [10, 0, 0, 0].into(), mask: Some([255, 0, 0, 0].into()) },
                F::TcpDst(80),
            ],
            &["tcp,in_port=LOCAL,dl_vlan=7,dl_vlan_pcp=5", "nw_src=10.0.0.0/8,nw_tos=40,tp_dst=80"],
        ),
        of(
            "match_10_arp",
            vec![F::EthType(0x0806), F::ArpOp(2), F::ArpSpa { value: V4, mask: None }],
            &["arp,arp_spa=10.1.2.3,arp_op=2"],
        ),
        of("match_10_port", vec![F::TpSrc(5)], &["ADD priority=0 actions=drop"]),
    ]
}

fn nxm() -> Vec<Sample> {
    let fields = |fields: Vec<N>| fields.into_iter().map(F::from).collect::<Vec<_>>();
    let ip = |proto, more: Vec<N>| fields([vec![N::EthType(0x0800), N::IpProto(proto)], more].concat());
    let tracked = ct_state::TRK | ct_state::EST;
    vec![
        of(
            "nxm_ethernet",
            fields(vec![
                N::InPort(PortNo(7)),
                N::EthDst { value: MAC, mask: None },
                N::EthSrc { value: MAC, mask: None },
                N::VlanTci { value: 0x1005, mask: Some(0x1fff) },
            ]),
            &["in_port=7", "dl_vlan=5", "dl_src=02:00:00:00:00:09,dl_dst=02:00:00:00:00:09"],
        ),
        of(
            "nxm_ip",
            ip(
                6,
                vec![
                    N::IpTos(0x28),
                    N::IpEcn(1),
                    N::IpTtl(64),
                    N::IpFrag { value: 1, mask: Some(1) },
                    N::IpSrc { value: V4, mask: None },
                    N::IpDst { value: NET, mask: Some(V4_MASK) },
                    N::TcpSrc { value: 80, mask: Some(0xfff0) },
                    N::TcpDst { value: 80, mask: None },
                    N::TcpFlags { value: 2, mask: None },
                ],
            ),
            &["tcp", "nw_tos=40,nw_ecn=1,nw_ttl=64,nw_frag=yes", "tcp_flags=syn"],
        ),
        of(
            "nxm_udp",
            ip(17, vec![N::UdpSrc { value: 5, mask: None }, N::UdpDst { value: 6, mask: None }]),
            &["udp,tp_src=5,tp_dst=6"],
        ),
        of("nxm_icmp", ip(1, vec![N::IcmpType(3), N::IcmpCode(4)]), &["icmp,icmp_type=3,icmp_code=4"]),
        of(
            "nxm_arp",
            fields(vec![
                N::EthType(0x0806),
                N::ArpOp(1),
                N::ArpSpa { value: V4, mask: None },
                N::ArpTpa { value: V4, mask: None },
                N::ArpSha { value: MAC, mask: None },
                N::ArpTha { value: MAC, mask: None },
            ]),
            &["arp,arp_spa=10.1.2.3,arp_tpa=10.1.2.3,arp_op=1"],
        ),
        of(
            "nxm_nd",
            fields(vec![
                N::EthType(0x86dd),
                N::IpProto(58),
                N::Ipv6Src { value: V6, mask: None },
                N::Ipv6Dst { value: V6, mask: None },
                N::Ipv6Label { value: 5, mask: None },
                N::Icmpv6Type(135),
                N::Icmpv6Code(0),
                N::NdTarget { value: V6, mask: None },
                N::NdSll { value: MAC, mask: None },
            ]),
            &[
                "icmp6,ipv6_src=fe80::9,ipv6_dst=fe80::9,ipv6_label=0x00005",
                "nd_target=fe80::9,nd_sll=02:00:00:00:00:09",
            ],
        ),
        of(
            "nxm_nd_tll",
            fields(vec![
                N::EthType(0x86dd),
                N::IpProto(58),
                N::Icmpv6Type(136),
                N::Icmpv6Code(0),
                N::NdTll { value: MAC, mask: None },
            ]),
            &["nd_tll=02:00:00:00:00:09"],
        ),
        of(
            "nxm_registers",
            fields(vec![
                N::reg(0, 1),
                N::Reg { index: 15, value: 2, mask: Some(0xff) },
                N::PktMark { value: 4, mask: None },
                N::ConjId(9),
            ]),
            &["conj_id=9", "reg0=0x1", "reg15=0x2/0xff", "pkt_mark=0x4"],
        ),
        of("nxm_xxreg", fields(vec![N::XxReg { index: 1, value: 5, mask: None }]), &["reg7=0x5"]),
        of(
            "nxm_tunnel",
            fields(vec![
                N::TunId { value: 5, mask: None },
                N::TunIpv4Src { value: V4, mask: None },
                N::TunIpv4Dst { value: NET, mask: Some(V4_MASK) },
                N::TunGbpId { value: 3, mask: None },
                N::TunGbpFlags { value: 1, mask: None },
                N::TunFlags { value: 1, mask: Some(1) },
            ]),
            &[
                "tun_id=0x5,tun_src=10.1.2.3,tun_dst=10.1.2.0/24,tun_gbp_id=3,tun_gbp_flags=0x1",
                "tun_flags=+oam",
            ],
        ),
        of(
            "nxm_tunnel_v6",
            fields(vec![N::TunIpv6Src { value: V6, mask: None }, N::TunIpv6Dst { value: V6, mask: None }]),
            &["tun_ipv6_src=fe80::9,tun_ipv6_dst=fe80::9"],
        ),
        of(
            "nxm_conntrack",
            ip(
                6,
                vec![
                    N::CtState { value: tracked, mask: Some(tracked) },
                    N::CtZone(5),
                    N::CtMark { value: 6, mask: None },
                    N::CtLabel { value: 7, mask: Some(0xff) },
                    N::CtNwProto(6),
                    N::CtNwSrc { value: V4, mask: None },
                    N::CtNwDst { value: V4, mask: None },
                    N::CtTpSrc { value: 1, mask: None },
                    N::CtTpDst { value: 2, mask: None },
                ],
            ),
            &[
                "ct_state=+est+trk,ct_zone=5,ct_mark=0x6,ct_label=0x7/0xff,ct_nw_src=10.1.2.3,ct_nw_dst=10.1.2.3,ct_nw_proto=6,ct_tp_src=1,ct_tp_dst=2",
            ],
        ),
        of(
            "nxm_conntrack_v6",
            fields(vec![
                N::EthType(0x86dd),
                N::CtState { value: tracked, mask: Some(tracked) },
                N::CtIpv6Src { value: V6, mask: None },
                N::CtIpv6Dst { value: V6, mask: None },
            ]),
            &["ct_ipv6_src=fe80::9,ct_ipv6_dst=fe80::9"],
        ),
        of(
            "nxm_tun_metadata",
            fields(vec![N::TunMetadata { index: 3, has_mask: false, body: vec![0; 4] }]),
            &["tun_metadata3=0"],
        ),
        of("nxm_mpls_ttl", fields(vec![N::EthType(0x8847), N::MplsTtl(5)]), &["mpls,mpls_ttl=5"]),
        of(
            "nxm_datapath",
            fields(vec![N::DpHash { value: 5, mask: None }, N::RecircId(6)]),
            &["recirc_id=0x6,dp_hash=0x5"],
        ),
    ]
}

fn unread() -> Vec<Sample> {
    let of = |name: &str, field: F, why| refused(name, V1_3, matching(Match::new().with(field)), why);
    let other = E::Other { experimenter: 0x99, field: 3, has_mask: true, body: vec![1, 2] };
    vec![
        of("match_in_phy_port", F::InPhyPort(PortNo(5)), "it has no physical ports"),
        of("match_pbb", F::PbbIsid { value: [1, 2, 3], mask: None }, "it has no PBB"),
        of(
            "match_ipv6_exthdr",
            F::Ipv6Exthdr { value: 1, mask: Some(1) },
            "it does not look at extension headers",
        ),
        of("match_onf_pbb_uca", F::Experimenter(E::PbbUca(1)), "it has no PBB"),
        of("match_experimenter", F::Experimenter(other), "it knows none of that id"),
        of(
            "match_raw",
            F::Raw { class: 0x8004, field: 5, has_mask: false, body: vec![1, 2, 3] },
            "it has no such class",
        ),
    ]
}
