//! `lb explain`: what would happen to a packet, and why.
//!
//! The decision core itself runs, on the host's model of the tables, which is filled from the maps of the running
//! balancer or from another configuration. The steps are the questions that the core asked; nothing is decided here.

pub mod frame;
mod names;
mod steps;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use anyhow::Context;
use lb_core::host::config::{Config, PlacementKind, Protocol, VipKey};
use lb_core::host::health::{FULL_SHARE, Neighbour, State};
use lb_core::host::ids::{BackendKey, Id, Ids};
use lb_core::host::plan::{HealthView, Plan, Seen};
use lb_core::host::records;
use lb_core::model::Model;
use lb_core::packet::HostPacket;
use lb_core::table::{PortRecord, TestInputs, mode};
use lb_core::{Outcome, Tables, process_all};
use serde::Serialize;

use crate::api;
use crate::cli::ExplainArgs;
use crate::client;
use crate::daemon::{hosts, tables};
use crate::dataplane::{self, Pins};
use crate::failure::Failure;
use crate::io::clock;
use crate::io::facts::{self, Facts};
use crate::io::mac::Mac;
use crate::pcap;

use self::frame::Flow;
use self::names::Names;

/// Room for the connections that explained packets open.
const CONNECTIONS: usize = 4096;
/// Bytes of the longest IP packet with its Ethernet header and VLAN tags.
const LONGEST_FRAME: u32 = 65_557;
/// Bytes of a file with captured frames.
const LARGEST_FILE: u64 = 256 << 20;

/// What would happen to packets.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// `live`, or the configuration file that was asked about.
    pub tables: String,
    /// What was assumed.
    pub notes: Vec<String>,
    /// The packets, each on the tables as the one before it left them.
    pub packets: Vec<Explained>,
}

/// What would happen to a packet.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explained {
    /// `request`, `answer`, or `frame N` of a file.
    pub what: String,
    /// The interface that it comes in on.
    pub interface: String,
    /// What it holds.
    pub before: String,
    /// What the decision rests on, in order.
    pub steps: Vec<String>,
    /// `forwarded`, `answered`, `passed` or `dropped`.
    pub verdict: String,
    /// The reason, as the counters name it.
    pub reason: String,
    /// The VIP that it is for or from.
    pub vip: Option<String>,
    /// The backend.
    pub backend: Option<String>,
    /// Why that backend.
    pub why: Option<String>,
    /// False where another packet like this one may end elsewhere: then `candidates` names where.
    pub determined: bool,
    /// Who may be picked, if that is not determined.
    pub candidates: Vec<Candidate>,
    /// How it leaves.
    pub leaves: String,
    /// What it holds then; the same as before if it passes.
    pub after: Option<String>,
    /// Its bytes then, in hexadecimal.
    pub bytes: Option<String>,
}

/// A backend that may be picked.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Candidate {
    /// The backend.
    pub backend: String,
    /// Its share of new connections, in percent.
    pub percent: f64,
}

/// Everything an explanation rests on.
struct Ground {
    model: Model,
    names: Names,
    facts: Option<Facts>,
    ingress: Option<u32>,
    notes: Vec<String>,
}

/// Explains. Needs a tokio runtime around it, and root to read the maps.
///
/// # Errors
/// No daemon, a file that cannot be read, or an address that is none of the VIPs'.
pub async fn run(run_dir: &Path, pin_dir: &Path, arguments: &ExplainArgs) -> Result<Explanation, Failure> {
    let status = client::status(run_dir).await.map_err(Failure::from)?;
    let frames = match &arguments.pcap {
        Some(file) => captured(file)?,
        None => Vec::new(),
    };
    let addresses: Vec<IpAddr> = match arguments.pair() {
        Some((client, _)) => vec![client.ip()],
        None => frames.iter().flat_map(|bytes| addresses_in(bytes)).collect(),
    };
    let addresses: std::collections::BTreeSet<_> = addresses.into_iter().map(records::address).collect();
    let live = dataplane::read_model(&Pins::new(pin_dir), |key| addresses.contains(&key.client))?;
    let mut notes = Vec::new();
    let facts = facts::gather().await;
    let (model, names, tables) = match &arguments.with {
        None => (live, Names::of_status(&status), "live".to_owned()),
        Some(file) => {
            let (model, plan) = other_tables(file, &live, &status, &facts, &mut notes)?;
            (model, Names::of_plan(&plan, &status), file.display().to_string())
        }
    };
    model.inputs.set(TestInputs { now: clock::ticks(), random: 0 });
    let ingress = match &arguments.interface {
        Some(name) => Some(names.ifindex(name)?),
        None => None,
    };
    let mut ground = Ground { model, names, facts: facts.ok(), ingress, notes };
    ground.model.remember_questions();
    let packets = match arguments.pair() {
        Some((client, vip)) => ground.pair(client, vip, arguments.is_tcp())?,
        None => ground.file(frames),
    };
    Ok(Explanation { tables, notes: ground.notes, packets })
}

fn captured(file: &Path) -> Result<Vec<Vec<u8>>, Failure> {
    let wrong = |why: &dyn std::fmt::Display| Failure::wrong(format!("--pcap {}: {why}", file.display()));
    let size = std::fs::metadata(file).map_err(|error| wrong(&format!("cannot be read: {error}")))?.len();
    if size > LARGEST_FILE {
        return Err(wrong(&format!("is larger than {} MiB; cut it with editcap -c", LARGEST_FILE >> 20)));
    }
    let bytes = std::fs::read(file).map_err(|error| wrong(&format!("cannot be read: {error}")))?;
    let frames = pcap::read(&bytes).map_err(|why| wrong(&why))?;
    // What was cut off does not matter for the decision, how long it was does.
    let whole = |mut frame: pcap::Frame| {
        let length = frame.bytes.len().max(frame.length.min(LONGEST_FRAME) as usize);
        frame.bytes.resize(length, 0);
        frame.bytes
    };
    Ok(frames.into_iter().map(whole).collect())
}

fn addresses_in(frame: &[u8]) -> Vec<IpAddr> {
    let ip = frame::layout(frame).and_then(|layout| layout.ip);
    ip.map_or_else(Vec::new, |ip| vec![ip.addresses.0, ip.addresses.1])
}

/// The tables that another configuration would make, with the health, ids and connections of the running balancer.
fn other_tables(
    file: &Path,
    live: &Model,
    status: &api::Status,
    facts: &Result<facts::Facts, facts::GatherError>,
    notes: &mut Vec<String>,
) -> Result<(Model, Plan), Failure> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::wrong(format!("--with {}: cannot be read: {error}", file.display())))?;
    let mut config = Config::from_toml(&text, &file.display().to_string())
        .map_err(|error| Failure::wrong(error.to_string()))?;
    match facts {
        Ok(facts) => hosts::resolve(&mut config, facts)
            .map_err(|why| Failure::wrong(format!("{}: {why}", file.display())))?,
        Err(error) => notes.push(format!("the hosts are not known: {error}")),
    }
    let mut ids = Ids::default();
    let (mut health, mut hosts) = (HealthView::new(), BTreeMap::new());
    for vip in &status.vips {
        let protocol = if vip.protocol == "udp" { Protocol::Udp } else { Protocol::Tcp };
        let ports =
            vip.ports.parse().map_err(|_| Failure::wrong(format!("the daemon says ports {}", vip.ports)))?;
        let key = VipKey { address: vip.address, prefix_len: vip.prefix_len, ports, protocol };
        ids.adopt_vip(key, Id { id: vip.id, generation: 0 });
        for backend in &vip.backends {
            let port = backend.port.or(vip.port).unwrap_or(0);
            let generation = live.backends.get(&backend.id).map_or(0, |record| record.generation);
            let mac = backend.mac.as_ref().filter(|_| backend.told_by_mac).and_then(|mac| mac.parse().ok());
            let owner = BackendKey { vip: key, address: backend.address, port, mac };
            ids.adopt_backend(owner, Id { id: backend.id, generation });
            let seen = seen(backend, status, &live.ports);
            health.insert(owner, seen);
            hosts.insert(backend.address, seen);
        }
    }
    for (key, address) in backends_of(&config) {
        let host = *hosts.entry(address).or_insert_with(|| {
            notes.push(format!("backend {address} is new: taken for up, its MAC and port are not known"));
            Seen { state: State::Up, neighbour: None, share: FULL_SHARE }
        });
        health.entry(key).or_insert(host);
    }
    let plan = Plan::from_config(&config, &mut ids, &health, None)
        .map_err(|error| Failure::wrong(format!("{}: {error}", file.display())))?;
    let onearm = config.placement.kind == PlacementKind::OneArm;
    let settings = tables::settings(&config.connections, &plan);
    let connections = live.connections();
    let model = records::model(settings, onearm, &live.ports, &plan, connections.len() + CONNECTIONS);
    for (key, value) in connections {
        model.conn_insert(&key, &value);
    }
    for (key, value) in live.half_open_connections() {
        model.half_open_insert(&key, &value);
    }
    for (key, value) in live.snats() {
        model.snat_insert(&key, &value, false, true);
    }
    model.loads.replace(live.loads.borrow().clone());
    Ok((model, plan))
}

/// What the daemon knows about a backend's health.
fn seen(backend: &api::Backend, status: &api::Status, ports: &BTreeMap<u16, PortRecord>) -> Seen {
    let state = match backend.state.as_str() {
        "up" => State::Up,
        "down" => State::Down,
        "draining" => State::Draining,
        "disabled" => State::Disabled,
        _ => State::Probing,
    };
    let ifindex = backend
        .interface
        .as_ref()
        .and_then(|name| status.interfaces.iter().find(|i| i.name == *name))
        .map(|interface| interface.ifindex);
    let slot = ifindex.and_then(|ifindex| ports.iter().find(|(_, port)| port.ifindex == ifindex));
    let mac = backend.mac.as_ref().and_then(|mac| mac.parse::<Mac>().ok());
    let neighbour = mac.zip(slot).map(|(mac, (slot, _))| Neighbour {
        mac: lb_core::host::addr::MacAddr(mac.0),
        interface: u32::from(*slot),
    });
    Seen { state, neighbour, share: (backend.share_pct * FULL_SHARE / 100).clamp(1, FULL_SHARE) }
}

/// Every backend of a configuration, with its address.
fn backends_of(config: &Config) -> impl Iterator<Item = (BackendKey, IpAddr)> + '_ {
    config
        .vips
        .iter()
        .flat_map(|vip| vip.backends.iter().map(|backend| (BackendKey::of(vip, backend), backend.address)))
}

impl Ground {
    /// The first packet of a client to a VIP, and the answer to it.
    fn pair(&mut self, client: SocketAddr, vip: SocketAddr, tcp: bool) -> Result<Vec<Explained>, Failure> {
        if client.is_ipv4() != vip.is_ipv4() {
            return Err(Failure::wrong(format!("{client} and {vip} are of different families")));
        }
        let (client_mac, ingress) = self.place_of(client.ip());
        let vip_mac = self.names.vip_mac(vip.ip()).or_else(|| self.host_of(vip.ip()).map(|(mac, _)| mac));
        let destination = vip_mac.unwrap_or_else(|| {
            self.notes
                .push(format!("{vip} is no VIP's and no host's address: sent to a MAC that is nobody's"));
            Mac([2, 0, 0, 0, 0, 0xfe])
        });
        let flow = Flow {
            macs: (client_mac.0, destination.0),
            source: client,
            destination: vip,
            tcp,
            flags: frame::SYN,
        };
        let bytes = flow.frame().context("addresses of two families")?;
        let (request, out) = self.explain("request".to_owned(), bytes, ingress);
        let backend = self.backend_of(&request);
        let mut packets = vec![request];
        if let Some((ifindex, translates)) = backend {
            if translates {
                let answer = out.as_deref().and_then(frame::answer).and_then(|flow| flow.frame());
                packets.extend(answer.map(|bytes| self.explain("answer".to_owned(), bytes, ifindex).0));
            } else {
                self.notes.push("the backend answers the client itself: the answer is not seen".to_owned());
            }
        }
        Ok(packets)
    }

    fn file(&mut self, frames: Vec<Vec<u8>>) -> Vec<Explained> {
        let mut packets = Vec::new();
        for (number, bytes) in (1..).zip(frames) {
            let source = frame::layout(&bytes);
            let ingress = match self.ingress {
                Some(ingress) => ingress,
                None => source
                    .and_then(|layout| self.names.interface_of_mac(Mac(layout.macs.0)))
                    .or_else(|| source?.ip.and_then(|ip| self.host_of(ip.addresses.0)).map(|(_, at)| at))
                    .filter(|ifindex| self.names.has_interface(*ifindex))
                    .unwrap_or_else(|| self.names.first_interface()),
            };
            packets.push(self.explain(format!("frame {number}"), bytes, ingress).0);
        }
        packets
    }

    /// Lets the core decide on a frame, and says what it did; with the frame as it leaves.
    fn explain(&self, what: String, mut bytes: Vec<u8>, ifindex: u32) -> (Explained, Option<Vec<u8>>) {
        let before = frame::summary(&bytes);
        self.model.take_questions();
        let (outcome, reason) = process_all(&mut HostPacket::new(&mut bytes, ifindex), &self.model);
        let trace = steps::Trace::of(&self.model, &self.names, self.model.take_questions());
        let changed = matches!(outcome, Outcome::Forward(_));
        let explained = Explained {
            what,
            interface: self.names.interface(ifindex),
            before,
            verdict: steps::verdict(reason).to_owned(),
            reason: reason.name().to_owned(),
            leaves: self.names.leaving(&self.model, outcome, ifindex),
            after: changed.then(|| frame::summary(&bytes)),
            bytes: changed.then(|| bytes.iter().map(|byte| format!("{byte:02x}")).collect()),
            steps: trace.steps,
            vip: trace.vip,
            backend: trace.backend,
            why: trace.why,
            determined: trace.candidates.is_empty(),
            candidates: trace.candidates,
        };
        (explained, changed.then_some(bytes))
    }

    /// The port of the backend that a packet went to, and whether its answer comes back by the balancer.
    fn backend_of(&self, request: &Explained) -> Option<(u32, bool)> {
        let name = request.backend.as_ref()?;
        let id = self.names.backend_id(request.vip.as_ref()?, name)?;
        let record = self.model.backends.get(&id)?;
        let mode = self.model.vips.get(&record.vip)?.mode;
        let port = self.model.ports.get(&record.slot).map(|port| port.ifindex);
        let ifindex = port.unwrap_or_else(|| self.names.first_interface());
        Some((ifindex, matches!(mode, mode::NAT | mode::FULLNAT)))
    }

    /// The MAC of a client and the interface that its packets come in on, as far as that can be found out.
    fn place_of(&mut self, client: IpAddr) -> (Mac, u32) {
        let found = self.host_of(client);
        if found.is_none() {
            self.notes.push(format!("no host has {client}: its MAC is made up"));
        }
        let mac = found.map_or(Mac([2, 0, 0, 0, 0, 0xfd]), |(mac, _)| mac);
        let ingress = self.ingress.or_else(|| {
            let ifindex = found.map(|(_, ifindex)| ifindex);
            ifindex.filter(|ifindex| self.names.has_interface(*ifindex))
        });
        let ingress = ingress.unwrap_or_else(|| {
            let first = self.names.first_interface();
            let name = self.names.interface(first);
            self.notes.push(format!("taken to come in on {name}; --in names another interface"));
            first
        });
        (mac, ingress)
    }

    /// MAC of the host with an address, and the index of the port that leads to it. Of several networks' hosts with one
    /// address, one behind a port of the balancer.
    fn host_of(&self, address: IpAddr) -> Option<(Mac, u32)> {
        let facts = self.facts.as_ref()?;
        let links = facts.spaces.iter().flat_map(|space| &space.links);
        let hosts =
            links.filter(|link| link.has_address(address)).map(|link| Some((link.mac?, link.peer_ifindex?)));
        let hosts: Vec<_> = hosts.flatten().collect();
        let ours = hosts.iter().find(|(_, port)| self.names.has_interface(*port));
        ours.or(hosts.first()).copied()
    }
}
