//! What is there: gathered at once, so that [`discovery`](super::discovery) and [`doctor`](super::doctor) decide
//! without asking anybody.

use super::link::Link;
use super::mininet::{self, MininetError, Nodes};
use super::netlink::{Netlink, NetlinkError};
use super::netns::{NetNs, NetNsError, NsRef, reachable};
use super::ovs::{self, Bridge, OvsError};

/// A network namespace other than ours.
#[derive(Debug, Clone)]
pub struct Space {
    /// The namespace.
    pub ns: NsRef,
    /// Our number for it, as in [`Link::peer_nsid`].
    pub nsid: Option<i32>,
    /// Name of the Mininet host that lives in it.
    pub host: Option<String>,
    /// Its links.
    pub links: Vec<Link>,
}

impl Space {
    /// What to call it: the Mininet host, or the namespace's name, or the way to open it.
    pub fn label(&self) -> String {
        let of_path = || match self.ns.path.strip_prefix("/run/netns") {
            Ok(name) => name.display().to_string(),
            Err(_) => self.ns.path.display().to_string(),
        };
        self.host.clone().unwrap_or_else(of_path)
    }
}

/// Everything that placing the balancer depends on.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Our own namespace, the one with the switches.
    pub root: NsRef,
    /// Our own links.
    pub links: Vec<Link>,
    /// The other namespaces that our links lead into, and those of Mininet's hosts.
    pub spaces: Vec<Space>,
    /// Mininet's nodes.
    pub nodes: Nodes,
    /// Open vSwitch's bridges, or why they are not known.
    pub bridges: Result<Vec<Bridge>, OvsError>,
}

/// Why the facts could not be gathered.
#[derive(Debug, thiserror::Error)]
pub enum GatherError {
    /// A namespace cannot be opened.
    #[error(transparent)]
    NetNs(#[from] NetNsError),
    /// The links cannot be listed.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// Mininet's processes cannot be looked at.
    #[error(transparent)]
    Mininet(#[from] MininetError),
}

/// Looks at everything. Needs a tokio runtime around it, and root.
pub async fn gather() -> Result<Facts, GatherError> {
    let bridges = tokio::task::spawn_blocking(ovs::bridges);
    let own = NetNs::current()?;
    let netlink = Netlink::open(&own)?;
    let links = netlink.links().await?;
    let nodes = mininet::find()?;
    let mut spaces = Vec::new();
    for reference in reachable().into_values().filter(|reference| reference.id != own.id()) {
        let host = nodes.host_in(reference.id);
        // Named by the host's own shell, whatever else is inside: that is what Mininet's users know.
        let ns = host.map_or(reference, |node| node.ns.clone());
        let space = look_into(&netlink, &links, ns, host.map(|node| node.name.clone())).await;
        match space {
            Ok(space) => spaces.extend(space),
            Err(denied @ GatherError::NetNs(NetNsError::Permission { .. })) => return Err(denied),
            // Namespaces come and go, and one that ends meanwhile is one that is not there.
            Err(other) => tracing::debug!("left out: {other}"),
        }
    }
    let bridges = bridges.await.unwrap_or_else(|e| Err(OvsError::Failed(e.to_string())));
    let root = NsRef { id: own.id(), path: "/proc/self/ns/net".into() };
    Ok(Facts { root, links, spaces, nodes, bridges })
}

/// Looks into a namespace, if one of our links leads there or a Mininet host lives there.
async fn look_into(
    netlink: &Netlink,
    ours: &[Link],
    reference: NsRef,
    host: Option<String>,
) -> Result<Option<Space>, GatherError> {
    let ns = NetNs::open(&reference)?;
    let nsid = netlink.nsid_of(&ns).await?;
    let led_to = nsid.is_some() && ours.iter().any(|link| link.peer_nsid == nsid);
    if !led_to && host.is_none() {
        return Ok(None);
    }
    let links = Netlink::open(&ns)?.links().await?;
    Ok(Some(Space { ns: reference, nsid, host, links }))
}
