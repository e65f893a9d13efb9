//! PORT_STATUS and PORT_MOD.

use crate::common::{check, encode, hex, to_hex};
use openflow::{
    FixedText, MacAddr, Message, Port, PortMod, PortNo, PortReason, PortStatus, Version::V1_0, Version::V1_3,
};

fn port(port_no: PortNo) -> Port {
    Port {
        port_no,
        hw_addr: MacAddr([0x02, 0x11, 0x22, 0x33, 0x44, 0x55]),
        name: FixedText::from("s1-eth1-and-more"),
        config: 0,
        state: 1,
        curr: 0x840,
        advertised: 0,
        supported: 0,
        peer: 0,
        curr_speed_kbps: 0,
        max_speed_kbps: 0,
    }
}

#[test]
fn port_status_v1_0() {
    let status = PortStatus { reason: PortReason::Modify, port: port(PortNo(1)) };
    let text = "01 0c 0040 00000000  02 00000000000000
        0001 021122334455 73312d657468312d616e642d6d6f7265
        00000000 00000001 000000c0 00000000 00000000 00000000";
    check(text, V1_0, 0, &Message::PortStatus(status));
}

#[test]
fn port_status_v1_3() {
    let port = Port { curr_speed_kbps: 10_000_000, max_speed_kbps: 1, ..port(PortNo(1)) };
    let status = PortStatus { reason: PortReason::Delete, port };
    let text = "04 0c 0050 00000000  01 00000000000000
        00000001 00000000 021122334455 0000 73312d657468312d616e642d6d6f7265
        00000000 00000001 00000840 00000000 00000000 00000000 00989680 00000001";
    check(text, V1_3, 0, &Message::PortStatus(status.clone()));
    let strange = PortStatus { reason: PortReason::Other(7), ..status };
    check(
        &text.replacen("01 00000000000000", "07 00000000000000", 1),
        V1_3,
        0,
        &Message::PortStatus(strange),
    );
}

#[test]
fn port_mod() {
    let port_mod = PortMod {
        port_no: PortNo(3),
        hw_addr: MacAddr([2, 0, 0, 0, 0, 3]),
        config: 0x10,
        mask: 0x10,
        advertise: 0x2000,
    };
    let text = "01 0f 0020 00000005  0003 020000000003 00000010 00000010 00000200 00000000";
    check(text, V1_0, 5, &Message::PortMod(port_mod.clone()));
    let text = "04 10 0028 00000005  00000003 00000000 020000000003 0000
        00000010 00000010 00002000 00000000";
    check(text, V1_3, 5, &Message::PortMod(port_mod));
}

#[test]
fn port_numbers_map_one_to_one() {
    for wire in 0..=u16::MAX {
        assert_eq!(PortNo::from_v1_0(wire).to_v1_0(), Some(wire));
    }
    assert_eq!(PortNo::from_v1_0(0xffff), PortNo::ANY);
    assert_eq!(PortNo::from_v1_0(0xfffd), PortNo::CONTROLLER);
    assert_eq!(PortNo(0xff00).to_v1_0(), None);
    assert_eq!(PortNo(0xffff_feff).to_v1_0(), None);
    assert!(PortNo::LOCAL.is_reserved() && !PortNo::MAX.is_reserved() && !PortNo(1).is_reserved());
}

#[test]
fn mac_addresses_as_text() {
    let mac: MacAddr = "02:0a:BC:00:00:ff".parse().expect("six pairs");
    assert_eq!(mac, MacAddr([2, 10, 0xbc, 0, 0, 0xff]));
    assert_eq!(mac.to_string(), "02:0a:bc:00:00:ff");
    assert!(
        !mac.is_multicast()
            && MacAddr([1, 0, 0, 0, 0, 0]).is_multicast()
            && MacAddr::BROADCAST.is_broadcast()
    );
    for bad in [
        "",
        "02:0a:bc:00:00",
        "02:0a:bc:00:00:ff:01",
        "2:a:bc:0:0:ff",
        "02:0a:bc:00:00:+f",
        "02-0a-bc-00-00-ff",
    ] {
        let error = bad.parse::<MacAddr>().expect_err(bad);
        assert!(error.to_string().contains("six pairs"), "{error}");
    }
}

/// Features that 1.0 does not define are carried along, all 32 bits of them.
#[test]
fn features_without_a_meaning_in_1_0() {
    for advertise in ["cafe6789", "ffffffff", "f0001000", "0ffff000"] {
        let text = format!("01 0f 0020 00000002 fffd 010203040506 8000006f 80000011 {advertise} 00000000");
        let bytes = hex(&text);
        let (_, _, message) = Message::decode(&bytes).expect("a port-mod");
        assert_eq!(to_hex(&encode(&message, V1_0, 2)), to_hex(&bytes), "{message:?}");
    }
}
