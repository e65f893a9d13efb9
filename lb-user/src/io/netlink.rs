//! Links, addresses, neighbours and qdiscs of a namespace, and what happens to its links (rtnetlink).
//!
//! A connection belongs to the namespace in which its socket was made, wherever it is used later. Making one
//! needs a tokio runtime around it.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{
    LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo, LinkLayerType, LinkMessage, LinkXdp, XdpAttached,
};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState as WireState,
};
use rtnetlink::packet_route::nsid::{NsidAttribute, NsidMessage};
use rtnetlink::packet_route::tc::{TcAttribute, TcHandle, TcMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::sys::AsyncSocket;
use rtnetlink::{Handle, MulticastGroup};
use tokio::task::JoinHandle;

use super::link::{
    IfAddress, Link, LinkEvent, Neighbour, NeighbourState, Qdisc, XdpAttachment, XdpMode, is_shaping,
};
use super::mac::Mac;
use super::netns::{NetNs, NetNsError, run_in};

/// How long one answer of the kernel may take; it takes microseconds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Receive buffer of a [`Watch`], so that a burst of events is not lost while the runtime is busy.
const WATCH_BUFFER_BYTES: libc::c_int = 1 << 20;
/// Name of the kind of veth pairs.
const VETH: &str = "veth";

/// Why the kernel could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// The namespace cannot be entered.
    #[error(transparent)]
    NetNs(#[from] NetNsError),
    /// The socket cannot be made.
    #[error("cannot open a netlink socket: {0}")]
    Open(#[source] io::Error),
    /// The kernel refused.
    #[error("the kernel does not list the {what}: {source}")]
    Refused {
        /// What was asked for.
        what: &'static str,
        /// Its answer.
        source: io::Error,
    },
    /// The answer made no sense.
    #[error("asking the kernel for the {what} failed: {reason}")]
    Broken {
        /// What was asked for.
        what: &'static str,
        /// What the library says.
        reason: String,
    },
}

/// A connection to rtnetlink in one namespace. Dropping it closes it.
#[derive(Debug)]
pub struct Netlink {
    handle: Handle,
    connection: JoinHandle<()>,
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Netlink {
    /// Connects to the kernel inside `ns`. Needs a tokio runtime around it.
    pub fn open(ns: &NetNs) -> Result<Self, NetlinkError> {
        let runtime = runtime()?;
        let (connection, handle, _) = run_in(ns, || {
            let _inside = runtime.enter();
            rtnetlink::new_connection()
        })?
        .map_err(NetlinkError::Open)?;
        Ok(Self { handle, connection: runtime.spawn(connection) })
    }

    /// All links, sorted by index, with their addresses and shaping qdiscs.
    pub async fn links(&self) -> Result<Vec<Link>, NetlinkError> {
        let request = self.handle.link().get();
        let request = request.set_filter_mask(AddressFamily::Unspec, vec![LinkExtentMask::SkipStats]);
        let messages: Vec<LinkMessage> = answer("links", request.execute().try_collect()).await?;
        let mut links: BTreeMap<u32, Link> =
            messages.iter().filter_map(link_of).map(|link| (link.ifindex, link)).collect();

        let request = self.handle.address().get().execute();
        let addresses: Vec<AddressMessage> = answer("addresses", request.try_collect()).await?;
        for (ifindex, prefix) in addresses.iter().filter_map(address_of) {
            if let Some(link) = links.get_mut(&ifindex) {
                link.addresses.push(prefix);
            }
        }
        for qdisc in self.all_qdiscs().await? {
            if let Some(link) = links.get_mut(&qdisc.ifindex)
                && link.shaping.is_none()
                && is_shaping(&qdisc.kind)
            {
                link.shaping = Some(qdisc.kind);
            }
        }
        Ok(links.into_values().collect())
    }

    /// The link of this name, if there is one.
    pub async fn link_by_name(&self, name: &str) -> Result<Option<Link>, NetlinkError> {
        Ok(self.links().await?.into_iter().find(|link| link.name == name))
    }

    /// The qdiscs of an interface, the root first.
    pub async fn qdiscs(&self, ifindex: u32) -> Result<Vec<Qdisc>, NetlinkError> {
        let mut qdiscs = self.all_qdiscs().await?;
        qdiscs.retain(|qdisc| qdisc.ifindex == ifindex);
        qdiscs.sort_by_key(|qdisc| !qdisc.root);
        Ok(qdiscs)
    }

    /// The kinds of the interface's qdiscs that limit, delay or drop, root first: what a redirected packet
    /// would escape.
    pub async fn shaping_qdisc(&self, ifindex: u32) -> Result<Vec<String>, NetlinkError> {
        let qdiscs = self.qdiscs(ifindex).await?;
        Ok(qdiscs.into_iter().filter(Qdisc::is_shaping).map(|qdisc| qdisc.kind).collect())
    }

    async fn all_qdiscs(&self) -> Result<Vec<Qdisc>, NetlinkError> {
        let messages: Vec<TcMessage> =
            answer("qdiscs", self.handle.qdisc().get().execute().try_collect()).await?;
        Ok(messages.iter().filter_map(qdisc_of).collect())
    }

    /// The neighbour table, IPv4 and IPv6.
    pub async fn neighbours(&self) -> Result<Vec<Neighbour>, NetlinkError> {
        let request = self.handle.neighbours().get().execute();
        let messages: Vec<NeighbourMessage> = answer("neighbours", request.try_collect()).await?;
        Ok(messages.iter().filter_map(neighbour_of).collect())
    }

    /// The hardware address of a neighbour on an interface, if the kernel knows a valid one.
    pub async fn neighbour_mac(&self, ifindex: u32, ip: Ipv4Addr) -> Result<Option<Mac>, NetlinkError> {
        let table = self.neighbours().await?;
        let entry =
            table.iter().find(|n| n.ifindex == ifindex && n.ip == IpAddr::V4(ip) && n.state.is_valid());
        Ok(entry.and_then(|n| n.mac))
    }

    /// This namespace's number for `other`, as in [`Link::peer_nsid`]; `None` if it has none.
    pub async fn nsid_of(&self, other: &NetNs) -> Result<Option<i32>, NetlinkError> {
        const WHAT: &str = "number of a namespace";
        let fd = u32::try_from(other.as_fd().as_raw_fd())
            .map_err(|_| NetlinkError::Broken { what: WHAT, reason: "bad descriptor".to_owned() })?;
        let mut message = NsidMessage::default();
        message.attributes.push(NsidAttribute::Fd(fd));
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::GetNsId(message));
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK;
        let mut handle = self.handle.clone();
        let mut answers = handle.request(request).map_err(|e| broken(WHAT, &e))?;
        let read = async {
            let mut nsid = None;
            while let Some(message) = answers.next().await {
                match message.payload {
                    NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNsId(message)) => {
                        nsid = message.attributes.iter().find_map(|attribute| match attribute {
                            NsidAttribute::Id(id) if *id >= 0 => Some(*id),
                            _ => None,
                        });
                    }
                    NetlinkPayload::Error(error) if error.code.is_some() => {
                        return Err(rtnetlink::Error::NetlinkError(error));
                    }
                    _ => {}
                }
            }
            Ok(nsid)
        };
        answer(WHAT, read).await
    }
}

/// What happens to the links of one namespace, and to their qdiscs, from the moment of [`open`](Self::open) on.
///
/// Open it first and list the links then, so that nothing falls in between.
pub struct Watch {
    events: BoxStream<'static, LinkEvent>,
    connection: JoinHandle<()>,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Watch {
    /// Subscribes to the link events of `ns`. Needs a tokio runtime around it.
    pub fn open(ns: &NetNs) -> Result<Self, NetlinkError> {
        let runtime = runtime()?;
        let (mut connection, _, messages) = run_in(ns, || {
            let _inside = runtime.enter();
            rtnetlink::new_multicast_connection(&[MulticastGroup::Link, MulticastGroup::Tc])
        })?
        .map_err(NetlinkError::Open)?;
        let socket = connection.socket_mut().socket_mut();
        socket.set_rx_buf_sz(WATCH_BUFFER_BYTES).map_err(NetlinkError::Open)?;
        let events = messages.filter_map(|(message, _)| async move { event_of(&message.payload) }).boxed();
        Ok(Self { events, connection: runtime.spawn(connection) })
    }

    /// The next event; `None` if the socket broke, then open a new one and list the links again. Safe to drop
    /// and call again.
    pub async fn next(&mut self) -> Option<LinkEvent> {
        self.events.next().await
    }
}

fn runtime() -> Result<tokio::runtime::Handle, NetlinkError> {
    tokio::runtime::Handle::try_current().map_err(|e| NetlinkError::Open(io::Error::other(e)))
}

async fn answer<T>(
    what: &'static str,
    answer: impl Future<Output = Result<T, rtnetlink::Error>>,
) -> Result<T, NetlinkError> {
    match tokio::time::timeout(ANSWER_TIMEOUT, answer).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(rtnetlink::Error::NetlinkError(message))) => {
            Err(NetlinkError::Refused { what, source: message.to_io() })
        }
        Ok(Err(other)) => Err(broken(what, &other)),
        Err(_) => Err(NetlinkError::Broken { what, reason: "no answer within 5 s".to_owned() }),
    }
}

fn broken(what: &'static str, error: &rtnetlink::Error) -> NetlinkError {
    NetlinkError::Broken { what, reason: error.to_string() }
}

fn event_of(payload: &NetlinkPayload<RouteNetlinkMessage>) -> Option<LinkEvent> {
    match payload {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(message)) => {
            link_of(message).map(|link| LinkEvent::Changed(Box::new(link)))
        }
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(message)) => {
            let link = link_of(message)?;
            Some(LinkEvent::Deleted { name: link.name, ifindex: link.ifindex })
        }
        NetlinkPayload::InnerMessage(
            RouteNetlinkMessage::NewQueueDiscipline(message)
            | RouteNetlinkMessage::DelQueueDiscipline(message),
        ) => u32::try_from(message.header.index).ok().map(|ifindex| LinkEvent::Qdisc { ifindex }),
        NetlinkPayload::Overrun(_) => Some(LinkEvent::Lost),
        _ => None,
    }
}

/// Reads a link. `None` for messages of another family: a bridge announces with one of its own, RTM_DELLINK
/// included, that a port left it.
fn link_of(message: &LinkMessage) -> Option<Link> {
    if message.header.interface_family != AddressFamily::Unspec {
        return None;
    }
    let flags = message.header.flags;
    let mut link = Link {
        name: String::new(),
        ifindex: message.header.index,
        mac: None,
        mtu: 0,
        up: flags.contains(LinkFlags::Up),
        carrier: flags.contains(LinkFlags::LowerUp),
        kind: None,
        peer_ifindex: None,
        peer_nsid: None,
        master: None,
        qdisc: None,
        shaping: None,
        addresses: Vec::new(),
        xdp: None,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Address(bytes) if message.header.link_layer_type == LinkLayerType::Ether => {
                link.mac = Mac::from_slice(bytes);
            }
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Link(ifindex) => link.peer_ifindex = Some(*ifindex),
            LinkAttribute::LinkNetNsId(nsid) => link.peer_nsid = Some(*nsid),
            LinkAttribute::Controller(ifindex) => link.master = Some(*ifindex),
            LinkAttribute::Qdisc(kind) => link.qdisc = Some(kind.clone()),
            LinkAttribute::Xdp(attributes) => link.xdp = xdp_of(attributes),
            LinkAttribute::LinkInfo(infos) => {
                link.kind = infos.iter().find_map(|info| match info {
                    LinkInfo::Kind(kind) => Some(kind.to_string()),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    // On other kinds IFLA_LINK is the interface below, not a peer.
    if link.kind.as_deref() != Some(VETH) {
        link.peer_ifindex = None;
        link.peer_nsid = None;
    }
    (!link.name.is_empty()).then_some(link)
}

fn xdp_of(attributes: &[LinkXdp]) -> Option<XdpAttachment> {
    let mut prog_id = 0;
    let mut mode = None;
    for attribute in attributes {
        match attribute {
            LinkXdp::ProgId(id) => prog_id = *id,
            LinkXdp::Attached(attached) => {
                mode = match attached {
                    XdpAttached::Driver => Some(XdpMode::Native),
                    XdpAttached::SocketBuffer => Some(XdpMode::Generic),
                    XdpAttached::Hardware => Some(XdpMode::Offload),
                    XdpAttached::Multiple => Some(XdpMode::Multi),
                    _ => None,
                }
            }
            _ => {}
        }
    }
    mode.map(|mode| XdpAttachment { prog_id, mode })
}

/// IFA_LOCAL is the interface's own address; on a point-to-point link IFA_ADDRESS is the other side's. Without the first,
/// as with IPv6 elsewhere, the second is its own.
fn address_of(message: &AddressMessage) -> Option<(u32, IfAddress)> {
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let other = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Address(address) => Some(*address),
        _ => None,
    });
    let address = local.or(other)?;
    // Every interface has one of these; they say nothing about networks.
    if matches!(address, IpAddr::V6(address) if address.is_unicast_link_local()) {
        return None;
    }
    Some((message.header.index, IfAddress { address, prefix_len: message.header.prefix_len }))
}

fn qdisc_of(message: &TcMessage) -> Option<Qdisc> {
    let ifindex = u32::try_from(message.header.index).ok()?;
    let kind = message.attributes.iter().find_map(|attribute| match attribute {
        TcAttribute::Kind(kind) => Some(kind.clone()),
        _ => None,
    })?;
    Some(Qdisc { ifindex, kind, root: message.header.parent == TcHandle::ROOT })
}

fn neighbour_of(message: &NeighbourMessage) -> Option<Neighbour> {
    let mut ip = None;
    let mut mac = None;
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(address) => {
                ip = match address {
                    NeighbourAddress::Inet(address) => Some(IpAddr::V4(*address)),
                    NeighbourAddress::Inet6(address) => Some(IpAddr::V6(*address)),
                    _ => None,
                };
            }
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = Mac::from_slice(bytes),
            _ => {}
        }
    }
    let state = match message.header.state {
        WireState::Incomplete => NeighbourState::Incomplete,
        WireState::Reachable => NeighbourState::Reachable,
        WireState::Stale => NeighbourState::Stale,
        WireState::Delay => NeighbourState::Delay,
        WireState::Probe => NeighbourState::Probe,
        WireState::Failed => NeighbourState::Failed,
        WireState::Noarp => NeighbourState::Noarp,
        WireState::Permanent => NeighbourState::Permanent,
        _ => NeighbourState::Other,
    };
    Some(Neighbour { ifindex: message.header.ifindex, ip: ip?, mac, state })
}
