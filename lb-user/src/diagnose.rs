//! `lb doctor`: what the machine's checks say, with what a running daemon knows.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use crate::api;
use crate::cli::DoctorArgs;
use crate::client::{self, AskError};
use crate::io::doctor::{self, Check, Question, Status, Via};
use crate::io::facts;
use crate::io::netns::NsId;
use crate::prove;

/// What `lb doctor` found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The worst status of the checks.
    pub status: Status,
    /// The checks, the machine's first.
    pub checks: Vec<Check>,
    /// The daemon's state, if one answers.
    pub daemon: Option<api::Status>,
}

/// Looks at everything. Needs a tokio runtime around it; without root it finds less and says so.
pub async fn report(run_dir: &Path, pin_dir: &Path, arguments: &DoctorArgs) -> Report {
    let (daemon, daemon_check) = match client::status(run_dir).await {
        Ok(status) => {
            let what = format!("version {} answers, process {}", status.version, status.pid);
            (Some(status), daemon_check(run_dir, Status::Ok, what, None))
        }
        Err(AskError::NoDaemon(_)) => {
            let mend = Some("lb run --config lb.toml");
            (None, daemon_check(run_dir, Status::Warn, "none answers".to_owned(), mend))
        }
        Err(AskError::Failed(failure)) => {
            (None, daemon_check(run_dir, Status::Warn, failure.message, Some("sudo lb doctor")))
        }
    };
    let attached = match &daemon {
        Some(status) => attached(&status.interfaces).await,
        None => None,
    };
    let (attach, onearm_host) = place(arguments, daemon.as_ref());
    let question = Question { bpffs: pin_dir.to_path_buf(), attach, onearm_host, attached };
    let findings = doctor::collect(question).await;
    let mut checks = doctor::checks(&findings);
    if let (Some(daemon), Ok(network)) = (&daemon, &findings.network) {
        checks.extend(prove::checks(run_dir, daemon, &network.pairs).await);
    }
    checks.push(daemon_check);
    Report { status: doctor::worst(&checks), checks, daemon }
}

/// Interfaces and one-armed host to look at: those that were named, else those of the daemon, else (none) whatever
/// is found.
fn place(arguments: &DoctorArgs, daemon: Option<&api::Status>) -> (Vec<String>, Option<String>) {
    let named = (arguments.attach.clone(), arguments.host.clone());
    match daemon {
        Some(daemon) if arguments.attach.is_empty() && arguments.host.is_none() => {
            let ours = daemon.interfaces.iter().filter(|interface| interface.netns.is_none());
            match &daemon.placement.host {
                Some(host) => (Vec::new(), Some(host.clone())),
                None => (ours.map(|interface| interface.name.clone()).collect(), None),
            }
        }
        _ => named,
    }
}

fn daemon_check(run_dir: &Path, status: Status, what: String, mend: Option<&str>) -> Check {
    let subject = crate::server::socket_path(run_dir).display().to_string();
    Check { name: "daemon".to_owned(), subject, status, what, mend: mend.map(str::to_owned) }
}

/// The daemon's interfaces by namespace and index; it attaches by links alone. `None` if the namespaces are not to
/// be seen.
async fn attached(interfaces: &[api::Interface]) -> Option<BTreeMap<(NsId, u32), Via>> {
    let facts = facts::gather().await.ok()?;
    let place = |interface: &api::Interface| {
        let id = match &interface.netns {
            None => facts.root.id,
            Some(name) => facts.spaces.iter().find(|space| space.label() == *name)?.ns.id,
        };
        Some(((id, interface.ifindex), Via::Link))
    };
    Some(interfaces.iter().filter_map(place).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::tests::a_status;

    #[test]
    fn the_daemons_place_counts_unless_one_is_named() {
        let named = DoctorArgs { attach: vec!["s1-eth9".into()], host: None };
        let open = DoctorArgs { attach: Vec::new(), host: None };
        let inline = a_status();
        let mut onearm = a_status();
        onearm.placement.host = Some("lb1".into());
        assert_eq!(place(&open, None), (vec![], None));
        assert_eq!(place(&open, Some(&inline)), (vec!["s1-eth1".into()], None));
        assert_eq!(place(&open, Some(&onearm)), (vec![], Some("lb1".into())));
        assert_eq!(place(&named, Some(&onearm)), (vec!["s1-eth9".into()], None));
    }
}
