//! What is lost after the program's verdict, as the devices of the ports and of their other ends count it.
//!
//! Counted from when the daemon first saw each interface. Reading means to enter the namespace of every host, so it is
//! done when somebody asks, and not on the daemon's own thread.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::api::{DeviceLosses, InterfaceLosses, Losses, Stats};
use crate::io::devices::{self, DeviceCounters};
use crate::io::netns::{NetNs, NsId, NsRef};
use crate::server::{Denied, Reply};

use super::Daemon;
use super::place::{Other, Port};

/// An interface: its namespace, and its index there.
type Key = (NsId, u32);
type Counters = BTreeMap<Key, DeviceCounters>;

/// The losses, for whoever reads them.
pub type SharedLosses = Arc<Mutex<Tally>>;

/// A port with its other end.
#[derive(Clone, Debug)]
pub struct Ends {
    netns: Option<String>,
    port: Other,
    peer: Option<Other>,
}

impl From<&Port> for Ends {
    fn from(port: &Port) -> Self {
        let here = Other { name: port.name.clone(), ifindex: port.ifindex, ns: port.ns.clone() };
        Self { netns: port.ns_host.clone(), port: here, peer: port.peer.clone() }
    }
}

fn key(end: &Other) -> Key {
    (end.ns.id, end.ifindex)
}

/// What was counted so far.
#[derive(Debug, Default)]
pub struct Tally {
    /// Each interface when it was first seen.
    first: Counters,
    /// The same at the last look, with what it was: the other end of a port, or a port.
    last: BTreeMap<Key, (bool, DeviceCounters)>,
    /// The ports when their number last changed: between these and now every redirected frame is at one of them.
    settled: Counters,
    /// What interfaces that are gone had lost, and what was lost in redirection before the number changed.
    gone: Losses,
}

impl Tally {
    /// Looks at the devices; the losses in all, and by port.
    pub fn look(&mut self, ends: &[Ends]) -> (Losses, Vec<InterfaceLosses>) {
        let now = read(ends.iter().flat_map(|one| [Some(&one.port), one.peer.as_ref()]).flatten());
        // What was redirected then has arrived by now, so that frames on their way are no losses.
        let later = read(ends.iter().map(|one| &one.port));
        self.take(ends, &now, &later)
    }

    fn take(&mut self, ends: &[Ends], now: &Counters, later: &Counters) -> (Losses, Vec<InterfaceLosses>) {
        self.settle(ends, now);
        let mut losses = self.gone;
        let mut interfaces = Vec::new();
        for one in ends {
            let port = self.since_first(&one.port, now);
            let peer = one.peer.as_ref().map(|peer| self.since_first(peer, now)).unwrap_or_default();
            let mut of_one = DeviceLosses::default();
            add(&mut of_one, false, &port);
            add(&mut of_one, true, &peer);
            add(&mut losses.devices, false, &port);
            add(&mut losses.devices, true, &peer);
            interfaces.push(InterfaceLosses {
                name: one.port.name.clone(),
                netns: one.netns.clone(),
                peer: one.peer.as_ref().map(|peer| peer.name.clone()),
                devices: of_one,
            });
        }
        losses.redirect_dropped += vanished(&self.settled, now, later);
        (losses, interfaces)
    }

    fn since_first(&self, end: &Other, now: &Counters) -> DeviceCounters {
        let first = self.first.get(&key(end)).copied().unwrap_or_default();
        now.get(&key(end)).copied().unwrap_or(first).since(first)
    }

    /// Begins to count what is new, and keeps the count of what is gone.
    fn settle(&mut self, ends: &[Ends], now: &Counters) {
        let ports: Vec<Key> =
            ends.iter().map(|one| key(&one.port)).filter(|key| now.contains_key(key)).collect();
        let same =
            ports.len() == self.settled.len() && ports.iter().all(|key| self.settled.contains_key(key));
        if !same {
            let before: Counters = self.last.iter().map(|(key, (_, counters))| (*key, *counters)).collect();
            self.gone.redirect_dropped += vanished(&self.settled, &before, &before);
            self.settled = ports.iter().filter_map(|key| Some((*key, *now.get(key)?))).collect();
        }
        let Self { first, last, gone, .. } = self;
        last.retain(|key, (is_peer, counters)| {
            let stays = now.contains_key(key);
            if let Some(first) = first.get(key).filter(|_| !stays) {
                add(&mut gone.devices, *is_peer, &counters.since(*first));
            }
            stays
        });
        first.retain(|key, _| now.contains_key(key));
        for (end, is_peer) in
            ends.iter().flat_map(|one| [(Some(&one.port), false), (one.peer.as_ref(), true)])
        {
            let Some((key, counters)) = end.and_then(|end| Some((key(end), *now.get(&key(end))?))) else {
                continue;
            };
            first.entry(key).or_insert(counters);
            last.insert(key, (is_peer, counters));
        }
    }
}

/// The counters of these interfaces; of those that are there.
fn read<'a>(ends: impl Iterator<Item = &'a Other>) -> Counters {
    let mut by_ns: BTreeMap<&NsRef, Vec<&Other>> = BTreeMap::new();
    for end in ends {
        by_ns.entry(&end.ns).or_default().push(end);
    }
    let mut found = Counters::new();
    for (place, ends) in by_ns {
        let names: Vec<&str> = ends.iter().map(|end| end.name.as_str()).collect();
        // A host that has just ended counts nothing.
        let counters =
            NetNs::open(place).and_then(|ns| devices::counters_of(&ns, &names)).unwrap_or_default();
        found.extend(ends.iter().filter_map(|end| Some((key(end), *counters.get(&end.name)?))));
    }
    found
}

/// Frames that the ports gave to redirection and that none of them got.
fn vanished(first: &Counters, now: &Counters, later: &Counters) -> u64 {
    let sum = |then: &Counters, field: fn(&DeviceCounters) -> u64| -> u64 {
        first.iter().filter_map(|(key, first)| Some(field(&then.get(key)?.since(*first)))).sum()
    };
    sum(now, |counters| counters.redirected).saturating_sub(sum(later, |counters| counters.redirects_taken))
}

fn add(losses: &mut DeviceLosses, is_peer: bool, counters: &DeviceCounters) {
    let (transmit, receive) = if is_peer {
        (&mut losses.peer_transmit_dropped, &mut losses.peer_receive_dropped)
    } else {
        (&mut losses.transmit_dropped, &mut losses.receive_dropped)
    };
    *transmit += counters.transmit_dropped;
    *receive += counters.receive_dropped;
    losses.errors += counters.errors;
}

/// What was lost between two looks.
pub fn between(before: &Losses, after: &Losses) -> Losses {
    let (a, b) = (&before.devices, &after.devices);
    let since = |field: fn(&DeviceLosses) -> u64| field(b).saturating_sub(field(a));
    Losses {
        devices: DeviceLosses {
            transmit_dropped: since(|d| d.transmit_dropped),
            receive_dropped: since(|d| d.receive_dropped),
            peer_transmit_dropped: since(|d| d.peer_transmit_dropped),
            peer_receive_dropped: since(|d| d.peer_receive_dropped),
            errors: since(|d| d.errors),
        },
        redirect_dropped: after.redirect_dropped.saturating_sub(before.redirect_dropped),
    }
}

impl Daemon {
    /// Reads the losses, on any thread.
    pub(super) fn losses_reader(
        &self,
    ) -> impl FnOnce() -> (Losses, Vec<InterfaceLosses>) + Send + 'static + use<> {
        let ends: Vec<Ends> = self.placed.ports.iter().map(Ends::from).collect();
        let tally = Arc::clone(&self.losses);
        move || tally.lock().unwrap_or_else(PoisonError::into_inner).look(&ends)
    }

    /// Begins to count at the ports as they are now.
    pub(super) fn begin_losses(&self) {
        let look = self.losses_reader();
        tokio::task::spawn_blocking(look);
    }

    /// Answers with the counters, the devices' among them.
    pub(super) fn answer_stats(&self, reply: Reply<Stats>) {
        let (stats, look) = (self.stats(), self.losses_reader());
        tokio::task::spawn_blocking(move || {
            let whole = stats.map(|mut stats| {
                (stats.losses, stats.interfaces) = look();
                stats
            });
            reply.send(whole.map_err(Denied::from)).ok();
        });
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn end(name: &str, ino: u64, ifindex: u32) -> Other {
        let ns = NsRef { id: NsId { dev: 4, ino }, path: PathBuf::from("/run/netns/x") };
        Other { name: name.to_owned(), ifindex, ns }
    }

    fn ends(number: u32) -> Ends {
        let peer = end("eth0", u64::from(number), 2);
        Ends { netns: None, port: end(&format!("s1-eth{number}"), 0, number), peer: Some(peer) }
    }

    fn counted(redirected: u64, redirects_taken: u64, dropped: u64) -> DeviceCounters {
        let none = DeviceCounters::default();
        DeviceCounters { redirected, redirects_taken, receive_dropped: dropped, ..none }
    }

    fn port(number: u32) -> Key {
        (NsId { dev: 4, ino: 0 }, number)
    }

    fn peer(number: u64) -> Key {
        (NsId { dev: 4, ino: number }, 2)
    }

    #[test]
    fn losses_count_from_the_first_look_and_outlive_their_interface() {
        let mut tally = Tally::default();
        let both = [ends(1), ends(2)];
        let before = Counters::from([
            (port(1), counted(100, 40, 5)),
            (port(2), counted(40, 90, 0)),
            (peer(1), counted(0, 0, 1000)),
            (peer(2), counted(0, 0, 0)),
        ]);
        let (losses, interfaces) = tally.take(&both, &before, &before);
        assert_eq!((losses.total(), interfaces.len()), (0, 2), "nothing from before counts");

        let after = Counters::from([
            (port(1), counted(110, 40, 8)),
            (port(2), counted(40, 96, 0)),
            (peer(1), counted(0, 0, 1000)),
            (peer(2), counted(0, 0, 2)),
        ]);
        let (losses, interfaces) = tally.take(&both, &after, &after);
        assert_eq!((losses.devices.receive_dropped, losses.devices.peer_receive_dropped), (3, 2));
        assert_eq!((losses.redirect_dropped, losses.total()), (4, 9));
        assert_eq!((interfaces[0].devices.total(), interfaces[1].devices.total()), (3, 2));

        // What was still on its way arrives before the second reading.
        let mut later = after.clone();
        later.insert(port(2), counted(40, 99, 0));
        assert_eq!(tally.take(&both, &after, &later).0.redirect_dropped, 1);

        // A port goes, and its count stays; another comes, and begins at nothing.
        let two = [ends(1), ends(3)];
        let mut then = after.clone();
        then.remove(&port(2));
        then.remove(&peer(2));
        then.insert(port(3), counted(0, 700, 70));
        let (losses, interfaces) = tally.take(&two, &then, &then);
        assert_eq!((losses.redirect_dropped, losses.devices.peer_receive_dropped, losses.total()), (4, 2, 9));
        assert_eq!(interfaces[1].devices.total(), 0);
        then.insert(port(1), counted(120, 40, 8));
        then.insert(port(3), counted(0, 709, 71));
        assert_eq!(tally.take(&two, &then, &then).0.total(), 11);
    }

    #[test]
    fn only_what_came_between_is_told() {
        let some = |n| {
            let devices = DeviceLosses { transmit_dropped: n, errors: 2 * n, ..DeviceLosses::default() };
            Losses { devices, redirect_dropped: 3 * n }
        };
        assert_eq!(between(&some(1), &some(5)), some(4));
    }
}
