//! HELLO, ERROR, ECHO, EXPERIMENTER, features, configuration, barriers and roles.

use crate::common::{check, hex};
use openflow::{
    DatapathId, ErrorKind, ErrorMsg, Experimenter, FeaturesReply, FixedText, Hello, HelloElement, MacAddr,
    Message, NICIRA, ONF, Port, PortNo, Role, RoleMsg, SwitchConfig, Version, Version::V1_0, Version::V1_3,
    Xid,
};

#[test]
fn hello() {
    check("01 00 0008 00000001", V1_0, 1, &Message::Hello(Hello::default()));
    let both = Message::Hello(Hello::offering(&[V1_0, V1_3]));
    check("04 00 0010 00000002  0001 0008 00000012", V1_3, 2, &both);
    let odd = Hello {
        elements: vec![
            HelloElement::Other { kind: 9, body: vec![0xab] },
            HelloElement::VersionBitmap(vec![0x10, 0]),
        ],
        trailing: vec![0xff, 0xff],
        ..Hello::default()
    };
    let text = "04 00 0022 00000003  0009 0005 ab 000000  0001 000c 00000010 00000000 00000000  ffff";
    check(text, V1_3, 3, &Message::Hello(odd));
    // Two bitmaps of 12 bytes without the padding between them that there ought to be.
    let dense = Hello {
        elements: vec![HelloElement::VersionBitmap(vec![1, 2]), HelloElement::VersionBitmap(vec![3, 4])],
        unpadded: true,
        ..Hello::default()
    };
    let text = "04 00 0020 00000004  0001 000c 00000001 00000002  0001 000c 00000003 00000004";
    check(text, V1_3, 4, &Message::Hello(dense));
}

#[test]
fn hello_of_a_version_that_we_do_not_speak() {
    let bytes = hex("06 00 0010 00000007  0001 0008 00000052");
    assert!(Message::decode(&bytes).is_err());
    let (version, xid, hello) = Message::decode_hello(&bytes).expect("a hello of 1.5");
    assert_eq!((version, xid), (6, Xid(7)));
    assert_eq!(hello.version_bitmap(), Some([0x52].as_slice()));
    assert_eq!(hello.negotiate(version, &[V1_0, V1_3]), Some(V1_3));
    assert!(Message::decode_hello(&hex("06 05 0008 00000007")).is_err(), "a features request is no hello");
    assert!(
        Message::decode_hello(&hex("06 00 0009 00000007")).is_err(),
        "the length is not that of the bytes"
    );
}

#[test]
fn negotiation() {
    let plain = Hello::default();
    let table: &[(&Hello, u8, &[Version], Option<Version>)] = &[
        (&plain, 1, &[V1_0, V1_3], Some(V1_0)),
        (&plain, 4, &[V1_0, V1_3], Some(V1_3)),
        (&plain, 6, &[V1_0, V1_3], Some(V1_3)),
        (&plain, 6, &[V1_0], Some(V1_0)),
        (&plain, 2, &[V1_0, V1_3], None),
        (&plain, 1, &[V1_3], None),
        (&plain, 4, &[], None),
        (&Hello::offering(&[V1_0]), 4, &[V1_0, V1_3], Some(V1_0)),
        (&Hello::offering(&[V1_3]), 4, &[V1_0], None),
        (&Hello::offering(&[V1_0, V1_3]), 1, &[V1_0, V1_3], Some(V1_3)),
    ];
    for (hello, header_version, ours, expected) in table {
        assert_eq!(hello.negotiate(*header_version, ours), *expected, "{hello:?} {header_version} {ours:?}");
    }
}

#[test]
fn echo_barrier_and_requests() {
    check("01 02 000b 00000009 616263", V1_0, 9, &Message::EchoRequest(b"abc".to_vec()));
    check("04 03 0008 0000000a", V1_3, 10, &Message::EchoReply(Vec::new()));
    check("01 05 0008 0000000b", V1_0, 11, &Message::FeaturesRequest);
    check("04 07 0008 0000000c", V1_3, 12, &Message::GetConfigRequest);
    check("01 12 0008 0000000d", V1_0, 13, &Message::BarrierRequest);
    check("01 13 0008 0000000e", V1_0, 14, &Message::BarrierReply);
    check("04 14 0008 0000000f", V1_3, 15, &Message::BarrierRequest);
    check("04 15 0008 00000010", V1_3, 16, &Message::BarrierReply);
}

#[test]
fn error_message() {
    let data = hex("04 0e 0008 00000001");
    let full =
        |data: &[u8]| Message::Error(ErrorMsg { kind: ErrorKind::FlowModTableFull, data: data.to_vec() });
    check("01 01 0014 00000001  0003 0000  040e000800000001", V1_0, 1, &full(&data));
    check("04 01 0014 00000001  0005 0001  040e000800000001", V1_3, 1, &full(&data));
    let unknown = ErrorMsg { kind: ErrorKind::Unknown { kind: 77, code: 5 }, data: vec![0, 0, 0x23, 0x20] };
    check("04 01 0010 00000002  004d 0005 00002320", V1_3, 2, &Message::Error(unknown));
    let kind = ErrorKind::Experimenter { exp_type: 2302, experimenter: ONF };
    assert_eq!(kind.to_string(), "OFPBFC_BAD_ID");
    let bundle = ErrorMsg { kind, data: vec![1, 2] };
    check("04 01 0012 00000002  ffff 08fe 4f4e4600 0102", V1_3, 2, &Message::Error(bundle));
    let kind = ErrorKind::Vendor { vendor: NICIRA, kind: 1, code: 512 };
    let vendor = ErrorMsg { kind, data: vec![1, 2] };
    check("01 01 0016 00000002  b0c2 0000 00002320 0001 0200 0102", V1_0, 2, &Message::Error(vendor));
}

#[test]
fn experimenter() {
    for id in [0x99, NICIRA, ONF] {
        let unknown = Experimenter { experimenter: id, body: hex("0000ffff 00000001") };
        let message = Message::Experimenter(unknown);
        check(&format!("01 04 0014 00000001  {id:08x} 0000ffff 00000001"), V1_0, 1, &message);
        check(&format!("04 04 0014 00000001  {id:08x} 0000ffff 00000001"), V1_3, 1, &message);
    }
}

#[test]
fn features_reply() {
    let mut features = FeaturesReply {
        datapath_id: DatapathId(0x0000_0000_0000_00ab),
        n_buffers: 256,
        n_tables: 254,
        auxiliary_id: 0,
        capabilities: 0x4f,
        actions: 0,
        ports: None,
    };
    let text = "04 06 0020 00000002  00000000000000ab 00000100 fe 00 0000 0000004f 00000000";
    check(text, V1_3, 2, &Message::FeaturesReply(features.clone()));
    features.actions = 0xfff;
    features.ports = Some(vec![Port {
        port_no: PortNo::LOCAL,
        hw_addr: MacAddr([2, 0, 0, 0, 0, 1]),
        name: FixedText::from("s1"),
        config: 1,
        state: 1,
        curr: 0x20 | 0x800 | 0x2000,
        advertised: 0,
        supported: 0x7f,
        peer: 0x8000,
        curr_speed_kbps: 0,
        max_speed_kbps: 0,
    }]);
    let text = "01 06 0050 00000002  00000000000000ab 00000100 fe 000000 0000004f 00000fff
        fffe 020000000001 7331 0000 000000000000000000000000
        00000001 00000001 000002a0 00000000 0000007f 00000800";
    check(text, V1_0, 2, &Message::FeaturesReply(features));
}

#[test]
fn configuration() {
    let config = SwitchConfig { flags: 1, miss_send_len: 0xffff };
    check("01 09 000c 00000003 0001 ffff", V1_0, 3, &Message::SetConfig(config));
    check("04 08 000c 00000003 0001 ffff", V1_3, 3, &Message::GetConfigReply(config));
}

#[test]
fn roles() {
    let role = |role| RoleMsg { role, generation_id: 0x0102_0304_0506_0708 };
    let text = "04 18 0018 00000004 00000002 00000000 0102030405060708";
    check(text, V1_3, 4, &Message::RoleRequest(role(Role::Master)));
    let text = "04 19 0018 00000004 00000003 00000000 0102030405060708";
    check(text, V1_3, 4, &Message::RoleReply(role(Role::Slave)));
    let error =
        Message::decode(&hex("04 18 0018 00000004 00000009 00000000 0102030405060708")).expect_err("role 9");
    assert_eq!(error.error_kind(), ErrorKind::RoleRequestBadRole);
}
