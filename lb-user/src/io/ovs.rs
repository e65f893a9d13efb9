//! Which bridges Open vSwitch has, and which ports (one call of ovs-vsctl).

use std::collections::BTreeMap;
use std::io;
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Seconds that ovs-vsctl may wait for the database.
const TIMEOUT_S: &str = "3";

/// A port of a bridge. A bond has several interfaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// The interface's name; of ports with kernel interfaces the name of that.
    pub name: String,
    /// Open vSwitch's type: empty for a plain interface, else `internal`, `patch`, `vxlan`, `afxdp`, ...
    pub kind: String,
}

/// A bridge, which is one switch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bridge {
    /// Its name.
    pub name: String,
    /// `system`, `netdev` for the userspace datapath, or empty for the default.
    pub datapath_type: String,
    /// Its interfaces, sorted by name.
    pub ports: Vec<Port>,
}

/// Why Open vSwitch could not be asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OvsError {
    /// There is no ovs-vsctl.
    #[error("ovs-vsctl is not installed; install it with `apt-get install openvswitch-switch`")]
    NotInstalled,
    /// Its database does not answer.
    #[error(
        "Open vSwitch is not running; start it with `systemctl start openvswitch-switch` or \
         `/usr/share/openvswitch/scripts/ovs-ctl start`"
    )]
    NotRunning,
    /// ovs-vsctl failed for another reason.
    #[error("ovs-vsctl failed: {0}")]
    Failed(String),
    /// Its answer is not what it should be.
    #[error("ovs-vsctl answered in an unknown form: {0}")]
    BadAnswer(String),
}

/// All bridges, sorted by name. Waits for a child process: call it from a blocking thread.
///
/// `OVS_RUNDIR` and the other variables of ovs-vsctl(8) choose another instance.
pub fn bridges() -> Result<Vec<Bridge>, OvsError> {
    bridges_of(None)
}

/// Like [`bridges`], of the instance with this database, for example `unix:/run/x/db.sock`.
pub fn bridges_of(database: Option<&str>) -> Result<Vec<Bridge>, OvsError> {
    let mut command = Command::new("ovs-vsctl");
    command.stdin(Stdio::null()).args(["--timeout", TIMEOUT_S, "--no-wait", "--format=json"]);
    if let Some(database) = database {
        command.arg(format!("--db={database}"));
    }
    command.args(["--", "--columns=name,datapath_type,ports", "list", "Bridge"]);
    command.args(["--", "--columns=_uuid,interfaces", "list", "Port"]);
    command.args(["--", "--columns=_uuid,name,type", "list", "Interface"]);
    let output = command.output().map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => OvsError::NotInstalled,
        _ => OvsError::Failed(e.to_string()),
    })?;
    if output.status.success() {
        return parse(&String::from_utf8_lossy(&output.stdout));
    }
    Err(failure(&String::from_utf8_lossy(&output.stderr), output.status.code()))
}

/// Tells an instance that does not run from other failures. A timeout ends ovs-vsctl by a signal.
fn failure(stderr: &str, code: Option<i32>) -> OvsError {
    if code.is_none() || stderr.contains("database connection failed") {
        return OvsError::NotRunning;
    }
    let line = stderr.lines().find(|line| !line.trim().is_empty()).unwrap_or("no reason given");
    OvsError::Failed(line.trim().to_owned())
}

/// Reads the three tables, one JSON value each, in the order asked for (RFC 7047, 5.1 for the values).
fn parse(stdout: &str) -> Result<Vec<Bridge>, OvsError> {
    let bad = |what: &str| OvsError::BadAnswer(what.to_owned());
    let mut tables = serde_json::Deserializer::from_str(stdout).into_iter::<Value>();
    let mut table = |name: &str| match tables.next() {
        Some(Ok(value)) => rows(&value).ok_or_else(|| bad(name)),
        Some(Err(e)) => Err(bad(&format!("{name}: {e}"))),
        None => Err(bad(&format!("no table {name}"))),
    };
    let (bridges, ports, interfaces) = (table("Bridge")?, table("Port")?, table("Interface")?);

    let mut interface_of: BTreeMap<String, Port> = BTreeMap::new();
    for row in &interfaces {
        let uuid = row_uuid(row).ok_or_else(|| bad("Interface"))?;
        let name = word(row.get(1)).ok_or_else(|| bad("Interface"))?;
        interface_of.insert(uuid, Port { name, kind: word(row.get(2)).unwrap_or_default() });
    }
    let mut interfaces_of: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in &ports {
        let uuid = row_uuid(row).ok_or_else(|| bad("Port"))?;
        interfaces_of.insert(uuid, row.get(1).and_then(uuids).ok_or_else(|| bad("Port"))?);
    }
    let mut found = Vec::new();
    for row in &bridges {
        let name = word(row.first()).ok_or_else(|| bad("Bridge"))?;
        let members = row.get(2).and_then(uuids).ok_or_else(|| bad("Bridge"))?;
        // A row that changes between two tables may be missing: what is not known is not a port yet.
        let mut ports: Vec<Port> = members
            .iter()
            .filter_map(|port| interfaces_of.get(port))
            .flatten()
            .filter_map(|interface| interface_of.get(interface).cloned())
            .collect();
        ports.sort_by(|a, b| a.name.cmp(&b.name));
        found.push(Bridge { name, datapath_type: word(row.get(1)).unwrap_or_default(), ports });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

fn rows(table: &Value) -> Option<Vec<Vec<Value>>> {
    table.get("data")?.as_array()?.iter().map(|row| row.as_array().cloned()).collect()
}

fn word(value: Option<&Value>) -> Option<String> {
    value?.as_str().map(str::to_owned)
}

/// The row's own id, its first column.
fn row_uuid(row: &[Value]) -> Option<String> {
    uuids(row.first()?)?.into_iter().next()
}

/// `["uuid", x]` or `["set", [["uuid", x], ...]]`.
fn uuids(value: &Value) -> Option<Vec<String>> {
    match value.get(0)?.as_str()? {
        "uuid" => Some(vec![value.get(1)?.as_str()?.to_owned()]),
        "set" => value.get(1)?.as_array()?.iter().map(|item| uuids(item)?.into_iter().next()).collect(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = r#"{"data":[["s2","netdev",["uuid","p3"]],["s1","netdev",["set",[["uuid","p1"],["uuid","p2"]]]]],"headings":["name","datapath_type","ports"]}
{"data":[[["uuid","p1"],["uuid","i1"]],[["uuid","p2"],["set",[["uuid","i2"],["uuid","i0"]]]],[["uuid","p3"],["uuid","i3"]]],"headings":["_uuid","interfaces"]}
{"data":[[["uuid","i0"],"eth8",""],[["uuid","i1"],"s1","internal"],[["uuid","i2"],"s1-eth1",""],[["uuid","i3"],"s2","internal"]],"headings":["_uuid","name","type"]}
"#;

    fn port(name: &str, kind: &str) -> Port {
        Port { name: name.to_owned(), kind: kind.to_owned() }
    }

    #[test]
    fn bridges_ports_and_bonds() {
        let bridges = parse(ANSWER).expect("answer");
        assert_eq!(bridges.iter().map(|b| b.name.as_str()).collect::<Vec<_>>(), ["s1", "s2"]);
        assert_eq!(bridges[0].ports, [port("eth8", ""), port("s1", "internal"), port("s1-eth1", "")]);
        assert_eq!(bridges[0].datapath_type, "netdev");
        assert_eq!(bridges[1].ports, [port("s2", "internal")]);
    }

    #[test]
    fn no_bridge_at_all() {
        let answer = r#"{"data":[],"headings":[]}{"data":[],"headings":[]}{"data":[],"headings":[]}"#;
        assert_eq!(parse(answer).expect("answer"), []);
    }

    #[test]
    fn a_port_that_vanished_between_the_tables_is_left_out() {
        let answer = ANSWER.replace(r#"[["uuid","i2"],"s1-eth1",""],"#, "");
        assert_eq!(parse(&answer).expect("answer")[0].ports, [port("eth8", ""), port("s1", "internal")]);
    }

    #[test]
    fn rubbish_is_an_error_and_no_panic() {
        for text in ["", "{", "[]", "{}{}{}", r#"{"data":[1]}"#, r#"{"data":[[1]]}{"data":[[]]}{"data":[]}"#]
        {
            assert!(matches!(parse(text), Err(OvsError::BadAnswer(_))), "{text}");
        }
        for end in 0..ANSWER.len() - 2 {
            if let Some(text) = ANSWER.get(..end) {
                assert!(parse(text).is_err(), "cut at {end}");
            }
        }
    }

    #[test]
    fn a_stopped_instance_is_told_from_other_failures() {
        let stderr =
            "ovs-vsctl: unix:/var/run/openvswitch/db.sock: database connection failed (No such file)\n";
        assert!(matches!(failure(stderr, Some(1)), OvsError::NotRunning));
        assert!(matches!(failure("", None), OvsError::NotRunning));
        assert!(
            matches!(failure("ovs-vsctl: no such table\n", Some(1)), OvsError::Failed(text) if text.contains("table"))
        );
    }
}
