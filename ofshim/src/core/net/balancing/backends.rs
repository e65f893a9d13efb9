//! What the balancer wants to know of backends: questions are put, and answers heard.

use std::collections::BTreeSet;
use std::time::Duration;

use lb_core::host::health::{Destination, Station as Watched};
use openflow::{Action, BufferId, DatapathId, PacketOut, PortNo};

use crate::core::balance::Balancer;
use crate::core::balance::probe::{PROBER, question, says_where};
use crate::core::net::stages::{Context, MAX_OUTPUTS};
use crate::core::net::{Network, Out};
use crate::core::topo::{Place, PortRole};

/// How long switches have to confirm that all that they sent was read.
const PROOF_PATIENCE: Duration = Duration::from_millis(500);
/// Tokens of barriers that prove what was read are from here on.
const FIRST_PROOF: u64 = 1 << 63;

impl Network {
    /// When the balancer has something to do.
    #[must_use]
    pub fn next_wake(&self) -> Option<Duration> {
        let balancer = self.balancer.as_ref().and_then(Balancer::next_wake);
        balancer.into_iter().chain(self.watching.next_wake()).min()
    }

    /// Wakes the balancer. Where somebody is about to be taken for dead, the switches first confirm that all that they
    /// sent was read: what waits in a socket is no missed answer.
    pub(super) fn balance_wake(&mut self) {
        let now = self.now;
        let Some(balancer) = &mut self.balancer else { return };
        let judges = balancer.is_about_to_judge(now);
        let drained = if judges { self.balancing.drained } else { now };
        balancer.wake(drained, now);
        let waits = self
            .balancing
            .proof
            .as_ref()
            .is_some_and(|(since, _)| now.saturating_sub(*since) < PROOF_PATIENCE);
        if judges && !waits {
            self.ask_for_proof();
        }
        self.balance_follow();
    }

    fn ask_for_proof(&mut self) {
        let members: BTreeSet<DatapathId> = self.members.keys().copied().collect();
        self.balancing.tokens.clear();
        for dpid in &members {
            self.balancing.last_token += 1;
            let token = FIRST_PROOF | self.balancing.last_token;
            self.balancing.tokens.insert(token, *dpid);
            self.out.push(Out::Barrier { dpid: *dpid, token });
        }
        self.balancing.proof = Some((self.now, members));
        self.check_proof();
    }

    /// A switch confirmed; whether that was about what was read.
    pub(in crate::core::net) fn proved(&mut self, token: u64, now: Duration) -> bool {
        if token & FIRST_PROOF == 0 {
            return false;
        }
        if let Some(dpid) = self.balancing.tokens.remove(&token)
            && let Some((_, waits)) = &mut self.balancing.proof
        {
            waits.remove(&dpid);
            self.now = now;
            self.check_proof();
        }
        true
    }

    pub(super) fn check_proof(&mut self) {
        let Some((since, waits)) = &self.balancing.proof else { return };
        if waits.is_empty() {
            let (drained, now) = (*since, self.now);
            self.balancing.proof = None;
            self.balancing.drained = drained;
            if let Some(balancer) = &mut self.balancer {
                balancer.wake(drained, now);
            }
            self.balance_follow();
        }
    }

    /// Asks what the balancer wants asked, and does what follows from what it found out.
    pub(in crate::core::net) fn balance_follow(&mut self) {
        let now = self.now;
        loop {
            let Some(balancer) = &mut self.balancer else { return };
            let questions = balancer.take_questions();
            if questions.is_empty() {
                break;
            }
            for (backend, to) in questions {
                let sent = self.put_question(backend, to);
                if let Some(balancer) = &mut self.balancer {
                    balancer.asked(backend, sent, now);
                }
            }
        }
        let Some(balancer) = &mut self.balancer else { return };
        let (replanned, lines) = balancer.follow();
        if let Some(replanned) = replanned {
            self.know_backends();
            self.replanned(&replanned);
        }
        for (level, text) in lines {
            self.log(level, text);
        }
    }

    /// Asks for a backend: where it is known to be, else at every port that may have hosts. Whether anybody was asked.
    fn put_question(&mut self, backend: Watched, to: Destination) -> bool {
        let frame = question(backend, to);
        if let Destination::Unicast(neighbour) = to {
            let place = self.balancer.as_ref().and_then(|balancer| balancer.place(neighbour.interface));
            let Some(place) = place.filter(|place| self.is_usable(*place)) else { return false };
            self.deliver(place, frame);
            return true;
        }
        self.ask_everywhere(&frame)
    }

    /// Sends a question out of every port that may have hosts; whether there is any.
    pub(in crate::core::net) fn ask_everywhere(&mut self, frame: &[u8]) -> bool {
        let dpids: Vec<DatapathId> = self.members.keys().copied().collect();
        let mut asked = false;
        for dpid in dpids {
            let Some(member) = self.members.get(&dpid) else { continue };
            let ports: Vec<PortNo> = member
                .ports
                .iter()
                .filter(|(port, state)| state.up && self.may_have_hosts(Place::new(dpid, **port)))
                .map(|(port, _)| *port)
                .collect();
            for ports in ports.chunks(MAX_OUTPUTS) {
                asked = true;
                let actions = ports.iter().map(|port| Action::output(*port)).collect();
                let (buffer_id, in_port) = (BufferId::NO_BUFFER, PortNo::CONTROLLER);
                let packet = PacketOut { buffer_id, in_port, actions, data: frame.to_vec() };
                self.out.push(Out::PacketOut { dpid, packet });
            }
        }
        asked
    }

    /// Whether hosts may be behind a port: no link is, or foreign switches are.
    fn may_have_hosts(&self, place: Place) -> bool {
        let edge = self.role(place) == PortRole::Edge && self.is_settled(place);
        !place.port.is_reserved() && (edge || self.topology.is_segment(place))
    }

    /// Something said where it is, or is a question of ours that came back; whether it ends here.
    pub(in crate::core::net) fn hear_backend(&mut self, context: &Context<'_>) -> bool {
        let frame = context.frame;
        let Some(balancer) = &mut self.balancer else { return false };
        if frame.src == PROBER {
            return true;
        }
        let mut ends = frame.dst == PROBER;
        if let Some((address, mac)) = says_where(&frame) {
            ends |= balancer.heard(address, mac, context.at, self.now) && frame.arp.is_none();
        }
        ends
    }
}
