//! Another version of the programs under the same tables: loaded beside the one at work, then put into its links.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use aya::Ebpf;
use aya::maps::MapInfo;
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::xdp::XdpLink;
use lb_core::host::config::ConnectionsConfig;
use lb_core::table::SCHEMA_VERSION;
use object::{Object as _, ObjectSection as _};

use super::{DataPlane, MAPS, Pins, Role, program, sizes};
use crate::io::sys;

/// The section in which an object says which tables it works on.
const SCHEMA_SECTION: &str = "lb_schema";

/// Programs in the kernel, and the descriptors that keep them there.
pub struct Version {
    pub(super) ebpf: Ebpf,
}

/// Loads a version; for another thread than the daemon's, since the verifier takes its time.
#[derive(Clone, Debug)]
pub struct VersionLoader {
    pins: Pins,
    connections: ConnectionsConfig,
}

/// What swapping the programs took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swap {
    /// Links that run another program now.
    pub links: u32,
    /// From before the first to after the last of them.
    pub took_ns: u64,
}

impl VersionLoader {
    /// Loads an object onto the pinned tables. Nothing runs it yet.
    ///
    /// # Errors
    /// It works on other tables, or the kernel refuses it.
    pub fn load(&self, object: &[u8]) -> Result<Version> {
        check(object, &self.pins)?;
        Ok(Version { ebpf: DataPlane::load_programs(object, &self.pins, &self.connections)? })
    }
}

impl DataPlane {
    /// What loads another version onto these tables.
    pub fn version_loader(&self, connections: &ConnectionsConfig) -> VersionLoader {
        VersionLoader { pins: self.pins.clone(), connections: *connections }
    }

    /// Puts a version into every link, each in one atomic step, and returns the one before. If one of them cannot be
    /// swapped, those before it are swapped back.
    ///
    /// # Errors
    /// A link cannot be swapped.
    pub fn swap(&mut self, mut version: Version) -> Result<(Version, Swap)> {
        let links = self.pins.link_paths().context("cannot read the links' pins")?;
        let begin = sys::clock_monotonic();
        for (done, path) in links.iter().enumerate() {
            if let Err(error) = put(&mut version.ebpf, path) {
                for path in links.iter().take(done) {
                    put(&mut self.ebpf, path)
                        .with_context(|| format!("{error:#}; and the way back failed, too"))?;
                }
                return Err(error);
            }
        }
        let took_ns = sys::clock_monotonic().saturating_sub(begin);
        std::mem::swap(&mut self.ebpf, &mut version.ebpf);
        Ok((version, Swap { links: u32::try_from(links.len()).unwrap_or(u32::MAX), took_ns }))
    }
}

/// Puts the program of a link's role into the link.
fn put(ebpf: &mut Ebpf, path: &Path) -> Result<()> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let role = [Role::Balance, Role::Pass].into_iter().find(|role| name.starts_with(role.word()));
    let Some(role) = role else { bail!("{} is no link of this balancer", path.display()) };
    let context = || format!("cannot swap the program of {}", path.display());
    let link = FdLink::from(PinnedLink::from_pin(path).with_context(context)?);
    let link = match XdpLink::try_from(link) {
        Ok(link) => link,
        Err(error) => return Err(error).with_context(context),
    };
    let program = program(ebpf, role)?;
    let id = match program.attach_to_link(link) {
        Ok(id) => id,
        // Its interface has gone; the daemon removes the pin when it looks at the network.
        Err(error) if is_dead(&error) => return Ok(()),
        Err(error) => return Err(error).with_context(context),
    };
    // Out of the program's hands, which would take it off at the end; the pin keeps it.
    drop(program.take_link(id).with_context(context)?);
    Ok(())
}

/// A link whose interface has gone cannot be updated: ENOLINK (bpf_xdp_link_update).
fn is_dead(error: &aya::programs::ProgramError) -> bool {
    matches!(error, aya::programs::ProgramError::SyscallError(e) if e.io_error.raw_os_error() == Some(libc::ENOLINK))
}

/// Whether an object works on the tables that are pinned.
pub fn check(object: &[u8], pins: &Pins) -> Result<()> {
    let file = object::File::parse(object).map_err(|error| anyhow::anyhow!("not an XDP object: {error}"))?;
    let section = file.section_by_name(SCHEMA_SECTION);
    let schema = section.and_then(|section| section.data().ok()?.get(..4)?.try_into().ok());
    match schema.map(u32::from_le_bytes) {
        Some(SCHEMA_VERSION) => {}
        Some(other) => bail!(
            "the object works on tables of schema {other}, and those in the kernel are of schema {SCHEMA_VERSION}: \
             connections cannot be carried over; `lb detach`, then `lb run` of the other version"
        ),
        None => {
            bail!("the object does not say which tables it works on: it is not lb's, or older than schema 2")
        }
    }
    let parsed = aya_obj::Object::parse(object).context("not an XDP object")?;
    for name in MAPS {
        let Some(map) = parsed.maps.get(name) else { bail!("the object has no map {name}") };
        let pin: PathBuf = pins.map(name);
        if !pin.exists() {
            continue;
        }
        let info = MapInfo::from_pin(&pin).with_context(|| format!("cannot open {}", pin.display()))?;
        // The kernel's device maps have values of either 4 or 8 bytes, and the loader chooses.
        let same_value = name == "DEVICES" || info.value_size() == map.value_size();
        let sized = sizes(&ConnectionsConfig::default()).iter().any(|(other, ..)| *other == name);
        let same_entries = sized || info.max_entries() == map.max_entries();
        if info.key_size() != map.key_size() || !same_value || !same_entries {
            bail!(
                "the object's map {name} is another one than that in the kernel (keys of {} and {} bytes, values of {} \
                 and {}, {} and {} entries) although both are of schema {SCHEMA_VERSION}: `lb detach`, then `lb run` \
                 of the other version",
                map.key_size(),
                info.key_size(),
                map.value_size(),
                info.value_size(),
                map.max_entries(),
                info.max_entries()
            );
        }
    }
    Ok(())
}
