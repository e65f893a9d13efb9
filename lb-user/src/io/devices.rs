//! What the devices counted: packets in, and what was lost after the program's verdict.

use std::collections::BTreeMap;
use std::io;

use serde::{Deserialize, Serialize};

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
        }
    }
}

/// The counters of every device of a namespace, by name.
///
/// # Errors
/// The namespace cannot be entered, or proc is not mounted.
pub fn counters(ns: &NetNs) -> Result<BTreeMap<String, DeviceCounters>, NetNsError> {
    let place = || ns.path().display().to_string();
    let text = run_in(ns, || std::fs::read_to_string("/proc/thread-self/net/dev"))?;
    let text = text.map_err(|source: io::Error| NetNsError::Io {
        action: "read the device counters of",
        place: place(),
        source,
    })?;
    Ok(text.lines().filter_map(parse).collect())
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
    Some((name.trim().to_owned(), DeviceCounters { received, receive_dropped, transmit_dropped, errors }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_proc_net_dev() {
        let line = "  eth0: 100 7 1 2 0 0 0 0 200 9 3 4 0 0 0 0";
        let counters = DeviceCounters { received: 7, receive_dropped: 2, transmit_dropped: 4, errors: 4 };
        assert_eq!(parse(line), Some(("eth0".to_owned(), counters)));
        assert_eq!(parse("Inter-|   Receive  |  Transmit"), None);
        assert_eq!(counters.plus(counters).since(counters), counters);
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
