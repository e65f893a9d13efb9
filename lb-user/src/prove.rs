//! The proof that frames come through: `lb doctor` sends marked ones into the balancer's ports and looks for them where
//! they should come out. Error counters do not help here, since a veth loses frames without counting them.
//!
//! * TX: an ARP request for a VIP, which the program answers by sending the frame back.
//! * REDIRECT: TCP segments with RST for a VIP. The balancer forwards them by its table without opening a connection,
//!   and a host that knows nothing of the connection ignores them (RFC 9293, section 3.10.7.1). Which backends it chose for
//!   them, if any, its counters say: a list, a limit or full NAT refuses them, and then nothing is proven.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::api;
use crate::client;
use crate::explain::frame::{Flow, RST};
use crate::io::arp::{self, ArpOp};
use crate::io::doctor::{Check, Pair, Side, Status};
use crate::io::mac::Mac;
use crate::io::netns::NetNs;
use crate::io::packet::PacketSocket;
use crate::io::sys;

/// Whom the proof's frames come from: a locally administered MAC that nobody has, and an address for documentation
/// (RFC 5737, RFC 3849).
const MARK: Mac = Mac([0x06, 0x6c, 0x62, 0x64, 0x6f, 0x63]);
const NOBODY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const NOBODY6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
/// How long a frame may take; a healthy one takes microseconds.
const PATIENCE: Duration = Duration::from_secs(1);
/// Resets for each backend, so that the table sends some to everybody, and the most altogether.
const RESETS_EACH: usize = 16;
const MOST_RESETS: usize = 512;
/// Lets every frame through.
const EVERYTHING: [libc::sock_filter; 1] = [libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: u32::MAX }];

/// Proves what can be proven for these ports of a running balancer.
pub async fn checks(run_dir: &Path, daemon: &api::Status, pairs: &[Pair]) -> Vec<Check> {
    let ours = |pair: &&Pair| daemon.interfaces.iter().any(|i| i.name == pair.balancer.ifname);
    let pairs: Vec<&Pair> = pairs.iter().filter(ours).collect();
    let mut checks = Vec::new();
    for pair in &pairs {
        if let Some(far) = &pair.partner {
            checks.push(tx(daemon, &pair.balancer, far).await);
        }
    }
    // A port that one VIP proves nothing about, another may prove.
    let mut proofs: BTreeMap<String, Check> = BTreeMap::new();
    for vip in &daemon.vips {
        for group in groups(daemon, vip, &pairs) {
            let new = match Target::of(vip) {
                Some(target) => redirect(run_dir, vip, &target, &group).await,
                None => {
                    let why =
                        format!("not tried: VIP {} takes no TCP segment without a connection", vip.name);
                    group.targets.iter().map(|(near, _)| not_proven(near, why.clone())).collect()
                }
            };
            for proof in new {
                let known = proofs.entry(proof.check.subject.clone()).or_insert_with(|| proof.check.clone());
                if proof.is_proof {
                    *known = proof.check;
                }
            }
        }
    }
    checks.extend(proofs.into_values());
    checks
}

/// What frames for a VIP say of a port.
struct Proof {
    check: Check,
    /// Whether they say anything.
    is_proof: bool,
}

fn not_proven(near: &Side, why: String) -> Proof {
    Proof { check: check("redirect", near, Ok(why)), is_proof: false }
}

/// `s1-eth1`, or with the host it is in.
fn subject(side: &Side) -> String {
    if side.host.is_empty() { side.ifname.clone() } else { format!("{} in {}", side.ifname, side.host) }
}

fn check(name: &str, side: &Side, result: Result<String, String>) -> Check {
    let (status, what) = match result {
        Ok(what) => (Status::Ok, what),
        Err(what) => (Status::Fail, what),
    };
    let mend = (status == Status::Fail).then(|| "lb detach && lb run --config lb.toml".to_owned());
    Check { name: name.to_owned(), subject: subject(side), status, what, mend }
}

fn open(side: &Side) -> Result<PacketSocket, String> {
    let ns = NetNs::open(&side.ns).map_err(|error| error.to_string())?;
    PacketSocket::open(&ns, side.ifindex, &EVERYTHING).map_err(|error| error.to_string())
}

/// Whether an ARP request that comes in by `near` is sent back to `far`, the other end of the veth.
async fn tx(daemon: &api::Status, near: &Side, far: &Side) -> Check {
    let vip = daemon.vips.iter().find_map(|vip| match vip.address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    });
    let Some(vip) = vip else {
        return check("tx", near, Ok("not tried: no VIP has an IPv4 address to ask for".to_owned()));
    };
    check("tx", near, ask(far, vip).await)
}

async fn ask(far: &Side, vip: Ipv4Addr) -> Result<String, String> {
    let socket = open(far)?;
    let request = arp::build_probe(MARK, vip, Mac::BROADCAST);
    socket.send(&request).map_err(|error| error.to_string())?;
    let end = Instant::now() + PATIENCE;
    while let Ok(received) = timeout_at(end, socket.recv()).await {
        let frame = received.map_err(|error| error.to_string())?.frame;
        let Some(answer) = arp::parse(&frame) else { continue };
        if answer.op == ArpOp::Reply && answer.sender_ip == vip && answer.target_mac == MARK {
            return Ok(format!("a marked ARP request for {vip} came back answered: {}", answer.sender_mac));
        }
    }
    Err(format!(
        "a marked ARP request for {vip} that was sent in here was not answered within {} s: frames that XDP sends back \
         are lost",
        PATIENCE.as_secs()
    ))
}

/// A TCP service of a VIP.
struct Target {
    name: String,
    address: IpAddr,
    port: u16,
    mac: Mac,
}

impl Target {
    /// `None` where nothing can be sent without opening a connection.
    fn of(vip: &api::Vip) -> Option<Self> {
        let mac = vip.mac.parse().ok()?;
        let first = || vip.ports.split('-').next().and_then(|first| first.parse().ok());
        // A VIP of every port takes discard (RFC 863) like any other.
        let port = vip.port.or_else(first).unwrap_or(9);
        // Full NAT has no port to lend to a reset.
        let takes_resets = vip.protocol == "tcp" && vip.mode != "fullnat";
        takes_resets.then(|| Self { name: vip.name.clone(), address: vip.address, port, mac })
    }
}

/// Where frames are sent in, and the ports of one switch that they are redirected to.
struct Group<'a> {
    from: &'a Side,
    entry: &'a Side,
    /// Port and other end.
    targets: Vec<(&'a Side, &'a Side)>,
    backends: usize,
}

/// One for each switch with ports that lead to backends of `vip` that are up, and a port to come in by.
fn groups<'a>(daemon: &api::Status, vip: &api::Vip, pairs: &[&'a Pair]) -> Vec<Group<'a>> {
    let mut by_switch: BTreeMap<&str, Vec<(&Pair, &api::Interface)>> = BTreeMap::new();
    for pair in pairs {
        let interface = daemon.interfaces.iter().find(|i| i.name == pair.balancer.ifname);
        if let Some((interface, switch)) = interface.and_then(|i| Some((i, i.switch.as_deref()?))) {
            by_switch.entry(switch).or_default().push((pair, interface));
        }
    }
    let up = |interface: &api::Interface| {
        let here = |b: &&api::Backend| b.state == "up" && b.interface.as_ref() == Some(&interface.name);
        vip.backends.iter().filter(here).count()
    };
    let mut groups = Vec::new();
    for ports in by_switch.into_values() {
        let targets: Vec<_> = ports
            .iter()
            .filter(|(_, interface)| interface.forward == "redirect" && up(interface) > 0)
            .filter_map(|(pair, _)| Some((&pair.balancer, pair.partner.as_ref()?)))
            .collect();
        // A port without a backend, or the last one: what comes in by a target is not proven to go out there.
        let idle = ports.iter().find(|(pair, i)| up(i) == 0 && pair.partner.is_some());
        let from = idle.or_else(|| ports.iter().rfind(|(pair, _)| pair.partner.is_some()));
        let Some((from, entry)) = from.and_then(|(pair, _)| Some((pair.partner.as_ref()?, &pair.balancer)))
        else {
            continue;
        };
        let targets: Vec<_> = targets.into_iter().filter(|(port, _)| port.ifindex != entry.ifindex).collect();
        if !targets.is_empty() {
            let backends = vip.backends.iter().filter(|backend| backend.state == "up").count();
            groups.push(Group { from, entry, targets, backends });
        }
    }
    groups
}

/// Packets to each backend of a VIP, by its id; nothing if the daemon does not say.
async fn counts(run_dir: &Path, vip: &api::Vip) -> Option<BTreeMap<u16, u64>> {
    let stats = client::stats(run_dir).await.ok()?;
    let of_vip = stats.backends.iter().filter(|backend| backend.vip == vip.name);
    Some(of_vip.map(|backend| (backend.id, backend.traffic.packets_in)).collect())
}

/// How many packets more the balancer has sent to backends of a VIP at a port.
fn sent_to(port: &Side, vip: &api::Vip, before: &BTreeMap<u16, u64>, after: &BTreeMap<u16, u64>) -> u64 {
    let here = vip.backends.iter().filter(|backend| backend.interface.as_ref() == Some(&port.ifname));
    let count = |counts: &BTreeMap<u16, u64>, id| counts.get(&id).copied().unwrap_or(0);
    here.map(|backend| count(after, backend.id).saturating_sub(count(before, backend.id))).sum()
}

/// Sends resets in and looks where they come out.
async fn redirect(run_dir: &Path, vip: &api::Vip, target: &Target, group: &Group<'_>) -> Vec<Proof> {
    let count = (group.backends * RESETS_EACH).min(MOST_RESETS);
    let mark = format!("lb doctor {:016x}", sys::clock_monotonic());
    let mut outs = Vec::new();
    for (near, far) in &group.targets {
        outs.push((*near, open(far)));
    }
    let before = counts(run_dir, vip).await;
    let sent = send_resets(target, group.from, count, mark.as_bytes());
    let after = counts(run_dir, vip).await;
    let entry = subject(group.entry);
    let end = Instant::now() + PATIENCE;
    let mut checks = Vec::new();
    for (near, out) in outs {
        if let (Some(before), Some(after)) = (&before, &after)
            && sent_to(near, vip, before, after) == 0
        {
            let name = &target.name;
            checks.push(not_proven(
                near,
                format!("not tried: of {count} marked frames to VIP {name} none was for a backend here"),
            ));
            continue;
        }
        let result = match (&sent, out) {
            (Err(why), _) => Err(format!("frames cannot be sent in by {entry}: {why}")),
            (_, Err(why)) => Err(format!("its other end cannot be listened at: {why}")),
            (Ok(()), Ok(socket)) => match arrival(&socket, mark.as_bytes(), end).await {
                true => Ok(format!("marked frames to VIP {} that came in by {entry} came out", target.name)),
                false => Err(format!(
                    "of {count} marked frames to VIP {} that came in by {entry} none came out within {} s: frames \
                     that are redirected here are lost",
                    target.name,
                    PATIENCE.as_secs()
                )),
            },
        };
        checks.push(Proof { check: check("redirect", near, result), is_proof: true });
    }
    checks
}

fn send_resets(target: &Target, from: &Side, count: usize, mark: &[u8]) -> Result<(), String> {
    let socket = open(from)?;
    let nobody: IpAddr = if target.address.is_ipv4() { NOBODY.into() } else { NOBODY6.into() };
    for port in (0..count).map(|number| 1024 + number as u16) {
        let flow = Flow {
            macs: (MARK.0, target.mac.0),
            source: SocketAddr::from((nobody, port)),
            destination: SocketAddr::from((target.address, target.port)),
            tcp: true,
            flags: RST,
        };
        let frame = flow.frame_with(mark).ok_or("no frame")?;
        socket.send(&frame).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Whether a frame with the mark comes out before `end`.
async fn arrival(socket: &PacketSocket, mark: &[u8], end: Instant) -> bool {
    let marked = |frame: &[u8]| frame.windows(mark.len()).any(|part| part == mark);
    while let Ok(Ok(received)) = timeout_at(end, socket.recv()).await {
        if marked(&received.frame) {
            return true;
        }
    }
    false
}
