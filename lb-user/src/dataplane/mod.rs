//! The kernel side: the XDP programs, their maps, and the links that hold them on interfaces.
//!
//! Everything lives under one folder of bpffs and outlives the daemon:
//! ```text
//! <pin dir>/v<schema>/maps/<MAP NAME>
//! <pin dir>/v<schema>/links/<balance|pass>-<namespace inode>-<ifindex>
//! <pin dir>/v<schema>/programs/<PROGRAM NAME>
//! ```
//! A new daemon adopts the maps, loads its own program on them, and puts it into the pinned links in one
//! atomic step each: no packet is lost and no connection forgotten.

mod conns;
mod describe;
mod links;
mod model;
mod pins;
mod pod;
mod replay;
mod ring;
mod stages;
mod sweep;
mod tables;
mod upgrade;

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result, bail};
use aya::programs::Xdp;
use aya::{Ebpf, EbpfLoader};
use lb_core::host::config::ConnectionsConfig;
use lb_core::table::SCHEMA_VERSION;

pub use conns::{ConnTable, Place};
pub use links::{AttachPoint, Attached, Role, remove_links, retain_links};
pub use model::read_model;
pub use pins::Pins;
pub use replay::Action;
pub use ring::{Record, Ring};
pub use sweep::{Pass, Sweep};
pub use tables::Counters;
pub use upgrade::{Swap, Version, VersionLoader};

use crate::io::clock;

/// The maps of the object, all pinned.
pub const MAPS: [&str; 35] = [
    "SETTINGS",
    "TEST_INPUTS",
    "BITMAP",
    "VIP_IDS",
    "VIP_SLOTS",
    "PORT_LISTS",
    "PREFIXES",
    "ACL",
    "VIPS",
    "SERVICES_OF",
    "BACKEND_SLOTS",
    "BACKENDS",
    "SELECTION",
    "TICKETS",
    "LOADS",
    "CONNS",
    "HALF_OPEN",
    "SNATS",
    "HALF_SNATS",
    "AFFINITY",
    "SOURCES",
    "FRAGMENTS",
    "ASKERS",
    "OPENED",
    "PORTS",
    "PORT_SLOTS",
    "DEVICES",
    "GLOBALS",
    "REASONS",
    "VIP_TRAFFIC",
    "BACKEND_TRAFFIC",
    "WATCH",
    "WATCH_STATE",
    "EVENTS",
    "CAPTURE",
];

/// Reads the packet log; to be flushed when its descriptor is readable.
pub type PacketLog = aya_log::EbpfLogger<&'static dyn log::Log>;

/// The loaded programs and their maps.
pub struct DataPlane {
    ebpf: Ebpf,
    pins: Pins,
    adopted: bool,
    /// Of the folder of pins, where there is one: one process at a time.
    _lock: Option<File>,
}

impl DataPlane {
    /// Loads the object, on the maps that an earlier daemon left under `pins` where there are any. Nothing is
    /// attached yet.
    pub fn load(object: &[u8], pins: Pins, connections: &ConnectionsConfig) -> Result<Self> {
        if let Some(other) = pins.other_schema()? {
            bail!(
                "{} holds the tables of another version of lb (schema {other}, this one is {SCHEMA_VERSION}): run \
                 `lb detach` of that version first",
                pins.root().display()
            );
        }
        pins.create().with_context(|| {
            format!(
                "cannot create {}: mount bpffs with `mount -t bpf bpf /sys/fs/bpf`",
                pins.root().display()
            )
        })?;
        let lock = pins.lock()?;
        let adopted = pins.maps_exist(&MAPS);
        if !adopted {
            pins.remove_maps().context("cannot remove an incomplete set of maps")?;
        }
        let fits = upgrade::check(object, &pins);
        let loaded = fits.and_then(|()| Self::load_programs(object, &pins, connections));
        if loaded.is_err() && !adopted {
            pins.remove_maps().ok();
            pins.remove_empty();
        }
        Ok(Self { ebpf: loaded?, pins, adopted, _lock: Some(lock) })
    }

    fn load_programs(object: &[u8], pins: &Pins, connections: &ConnectionsConfig) -> Result<Ebpf> {
        let paths: Vec<_> = MAPS.iter().map(|name| (*name, pins.map(name))).collect();
        let ticks_per_jiffy = clock::ticks_per_jiffy();
        let mut loader = EbpfLoader::new();
        loader.override_global("TICKS_PER_JIFFY", &ticks_per_jiffy, true);
        for (name, path) in &paths {
            loader.map_pin_path(name, path.as_path());
        }
        for (name, _, entries) in sizes(connections) {
            loader.map_max_entries(name, entries);
        }
        let mut ebpf = loader.load(object).context("the kernel refuses the XDP object's maps")?;
        for role in [Role::Balance, Role::Pass] {
            let program = program(&mut ebpf, role)?;
            program.load().with_context(|| format!("the kernel refuses the program {}", role.program()))?;
        }
        stages::load(&mut ebpf, pins)?;
        Ok(ebpf)
    }

    /// Whether the maps are those of an earlier daemon.
    pub fn adopted(&self) -> bool {
        self.adopted
    }

    /// The reader of the packet log, for an object that writes one.
    pub fn packet_log(&mut self) -> Result<PacketLog> {
        aya_log::EbpfLogger::init(&mut self.ebpf).context(
            "the XDP object writes no packet log: `lb run --log-packets` needs the object built with logging",
        )
    }
}

/// A table whose size is not the configured one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OtherSize {
    /// The key of `[connections]`.
    pub key: &'static str,
    /// What it says.
    pub configured: u32,
    /// Entries that the table holds.
    pub entries: u32,
}

/// The maps whose size the configuration says, by the key that says it.
fn sizes(connections: &ConnectionsConfig) -> [(&'static str, &'static str, u32); 7] {
    [
        ("CONNS", "table_size", connections.table_size),
        ("HALF_OPEN", "half_open_size", connections.half_open_size),
        ("SNATS", "snat_size", connections.snat_size),
        ("HALF_SNATS", "half_open_size", connections.half_open_size),
        ("AFFINITY", "affinity_size", connections.affinity_size),
        ("SOURCES", "source_size", connections.source_size),
        ("FRAGMENTS", "fragment_size", connections.fragment_size),
    ]
}

fn program(ebpf: &mut Ebpf, role: Role) -> Result<&mut Xdp> {
    let name = role.program();
    let program = ebpf.program_mut(name).with_context(|| {
        format!("the XDP object has no program {name}: build it with `cargo xtask build-ebpf`")
    })?;
    program.try_into().with_context(|| format!("{name} is not an XDP program"))
}

/// Removes every map and folder under `root`, links included: the end of [`remove_links`].
pub fn remove_all(root: &Path) -> Result<()> {
    let pins = Pins::new(root);
    pins.remove_maps()?;
    pins.remove_empty();
    Ok(())
}
