//! What keeps the balancer from working here, and the command that mends it.
//!
//! [`collect`] asks the machine, [`checks`] judges: a pure function, so that every finding has a test.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::discovery::{self, HostPort};
use super::ethtool::{self, Offloads};
use super::facts::gather;
use super::link::{XdpAttachment, XdpMode};
use super::netns::{NetNs, NsId, NsRef};
use super::ovs::{self, OvsError};
use super::sys::{self, KernelVersion};

/// The oldest kernel that the program is loaded on in the tests.
const TESTED_KERNEL: KernelVersion = KernelVersion { major: 6, minor: 1 };
/// The oldest kernel with XDP programs that take frames of several buffers.
const OLDEST_KERNEL: KernelVersion = KernelVersion { major: 5, minor: 18 };

/// What attaches everything, once and anew.
const START: &str = "lb run --config lb.toml";
const START_AGAIN: &str = "lb detach && lb run --config lb.toml";

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Ok,
    /// It works, but not as well as it could, or `lb run` will see to it.
    Warn,
    /// It does not work.
    Fail,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What was looked at, such as `tx-checksum`; the same for every interface.
    pub name: String,
    /// Where: an interface and its namespace, a folder; empty for the machine.
    pub subject: String,
    /// How much it matters.
    pub status: Status,
    /// What was found.
    pub what: String,
    /// The command that mends it, or shows more where none can; none if all is well.
    pub mend: Option<String>,
}

/// How a program was attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Via {
    /// By a link: it can be pinned, and replaced without a gap.
    Link,
    /// By netlink, for want of a link.
    Netlink,
}

/// What to look at.
#[derive(Debug, Clone)]
pub struct Question {
    /// The folder of the pins, or the mount point above it.
    pub bpffs: PathBuf,
    /// The interfaces named with `--attach`; none: all host-facing ports.
    pub attach: Vec<String>,
    /// The host of the one-armed placement; `None` is inline.
    pub onearm_host: Option<String>,
    /// The interfaces to which a running daemon attached programs; `None` if there is no daemon.
    pub attached: Option<BTreeMap<(NsId, u32), Via>>,
}

/// One end of a veth pair, or a hardware port.
#[derive(Debug, Clone)]
pub struct Side {
    /// Its namespace.
    pub ns: NsRef,
    /// What to call that; empty for our own.
    pub host: String,
    /// Its name.
    pub ifname: String,
    /// Its index in that namespace.
    pub ifindex: u32,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// The XDP program on it.
    pub xdp: Option<XdpAttachment>,
}

/// An interface for the balancer's program, and its other end.
#[derive(Debug, Clone)]
pub struct Pair {
    /// Where the balancer's program belongs.
    pub balancer: Side,
    /// Where the pass program belongs; `None` for hardware.
    pub partner: Option<Side>,
    /// The qdisc that keeps packets from being redirected to it.
    pub shaping: Option<String>,
}

/// Offloads in force that hide something from XDP.
#[derive(Debug, Clone)]
pub struct OffloadsOn {
    /// The interface.
    pub side: Side,
    /// Which were looked for.
    pub wanted_off: Offloads,
    /// Those in force, or why that is not known.
    pub active: Result<Vec<String>, String>,
}

/// The part of the machine that the placement is made of.
#[derive(Debug, Clone, Default)]
pub struct Network {
    /// Where programs belong.
    pub pairs: Vec<Pair>,
    /// The interfaces whose offloads matter.
    pub offloads: Vec<OffloadsOn>,
    /// Switch ports that are not taken: name and reason.
    pub skipped: Vec<(String, String)>,
}

/// Everything that the checks judge.
#[derive(Debug, Clone)]
pub struct Findings {
    /// Version of the kernel, if it can be read.
    pub kernel: Option<KernelVersion>,
    /// The kernel shows its type information.
    pub btf: bool,
    /// The folder of the pins.
    pub bpffs_path: PathBuf,
    /// Whether that is on a BPF file system, or why that is not known.
    pub bpffs: Result<bool, String>,
    /// Missing capabilities.
    pub missing_capabilities: Vec<String>,
    /// Number of Open vSwitch's bridges, or why it does not answer.
    pub ovs: Result<usize, OvsError>,
    /// The ports and hosts, or why there are none.
    pub network: Result<Network, String>,
    /// As in [`Question::attached`].
    pub attached: Option<BTreeMap<(NsId, u32), Via>>,
}

/// Asks the machine. Needs a tokio runtime around it; without root it finds less and says so.
pub async fn collect(question: Question) -> Findings {
    let ovs = tokio::task::spawn_blocking(ovs::bridges).await;
    let ovs = ovs.unwrap_or_else(|e| Err(OvsError::Failed(e.to_string()))).map(|bridges| bridges.len());
    let network = network(&question).await;
    Findings {
        kernel: KernelVersion::running(),
        btf: sys::has_btf(),
        bpffs: existing_ancestor(&question.bpffs, |path| sys::is_bpffs(path).map_err(|e| e.to_string())),
        bpffs_path: question.bpffs,
        missing_capabilities: sys::missing_capabilities().into_iter().map(str::to_owned).collect(),
        ovs,
        network,
        attached: question.attached,
    }
}

/// The folder of the pins is made by the daemon: until then, what it will be made in counts.
fn existing_ancestor<T>(path: &Path, look: impl Fn(&Path) -> Result<T, String>) -> Result<T, String> {
    let there = path.ancestors().find(|folder| folder.exists()).unwrap_or(path);
    look(there)
}

async fn network(question: &Question) -> Result<Network, String> {
    let facts = gather().await.map_err(|e| e.to_string())?;
    let own = facts.root.clone();
    let mut network = Network::default();
    let ports = match &question.onearm_host {
        None => {
            let found = discovery::inline(&facts, &question.attach, &[]).map_err(|e| e.to_string())?;
            network.skipped = found.skipped.into_iter().map(|s| (s.ifname, s.reason)).collect();
            network.pairs = found.ports.iter().map(|port| inline_pair(&own, port)).collect();
            found.ports
        }
        Some(host) => {
            let found = discovery::onearm(&facts, host, &[]).map_err(|e| e.to_string())?;
            let Pair { balancer, partner, .. } = inline_pair(&own, &found.port);
            network.pairs = partner
                .map(|nic| Pair { balancer: nic, partner: Some(balancer), shaping: found.nic_shaping })
                .into_iter()
                .collect();
            found.ports
        }
    };
    for port in &ports {
        let Pair { balancer, partner, .. } = inline_pair(&own, port);
        network.offloads.push(match partner {
            Some(host) => offloads_on(host, Offloads::PEER),
            None => offloads_on(balancer, Offloads::NIC),
        });
    }
    Ok(network)
}

fn inline_pair(own: &NsRef, port: &HostPort) -> Pair {
    let balancer = Side {
        ns: own.clone(),
        host: String::new(),
        ifname: port.ifname.clone(),
        ifindex: port.ifindex,
        mtu: port.mtu,
        xdp: port.xdp,
    };
    let partner = port.peer.as_ref().map(|peer| Side {
        ns: peer.ns.clone(),
        host: if peer.ns.id == own.id { String::new() } else { peer.label.clone() },
        ifname: peer.ifname.clone(),
        ifindex: peer.ifindex,
        mtu: peer.mtu,
        xdp: peer.xdp,
    });
    Pair { balancer, partner, shaping: port.shaping.clone() }
}

fn offloads_on(side: Side, wanted_off: Offloads) -> OffloadsOn {
    let active = NetNs::open(&side.ns)
        .map_err(|e| e.to_string())
        .and_then(|ns| ethtool::active(&ns, &side.ifname, wanted_off).map_err(|e| e.to_string()));
    OffloadsOn { side, wanted_off, active }
}

impl Side {
    /// `h1-eth0 in h1`.
    fn subject(&self) -> String {
        if self.host.is_empty() { self.ifname.clone() } else { format!("{} in {}", self.ifname, self.host) }
    }

    /// A command that runs in its namespace.
    fn command(&self, command: &str) -> String {
        if self.host.is_empty() {
            command.to_owned()
        } else {
            format!("{} {command}", self.ns.enter_command())
        }
    }
}

/// Judges. The machine comes first, then interface by interface; nothing is left out for being well.
pub fn checks(findings: &Findings) -> Vec<Check> {
    let mut checks = vec![
        kernel(findings.kernel),
        btf(findings.btf),
        bpffs(&findings.bpffs_path, &findings.bpffs),
        privileges(&findings.missing_capabilities),
        open_vswitch(&findings.ovs),
    ];
    match &findings.network {
        Err(reason) => {
            checks.push(check("ports", "", Status::Fail, reason, Some("ip -brief link")));
        }
        Ok(network) => {
            checks.push(ports(network));
            for pair in &network.pairs {
                pair_checks(pair, findings.attached.as_ref(), &mut checks);
            }
            let in_use = network.pairs.iter().any(|pair| pair.balancer.xdp.is_some());
            for offloads in &network.offloads {
                offload_checks(offloads, in_use, &mut checks);
            }
            checks.extend(mtu(network));
        }
    }
    checks
}

/// The worst status among the checks.
pub fn worst(checks: &[Check]) -> Status {
    checks.iter().map(|check| check.status).max().unwrap_or(Status::Ok)
}

fn check(name: &str, subject: &str, status: Status, what: &str, mend: Option<&str>) -> Check {
    Check {
        name: name.to_owned(),
        subject: subject.to_owned(),
        status,
        what: what.to_owned(),
        mend: mend.map(str::to_owned),
    }
}

fn kernel(version: Option<KernelVersion>) -> Check {
    let mend = Some("apt-get install linux-image-amd64 && reboot");
    match version {
        None => check("kernel", "", Status::Warn, "its version cannot be read", Some("uname -r")),
        Some(version) if version < OLDEST_KERNEL => {
            let what = format!("{version}: XDP needs {OLDEST_KERNEL} for frames of several buffers");
            check("kernel", "", Status::Fail, &what, mend)
        }
        Some(version) if version < TESTED_KERNEL => {
            let what = format!("{version}: older than {TESTED_KERNEL}, the oldest that is tested");
            check("kernel", "", Status::Warn, &what, mend)
        }
        Some(version) => check("kernel", "", Status::Ok, &version.to_string(), None),
    }
}

fn btf(there: bool) -> Check {
    if there {
        return check("btf", "", Status::Ok, "the kernel shows its types", None);
    }
    let what = "no /sys/kernel/btf/vmlinux: the kernel was built without CONFIG_DEBUG_INFO_BTF";
    check("btf", "", Status::Fail, what, Some("apt-get install linux-image-amd64 && reboot"))
}

fn bpffs(path: &Path, there: &Result<bool, String>) -> Check {
    let subject = path.display().to_string();
    // Pins live in a folder below; the file system itself belongs at its customary place.
    let mount_point = if path.starts_with("/sys/fs/bpf") { Path::new("/sys/fs/bpf") } else { path };
    let mend = format!("mount -t bpf bpf {}", mount_point.display());
    match there {
        Ok(true) => check("bpffs", &subject, Status::Ok, "a BPF file system", None),
        Ok(false) => check("bpffs", &subject, Status::Fail, "no BPF file system is mounted", Some(&mend)),
        Err(reason) => {
            check("bpffs", &subject, Status::Fail, &format!("cannot be looked at: {reason}"), Some(&mend))
        }
    }
}

fn privileges(missing: &[String]) -> Check {
    if missing.is_empty() {
        return check("privileges", "", Status::Ok, "all that are needed", None);
    }
    let what = format!("missing {}", missing.join(", "));
    check("privileges", "", Status::Fail, &what, Some("sudo lb doctor"))
}

fn open_vswitch(answer: &Result<usize, OvsError>) -> Check {
    match answer {
        Ok(count) => check("openvswitch", "", Status::Ok, &format!("answers; bridges: {count}"), None),
        Err(OvsError::NotInstalled) => {
            let mend = Some("apt-get install openvswitch-switch");
            check("openvswitch", "", Status::Warn, "ovs-vsctl is not installed", mend)
        }
        Err(OvsError::NotRunning) => {
            let mend = Some("/usr/share/openvswitch/scripts/ovs-ctl start");
            check("openvswitch", "", Status::Fail, "it is not running", mend)
        }
        Err(other) => check("openvswitch", "", Status::Fail, &other.to_string(), Some("ovs-vsctl show")),
    }
}

fn ports(network: &Network) -> Check {
    let names: Vec<_> = network.pairs.iter().map(|pair| pair.balancer.subject()).collect();
    let mut what = names.join(", ");
    for (name, reason) in &network.skipped {
        what.push_str(&format!("; not {name}: {reason}"));
    }
    check("ports", "", Status::Ok, &what, None)
}

fn pair_checks(pair: &Pair, attached: Option<&BTreeMap<(NsId, u32), Via>>, checks: &mut Vec<Check>) {
    checks.push(program(&pair.balancer, attached));
    if let Some(partner) = &pair.partner {
        checks.push(peer_program(partner, pair.balancer.xdp.is_some()));
    }
    if let Some(kind) = &pair.shaping {
        let what = format!(
            "its qdisc {kind} shapes, so what leaves through it passes the switch and is not redirected; \
             right if the limit is wanted"
        );
        let mend = pair.balancer.command(&format!("tc qdisc del dev {} root", pair.balancer.ifname));
        checks.push(check("shaping", &pair.balancer.subject(), Status::Warn, &what, Some(&mend)));
    }
}

/// The program of the balancer: there, ours, native, and by a link.
fn program(side: &Side, attached: Option<&BTreeMap<(NsId, u32), Via>>) -> Check {
    let subject = side.subject();
    let via = attached.and_then(|attached| attached.get(&(side.ns.id, side.ifindex)));
    let Some(xdp) = side.xdp else {
        return match attached {
            Some(_) => {
                let what = "the daemon runs and has no program here";
                check("program", &subject, Status::Fail, what, Some(START_AGAIN))
            }
            None => check(
                "program",
                &subject,
                Status::Warn,
                "no XDP program yet: lb run attaches it",
                Some(START),
            ),
        };
    };
    let what = format!("program {} in {} mode", xdp.prog_id, xdp.mode);
    if attached.is_some() && via.is_none() {
        let what = format!("{what}, which is not ours; one that is attached by a link ends with its program");
        let word = if xdp.mode == XdpMode::Generic { "xdpgeneric" } else { "xdp" };
        let mend = side.command(&format!("ip link set dev {} {word} off", side.ifname));
        return check("program", &subject, Status::Fail, &what, Some(&mend));
    }
    if via == Some(&Via::Netlink) {
        let what = format!("{what}, attached by netlink: it cannot be pinned, nor replaced without a gap");
        return check("program", &subject, Status::Warn, &what, Some(START_AGAIN));
    }
    if xdp.mode != XdpMode::Native {
        let what = format!("{what}: slower than native, which not every driver has");
        return check("program", &subject, Status::Warn, &what, Some(START_AGAIN));
    }
    check("program", &subject, Status::Ok, &what, None)
}

/// Without a program on the peer, frames that XDP sends back or redirects to a veth vanish, uncounted.
fn peer_program(side: &Side, in_use: bool) -> Check {
    let subject = side.subject();
    match side.xdp {
        Some(xdp) => {
            let what = format!("program {} in {} mode", xdp.prog_id, xdp.mode);
            check("peer-program", &subject, Status::Ok, &what, None)
        }
        None if in_use => {
            let what = "no XDP program: frames that XDP sends to this veth are lost without a count; \
                        lb run puts the pass program there";
            check("peer-program", &subject, Status::Fail, what, Some(START_AGAIN))
        }
        None => {
            let what = "no XDP program yet: lb run puts the pass program there";
            check("peer-program", &subject, Status::Warn, what, Some(START))
        }
    }
}

fn offload_checks(offloads: &OffloadsOn, in_use: bool, checks: &mut Vec<Check>) {
    let side = &offloads.side;
    let subject = side.subject();
    let active = match &offloads.active {
        Ok(active) => active,
        Err(reason) => {
            let mend = side.command(&format!("ethtool -k {}", side.ifname));
            checks.push(check(
                "offloads",
                &subject,
                Status::Warn,
                &format!("cannot be read: {reason}"),
                Some(&mend),
            ));
            return;
        }
    };
    let status = if in_use { Status::Fail } else { Status::Warn };
    let mut judge = |wanted: bool, name: &str, prefix: &str, switch: &str, harm: &str| {
        if !wanted {
            return;
        }
        let on: Vec<&str> = active.iter().filter(|f| f.starts_with(prefix)).map(String::as_str).collect();
        if on.is_empty() {
            checks.push(check(name, &subject, Status::Ok, "off", None));
            return;
        }
        // The customary switch covers the customary feature; the others have a name only.
        let others = on.iter().filter(|f| f.contains("stag")).map(|f| format!(" {f} off"));
        let arguments = format!("{switch} off{}", others.collect::<String>());
        let mend = side.command(&format!("ethtool -K {} {arguments}", side.ifname));
        let note = if in_use { "" } else { "; lb run turns it off, and lb detach restores it" };
        let what = format!("{} on: {harm}{note}", on.join(", "));
        checks.push(check(name, &subject, status, &what, Some(&mend)));
    };
    let wanted = offloads.wanted_off;
    let harm = "packets reach XDP with unfinished checksums, and receivers drop them after it";
    judge(wanted.tx_checksum, "tx-checksum", "tx-checksum-", "tx", harm);
    judge(wanted.tx_vlan, "tx-vlan", "tx-vlan-", "txvlan", "tagged frames reach XDP without their tag");
    judge(wanted.rx_vlan, "rx-vlan", "rx-vlan-", "rxvlan", "tagged frames reach XDP without their tag");
}

/// Frames that fit one interface and not the next are lost: XDP does not fragment.
fn mtu(network: &Network) -> Option<Check> {
    let sides = network.pairs.iter().flat_map(|pair| [Some(&pair.balancer), pair.partner.as_ref()]).flatten();
    let smallest = sides.clone().map(|side| side.mtu).min()?;
    let larger: Vec<&Side> = sides.filter(|side| side.mtu > smallest).collect();
    if larger.is_empty() {
        return Some(check("mtu", "", Status::Ok, &format!("{smallest} everywhere"), None));
    }
    let list: Vec<_> = larger.iter().map(|side| format!("{} {}", side.subject(), side.mtu)).collect();
    let mends: Vec<_> = larger
        .iter()
        .map(|side| side.command(&format!("ip link set dev {} mtu {smallest}", side.ifname)))
        .collect();
    let what =
        format!("{smallest} and more: {}; frames longer than the target's MTU are lost", list.join(", "));
    Some(check("mtu", "", Status::Warn, &what, Some(&mends.join("; "))))
}

#[cfg(test)]
#[path = "doctor_tests.rs"]
mod tests;
