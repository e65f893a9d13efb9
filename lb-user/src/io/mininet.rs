//! The processes that Mininet started.
//!
//! Mininet gives every node a shell whose last argument is `mininet:NAME`. A host's shell sits in a
//! network namespace of its own; those of switches and controllers (and of hosts that were made
//! with `inNamespace=False`) sit in Mininet's own namespace.

use std::collections::BTreeMap;
use std::fs;
use std::io;

use serde::{Deserialize, Serialize};

use super::netns::{NetNs, NetNsError, NsId, NsRef};

/// The marker before a node's name.
const MARKER: &str = "mininet:";

/// One Mininet node, seen through its shell.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Node {
    /// Mininet's name for it, such as `h1`.
    pub name: String,
    /// Process id of its shell.
    pub pid: u32,
    /// Network namespace of its shell.
    pub ns: NsRef,
}

/// The nodes that run now, each list sorted by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nodes {
    /// Nodes in a network namespace other than ours.
    pub hosts: Vec<Node>,
    /// Nodes in our own namespace: switches, controllers, hosts without a namespace.
    pub local: Vec<Node>,
}

impl Nodes {
    /// The hosts of this name; more than one if several Mininets run.
    pub fn hosts_named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Node> {
        self.hosts.iter().filter(move |node| node.name == name)
    }

    /// The name of the host whose namespace this is.
    pub fn host_in(&self, ns: NsId) -> Option<&Node> {
        self.hosts.iter().find(|node| node.ns.id == ns)
    }
}

/// Why the processes could not be looked through.
#[derive(Debug, thiserror::Error)]
pub enum MininetError {
    /// /proc is not there.
    #[error("cannot list the processes in /proc: {0}")]
    Proc(#[source] io::Error),
    /// A Mininet process is another user's.
    #[error("no permission to look into process {pid} of Mininet's {name}; run as root")]
    Permission {
        /// The process.
        pid: u32,
        /// The node's name.
        name: String,
    },
    /// Our own namespace cannot be read.
    #[error(transparent)]
    NetNs(#[from] NetNsError),
}

/// The node name in the bytes of a /proc/PID/cmdline, if its last argument is `mininet:NAME`.
pub fn node_name(cmdline: &[u8]) -> Option<&str> {
    let last = cmdline.split(|&b| b == 0).rfind(|argument| !argument.is_empty())?;
    let name = std::str::from_utf8(last).ok()?.strip_prefix(MARKER)?;
    (!name.is_empty()).then_some(name)
}

/// Looks through all processes. A process that ends meanwhile is left out.
pub fn find() -> Result<Nodes, MininetError> {
    let ours = NetNs::current()?.id();
    let mut seen = Vec::new();
    for entry in fs::read_dir("/proc").map_err(MininetError::Proc)?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(cmdline) = fs::read(entry.path().join("cmdline")) else { continue };
        let Some(name) = node_name(&cmdline) else { continue };
        match NetNs::by_pid(pid) {
            Ok(ns) => {
                let ns = NsRef { id: ns.id(), path: ns.path().to_owned() };
                let node = Node { name: name.to_owned(), pid, ns };
                seen.push((start_time(pid), node));
            }
            Err(NetNsError::Permission { .. }) => {
                return Err(MininetError::Permission { pid, name: name.to_owned() });
            }
            Err(_) => {}
        }
    }
    Ok(sort_out(seen, ours))
}

/// Sorts nodes into hosts and others. A shell that forked shows its command line twice: of the
/// processes of one name in one namespace the oldest is the node, and then the lowest process id.
fn sort_out(mut seen: Vec<(u64, Node)>, ours: NsId) -> Nodes {
    seen.sort_by_key(|(started, node)| (*started, node.pid));
    let mut oldest: BTreeMap<(String, NsId), Node> = BTreeMap::new();
    for (_, node) in seen {
        oldest.entry((node.name.clone(), node.ns.id)).or_insert(node);
    }
    let (hosts, local) = oldest.into_values().partition(|node| node.ns.id != ours);
    Nodes { hosts, local }
}

/// Start time of a process in clock ticks since boot (proc(5), field 22 of stat); 0 if it ended.
fn start_time(pid: u32) -> u64 {
    fs::read_to_string(format!("/proc/{pid}/stat")).ok().and_then(|stat| parse_start_time(&stat)).unwrap_or(0)
}

/// Field 2 is the name in parentheses, which may itself hold blanks and parentheses.
fn parse_start_time(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn node(name: &str, pid: u32, ino: u64) -> Node {
        let path = PathBuf::from(format!("/proc/{pid}/ns/net"));
        Node { name: name.to_owned(), pid, ns: NsRef { id: NsId { dev: 4, ino }, path } }
    }

    #[test]
    fn the_last_argument_names_the_node() {
        let rows: [(&[u8], Option<&str>); 9] = [
            (b"bash\0--norc\0--noediting\0-is\0mininet:h1\0", Some("h1")),
            (b"bash\0-is\0mininet:s1", Some("s1")),
            (b"bash\0-is\0mininet:h1\0\0\0", Some("h1")),
            (b"grep\0mininet:h1\0/proc\0", None),
            (b"bash\0-is\0mininet:\0", None),
            (b"bash\0-is\0xmininet:h1\0", None),
            (b"bash\0-is\0mininet:\xff\0", None),
            (b"", None),
            (b"\0\0", None),
        ];
        for (cmdline, want) in rows {
            assert_eq!(node_name(cmdline), want, "{:?}", String::from_utf8_lossy(cmdline));
        }
    }

    #[test]
    fn hosts_are_those_in_another_namespace() {
        let ours = NsId { dev: 4, ino: 1 };
        let seen = vec![(5, node("s1", 30, 1)), (4, node("h2", 20, 8)), (3, node("h1", 10, 7))];
        let nodes = sort_out(seen, ours);
        assert_eq!(nodes.hosts, [node("h1", 10, 7), node("h2", 20, 8)]);
        assert_eq!(nodes.local, [node("s1", 30, 1)]);
        assert_eq!(nodes.host_in(NsId { dev: 4, ino: 8 }), Some(&node("h2", 20, 8)));
    }

    #[test]
    fn a_forked_shell_is_not_a_second_node() {
        let ours = NsId { dev: 4, ino: 1 };
        let nodes = sort_out(vec![(9, node("h1", 11, 7)), (3, node("h1", 4000, 7))], ours);
        assert_eq!(nodes.hosts, [node("h1", 4000, 7)]);
    }

    #[test]
    fn two_mininets_keep_both_hosts() {
        let ours = NsId { dev: 4, ino: 1 };
        let nodes = sort_out(vec![(3, node("h1", 10, 7)), (4, node("h1", 20, 9))], ours);
        assert_eq!(nodes.hosts_named("h1").count(), 2);
    }

    #[test]
    fn start_time_skips_a_name_with_blanks_and_parentheses() {
        let stat = "42 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 777 20 21";
        assert_eq!(parse_start_time(stat), Some(777));
        assert_eq!(parse_start_time("42 (x) S 1"), None);
        assert_eq!(parse_start_time(""), None);
    }
}
