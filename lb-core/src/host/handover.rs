//! What one balancer tells another that takes its place, and what comes back: everything by which both choose alike.
//!
//! ```text
//!   lb (XDP) ---- handover: configuration, ids, health, connections ----> ofshim (flow entries)
//!            <--- handover: the connections, with those opened since ----
//! ```
//! Numbers (VIPs, backends, generations) are the giver's, so that an entry means the same on both sides.

use core::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::config::{Config, VipKey};
use super::ids::{BackendKey, Id, Ids};
use super::plan::{HealthView, Plan, Seen};
use super::records;
use crate::table::{ConnKey, ConnValue, Ticks, ms_from_ticks, ticks_from_ms, ticks_since};

/// A balancer's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handover {
    /// The configuration in force, run-time changes included.
    pub config: Config,
    /// The VIPs' ids.
    pub vips: Vec<(VipKey, Id)>,
    /// The backends' ids.
    pub backends: Vec<(BackendKey, Id)>,
    /// The backends' health.
    pub health: Vec<(BackendKey, Seen)>,
    /// The next round-robin ticket of each VIP, by the VIP's id.
    pub tickets: Vec<(u16, u32)>,
    /// The live connections.
    pub connections: Vec<Connection>,
}

/// Who balances for a daemon, as the daemon sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// Its programs, which are on all their interfaces.
    Xdp,
    /// Nobody: its programs were taken off, or could not be put on.
    Detached,
    /// The flow entries of a controller, as it was told.
    OpenFlow,
    /// It is moving from one to the other.
    Moving,
}

/// What a daemon tells whoever may have to balance in its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// Who balances.
    pub standing: Standing,
    /// Its state; the connections only if they were asked for.
    pub state: Handover,
}

/// A connection, without the clock of the one who tracked it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// The client.
    pub client: SocketAddr,
    /// The VIP's id.
    pub vip: u16,
    /// The port on the VIP's side, host byte order.
    pub vip_port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// The backend's id.
    pub backend: u16,
    /// The generation of that id.
    pub generation: u16,
    /// A constant of [`crate::conn::state`].
    pub state: u8,
    /// Flags of [`crate::conn::flag`].
    pub flags: u8,
    /// Milliseconds since its last packet.
    pub idle_ms: u64,
    /// The sequence number that the client's next byte will carry.
    pub client_next: u32,
    /// The sequence number that the backend's next byte will carry.
    pub backend_next: u32,
}

impl Connection {
    /// An entry of the connection table.
    #[must_use]
    pub fn of(key: &ConnKey, value: &ConnValue, now: Ticks) -> Self {
        Self {
            client: SocketAddr::new(records::ip(key.client), u16::from_be(key.client_port())),
            vip: key.vip(),
            vip_port: u16::from_be(key.vip_port()),
            protocol: key.protocol(),
            backend: value.backend,
            generation: value.generation,
            state: value.state,
            flags: value.flags,
            idle_ms: ms_from_ticks(ticks_since(now, value.last_seen)),
            client_next: value.client_next,
            backend_next: value.backend_next,
        }
    }

    /// The entry that stands for it in a table whose clock says `now`. Which port its client is behind is not known.
    #[must_use]
    pub fn entry(&self, now: Ticks) -> (ConnKey, ConnValue) {
        let key = ConnKey::new(
            records::address(self.client.ip()),
            self.client.port().to_be(),
            self.vip,
            self.vip_port.to_be(),
            self.protocol,
        );
        let value = ConnValue {
            backend: self.backend,
            generation: self.generation,
            state: self.state,
            flags: self.flags,
            last_seen: now.wrapping_sub(ticks_from_ms(self.idle_ms.min(MAX_IDLE_MS))),
            client_next: self.client_next,
            backend_next: self.backend_next,
            ..ConnValue::default()
        };
        (key, value)
    }
}

/// A clock of 32 bits goes back no further than this.
const MAX_IDLE_MS: u64 = 30 * 24 * 3600 * 1000;

impl Handover {
    /// The state of a balancer that works by `plan`; tickets and connections are to be filled in.
    #[must_use]
    pub fn of_plan(config: &Config, plan: &Plan) -> Self {
        let seen = |backend: &super::plan::BackendPlan| Seen {
            state: backend.state,
            neighbour: backend.neighbour,
            share: super::health::FULL_SHARE,
        };
        Self {
            config: config.clone(),
            vips: plan.vips.values().map(|vip| (vip.key, vip.id)).collect(),
            backends: plan.backends.values().map(|backend| (backend.key, backend.id)).collect(),
            health: plan.backends.values().map(|backend| (backend.key, seen(backend))).collect(),
            tickets: Vec::new(),
            connections: Vec::new(),
        }
    }

    /// Ids that are the giver's.
    #[must_use]
    pub fn ids(&self) -> Ids {
        let mut ids = Ids::default();
        for (key, id) in &self.vips {
            ids.adopt_vip(*key, *id);
        }
        for (key, id) in &self.backends {
            ids.adopt_backend(*key, *id);
        }
        ids
    }

    /// The health as a plan is made with.
    #[must_use]
    pub fn view(&self) -> HealthView {
        self.health.iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conn::state;

    const FILE: &str = "[health]\nprobe_address = \"10.0.0.250\"\n[[vip]]\naddress = \"10.0.1.1\"\nport = 80\ndeny = [\"10.9.0.0/16\"]\n\
                        [[vip.backend]]\naddress = \"10.0.0.1\"\nport = 8080\nweight = 3\n\
                        [vip.check]\ntype = \"http\"\npath = \"/\"\n\
                        [[vip]]\naddress = \"fd00:1::1\"\nport = \"1000-2000\"\nprotocol = \"udp\"\n\
                        selection = \"round-robin\"\n[[vip.backend]]\naddress = \"fd00::1\"\n";

    #[test]
    fn a_plan_made_of_it_is_the_giver_s() {
        let config = Config::from_toml(FILE, "lb.toml").expect("a good file");
        let mut ids = Ids::default();
        let plan = Plan::from_config(&config, &mut ids, &HealthView::new(), None).expect("ids");
        let given = Handover::of_plan(&config, &plan);
        let json = toml::to_string(&Wrapped { given: given.clone() }).expect("it can be written");
        let Wrapped { given: read } = toml::from_str(&json).expect("it can be read");
        assert_eq!(read, given);
        let made = Plan::from_config(&read.config, &mut read.ids(), &read.view(), None).expect("ids");
        assert_eq!(made, plan);
    }

    /// A document has a name for everything.
    #[derive(Serialize, Deserialize)]
    struct Wrapped {
        given: Handover,
    }

    #[test]
    fn connections_keep_their_age_across_clocks() {
        let client = crate::table::Address::from_v4([10, 0, 0, 3]);
        let key = ConnKey::new(client, 40000u16.to_be(), 3, 80u16.to_be(), 6);
        let value = ConnValue {
            backend: 7,
            generation: 2,
            state: state::ESTABLISHED,
            last_seen: 5000,
            client_next: 11,
            backend_next: 12,
            client_slot: 4,
            ..ConnValue::default()
        };
        let told = Connection::of(&key, &value, 5100);
        assert_eq!((told.client.to_string().as_str(), told.vip_port), ("10.0.0.3:40000", 80));
        let (same, there) = told.entry(50);
        assert_eq!(same, key);
        let age = ticks_since(50, there.last_seen);
        assert!((99..=100).contains(&age), "{age}");
        assert_eq!((there.backend, there.generation, there.client_slot), (7, 2, 0));
    }
}
