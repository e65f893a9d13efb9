//! What POX's balancer remembers of flows: which server has each, and which port its client is at.
//!
//! A flow is found by the client's tuple to the VIP and by the server's to the client. Both lead to one record with one
//! time of its end, which every packet that comes to the controller puts off. A record whose end has come is used until
//! the next sweep. New in this version is the bound: beyond it the record that would end first goes.

use std::collections::{BTreeSet, HashMap};
use std::net::Ipv4Addr;
use std::time::Duration;

use openflow::PortNo;

use super::segment::Tuple;
use crate::core::hash::Keyed;

/// How long a flow is remembered after its last packet at the controller.
pub const MEMORY: Duration = Duration::from_secs(300);
/// The most flows that are remembered.
pub const MAX_FLOWS: usize = 262_144;

/// What is remembered of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// The server that it was directed to.
    pub server: Ipv4Addr,
    /// The port that its client is at.
    pub client_port: PortNo,
}

#[derive(Clone, Copy, Debug)]
struct Flow {
    what: Remembered,
    until: Duration,
    /// The client's tuple, and the server's.
    keys: [Tuple; 2],
}

/// All flows.
#[derive(Debug, Default)]
pub struct Memory {
    flows: HashMap<u64, Flow, Keyed>,
    by_tuple: HashMap<Tuple, u64, Keyed>,
    by_end: BTreeSet<(Duration, u64)>,
    last: u64,
}

impl Memory {
    /// What is remembered of the flow that a packet with this tuple belongs to.
    #[must_use]
    pub fn get(&self, tuple: &Tuple) -> Option<Remembered> {
        let id = self.by_tuple.get(tuple)?;
        self.flows.get(id).map(|flow| flow.what)
    }

    /// Notes that a flow's client sent `tuple` to the VIP and got a server; whether another flow had to go.
    pub fn add(&mut self, tuple: Tuple, what: Remembered, now: Duration) -> bool {
        let full = self.flows.len() >= MAX_FLOWS;
        if full && let Some((_, id)) = self.by_end.first().copied() {
            self.remove(id);
        }
        self.last += 1;
        let keys = [tuple, Tuple { dst: what.server, ..tuple }.reversed()];
        let flow = Flow { what, until: now + MEMORY, keys };
        self.flows.insert(self.last, flow);
        self.by_end.insert((flow.until, self.last));
        for key in keys {
            self.by_tuple.insert(key, self.last);
        }
        full
    }

    /// Puts off the end of the flow that a packet with this tuple belongs to.
    pub fn refresh(&mut self, tuple: &Tuple, now: Duration) {
        let Some(id) = self.by_tuple.get(tuple).copied() else { return };
        let Some(flow) = self.flows.get_mut(&id) else { return };
        self.by_end.remove(&(flow.until, id));
        flow.until = now + MEMORY;
        self.by_end.insert((flow.until, id));
    }

    /// Forgets the flows whose end has passed; how many.
    pub fn sweep(&mut self, now: Duration) -> usize {
        let mut count = 0;
        while let Some((until, id)) = self.by_end.first().copied()
            && until < now
        {
            self.remove(id);
            count += 1;
        }
        count
    }

    /// How many flows are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.flows.len()
    }

    fn remove(&mut self, id: u64) {
        let Some(flow) = self.flows.remove(&id) else { return };
        self.by_end.remove(&(flow.until, id));
        // A tuple may belong to a later flow by now: its client was given another server.
        for key in flow.keys {
            if self.by_tuple.get(&key) == Some(&id) {
                self.by_tuple.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 3);
    const VIP: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 1);
    const SERVERS: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2)];

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn tuple(src_port: u16) -> Tuple {
        Tuple { src: CLIENT, src_port, dst: VIP, dst_port: 80 }
    }

    fn server(number: usize) -> Remembered {
        Remembered { server: SERVERS[number], client_port: PortNo(3) }
    }

    fn answer(number: usize, src_port: u16) -> Tuple {
        Tuple { src: SERVERS[number], src_port: 80, dst: CLIENT, dst_port: src_port }
    }

    #[test]
    fn both_directions_lead_to_one_record() {
        let mut memory = Memory::default();
        memory.add(tuple(1), server(0), at(0));
        assert_eq!(memory.get(&tuple(1)), Some(server(0)));
        assert_eq!(memory.get(&answer(0, 1)), Some(server(0)));
        assert_eq!((memory.get(&tuple(2)), memory.get(&answer(1, 1))), (None, None));
        memory.refresh(&answer(0, 1), at(200));
        assert_eq!(memory.sweep(at(500)), 0, "put off by the other direction");
        assert_eq!((memory.sweep(at(501)), memory.len()), (1, 0));
        assert_eq!(memory.get(&answer(0, 1)), None);
    }

    #[test]
    fn another_server_takes_over_and_the_old_record_s_end_does_not_touch_it() {
        let mut memory = Memory::default();
        memory.add(tuple(1), server(0), at(0));
        memory.add(tuple(1), server(1), at(100));
        assert_eq!(memory.get(&tuple(1)), Some(server(1)));
        assert_eq!(memory.get(&answer(0, 1)), Some(server(0)), "the old server's answers are still known");
        assert_eq!(memory.sweep(at(301)), 1);
        assert_eq!((memory.get(&tuple(1)), memory.get(&answer(0, 1))), (Some(server(1)), None));
    }

    #[test]
    fn is_bounded() {
        let mut memory = Memory::default();
        for number in 0..MAX_FLOWS as u64 + 10 {
            let src = Ipv4Addr::from_bits(0x0b00_0000 | number as u32);
            let full = memory.add(Tuple { src, ..tuple(1) }, server(0), Duration::from_millis(number));
            assert_eq!(full, number as usize >= MAX_FLOWS);
        }
        assert_eq!((memory.len(), memory.by_end.len()), (MAX_FLOWS, MAX_FLOWS));
        assert_eq!(memory.by_tuple.len(), 2 * MAX_FLOWS, "what went left nothing behind");
    }
}
