//! What VIPs, backends and interfaces are called.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use lb_core::host::plan::Plan;
use lb_core::model::Model;
use lb_core::{Egress, Outcome};

use crate::api::{Interface, Status};
use crate::failure::Failure;
use crate::io::mac::Mac;

/// The names of everything that an explanation mentions.
#[derive(Clone, Debug, Default)]
pub struct Names {
    vips: BTreeMap<u16, Vip>,
    /// Name by id, with the VIP's id.
    backends: BTreeMap<u16, (u16, String)>,
    interfaces: Vec<Interface>,
    /// Interface of each backend's MAC.
    macs: BTreeMap<Mac, u32>,
}

#[derive(Clone, Debug)]
struct Vip {
    name: String,
    address: IpAddr,
    mac: Option<Mac>,
    selection: String,
}

fn with_port(address: IpAddr, port: Option<u16>) -> String {
    port.map_or_else(|| address.to_string(), |port| SocketAddr::new(address, port).to_string())
}

impl Names {
    /// As the running balancer calls them.
    pub fn of_status(status: &Status) -> Self {
        let mut names = Self { interfaces: status.interfaces.clone(), ..Self::default() };
        for vip in &status.vips {
            let (name, selection) = (vip.name.clone(), vip.selection.clone());
            let mac = vip.mac.parse().ok();
            names.vips.insert(vip.id, Vip { name, address: vip.address, mac, selection });
            for backend in &vip.backends {
                names.backends.insert(backend.id, (vip.id, with_port(backend.address, backend.port)));
                let mac = backend.mac.as_ref().and_then(|mac| mac.parse().ok());
                let at = status.interfaces.iter().find(|i| Some(&i.name) == backend.interface.as_ref());
                names.macs.extend(mac.zip(at.map(|interface| interface.ifindex)));
            }
        }
        names
    }

    /// As another configuration calls them, on the interfaces of the running balancer.
    pub fn of_plan(plan: &Plan, status: &Status) -> Self {
        let Self { interfaces, macs, .. } = Self::of_status(status);
        let mut names = Self { interfaces, macs, ..Self::default() };
        for (id, vip) in &plan.vips {
            let selection = match serde_json::to_value(vip.selection) {
                Ok(serde_json::Value::String(word)) => word,
                _ => String::new(),
            };
            let mac = Some(Mac(vip.mac.0));
            let (name, address) = (vip.name.clone(), vip.key.address);
            names.vips.insert(*id, Vip { name, address, mac, selection });
        }
        for (id, backend) in &plan.backends {
            let name = with_port(backend.key.address, backend.translate_port);
            names.backends.insert(*id, (backend.vip, name));
        }
        names
    }

    /// A VIP's name.
    pub fn vip(&self, id: u16) -> String {
        self.vips.get(&id).map_or_else(|| format!("number {id}"), |vip| vip.name.clone())
    }

    /// A VIP's selection, as the configuration spells it.
    pub fn selection(&self, id: u16) -> &str {
        self.vips.get(&id).map_or("", |vip| &vip.selection)
    }

    /// The virtual MAC of the VIP with an address.
    pub fn vip_mac(&self, address: IpAddr) -> Option<Mac> {
        self.vips.values().find(|vip| vip.address == address)?.mac
    }

    /// A backend's name.
    pub fn backend(&self, id: u16) -> String {
        self.backends.get(&id).map_or_else(|| format!("number {id}"), |(_, name)| name.clone())
    }

    /// The id of a VIP's backend.
    pub fn backend_id(&self, vip: &str, name: &str) -> Option<u16> {
        let is = |(_, (of, its)): &(&u16, &(u16, String))| its == name && self.vip(*of) == vip;
        self.backends.iter().find(is).map(|(id, _)| *id)
    }

    /// An interface's name.
    pub fn interface(&self, ifindex: u32) -> String {
        let found = self.interfaces.iter().find(|interface| interface.ifindex == ifindex);
        found.map_or_else(|| format!("interface {ifindex}"), |interface| interface.name.clone())
    }

    /// Whether the balancer stands on an interface.
    pub fn has_interface(&self, ifindex: u32) -> bool {
        self.interfaces.iter().any(|interface| interface.ifindex == ifindex)
    }

    /// The index of an interface.
    ///
    /// # Errors
    /// The balancer does not stand on it.
    pub fn ifindex(&self, name: &str) -> Result<u32, Failure> {
        let found = self.interfaces.iter().find(|interface| interface.name == name);
        found.map(|interface| interface.ifindex).ok_or_else(|| {
            let known: Vec<&str> = self.interfaces.iter().map(|i| i.name.as_str()).collect();
            Failure::wrong(format!("--in {name}: the balancer is not on it; it is on {}", known.join(", ")))
        })
    }

    /// Any interface of the balancer, always the same; 0 where there is none.
    pub fn first_interface(&self) -> u32 {
        self.interfaces.first().map_or(0, |interface| interface.ifindex)
    }

    /// The interface behind which a backend has this MAC.
    pub fn interface_of_mac(&self, mac: Mac) -> Option<u32> {
        self.macs.get(&mac).copied()
    }

    /// How a packet leaves.
    pub fn leaving(&self, model: &Model, outcome: Outcome, ingress: u32) -> String {
        match outcome {
            Outcome::Pass => "goes on untouched to the switch".to_owned(),
            Outcome::Drop | Outcome::Next(_) => "ends here".to_owned(),
            Outcome::Forward(Egress::Switch) => "goes on, rewritten, through the switch".to_owned(),
            Outcome::Forward(Egress::Transmit) => format!("leaves by {} again", self.interface(ingress)),
            Outcome::Forward(Egress::Redirect(slot)) => {
                let ifindex = model.ports.get(&slot).map_or(0, |port| port.ifindex);
                format!("leaves by {}, redirected past the switch", self.interface(ifindex))
            }
        }
    }
}
