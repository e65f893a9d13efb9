//! Programs on interfaces.

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::xdp::XdpLink;
use aya::programs::{ProgramError, XdpMode};

use super::{DataPlane, Pins, program};
use crate::io::bpf;
use crate::io::netns::{NetNs, NsId, NsRef, run_in};

/// Which program stands on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// The balancer.
    Balance,
    /// The program that lets everything through, for veth peers.
    Pass,
}

impl Role {
    /// The program's name in the object.
    pub const fn program(self) -> &'static str {
        match self {
            Self::Balance => "lb_balance",
            Self::Pass => "lb_pass",
        }
    }

    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Balance => "balance",
            Self::Pass => "pass",
        }
    }
}

/// Where a program goes. Interface indexes repeat between namespaces, so both together are the key.
#[derive(Debug)]
pub struct AttachPoint<'a> {
    /// The namespace.
    pub ns: &'a NsRef,
    /// The interface's index in it.
    pub ifindex: u32,
    /// The interface's name, for messages.
    pub name: &'a str,
    /// Which program.
    pub role: Role,
}

impl AttachPoint<'_> {
    /// Name of the link's pin, which is its identity on this machine.
    pub fn pin_name(&self) -> String {
        pin_name(self.role, self.ns.id, self.ifindex)
    }
}

fn pin_name(role: Role, ns: NsId, ifindex: u32) -> String {
    format!("{}-{}-{ifindex}", role.word(), ns.ino)
}

/// How a program stands on its interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attached {
    /// In the driver, not behind the allocation of a socket buffer.
    pub native: bool,
    /// The link was there and only its program was replaced.
    pub replaced: bool,
}

impl DataPlane {
    /// Puts a program on an interface: into the link of an earlier daemon where there is one.
    pub fn attach(&mut self, point: &AttachPoint<'_>) -> Result<Attached> {
        let path = self.pins.links().join(point.pin_name());
        if path.exists() {
            match self.replace(point, &path) {
                Ok(native) => return Ok(Attached { native, replaced: true }),
                Err(error) => {
                    // The interface it was on has gone, and its index was given to another one.
                    tracing::debug!("stale link {}: {error:#}", path.display());
                    fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
                }
            }
        }
        let native = match self.attach_new(point, &path, XdpMode::Driver) {
            Ok(()) => true,
            Err(error) if is_unsupported(&error) => {
                tracing::warn!("{}: no native XDP ({error:#}); generic mode, which is slower", point.name);
                self.attach_new(point, &path, XdpMode::Skb)?;
                false
            }
            Err(error) => return Err(error),
        };
        Ok(Attached { native, replaced: false })
    }

    fn replace(&mut self, point: &AttachPoint<'_>, path: &Path) -> Result<bool> {
        let link = FdLink::from(PinnedLink::from_pin(path)?);
        let link = XdpLink::try_from(link)?;
        let program = program(&mut self.ebpf, point.role)?;
        let id = program.attach_to_link(link)?;
        // Out of the program's hands, which would take it off at the end; the pin keeps it.
        drop(program.take_link(id)?);
        Ok(true)
    }

    fn attach_new(&mut self, point: &AttachPoint<'_>, path: &Path, mode: XdpMode) -> Result<()> {
        let program = program(&mut self.ebpf, point.role)?;
        let ifindex = point.ifindex;
        // Open no longer than needed: whoever holds a namespace keeps a dead host's interfaces alive.
        let ns = NetNs::open(point.ns)?;
        let id = run_in(&ns, || program.attach_to_if_index(ifindex, mode))?
            .map_err(|error| explain(error, point.name))?;
        let link = program.take_link(id)?;
        let Ok(link) = FdLink::try_from(link) else {
            bail!(
                "{}: the kernel gave no BPF link for XDP, only the old netlink attachment, which can be neither kept \
                 over a restart nor replaced without loss: Linux 5.9 or later is needed",
                point.name
            );
        };
        link.pin(path).with_context(|| format!("cannot pin {}", path.display()))?;
        Ok(())
    }

    /// Takes the balancer off all interfaces; the pass programs stay. Returns the names of the pins.
    pub fn detach_balancer(&self) -> Result<Vec<String>> {
        let paths = self.pins.link_paths()?;
        let others: Vec<PathBuf> = paths.into_iter().filter(|path| !is_balancer(path)).collect();
        retain_links(&self.pins, &others)
    }

    /// The balancer's links that are pinned and on no interface any more: somebody took the program off, or the
    /// interface has gone.
    pub fn loose_links(&self) -> Result<Vec<PathBuf>> {
        let mut loose = Vec::new();
        for path in self.pins.link_paths()?.into_iter().filter(|path| is_balancer(path)) {
            let look = || bpf::is_attached(bpf::open_pin(&path)?.as_fd());
            if !look().with_context(|| format!("cannot look at the link {}", path.display()))? {
                loose.push(path);
            }
        }
        Ok(loose)
    }

    /// Takes programs off interfaces that are not in `wanted` any more; returns the names of their pins.
    pub fn retain_links(&self, wanted: &[AttachPoint<'_>]) -> Result<Vec<String>> {
        let links = self.pins.links();
        let wanted: Vec<PathBuf> = wanted.iter().map(|point| links.join(point.pin_name())).collect();
        retain_links(&self.pins, &wanted)
    }
}

fn is_balancer(pin: &Path) -> bool {
    pin.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(Role::Balance.word()))
}

/// Native XDP is refused as such, not this attachment.
fn is_unsupported(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|e| e.downcast_ref::<std::io::Error>())
        .any(|e| matches!(e.raw_os_error(), Some(libc::EOPNOTSUPP)))
}

fn explain(error: ProgramError, name: &str) -> anyhow::Error {
    let busy =
        matches!(&error, ProgramError::SyscallError(e) if e.io_error.raw_os_error() == Some(libc::EBUSY));
    let error = anyhow::Error::from(error);
    if busy {
        error.context(format!(
            "{name} has another XDP program already: if it is another lb's, `lb detach` with that one's --run-dir and \
             --pin-dir takes it off; `bpftool net` run in its namespace names it"
        ))
    } else {
        error.context(format!("cannot attach to {name}"))
    }
}

/// Takes every program off whose pin is not among `wanted`; returns the names of the pins.
pub fn retain_links(pins: &Pins, wanted: &[PathBuf]) -> Result<Vec<String>> {
    let mut removed = Vec::new();
    for path in pins.link_paths()?.iter().filter(|path| !wanted.contains(path)) {
        fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))?;
        removed.extend(path.file_name().and_then(|n| n.to_str()).map(str::to_owned));
    }
    Ok(removed)
}

/// Takes every program off that is pinned under `pins`; returns the names of the pins.
pub fn remove_links(pins: &Pins) -> Result<Vec<String>> {
    let mut removed = Vec::new();
    for path in pins.link_paths()? {
        fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        removed.extend(path.file_name().and_then(|n| n.to_str()).map(str::to_owned));
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_name_says_role_namespace_and_interface() {
        let name = pin_name(Role::Pass, NsId { dev: 4, ino: 4026532000 }, 7);
        assert_eq!(name, "pass-4026532000-7");
    }
}
