//! What the data plane is made of, for those who want to look at it or measure it.

use std::path::Path;

use anyhow::{Context, Result};
use aya::maps::MapData;
use aya::programs::ProgramInfo;
use lb_core::host::config::ConnectionsConfig;
use std::os::fd::AsFd;

use super::{DataPlane, MAPS, OtherSize, Role, program, sizes};
use crate::api::{PinnedLink, PinnedMap, PinnedObjects, PinnedProgram};
use crate::io::bpf;

impl DataPlane {
    /// Pins the loaded programs under their names, in the place of those of an earlier daemon: to be called once the
    /// links run them.
    ///
    /// # Errors
    /// The folder of pins cannot be written to.
    pub fn pin_programs(&mut self) -> Result<()> {
        for role in [Role::Balance, Role::Pass] {
            let pin = self.pins.program(role.program());
            if pin.exists() {
                std::fs::remove_file(&pin).with_context(|| format!("cannot remove {}", pin.display()))?;
            }
            let program = program(&mut self.ebpf, role)?;
            program.pin(&pin).with_context(|| format!("cannot pin {}", pin.display()))?;
        }
        Ok(())
    }

    /// The tables whose size is not the configured one: they were adopted, and a table cannot grow. Each key once.
    ///
    /// # Errors
    /// A pin cannot be opened.
    pub fn adopted_sizes(&self, connections: &ConnectionsConfig) -> Result<Vec<OtherSize>> {
        let mut others: Vec<OtherSize> = Vec::new();
        for (map, key, configured) in sizes(connections) {
            let pin = self.pins.map(map);
            let info = MapData::from_pin(&pin).and_then(|map| map.info());
            let entries =
                info.with_context(|| format!("cannot look at the map {}", pin.display()))?.max_entries();
            if entries != configured && others.iter().all(|other| other.key != key) {
                others.push(OtherSize { key, configured, entries });
            }
        }
        Ok(others)
    }

    /// All pins, with what the kernel says about what they hold.
    ///
    /// # Errors
    /// A pin cannot be opened.
    pub fn objects(&self) -> Result<PinnedObjects> {
        let programs = [Role::Balance, Role::Pass]
            .map(|role| describe_program(role.program(), &self.pins.program(role.program())));
        let maps = MAPS.map(|name| describe_map(name, &self.pins.map(name)));
        let links = self.pins.link_paths().context("cannot read the links' pins")?;
        Ok(PinnedObjects {
            programs: programs.into_iter().collect::<Result<_>>()?,
            links: links.iter().map(|path| PinnedLink { pin: text(path) }).collect(),
            maps: maps.into_iter().collect::<Result<_>>()?,
        })
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn describe_program(name: &str, pin: &Path) -> Result<PinnedProgram> {
    let open = || format!("cannot look at the program {}", pin.display());
    let info = ProgramInfo::from_pin(pin).with_context(open)?;
    Ok(PinnedProgram {
        name: name.to_owned(),
        pin: text(pin),
        id: info.id(),
        tag: format!("{:016x}", info.tag()),
        verified_instructions: info.verified_instruction_count(),
        jited_bytes: info.size_jitted(),
        memory_bytes: bpf::memory(info.fd().with_context(open)?.as_fd()).with_context(open)?,
    })
}

fn describe_map(name: &str, pin: &Path) -> Result<PinnedMap> {
    let open = || format!("cannot look at the map {}", pin.display());
    let map = MapData::from_pin(pin).with_context(open)?;
    let info = map.info().with_context(open)?;
    Ok(PinnedMap {
        name: name.to_owned(),
        pin: text(pin),
        id: info.id(),
        max_entries: info.max_entries(),
        memory_bytes: bpf::memory(map.fd().as_fd()).with_context(open)?,
    })
}
