//! The balancer that is measured: the release object with the daemon's own tables, every kind of VIP configured.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use aya::programs::Xdp;
use aya_obj::programs::XdpAttachType;
use lb_core::host::addr::MacAddr;
use lb_core::host::config::Config;
use lb_core::host::health::{FULL_SHARE, Neighbour, State};
use lb_core::host::ids::{BackendKey, Ids};
use lb_core::host::plan::{HealthView, Plan, Seen, VipPlan};
use lb_core::table::{PortRecord, port_flag};
use lb_user::daemon::tables::{self, Around};
use lb_user::dataplane::{DataPlane, Pins};
use lb_user::io::sys;
use testbed::frame::{Ip, Mac};
use testbed::namespace::PORTS;

/// The configuration: every mode and family, and every option that costs something is in use somewhere.
const CONFIG: &str = include_str!("datapath.toml");
/// Where a private bpffs is mounted, which ends with the process.
const BPFFS: &str = "/sys/fs/bpf";
/// Clients come in by this slot, backends are behind the first.
pub const CLIENT_SLOT: usize = 3;
/// The slot of the backends.
pub const BACKEND_SLOT: usize = 1;

/// The interface with this slot.
pub const fn ifindex(slot: usize) -> u32 {
    PORTS[slot - 1]
}

/// The loaded balancer with its tables.
pub struct Scene {
    /// Its maps.
    pub dataplane: DataPlane,
    /// Where they are pinned.
    pub pins: Pins,
    /// What they hold.
    pub plan: Plan,
    config: Config,
}

impl Scene {
    /// Loads an object into the network namespace of the calling thread, on a bpffs of the thread's own.
    pub fn load(object: &Path) -> Result<Self> {
        let bytes = std::fs::read(object).with_context(|| format!("cannot read {}", object.display()))?;
        private_bpffs().context("cannot mount a bpffs of its own")?;
        let config = Config::from_toml(CONFIG, "datapath.toml")?;
        let pins = Pins::new(&Path::new(BPFFS).join("lb-bench"));
        let mut dataplane = DataPlane::load(&bytes, pins.clone(), &config.connections)?;
        let flags = port_flag::REDIRECT;
        let ports: BTreeMap<u16, PortRecord> = (1u16..)
            .zip(PORTS)
            .map(|(slot, ifindex)| (slot, PortRecord { ifindex, switch: 1, flags }))
            .collect();
        for (slot, port) in &ports {
            dataplane.write_port(*slot, port)?;
        }
        let plan = Plan::from_config(&config, &mut Ids::default(), &all_up(&config), None)?;
        let around = Around { onearm: false, ports: &ports, connections: &config.connections, handing: 0 };
        tables::apply(&mut dataplane, around, &Plan::default(), &plan)?;
        dataplane.pin_programs()?;
        Ok(Self { dataplane, pins, plan, config })
    }

    /// The balancer, to be run.
    pub fn balancer(&self) -> Result<Xdp> {
        let pin = self.pins.program("lb_balance");
        Xdp::from_pin(&pin, XdpAttachType::Interface)
            .with_context(|| format!("cannot open {}", pin.display()))
    }

    /// A VIP by name.
    pub fn vip(&self, name: &str) -> Result<&VipPlan> {
        self.plan.vips.values().find(|vip| vip.name == name).with_context(|| format!("no VIP {name}"))
    }

    /// Where packets to a VIP go: its MAC, address and port.
    pub fn service(&self, name: &str) -> Result<(Mac, Ip, u16)> {
        let vip = self.vip(name)?;
        Ok((vip.mac.0, vip.key.address, vip.key.port()))
    }

    /// Caps the new entries of a window, or lifts the cap.
    pub fn cap(&mut self, max_new: Option<u32>) -> Result<()> {
        let settings = tables::settings(&self.config.connections, &self.plan);
        ensure!(settings.max_new == 0, "the configuration has a cap of its own");
        let max_new = max_new.unwrap_or(0);
        self.dataplane.write_settings(&lb_core::table::Settings { max_new, ..settings })
    }
}

/// Every backend answers, behind the same port.
fn all_up(config: &Config) -> HealthView {
    let mut view = HealthView::new();
    for vip in &config.vips {
        for backend in &vip.backends {
            let low = match backend.address {
                Ip::V4(address) => address.octets()[3],
                Ip::V6(address) => address.octets()[15],
            };
            let mac = MacAddr([2, 0, 0, 0, 0, low]);
            let neighbour = Some(Neighbour { mac, interface: BACKEND_SLOT as u32 });
            view.insert(
                BackendKey::of(vip, backend),
                Seen { state: State::Up, neighbour, share: FULL_SHARE },
            );
        }
    }
    view
}

/// A mount namespace for the calling thread, with a bpffs in it that nobody else sees.
fn private_bpffs() -> std::io::Result<()> {
    // SAFETY: changes the mount namespace of this thread alone.
    if unsafe { libc::unshare(libc::CLONE_NEWNS) } != 0 {
        return Err(std::io::Error::last_os_error());
    }
    let root = c"/".as_ptr();
    let flags = libc::MS_REC | libc::MS_PRIVATE;
    // SAFETY: a path that ends with NUL; the other texts may be missing where only the propagation changes.
    if unsafe { libc::mount(std::ptr::null(), root, std::ptr::null(), flags, std::ptr::null()) } != 0 {
        return Err(std::io::Error::last_os_error());
    }
    sys::mount_bpffs(Path::new(BPFFS))
}
