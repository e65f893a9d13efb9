//! One message of every kind: back to the same value and bytes, cut anywhere, and read by Open vSwitch.

use std::collections::BTreeSet;

use crate::common::{check_truncations, encode, to_hex};
use crate::ofctl;
use crate::samples::{self, Ovs};
use openflow::{Message, Version, Xid};

#[test]
fn every_message_comes_back() {
    for sample in samples::all() {
        let bytes = encode(&sample.message, sample.version, 0x77);
        let decoded = Message::decode(&bytes);
        let expected = Ok((sample.version, Xid(0x77), sample.message.clone()));
        assert_eq!(decoded, expected, "{}: {}", sample.name, to_hex(&bytes));
        assert_eq!(bytes.len() % if is_padded(&sample.message) { 8 } else { 1 }, 0, "{}", sample.name);
        check_truncations(&bytes);
    }
}

/// Flow-mods of 1.3 are whole units of 8 bytes.
fn is_padded(message: &Message) -> bool {
    matches!(message, Message::FlowMod(_))
}

#[test]
fn samples_have_names_of_their_own() {
    let mut names = BTreeSet::new();
    for sample in samples::all() {
        assert!(names.insert(sample.name.clone()), "{} is there twice", sample.name);
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        assert!(sample.name.chars().all(is_plain), "{}", sample.name);
    }
    assert!(names.len() > 250, "{} samples", names.len());
}

/// Every type byte of both versions is somewhere in the samples.
#[test]
fn samples_have_every_type() {
    for (version, last) in [(Version::V1_0, 21), (Version::V1_3, 29)] {
        let kinds: BTreeSet<u8> = samples::all()
            .iter()
            .filter(|sample| sample.version == version)
            .map(|sample| encode(&sample.message, version, 1)[1])
            .collect();
        // Packet-outs are there with their actions, so that all are.
        let missing: Vec<u8> = (0..=last).filter(|kind| !kinds.contains(kind)).collect();
        assert!(missing.is_empty(), "{version}: no message of type {missing:?}");
    }
}

/// What Open vSwitch reads in our bytes is what we wrote, and what it refuses it refuses for a known reason.
#[test]
fn open_vswitch_reads_them() {
    let mut failures = Vec::new();
    for sample in samples::all() {
        let Some(read) = ofctl::read(&sample.message, sample.version) else { return };
        match (read, &sample.ovs) {
            (Ok(text), Ovs::Says(words)) => {
                for word in words.iter().filter(|word| !text.contains(**word)) {
                    failures.push(format!("{}: {word:?} is not in what it read:\n{text}", sample.name));
                }
            }
            (Err(_), Ovs::Refuses(_)) => {}
            (Ok(text), Ovs::Refuses(why)) => {
                failures.push(format!("{}: it reads this now, although {why}:\n{text}", sample.name));
            }
            (Err(text), Ovs::Says(_)) => failures.push(format!("{}: refused:\n{text}", sample.name)),
        }
    }
    assert!(failures.is_empty(), "{} messages:\n{}", failures.len(), failures.join("\n"));
}
