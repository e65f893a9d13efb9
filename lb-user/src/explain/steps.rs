//! From the questions of the core to sentences.

use std::net::{IpAddr, SocketAddr};

use lb_core::conn::state_name;
use lb_core::host::records::ip;
use lb_core::model::{Asked, Model};
use lb_core::reason::{Class, Reason};
use lb_core::table::{
    ConnKey, ConnValue, ServiceKey, VipTarget, backend_state, ms_from_ticks, selection, ticks_since,
};

use super::Candidate;
use super::names::Names;

/// What the core asked, in words.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trace {
    /// The steps.
    pub steps: Vec<String>,
    /// The VIP that was counted for.
    pub vip: Option<String>,
    /// The backend that was counted for.
    pub backend: Option<String>,
    /// Why that backend.
    pub why: Option<String>,
    /// Who may be picked, if that is not determined.
    pub candidates: Vec<Candidate>,
}

/// What became of packets that end with a reason.
pub const fn verdict(reason: Reason) -> &'static str {
    match reason.class() {
        Class::Forwarded => "forwarded",
        Class::Answered => "answered",
        Class::Passed => "passed",
        Class::Dropped => "dropped",
    }
}

impl Trace {
    /// Reads the questions in their order.
    pub fn of(model: &Model, names: &Names, asked: Vec<Asked>) -> Self {
        let mut trace = Self::default();
        let mut reader = Reader { model, names, connection: None, picked_for: None, chance: None };
        for question in asked {
            if let Some(step) = reader.step(&question, &mut trace)
                && trace.steps.last() != Some(&step)
            {
                trace.steps.push(step);
            }
        }
        if trace.backend.is_some() {
            trace.why = Some(reader.why());
            trace.candidates = reader.candidates();
        }
        trace
    }
}

struct Reader<'a> {
    model: &'a Model,
    names: &'a Names,
    /// The connection found last.
    connection: Option<ConnValue>,
    /// The VIP whose selection was asked.
    picked_for: Option<u16>,
    chance: Option<Chance>,
}

/// What a pick depends on beside the packet.
enum Chance {
    Random,
    Ticket(u32),
}

impl Reader<'_> {
    fn step(&mut self, asked: &Asked, trace: &mut Trace) -> Option<String> {
        match *asked {
            Asked::Random => {
                self.chance = Some(Chance::Random);
                Some("a random number is drawn".to_owned())
            }
            Asked::Ticket(vip, ticket) => {
                self.chance = Some(Chance::Ticket(ticket));
                Some(format!("ticket {ticket} of VIP {}, for whoever connects next", self.names.vip(vip)))
            }
            Asked::Target(key, target) => Some(self.target(&key, target)),
            Asked::Service(key, found) => {
                let service = service(&key);
                let answer = if found { "answers for VIPs" } else { "answers for no VIP" };
                Some(format!("{service}, as a backend's service, {answer}"))
            }
            Asked::Backend(id) => {
                let record = self.model.backends.get(&id)?;
                let state = match record.state {
                    backend_state::UP => "up",
                    backend_state::DOWN => "down",
                    backend_state::DRAINING => "draining",
                    backend_state::DISABLED => "disabled",
                    _ => "absent",
                };
                Some(format!("backend {} is {state}", self.names.backend(id)))
            }
            Asked::Conn(key, value) => {
                self.connection = value;
                Some(self.connection(&key, value))
            }
            Asked::Insert(_, value, made) => Some(if made {
                format!("a connection is made, in state {}", state_name(value.state))
            } else {
                "no connection could be made".to_owned()
            }),
            Asked::Selection(vip) => {
                self.picked_for = Some(vip);
                let count = self.model.selections.get(&vip).map_or(0, |table| table.member_count);
                let (name, selection) = (self.names.vip(vip), self.names.selection(vip));
                Some(format!("a backend is picked for VIP {name}: {selection}, {count} in rotation"))
            }
            Asked::CountVip(vip) => {
                trace.vip = (vip != 0).then(|| self.names.vip(vip));
                None
            }
            Asked::CountBackend(backend) => {
                trace.backend = (backend != 0).then(|| self.names.backend(backend));
                None
            }
        }
    }

    fn target(&self, key: &ServiceKey, target: VipTarget) -> String {
        let service = service(key);
        match target.vip() {
            0 => format!("no VIP serves {service}"),
            vip if key.service == 0 => format!("{service} is an address of VIP {}", self.names.vip(vip)),
            vip => format!("VIP {} serves {service}", self.names.vip(vip)),
        }
    }

    fn connection(&self, key: &ConnKey, value: Option<ConnValue>) -> String {
        let client = SocketAddr::new(ip(key.client), u16::from_be(key.client_port()));
        let port = u16::from_be(key.vip_port());
        let flow = format!("{client} to port {port} of VIP {}", self.names.vip(key.vip()));
        let Some(value) = value else { return format!("no connection of {flow}") };
        let idle = ms_from_ticks(ticks_since(self.model.inputs.get().now, value.last_seen));
        format!(
            "the connection of {flow}: {}, last packet {}.{:03} s ago, backend {}",
            state_name(value.state),
            idle / 1000,
            idle % 1000,
            self.names.backend(value.backend),
        )
    }

    fn why(&self) -> String {
        let Some(vip) = self.picked_for else { return "its connection has this backend".to_owned() };
        let again =
            if self.connection.is_some() { "; its old connection does not count any more" } else { "" };
        let how = match self.chance {
            Some(Chance::Random) => "chance among those in rotation, by weight".to_owned(),
            Some(Chance::Ticket(ticket)) => {
                format!("its turn with ticket {ticket}; another connection may take it first")
            }
            None => format!("the hash of the flow ({})", self.names.selection(vip)),
        };
        format!("{how}{again}")
    }

    /// Who else may be picked. Empty if the packet alone decides.
    fn candidates(&self) -> Vec<Candidate> {
        let (Some(vip), Some(_)) = (self.picked_for, &self.chance) else { return Vec::new() };
        let Some(table) = self.model.selections.get(&vip) else { return Vec::new() };
        let least = self.model.vips.get(&vip).is_some_and(|v| v.selection == selection::LEAST_CONNECTIONS);
        let ring = table.ring.get(..table.ring_len as usize).unwrap_or_default();
        let members = table.members.get(..table.member_count as usize).unwrap_or_default();
        members
            .iter()
            .map(|id| Candidate {
                backend: self.names.backend(*id),
                // What least connections makes of its two candidates depends on their loads then.
                percent: if least || ring.is_empty() {
                    100.0 / members.len() as f64
                } else {
                    ring.iter().filter(|slot| *slot == id).count() as f64 * 100.0 / ring.len() as f64
                },
            })
            .collect()
    }
}

/// `10.0.1.1:80/tcp`, `10.0.1.1/tcp` for every port, or the address.
fn service(key: &ServiceKey) -> String {
    let address: IpAddr = ip(key.address);
    let port = u16::from_be(key.service as u16);
    let protocol = match (key.service >> 16) as u8 {
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        0 => return address.to_string(),
        other => format!("protocol {other}"),
    };
    match port {
        0 => format!("every port of {address}/{protocol}"),
        port => format!("{}/{protocol}", SocketAddr::new(address, port)),
    }
}
