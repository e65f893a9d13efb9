//! The configuration file read again: taken whole or refused whole.
//!
//! ```text
//!  file -> valid? -> may it change at run time? -> does it fit the run-time changes? -> are there ids?
//!       -> look at the network -> is what is new there? -> tables, ports
//! ```
//! Up to the last arrow nothing is touched.

use std::path::Path;

use anyhow::Result;
use lb_core::host::config::{Config, PlacementKind};
use lb_core::host::overlay::Overlay;

use crate::control::Reloaded;
use crate::io::discovery;
use crate::io::facts::Facts;
use crate::server::{Denied, Reply};

use super::Daemon;
use super::difference::difference;
use super::hosts;

/// A reload that waits for a look at the network.
pub struct Reload {
    file: Config,
    check: bool,
    /// Who wants to know; nobody after a SIGHUP.
    reply: Option<Reply<Reloaded>>,
}

/// A file that may be taken.
struct Accepted {
    config: Config,
    overlay: Overlay,
    changes: Vec<String>,
}

impl Daemon {
    /// Reads the file again, and applies it once the network was looked at.
    pub(super) fn reload(&mut self, check: bool, reply: Option<Reply<Reloaded>>) {
        match self.read_again().and_then(|file| self.accept(&file).map(|accepted| (file, accepted))) {
            Ok((_, Accepted { changes, .. })) if changes.is_empty() => {
                self.answer_reload(reply, false, Ok(changes));
            }
            Ok((file, _)) => self.lookout.wait_for(Reload { file, check, reply }),
            Err(refusal) => self.answer_reload(reply, false, Err(refusal)),
        }
    }

    /// Finishes the reloads that waited for this look.
    pub(super) fn reload_with(&mut self, facts: &Result<Facts>, reloads: Vec<Reload>) -> Result<Option<u64>> {
        let mut wake_at = None;
        for Reload { mut file, check, reply } in reloads {
            let accepted = match facts {
                Ok(facts) => hosts::resolve(&mut file, facts).and_then(|()| {
                    let accepted = self.accept(&file)?;
                    self.is_there(&accepted.config, facts).map(|()| accepted)
                }),
                Err(error) => Err(format!("{error:#}")),
            };
            match accepted {
                Ok(Accepted { config, overlay, changes }) => {
                    if !check {
                        self.admin.keep(overlay)?;
                        self.admin.file = file;
                        wake_at = self.take(&config)?.or(wake_at);
                    }
                    self.answer_reload(reply, !check, Ok(changes));
                }
                Err(refusal) => self.answer_reload(reply, false, Err(refusal)),
            }
        }
        Ok(wake_at)
    }

    fn read_again(&self) -> Result<Config, String> {
        let Some(file) = &self.config_file else {
            return Err(
                "this daemon was started with --ip and --servers: there is no file to read again; start it \
                        with --config FILE, or change its backends with `lb backend`"
                    .to_owned(),
            );
        };
        read(file)
    }

    /// Whether a file may be taken now, as far as that can be said without looking at the network.
    fn accept(&self, file: &Config) -> Result<Accepted, String> {
        if let Some(setting) = self.admin.file.needs_restart(file) {
            let mend = if setting.contains("[connections]") {
                "`lb detach` and `lb run` take it, without the connections"
            } else {
                "end the daemon and start it again: forwarding goes on meanwhile"
            };
            return Err(format!("{setting} cannot change at run time; {mend}"));
        }
        let (config, overlay, overtaken) = self.admin.with_file(file)?;
        self.may_take(&config)?;
        let mut changes = difference(&self.admin.file, file);
        changes.extend(overtaken.into_iter().map(|line| format!("backend {line}")));
        Ok(Accepted { config, overlay, changes })
    }

    /// Whether interfaces and backends that are new in `config` are where they should be. What was there before may be
    /// gone for a while.
    fn is_there(&self, config: &Config, facts: &Facts) -> Result<(), String> {
        if config.placement.kind != PlacementKind::Inline {
            return Ok(());
        }
        let old = &self.config.placement.attach;
        let attach = &config.placement.attach;
        let added: Vec<String> = attach.iter().filter(|name| !old.contains(name)).cloned().collect();
        if !added.is_empty() {
            discovery::inline(facts, &added, &[]).map_err(|error| error.to_string())?;
        }
        let present: Vec<String> = attach
            .iter()
            .filter(|name| facts.links.iter().any(|link| link.name == **name))
            .cloned()
            .collect();
        let known = self.config.backend_addresses();
        let new: Vec<_> =
            config.single_backend_addresses().into_iter().filter(|ip| !known.contains(ip)).collect();
        if !new.is_empty() && (attach.is_empty() || !present.is_empty()) {
            discovery::inline(facts, &present, &new).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Answers whoever asked; the log has it in any case.
    fn answer_reload(
        &self,
        reply: Option<Reply<Reloaded>>,
        applied: bool,
        changes: Result<Vec<String>, String>,
    ) {
        let file = self.config_file.as_deref().unwrap_or(Path::new("")).display().to_string();
        let answer = match changes {
            Ok(changes) => {
                for line in changes.iter().filter(|_| applied) {
                    tracing::info!("reload: {line}");
                }
                if applied {
                    tracing::info!("{file} reloaded: {} changes", changes.len());
                } else if changes.is_empty() {
                    tracing::info!("{file} reloaded: nothing changed");
                }
                Ok(Reloaded { file, applied, changes })
            }
            Err(refusal) => {
                tracing::error!("reload refused, nothing was changed: {refusal}");
                Err(Denied::Wrong(refusal))
            }
        };
        if let Some(reply) = reply {
            reply.send(answer).ok();
        }
    }
}

/// Reads and checks a file.
fn read(file: &Path) -> Result<Config, String> {
    let name = file.display();
    let text = std::fs::read_to_string(file).map_err(|error| format!("{name}: cannot be read: {error}"))?;
    Config::from_toml(&text, &name.to_string()).map_err(|error| error.to_string())
}
