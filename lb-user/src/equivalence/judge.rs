//! Whether both sides did the same with a frame.

use std::collections::BTreeMap;

use lb_core::reason::{Class, Reason};
use serde::Serialize;

use super::xdp::Verdict;
use crate::dataplane::Action;
use crate::explain::frame;

/// What flow entries made of a frame, as bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// Whether the controller was asked.
    pub asked: bool,
    /// What came out, and by which ports.
    pub out: Vec<(u32, Vec<u8>)>,
}

/// In what both sides differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It went to different hosts.
    Backend,
    /// It went to the same host, with other bytes.
    Bytes,
    /// One side let it end, or answered it, and the other did not.
    Fate,
}

/// What happened to a frame, in words and bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It left by a port.
    Left(u32, Vec<u8>),
    /// It left by several, or changed where nobody should have.
    Odd(Vec<(u32, Vec<u8>)>),
    /// It is for the switch, as it came.
    Untouched,
    /// It ended.
    Ended,
}

/// Whether a packet was balanced.
#[must_use]
pub fn is_balanced(reason: Reason) -> bool {
    reason.class() == Class::Forwarded
}

/// Whether a client's packet was balanced.
#[must_use]
pub const fn is_to_backend(reason: Reason) -> bool {
    use Reason::{FragmentToBackend, IcmpToBackend, ToBackendRedirect, ToBackendSwitch, ToBackendTransmit};
    matches!(
        reason,
        ToBackendRedirect | ToBackendTransmit | ToBackendSwitch | IcmpToBackend | FragmentToBackend
    )
}

/// Whether a backend's packet was balanced.
#[must_use]
pub const fn is_to_client(reason: Reason) -> bool {
    use Reason::{FragmentToClient, IcmpToClient, ToClientRedirect, ToClientSwitch, ToClientTransmit};
    matches!(reason, ToClientRedirect | ToClientTransmit | ToClientSwitch | IcmpToClient | FragmentToClient)
}

/// What the program's verdict comes to in a network with these hosts. It says no port for what the switch carries: that is
/// where the destination's MAC is.
#[must_use]
pub fn by_xdp(verdict: &Verdict, came: (u32, &[u8]), ports: &BTreeMap<[u8; 6], u32>) -> Fate {
    let (port, frame) = came;
    match verdict.action {
        Action::Drop => Fate::Ended,
        Action::Transmit => Fate::Left(port, verdict.bytes.clone()),
        Action::Pass if verdict.bytes == frame && !is_balanced(verdict.reason) => Fate::Untouched,
        Action::Pass | Action::Redirect => {
            let to = verdict.bytes.first_chunk::<6>().and_then(|mac| ports.get(mac));
            Fate::Left(to.copied().unwrap_or(0), verdict.bytes.clone())
        }
    }
}

/// What flow entries came to.
#[must_use]
pub fn by_entries(left: &Left, frame: &[u8], untouched: bool) -> Fate {
    // Where XDP leaves a frame to the switch, it may go anywhere or nowhere, as long as it is as it came.
    if untouched && left.out.iter().all(|(_, bytes)| bytes == frame) {
        return Fate::Untouched;
    }
    match left.out.as_slice() {
        [] => Fate::Ended,
        [(port, bytes)] => Fate::Left(*port, bytes.clone()),
        many => Fate::Odd(many.to_vec()),
    }
}

/// In what two fates differ; `None` if they are the same.
#[must_use]
pub fn difference(xdp: &Fate, entries: &Fate) -> Option<Kind> {
    match (xdp, entries) {
        (a, b) if a == b => None,
        (Fate::Left(a, x), Fate::Left(b, y)) if a != b || x.get(..6) != y.get(..6) => Some(Kind::Backend),
        (Fate::Left(..), Fate::Left(..)) => Some(Kind::Bytes),
        _ => Some(Kind::Fate),
    }
}

impl Fate {
    /// In words, with names of hosts by their MACs.
    #[must_use]
    pub fn words(&self, names: &BTreeMap<[u8; 6], String>) -> String {
        let one = |(port, bytes): (u32, &[u8])| {
            let mac = bytes.first_chunk::<6>();
            let name =
                mac.and_then(|mac| names.get(mac)).map_or_else(String::new, |name| format!(" ({name})"));
            format!("leaves by port {port}{name}: {}", frame::summary(bytes))
        };
        match self {
            Self::Left(port, bytes) => one((*port, bytes)),
            Self::Odd(many) => {
                many.iter().map(|(port, bytes)| one((*port, bytes))).collect::<Vec<_>>().join("; ")
            }
            Self::Untouched => "is left to the switch as it came".to_owned(),
            Self::Ended => "ends".to_owned(),
        }
    }
}

/// The first byte in which two frames differ.
#[must_use]
pub fn first_difference(a: &[u8], b: &[u8]) -> Option<usize> {
    let differs = a.iter().zip(b).position(|(a, b)| a != b);
    differs.or_else(|| (a.len() != b.len()).then(|| a.len().min(b.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: [u8; 6] = [2, 0, 0, 0, 0, 1];

    fn frame(to: u8, last: u8) -> Vec<u8> {
        let mut frame = vec![0; 60];
        frame[..6].copy_from_slice(&[2, 0, 0, 0, 0, to]);
        frame[59] = last;
        frame
    }

    #[test]
    fn the_destination_says_where_a_balanced_frame_leaves() {
        let ports = BTreeMap::from([(HOST, 4)]);
        let came = frame(9, 0);
        let verdict = |action, reason, bytes: Vec<u8>| Verdict { action, reason, bytes };
        let of = |verdict: &Verdict| by_xdp(verdict, (7, &came), &ports);
        let balanced = verdict(Action::Pass, Reason::ToBackendSwitch, frame(1, 0));
        assert_eq!(of(&balanced), Fate::Left(4, frame(1, 0)));
        assert_eq!(of(&verdict(Action::Pass, Reason::NotOurs, came.clone())), Fate::Untouched);
        assert_eq!(of(&verdict(Action::Drop, Reason::NoBackend, came.clone())), Fate::Ended);
        assert_eq!(
            of(&verdict(Action::Transmit, Reason::NoBackend, frame(3, 3))),
            Fate::Left(7, frame(3, 3))
        );
    }

    #[test]
    fn what_the_switch_carries_may_go_anywhere_but_not_change() {
        let came = frame(9, 0);
        let left = |out| Left { asked: true, out };
        for out in [vec![], vec![(1, came.clone())], vec![(1, came.clone()), (2, came.clone())]] {
            assert_eq!(by_entries(&left(out), &came, true), Fate::Untouched);
        }
        let changed = left(vec![(1, frame(9, 1))]);
        assert_eq!(by_entries(&changed, &came, true), Fate::Left(1, frame(9, 1)));
        assert_eq!(by_entries(&left(vec![]), &came, false), Fate::Ended);
    }

    #[test]
    fn differences_are_named() {
        let left = |port, to, last| Fate::Left(port, frame(to, last));
        assert_eq!(difference(&left(1, 1, 0), &left(1, 1, 0)), None);
        assert_eq!(difference(&left(1, 1, 0), &left(2, 2, 0)), Some(Kind::Backend));
        assert_eq!(difference(&left(1, 1, 0), &left(2, 1, 0)), Some(Kind::Backend));
        assert_eq!(difference(&left(1, 1, 0), &left(1, 1, 5)), Some(Kind::Bytes));
        assert_eq!(difference(&left(1, 1, 0), &Fate::Ended), Some(Kind::Fate));
        assert_eq!(first_difference(&frame(1, 0), &frame(1, 5)), Some(59));
        assert_eq!(first_difference(&[1, 2], &[1, 2, 3]), Some(2));
        assert_eq!(first_difference(&[1], &[1]), None);
    }
}
