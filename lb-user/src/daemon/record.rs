//! What the daemon changed on the machine besides BPF, written down before it is changed: so that another
//! process can undo it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::api::Detached;
use crate::control::Balancer;
use crate::io::ethtool::{self, OffloadChange, Restored};

/// The file in the run directory.
const FILE: &str = "changes.json";

/// The changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Programs on interfaces, in words, by the name of their link's pin.
    #[serde(default)]
    pub programs: BTreeMap<String, String>,
    /// Who balances.
    #[serde(default)]
    pub balancer: Balancer,
    /// Offloads that were turned off.
    pub offloads: Vec<OffloadChange>,
}

impl Record {
    fn path(run_dir: &Path) -> PathBuf {
        run_dir.join(FILE)
    }

    /// What an earlier daemon wrote down; nothing where there is no file.
    pub fn read(run_dir: &Path) -> Result<Self> {
        let path = Self::path(run_dir);
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| {
                format!("{} is damaged; remove it, and turn offloads on again by hand", path.display())
            }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(e) => Err(e).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// Writes it down, whole or not at all.
    pub fn write(&self, run_dir: &Path) -> Result<()> {
        let path = Self::path(run_dir);
        let new = path.with_extension("new");
        let write = || -> io::Result<()> {
            let mut file = fs::File::create(&new)?;
            file.write_all(&serde_json::to_vec_pretty(self)?)?;
            file.sync_all()?;
            fs::rename(&new, &path)
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }

    /// Adds a change, joined with an earlier one of the same interface.
    pub fn add(&mut self, change: OffloadChange) {
        let same = |old: &OffloadChange| {
            old.ns.id == change.ns.id && old.ifname == change.ifname && old.ifindex == change.ifindex
        };
        match self.offloads.iter_mut().find(|old| same(old)) {
            Some(old) => *old = change.after(old),
            None if change.is_empty() => {}
            None => self.offloads.push(change),
        }
    }

    /// What stands on an interface whose link has gone, in words; it is forgotten.
    pub fn take_program(&mut self, pin: &str) -> String {
        self.programs.remove(pin).unwrap_or_else(|| pin.to_owned())
    }

    /// Sets the offloads back that were changed on interfaces which `keep` does not know any more.
    pub fn restore_others(&mut self, run_dir: &Path, keep: impl Fn(&OffloadChange) -> bool) -> Result<()> {
        let before = self.offloads.len();
        self.offloads.retain(|change| {
            keep(change)
                || match ethtool::restore(change) {
                    Ok(Restored::Gone | Restored::Done) => false,
                    Err(error) => {
                        tracing::warn!("{error}");
                        true
                    }
                }
        });
        if before == self.offloads.len() { Ok(()) } else { self.write(run_dir) }
    }

    /// Undoes every change of offloads and removes the file; what could not be undone is named and stays in it.
    pub fn undo(&mut self, run_dir: &Path, detached: &mut Detached) -> Result<()> {
        self.offloads.retain(|change| match ethtool::restore(change) {
            Ok(Restored::Gone) => false,
            Ok(Restored::Done) => {
                for feature in &change.features {
                    detached.offloads.push(format!("{}: {}", change.ifname, feature.name));
                }
                false
            }
            Err(error) => {
                detached.failures.push(error.to_string());
                true
            }
        });
        if !self.offloads.is_empty() {
            return self.write(run_dir);
        }
        let path = Self::path(run_dir);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(e).with_context(|| format!("cannot remove {}", path.display()))
            }
            _ => Ok(()),
        }
    }
}
