//! What the devices counted: packets in, and what was lost after the program's verdict.

use std::collections::BTreeMap;
use std::io;

use serde::{Deserialize, Serialize};

use super::ethtool;
use super::netns::{NetNs, NetNsError, run_in};

/// Packets of one device or several, from when it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceCounters {
    /// Came in.
    pub received: u64,
    /// Came in and were dropped by the device or the stack behind it.
    pub receive_dropped: u64,
    /// Went out and were dropped on the way.
    pub transmit_dropped: u64,
    /// Came in or went out damaged.
    pub errors: u64,
    /// Came in and were given to redirection by XDP, with success.
    pub redirected: u64,
    /// Came by redirection to be sent, whether they were or not.
    pub redirects_taken: u64,
}

impl DeviceCounters {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            received: self.received + other.received,
            receive_dropped: self.receive_dropped + other.receive_dropped,
            transmit_dropped: self.transmit_dropped + other.transmit_dropped,
            errors: self.errors + other.errors,
            redirected: self.redirected + other.redirected,
            redirects_taken: self.redirects_taken + other.redirects_taken,
        }
    }

    /// What came since `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            received: self.received.saturating_sub(earlier.received),
            receive_dropped: self.receive_dropped.saturating_sub(earlier.receive_dropped),
            transmit_dropped: self.transmit_dropped.saturating_sub(earlier.transmit_dropped),
            errors: self.errors.saturating_sub(earlier.errors),
            redirected: self.redirected.saturating_sub(earlier.redirected),
            redirects_taken: self.redirects_taken.saturating_sub(earlier.redirects_taken),
        }
    }

    /// Takes what a veth driver says beyond what every device counts. Both ends count what the ring between them had no
    /// room for, the sender as not sent and the receiver as dropped, and the stack's drops (frames of protocols that
    /// nobody there speaks) look like the receiver's: the driver's own count has neither.
    fn refine(&mut self, statistics: &[(String, u64)]) {
        let sum = |prefix: &str, ends: &[&str]| -> u64 {
            let wanted = |name: &str| {
                let rest = name.strip_prefix(prefix).and_then(|rest| rest.split_once('_'));
                rest.is_some_and(|(queue, end)| queue.parse::<u32>().is_ok() && ends.contains(&end))
            };
            statistics.iter().filter(|(name, _)| wanted(name)).map(|(_, count)| count).sum()
        };
        self.receive_dropped = sum("rx_queue_", &["drops"]);
        self.redirected = sum("rx_queue_", &["xdp_redirect"]);
        self.redirects_taken = sum("tx_queue_", &["xdp_xmit", "xdp_xmit_errors"]);
    }
}

/// The counters of every device of a namespace, by name.
///
/// # Errors
/// The namespace cannot be entered, or proc is not mounted.
pub fn counters(ns: &NetNs) -> Result<BTreeMap<String, DeviceCounters>, NetNsError> {
    let text = run_in(ns, read)?.map_err(|source| unreadable(ns, source))?;
    Ok(text.lines().filter_map(parse).collect())
}

/// The counters of these devices of a namespace, by name, with what a veth driver knows beyond. One that does not exist
/// is left out.
///
/// # Errors
/// As [`counters`].
pub fn counters_of(ns: &NetNs, names: &[&str]) -> Result<BTreeMap<String, DeviceCounters>, NetNsError> {
    let found = run_in(ns, || {
        let mut found: BTreeMap<String, DeviceCounters> =
            read()?.lines().filter_map(parse).filter(|(name, _)| names.contains(&name.as_str())).collect();
        for (name, counters) in &mut found {
            // One that has just gone keeps what was read.
            if let Ok(Some(statistics)) = ethtool::veth_statistics_here(ns, name) {
                counters.refine(&statistics);
            }
        }
        Ok(found)
    })?;
    found.map_err(|source| unreadable(ns, source))
}

fn read() -> io::Result<String> {
    std::fs::read_to_string("/proc/thread-self/net/dev")
}

fn unreadable(ns: &NetNs, source: io::Error) -> NetNsError {
    let place = ns.path().display().to_string();
    NetNsError::Io { action: "read the device counters of", place, source }
}

/// A line of /proc/net/dev: `name: bytes packets errs drop fifo frame compressed multicast` and the same for sending,
/// with `colls carrier` in the places of `frame` and `multicast`.
fn parse(line: &str) -> Option<(String, DeviceCounters)> {
    let (name, numbers) = line.rsplit_once(':')?;
    let numbers: Vec<u64> = numbers.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [
        _,
        received,
        receive_errors,
        receive_dropped,
        _,
        _,
        _,
        _,
        _,
        _,
        transmit_errors,
        transmit_dropped,
        ..,
    ] = numbers[..]
    else {
        return None;
    };
    let errors = receive_errors + transmit_errors;
    let counters =
        DeviceCounters { received, receive_dropped, transmit_dropped, errors, ..DeviceCounters::default() };
    Some((name.trim().to_owned(), counters))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_proc_net_dev() {
        let line = "  eth0: 100 7 1 2 0 0 0 0 200 9 3 4 0 0 0 0";
        let none = DeviceCounters::default();
        let counters =
            DeviceCounters { received: 7, receive_dropped: 2, transmit_dropped: 4, errors: 4, ..none };
        assert_eq!(parse(line), Some(("eth0".to_owned(), counters)));
        assert_eq!(parse("Inter-|   Receive  |  Transmit"), None);
        assert_eq!(counters.plus(counters).since(counters), counters);
    }

    #[test]
    fn what_a_veth_says_of_its_queues_is_summed() {
        let mut counters =
            DeviceCounters { receive_dropped: 99, transmit_dropped: 4, ..DeviceCounters::default() };
        let statistics = [
            ("peer_ifindex", 2),
            ("rx_queue_0_drops", 3),
            ("rx_queue_0_xdp_drops", 1000),
            ("rx_queue_0_xdp_redirect", 20),
            ("rx_queue_11_drops", 4),
            ("rx_queue_11_xdp_redirect", 1),
            ("tx_queue_0_xdp_xmit", 15),
            ("tx_queue_0_xdp_xmit_errors", 2),
        ];
        counters.refine(&statistics.map(|(name, count)| (name.to_owned(), count)));
        let expected = DeviceCounters {
            receive_dropped: 7,
            transmit_dropped: 4,
            redirected: 21,
            redirects_taken: 17,
            ..DeviceCounters::default()
        };
        assert_eq!(counters, expected);
    }

    #[test]
    fn the_loopback_device_is_in_every_namespace() {
        let here = counters(&NetNs::current().expect("a namespace"));
        // Entering needs privilege, even one's own.
        if let Ok(here) = here {
            assert!(here.contains_key("lo"), "{here:?}");
        }
    }
}
