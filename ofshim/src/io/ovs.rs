//! Asks Open vSwitch about its bridges, by its own tools (`ovs-vsctl`, `ovs-appctl`, `ovs-ofctl`).
//!
//! `OVS_RUNDIR` and the other variables of these tools choose another instance.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::doctor::{self, Bridge, Interface, Ovs, START_OVS, Target, Trouble, entries};

/// Seconds that a tool may wait for its answer.
const TIMEOUT: &str = "--timeout=5";

/// Open vSwitch with the bridges of these names, or all.
///
/// # Errors
/// It cannot be asked.
pub fn collect(names: &[String]) -> Result<Ovs, Trouble> {
    let whole = table("Open_vSwitch", "ovs_version,ssl")?;
    let root = whole.first();
    let text = |row: &Row, column: &str| row.get(column).and_then(scalar).unwrap_or_default();
    let controllers = by_uuid(table("Controller", "_uuid,target,is_connected,role,status")?);
    let ports = by_uuid(table("Port", "_uuid,interfaces")?);
    let interfaces = by_uuid(table("Interface", "_uuid,name,admin_state,link_state,error")?);
    let columns = "name,datapath_id,protocols,fail_mode,controller,other_config,ports,stp_enable,rstp_enable";
    let mut bridges = Vec::new();
    for row in table("Bridge", columns)? {
        let name = text(&row, "name");
        if !names.is_empty() && !names.contains(&name) {
            continue;
        }
        let of = |rows: &BTreeMap<String, Row>, row: &Row, column: &str| -> Vec<Row> {
            let ids = row.get(column).map(set).unwrap_or_default();
            ids.iter().filter_map(|id| rows.get(id)).cloned().collect()
        };
        let ports = of(&ports, &row, "ports");
        let its: Vec<Row> = ports.iter().flat_map(|port| of(&interfaces, port, "interfaces")).collect();
        let mut bridge = Bridge {
            dpid: text(&row, "datapath_id"),
            protocols: row.get("protocols").map(set).unwrap_or_default(),
            fail_mode: row.get("fail_mode").and_then(scalar),
            out_of_band: row.get("other_config").and_then(|map| entry(map, "disable-in-band")).as_deref()
                == Some("true"),
            spanning_tree: ["stp_enable", "rstp_enable"].iter().any(|column| text(&row, column) == "true"),
            controllers: of(&controllers, &row, "controller").iter().map(target).collect(),
            interfaces: its.iter().map(interface).collect(),
            entries: Ok(Vec::new()),
            name,
        };
        bridge.controllers.sort_by(|a, b| a.address.cmp(&b.address));
        bridge.interfaces.sort_by(|a, b| a.name.cmp(&b.name));
        bridge.entries = listed(&bridge);
        bridges.push(bridge);
    }
    bridges.sort_by(|a, b| a.name.cmp(&b.name));
    let daemon = run("ovs-appctl", &[TIMEOUT, "--target=ovs-vswitchd", "version"]);
    // "ovs-vswitchd (Open vSwitch) 3.1.0"
    let version =
        daemon.as_ref().ok().and_then(|told| Some(told.lines().next()?.split(' ').next_back()?.to_owned()));
    Ok(Ovs {
        version: version.or_else(|| root.map(|row| text(row, "ovs_version"))).unwrap_or_default(),
        daemon_trouble: daemon.err().map(|told| told.what),
        has_ssl: root.and_then(|row| row.get("ssl")).is_some_and(|ssl| !set(ssl).is_empty()),
        bridges,
    })
}

fn target(row: &Row) -> Target {
    Target {
        address: row.get("target").and_then(scalar).unwrap_or_default(),
        connected: row.get("is_connected").and_then(scalar).as_deref() == Some("true"),
        role: row.get("role").and_then(scalar),
        error: row.get("status").and_then(|map| entry(map, "last_error")),
    }
}

fn interface(row: &Row) -> Interface {
    let is_up = |column: &str| row.get(column).and_then(scalar).as_deref() == Some("up");
    Interface {
        name: row.get("name").and_then(scalar).unwrap_or_default(),
        enabled: is_up("admin_state"),
        up: is_up("link_state"),
        error: row.get("error").and_then(scalar).filter(|error| !error.is_empty()),
    }
}

fn listed(bridge: &Bridge) -> Result<Vec<entries::Entry>, String> {
    let Some(version) = doctor::spoken(bridge) else {
        return Err("no version of OpenFlow that ofshim speaks is enabled".to_owned());
    };
    let dump = run("ovs-ofctl", &[TIMEOUT, "-O", version, "dump-flows", &bridge.name]);
    dump.map(|dump| entries::parse(&dump)).map_err(|told| told.what)
}

/// A row of the database by column.
type Row = BTreeMap<String, Value>;

/// Rows of a table with these columns, as OVSDB writes values (RFC 7047, 5.1).
fn table(name: &str, columns: &str) -> Result<Vec<Row>, Trouble> {
    let columns = format!("--columns={columns}");
    let told = run("ovs-vsctl", &[TIMEOUT, "--format=json", &columns, "list", name])?;
    let unknown = || Trouble { what: format!("ovs-vsctl answered in an unknown form: {told}"), mend: None };
    let table: Value = serde_json::from_str(&told).map_err(|_| unknown())?;
    let (Some(head), Some(rows)) = (table["headings"].as_array(), table["data"].as_array()) else {
        return Err(unknown());
    };
    let names: Vec<&str> = head.iter().filter_map(Value::as_str).collect();
    let row = |row: &Value| {
        let cells = row.as_array()?.iter().cloned();
        Some(names.iter().map(|name| (*name).to_owned()).zip(cells).collect())
    };
    Ok(rows.iter().filter_map(row).collect())
}

fn by_uuid(rows: Vec<Row>) -> BTreeMap<String, Row> {
    rows.into_iter().filter_map(|row| Some((row.get("_uuid").and_then(scalar)?, row))).collect()
}

/// A single value as text; `None` for an empty set.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::Array(_) => set(value).into_iter().next(),
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// The members of `["set", [...]]`, or the one that stands for itself; a reference is `["uuid", "..."]`.
fn set(value: &Value) -> Vec<String> {
    match value.as_array().map(Vec::as_slice) {
        Some([Value::String(kind), Value::Array(members)]) if kind == "set" => {
            members.iter().filter_map(scalar).collect()
        }
        Some([Value::String(kind), Value::String(id)]) if kind == "uuid" => vec![id.clone()],
        Some(_) => Vec::new(),
        None => scalar(value).into_iter().collect(),
    }
}

/// The value of a key of `["map", [[key, value], ...]]`.
fn entry(map: &Value, key: &str) -> Option<String> {
    let pairs = map.as_array()?.get(1)?.as_array()?;
    let pair = pairs.iter().find(|pair| pair[0] == key)?;
    scalar(&pair[1])
}

/// What a tool prints.
fn run(program: &str, arguments: &[&str]) -> Result<String, Trouble> {
    let done = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let done = done.map_err(|error| {
        let mend =
            (error.kind() == ErrorKind::NotFound).then(|| "apt-get install openvswitch-switch".to_owned());
        Trouble { what: format!("{program} cannot be run: {error}"), mend }
    })?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    let told = String::from_utf8_lossy(&done.stderr).into_owned();
    let last = told.lines().last().unwrap_or("it failed and said nothing").trim().to_owned();
    let mend = if told.contains("ermission denied") { "run this as root (sudo)" } else { START_OVS };
    Err(Trouble { what: last, mend: Some(mend.to_owned()) })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_of_the_database_are_read() {
        assert_eq!(scalar(&json!("secure")).as_deref(), Some("secure"));
        assert_eq!(scalar(&json!(["set", []])), None);
        assert_eq!(scalar(&json!(true)).as_deref(), Some("true"));
        assert_eq!(set(&json!(["uuid", "a-b"])), ["a-b"]);
        assert_eq!(set(&json!(["set", [["uuid", "a"], ["uuid", "b"]]])), ["a", "b"]);
        assert_eq!(set(&json!(["set", ["OpenFlow10", "OpenFlow13"]])), ["OpenFlow10", "OpenFlow13"]);
        let map = json!(["map", [["state", "BACKOFF"], ["last_error", "Connection refused"]]]);
        assert_eq!(entry(&map, "last_error").as_deref(), Some("Connection refused"));
        assert_eq!(entry(&json!(["map", []]), "x"), None);
    }
}
