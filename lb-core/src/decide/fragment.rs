//! Fragments (RFC 791, section 3.2; RFC 8200, section 4.5) and packets with extension headers.

use super::flow::{Flow, to_backend_egress, to_client_egress};
use super::{Decision, is_for, maybe, maybe_vip, vip_at};
use crate::classify::{Ip, Transport};
use crate::packet::Packet;
use crate::reason::Reason;
use crate::rewrite::{Change, Direction, FlowNote, Rewrite, Way};
use crate::table::{Address, FragmentKey, FragmentValue, Settings, Tables, mode, settings_flag, ticks_since};

const TO_BACKEND: u8 = 1;
const TO_CLIENT: u8 = 2;

#[inline(always)]
fn key_of(ip: &Ip, part: Transport) -> FragmentKey {
    let id = part.id as u64 | (part.protocol as u64) << 32;
    FragmentKey { source: ip.source, destination: ip.destination, id }
}

/// The first part was forwarded: the others go there, too.
#[inline(always)]
pub(super) fn remember<P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    ip: &Ip,
    part: Transport,
    rewrite: &Rewrite,
) {
    // A reply without an entry is of no backend that is known; in an array the record of nobody is there all the same.
    if rewrite.note.backend == 0 {
        return;
    }
    let Some(record) = tables.backend(rewrite.note.backend) else { return };
    let to_client = matches!(rewrite.direction, Direction::ToClient);
    let client_slot = if to_client { rewrite.way.slot() } else { tables.slot_of(packet.ingress_ifindex()) };
    let value = FragmentValue {
        vip: rewrite.note.vip,
        backend: rewrite.note.backend,
        generation: record.generation,
        client_slot,
        first_seen: tables.now(),
        client: if to_client { rewrite.destination.1 } else { Address::ZERO },
        mac: if to_client { rewrite.destination_mac } else { [0; 6] },
        direction: if to_client { TO_CLIENT } else { TO_BACKEND },
        reserved: [0; 5],
    };
    tables.fragment_set(&key_of(ip, part), &value);
}

/// A part without ports.
#[inline(always)]
pub(super) fn later<P: Packet, T: Tables>(packet: &P, tables: &T, ip: &Ip, part: Transport) -> Decision {
    let Some(settings) = tables.settings() else { return Decision::pass(Reason::NotOurs) };
    let mut vip_id = 0;
    let mut is_ours = maybe(tables, 1, ip.source);
    if maybe_vip(tables, settings, ip.destination, ip.is_v6) {
        let id = vip_at(tables, settings, ip.destination, ip.is_v6);
        if id != 0
            && let Some(vip) = tables.vip(id)
        {
            if !is_for(packet, vip) {
                return Decision::pass(Reason::AlreadyBalanced);
            }
            vip_id = id;
            is_ours = true;
        }
    }
    if !is_ours {
        return Decision::pass(Reason::NotOurs);
    }
    match follow(packet, tables, settings, ip, part) {
        Some(decision) => decision,
        None if vip_id != 0 && settings.flags & settings_flag::HANDING_OVER != 0 => {
            Decision::pass(Reason::HandedOver)
        }
        None if vip_id != 0 => Decision::drop(tables, Reason::FragmentUnknown, vip_id),
        None => Decision::pass(Reason::NoConnection),
    }
}

#[inline(always)]
fn follow<P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    settings: &Settings,
    ip: &Ip,
    part: Transport,
) -> Option<Decision> {
    let known = tables.fragment(&key_of(ip, part))?;
    if ticks_since(tables.now(), known.first_seen) > settings.fragment_timeout {
        return None;
    }
    let (vip, record) = (tables.vip(known.vip)?, tables.backend(known.backend)?);
    if record.generation != known.generation || record.vip != known.vip {
        return None;
    }
    let flow = Flow { packet, ip, ports: part, settings };
    let none = Rewrite::arp_reply(ip.l3, [0; 6]);
    let whole = Rewrite {
        is_v6: ip.is_v6,
        protocol: part.protocol,
        source: (ip.source, ip.source),
        destination: (ip.destination, ip.destination),
        note: FlowNote {
            vip: known.vip,
            backend: known.backend,
            bytes: flow.bytes(),
            opened: false,
            alive: 0,
        },
        ..none
    };
    if known.direction == TO_CLIENT {
        let (from, switch) = flow.ingress_slot(tables, record.slot);
        return Some(Decision::forward(Rewrite {
            change: Change::Translate,
            direction: Direction::ToClient,
            reason: Reason::FragmentToClient,
            way: to_client_egress(tables, vip, from, switch, known.client_slot),
            source: (ip.source, vip.address),
            destination: (ip.destination, known.client),
            destination_mac: known.mac,
            source_mac: vip.mac,
            ..whole
        }));
    }
    let (from, switch) = flow.ingress_slot(tables, 0);
    let way = to_backend_egress(vip, from, switch, record);
    let sends = vip.mode == mode::FULLNAT || vip.mode == mode::IPIP;
    let own = sends || way == Way::TRANSMIT;
    let (change, source, destination) = match vip.mode {
        mode::NAT => (Change::Translate, ip.source, record.address),
        mode::FULLNAT => (Change::Translate, vip.source, record.address),
        mode::IPIP => (Change::Encapsulate, vip.source, record.address),
        _ => (Change::Macs, ip.source, ip.destination),
    };
    Some(Decision::forward(Rewrite {
        change,
        direction: Direction::ToBackend,
        reason: Reason::FragmentToBackend,
        way,
        source: (ip.source, source),
        destination: (ip.destination, destination),
        destination_mac: record.mac,
        source_mac: if own { vip.mac } else { [0; 6] },
        ..whole
    }))
}
