//! `ofshim doctor`: what of Open vSwitch and its bridges keeps a controller from doing its work, and what mends it.
//!
//! Pure: [`Facts`] in, [`Check`]s out; [`crate::io::ovs`] collects the facts.

mod bridge;
pub mod entries;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(crate) use self::bridge::spoken;
use self::entries::Entry;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// It works, but not as it should.
    Warn,
    /// It does not work.
    Fail,
}

impl Level {
    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Check {
    /// What was looked at, such as `fail-mode`; the same for every bridge.
    pub name: String,
    /// Where: a bridge or a port; empty for the machine.
    pub subject: String,
    /// How it is.
    pub status: Level,
    /// What was found.
    pub what: String,
    /// The command, or what else mends it.
    pub mend: Option<String>,
}

/// What `ofshim doctor --json` prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// The worst status of the checks.
    pub status: Level,
    /// The checks, the machine's first.
    pub checks: Vec<Check>,
}

impl Report {
    /// The report about these facts.
    #[must_use]
    pub fn of(facts: &Facts) -> Self {
        let checks = checks(facts);
        let status = checks.iter().map(|check| check.status).max().unwrap_or(Level::Ok);
        Self { status, checks }
    }
}

/// Something that cannot be asked: why, and what mends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// What went wrong.
    pub what: String,
    /// What mends it.
    pub mend: Option<String>,
}

/// What the machine says.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The controller that runs with the run folder; the error says why it is not known.
    pub controller: Result<Running, Trouble>,
    /// Open vSwitch.
    pub ovs: Result<Ovs, Trouble>,
}

/// A running controller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Running {
    /// The addresses it listens on for switches.
    pub listen: Vec<String>,
    /// Whether switches connect by TLS there.
    pub tls: bool,
    /// The datapath ids of its switches, 16 hex digits.
    pub switches: Vec<String>,
}

/// Open vSwitch, as its database has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ovs {
    /// Its version.
    pub version: String,
    /// Why the switch daemon does not answer; `None` if it does.
    pub daemon_trouble: Option<String>,
    /// Whether a key, a certificate and a CA are set for `ssl:` connections.
    pub has_ssl: bool,
    /// The bridges that are looked at.
    pub bridges: Vec<Bridge>,
}

impl Default for Facts {
    fn default() -> Self {
        Self { controller: Ok(Running::default()), ovs: Ok(Ovs::default()) }
    }
}

/// A bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bridge {
    /// Its name.
    pub name: String,
    /// Its datapath id, 16 hex digits; empty while it has none.
    pub dpid: String,
    /// The OpenFlow versions enabled, as `OpenFlow13`; none stands for all.
    pub protocols: Vec<String>,
    /// `secure` or `standalone`; `None` is standalone.
    pub fail_mode: Option<String>,
    /// Whether control over the network's own links is switched off.
    pub out_of_band: bool,
    /// Whether a spanning tree protocol runs.
    pub spanning_tree: bool,
    /// Its controllers.
    pub controllers: Vec<Target>,
    /// Its interfaces.
    pub interfaces: Vec<Interface>,
    /// Its flow entries, or why they cannot be listed.
    pub entries: Result<Vec<Entry>, String>,
}

/// A controller that a bridge is to connect to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// Where: `tcp:127.0.0.1:6653`.
    pub address: String,
    /// Whether it is connected.
    pub connected: bool,
    /// The role that the switch gives it: `master`, `slave` or `other`.
    pub role: Option<String>,
    /// The last error, if there was one.
    pub error: Option<String>,
}

/// An interface of a bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Whether it is enabled.
    pub enabled: bool,
    /// Whether its link is up.
    pub up: bool,
    /// Why it does not work.
    pub error: Option<String>,
}

/// All findings.
#[must_use]
pub fn checks(facts: &Facts) -> Vec<Check> {
    let mut checks = Vec::new();
    match &facts.ovs {
        Err(trouble) => {
            checks.push(check("open-vswitch", "", Level::Fail, &trouble.what, trouble.mend.clone()));
        }
        Ok(ovs) => machine(ovs, &mut checks),
    }
    match &facts.controller {
        Ok(running) => {
            let what =
                format!("runs with {} switches, on {}", running.switches.len(), running.listen.join(" and "));
            checks.push(check("controller", "", Level::Ok, &what, None));
        }
        Err(trouble) => {
            checks.push(check("controller", "", Level::Warn, &trouble.what, trouble.mend.clone()));
        }
    }
    for bridge in facts.ovs.iter().flat_map(|ovs| &ovs.bridges) {
        bridge::checks(bridge, facts, &mut checks);
    }
    checks
}

fn machine(ovs: &Ovs, checks: &mut Vec<Check>) {
    checks.push(match &ovs.daemon_trouble {
        None => check("open-vswitch", "", Level::Ok, &format!("version {} answers", ovs.version), None),
        Some(why) => check(
            "open-vswitch",
            "",
            Level::Fail,
            &format!("its database answers, the switch daemon does not: {why}"),
            Some(START_OVS.to_owned()),
        ),
    });
    if ovs.bridges.is_empty() {
        let mend =
            "ovs-vsctl add-br br0 -- set-fail-mode br0 secure -- set-controller br0 tcp:127.0.0.1:6653";
        checks.push(check("bridges", "", Level::Warn, "there is no bridge", Some(mend.to_owned())));
    }
    let mut names: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for bridge in ovs.bridges.iter().filter(|bridge| !bridge.dpid.is_empty()) {
        names.entry(&bridge.dpid).or_default().push(&bridge.name);
    }
    for (dpid, names) in names.into_iter().filter(|(_, names)| names.len() > 1) {
        let what = format!("{} have the datapath id {dpid}: only one of them is served", names.join(" and "));
        let last = names.last().copied().unwrap_or_default();
        let mend = format!("ovs-vsctl set bridge {last} other-config:datapath-id=SIXTEEN_HEX_DIGITS");
        checks.push(check("datapath-id", last, Level::Fail, &what, Some(mend)));
    }
}

/// The command that starts Open vSwitch.
pub const START_OVS: &str =
    "systemctl start openvswitch-switch (without systemd: /usr/share/openvswitch/scripts/ovs-ctl start)";

fn check(name: &str, subject: &str, status: Level, what: &str, mend: Option<String>) -> Check {
    Check { name: name.to_owned(), subject: subject.to_owned(), status, what: what.to_owned(), mend }
}

/// The report as text: one line for each check, its mend below.
#[must_use]
pub fn text(report: &Report) -> String {
    let mut text = String::new();
    for check in &report.checks {
        let subject = if check.subject.is_empty() { "-" } else { &check.subject };
        text += &format!("{:<4}  {:<12}  {:<15}  {}\n", check.status.word(), check.name, subject, check.what);
        if let Some(mend) = &check.mend {
            text += &format!("{:<6}mend: {mend}\n", "");
        }
    }
    text
}

#[cfg(test)]
mod tests;
