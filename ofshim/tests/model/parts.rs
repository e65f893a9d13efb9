//! Fragments of packets, made and put together from the specifications alone (RFC 791, 3.2; RFC 8200, 4.5).

use super::Segment;
use super::segment::sum;

/// Where the IP header of an untagged frame begins.
const IP: usize = 14;
const IPV4_BYTES: usize = 20;
const IPV6_BYTES: usize = 40;
const FRAGMENT: u8 = 44;

fn is_v4(frame: &[u8]) -> bool {
    frame[12..14] == [0x08, 0x00]
}

/// The packet of an untagged frame as fragments that begin at these bytes of its transport, multiples of eight, besides
/// the first.
pub fn parts(frame: &[u8], id: u16, cuts: &[usize]) -> Vec<Vec<u8>> {
    let header = if is_v4(frame) { IPV4_BYTES } else { IPV6_BYTES };
    let (head, transport) = frame.split_at(IP + header);
    let starts: Vec<usize> = [0].into_iter().chain(cuts.iter().copied()).collect();
    let ends = cuts.iter().copied().chain([transport.len()]);
    let ranges = starts.into_iter().zip(ends);
    ranges.map(|(from, to)| part(head, &transport[from..to], id, from, to < transport.len())).collect()
}

fn part(head: &[u8], data: &[u8], id: u16, from: usize, more: bool) -> Vec<u8> {
    assert_eq!(from % 8, 0);
    let mut bytes = head.to_vec();
    if is_v4(head) {
        let field = (from / 8) as u16 | if more { 0x2000 } else { 0 };
        bytes[IP + 2..IP + 4].copy_from_slice(&((IPV4_BYTES + data.len()) as u16).to_be_bytes());
        bytes[IP + 4..IP + 6].copy_from_slice(&id.to_be_bytes());
        bytes[IP + 6..IP + 8].copy_from_slice(&field.to_be_bytes());
        bytes[IP + 10..IP + 12].fill(0);
        let checksum = !sum(&bytes[IP..]);
        bytes[IP + 10..IP + 12].copy_from_slice(&checksum.to_be_bytes());
    } else {
        let protocol = std::mem::replace(&mut bytes[IP + 6], FRAGMENT);
        bytes[IP + 4..IP + 6].copy_from_slice(&((8 + data.len()) as u16).to_be_bytes());
        bytes.extend([protocol, 0]);
        bytes.extend((from as u16 | u16::from(more)).to_be_bytes());
        bytes.extend(u32::from(id).to_be_bytes());
    }
    bytes.extend(data);
    bytes
}

/// The packet that fragments come from, in any order: its checksums are right, and none is missing.
pub fn whole(parts: &[Vec<u8>]) -> Segment {
    let mut parts: Vec<(usize, bool, &[u8])> = parts.iter().map(|part| place(part)).collect();
    parts.sort_unstable();
    let (_, last_has_more, last) = *parts.last().expect("fragments");
    assert!(!last_has_more, "the last one");
    let mut transport: Vec<u8> = Vec::new();
    for (from, _, part) in &parts {
        assert_eq!(*from, transport.len(), "none is missing, and none comes twice");
        transport.extend(data(part));
    }
    let header = if is_v4(last) { IPV4_BYTES } else { IPV6_BYTES };
    let mut frame = last[..IP + header].to_vec();
    if is_v4(last) {
        assert!(parts.iter().all(|(_, _, part)| sum(&part[IP..IP + IPV4_BYTES]) == 0xffff), "checksums");
        frame[IP + 2..IP + 4].copy_from_slice(&((IPV4_BYTES + transport.len()) as u16).to_be_bytes());
        frame[IP + 6..IP + 8].fill(0);
        frame[IP + 10..IP + 12].fill(0);
        let checksum = !sum(&frame[IP..]);
        frame[IP + 10..IP + 12].copy_from_slice(&checksum.to_be_bytes());
    } else {
        frame[IP + 4..IP + 6].copy_from_slice(&(transport.len() as u16).to_be_bytes());
        frame[IP + 6] = last[IP + IPV6_BYTES];
    }
    frame.extend(transport);
    Segment::read(&frame).expect("TCP or UDP")
}

/// Where a fragment begins, whether others follow, and the fragment.
fn place(part: &[u8]) -> (usize, bool, &[u8]) {
    let field = |at: usize| u16::from_be_bytes([part[at], part[at + 1]]);
    if is_v4(part) {
        (usize::from(field(IP + 6) & 0x1fff) * 8, field(IP + 6) & 0x2000 != 0, part)
    } else {
        assert_eq!(part[IP + 6], FRAGMENT);
        let field = field(IP + IPV6_BYTES + 2);
        (usize::from(field & 0xfff8), field & 1 != 0, part)
    }
}

fn data(part: &[u8]) -> &[u8] {
    &part[IP + if is_v4(part) { IPV4_BYTES } else { IPV6_BYTES + 8 }..]
}
