//! The packet socket of the ARP prober.
//!
//! A probe is that of RFC 5227, 2.1.1: sender address 0.0.0.0, so that nobody changes a neighbour entry
//! because of it. The socket is opened inside the namespace of its interface and polled from the main runtime.
//! It works in a host's own namespace, and from the switch's side of a host's veth: what is sent there goes to
//! the host directly, and the reply comes in on the same veth after XDP passed it. A port of the kernel's own
//! bridge or of Open vSwitch's kernel datapath hands its frames to the switch before any protocol sees them, so the
//! socket asks for all protocols, which the kernel serves before that, and filters.
//!
//! ```text
//!  0      6      12     14     16     18   19   20     22      28      32      38     42
//!  | dst  | src  | 0806 | 0001 | 0800 | 06 | 04 | op   | smac  | sip   | tmac  | tip  |
//!  '--- Ethernet II ----'------------------ ARP for IPv4 over Ethernet (RFC 826) -------'
//! ```

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::mac::Mac;
use super::netns::{NetNs, NetNsError, run_in};
use super::sys::{clock_monotonic, clock_realtime, nanoseconds};

/// Bytes of an Ethernet frame that carries ARP for IPv4, without padding.
pub const FRAME_LEN: usize = 42;
/// EtherType of ARP.
const ETH_P_ARP: u16 = 0x0806;
/// Every protocol (linux/if_ether.h).
const ETH_P_ALL: u16 = 0x0003;
/// Hardware type Ethernet, protocol type IPv4, lengths 6 and 4.
const ARP_HEAD: [u8; 6] = [0x00, 0x01, 0x08, 0x00, 6, 4];

/// What ends the wait for a frame. A link that goes down is an error and nothing to read.
const WAKE_UP: Interest = Interest::READABLE.add(Interest::ERROR);

/// What an ARP packet asks or says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ArpOp {
    /// ares_op$REQUEST, 1.
    Request,
    /// ares_op$REPLY, 2.
    Reply,
}

/// An ARP packet for IPv4 over Ethernet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ArpPacket {
    /// Request or reply.
    pub op: ArpOp,
    /// The sender's hardware address, as the packet says.
    pub sender_mac: Mac,
    /// The sender's protocol address.
    pub sender_ip: Ipv4Addr,
    /// The target's hardware address.
    pub target_mac: Mac,
    /// The target's protocol address.
    pub target_ip: Ipv4Addr,
}

impl ArpPacket {
    /// Whether the sender announces its own address (RFC 5227, 1.1: sender and target address are equal).
    pub fn is_announcement(&self) -> bool {
        self.sender_ip == self.target_ip && !self.sender_ip.is_unspecified()
    }
}

/// Builds the frame of a probe for `target` (RFC 5227, 2.1.1). `source` is both the frame's source and the
/// packet's sender hardware address, so the reply is addressed to it.
pub fn build_probe(source: Mac, target: Ipv4Addr, destination: Mac) -> [u8; FRAME_LEN] {
    build(
        destination,
        source,
        &ArpPacket {
            op: ArpOp::Request,
            sender_mac: source,
            sender_ip: Ipv4Addr::UNSPECIFIED,
            target_mac: Mac::default(),
            target_ip: target,
        },
    )
}

/// Builds an Ethernet frame around an ARP packet.
pub fn build(destination: Mac, source: Mac, packet: &ArpPacket) -> [u8; FRAME_LEN] {
    let mut frame = [0u8; FRAME_LEN];
    let op: u16 = match packet.op {
        ArpOp::Request => 1,
        ArpOp::Reply => 2,
    };
    frame[0..6].copy_from_slice(&destination.0);
    frame[6..12].copy_from_slice(&source.0);
    frame[12..14].copy_from_slice(&ETH_P_ARP.to_be_bytes());
    frame[14..20].copy_from_slice(&ARP_HEAD);
    frame[20..22].copy_from_slice(&op.to_be_bytes());
    frame[22..28].copy_from_slice(&packet.sender_mac.0);
    frame[28..32].copy_from_slice(&packet.sender_ip.octets());
    frame[32..38].copy_from_slice(&packet.target_mac.0);
    frame[38..42].copy_from_slice(&packet.target_ip.octets());
    frame
}

/// Reads an untagged Ethernet frame that carries ARP for IPv4; padding after it is ignored. `None` for
/// everything else, truncated frames included.
pub fn parse(frame: &[u8]) -> Option<ArpPacket> {
    let frame: &[u8; FRAME_LEN] = frame.get(..FRAME_LEN)?.try_into().ok()?;
    if frame[12..14] != ETH_P_ARP.to_be_bytes() || frame[14..20] != ARP_HEAD {
        return None;
    }
    let op = match u16::from_be_bytes([frame[20], frame[21]]) {
        1 => ArpOp::Request,
        2 => ArpOp::Reply,
        _ => return None,
    };
    let mac = |at: usize| Mac(std::array::from_fn(|i| frame[at + i]));
    let ip = |at: usize| Ipv4Addr::from(std::array::from_fn::<u8, 4, _>(|i| frame[at + i]));
    Some(ArpPacket { op, sender_mac: mac(22), sender_ip: ip(28), target_mac: mac(32), target_ip: ip(38) })
}

/// An ARP packet and when it came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Received {
    /// The packet: a reply, or an announcement.
    pub packet: ArpPacket,
    /// Source address of the frame.
    pub frame_source: Mac,
    /// When the kernel took it in: CLOCK_MONOTONIC, nanoseconds.
    pub at_ns: u64,
}

/// Why the prober's socket does not work.
#[derive(Debug, thiserror::Error)]
pub enum ArpError {
    /// The namespace cannot be entered.
    #[error(transparent)]
    NetNs(#[from] NetNsError),
    /// Raw sockets need CAP_NET_RAW.
    #[error("no permission to open a packet socket on interface {0}; run as root")]
    Permission(u32),
    /// The interface was deleted: open a new socket when it is back.
    #[error("interface {0} is gone")]
    LinkGone(u32),
    /// The interface is down. The socket works again by itself when it is up.
    #[error("interface {0} is down")]
    LinkDown(u32),
    /// The transmit queue or the socket's buffer is full: the probe was not sent.
    #[error("the transmit queue of interface {0} is full")]
    Busy(u32),
    /// Anything else that the kernel answered.
    #[error("packet socket on interface {ifindex}: {source}")]
    Io {
        /// The interface.
        ifindex: u32,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// A packet socket that sees ARP replies and announcements coming in on one interface, and sends probes
/// out of it. One task receives; [`open`](Self::open) needs a tokio runtime around it.
#[derive(Debug)]
pub struct ArpSocket {
    fd: AsyncFd<OwnedFd>,
    ifindex: u32,
    /// When the queue was last seen empty: whatever is read later came in after this.
    empty_at_ns: AtomicU64,
}

impl ArpSocket {
    /// Opens the socket on interface `ifindex` of `ns`.
    pub fn open(ns: &NetNs, ifindex: u32) -> Result<Self, ArpError> {
        let opened_at_ns = clock_monotonic();
        let fd = run_in(ns, || open_socket(ifindex))?.map_err(|e| classify(e, ifindex))?;
        // SAFETY: an OwnedFd always names the same open descriptor, and AsyncFd deregisters it before dropping it.
        let fd = unsafe { AsyncFd::register(fd) }
            .map_err(|e| ArpError::Io { ifindex, source: e.into_parts().1 })?;
        Ok(Self { fd, ifindex, empty_at_ns: AtomicU64::new(opened_at_ns) })
    }

    /// The interface, in the namespace that it was opened in.
    pub fn ifindex(&self) -> u32 {
        self.ifindex
    }

    /// Sends one probe for `target` from `source` at once, to `destination` or to everybody.
    pub fn send_probe(
        &self,
        source: Mac,
        target: Ipv4Addr,
        destination: Option<Mac>,
    ) -> Result<(), ArpError> {
        self.send(&build_probe(source, target, destination.unwrap_or(Mac::BROADCAST)))
    }

    /// Sends a frame as it is.
    pub fn send(&self, frame: &[u8]) -> Result<(), ArpError> {
        // SAFETY: the pointer and the length are those of one slice that lives through the call.
        let sent = unsafe {
            libc::send(self.fd.get_ref().as_raw_fd(), frame.as_ptr().cast(), frame.len(), libc::MSG_DONTWAIT)
        };
        if sent < 0 { Err(classify(io::Error::last_os_error(), self.ifindex)) } else { Ok(()) }
    }

    /// Waits for the next ARP reply or announcement. Safe to drop and call again.
    ///
    /// When the interface goes down it says [`ArpError::LinkDown`] once, and goes on when it is up again. A
    /// deletion looks the same here; sending then says [`ArpError::LinkGone`], and the socket is of no use.
    /// The kernel takes VLAN tags off before it shows a frame here, so those who know several VLANs compare
    /// the sender's MAC.
    pub async fn recv(&self) -> Result<Received, ArpError> {
        loop {
            let ready = self.fd.ready(WAKE_UP).await;
            let mut guard = ready.map_err(|source| ArpError::Io { ifindex: self.ifindex, source })?;
            match guard.try_io(|_| self.try_recv()) {
                Ok(Ok(Some(received))) => return Ok(received),
                Ok(Ok(None)) | Err(_) => {}
                Ok(Err(e)) => return Err(classify(e, self.ifindex)),
            }
        }
    }

    /// The next ARP reply or announcement that is queued already; `None` when the queue is empty. Asks the
    /// kernel, not the runtime, which may not have noticed a frame yet.
    pub fn next_queued(&self) -> Option<Received> {
        loop {
            match self.try_recv() {
                Ok(Some(received)) => return Some(received),
                Ok(None) => {}
                // Empty, or the link is down: nothing can be there.
                Err(_) => return None,
            }
        }
    }

    /// Takes one frame from the queue. `Ok(None)` if it was not for us.
    fn try_recv(&self) -> io::Result<Option<Received>> {
        let before_ns = clock_monotonic();
        let mut frame = [0u8; 64];
        let (len, stamp) = match recv_stamped(self.fd.get_ref(), &mut frame) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                self.empty_at_ns.store(before_ns, Ordering::Relaxed);
                return Err(e);
            }
            other => other?,
        };
        let Some(bytes) = frame.get(..len) else { return Ok(None) };
        let (Some(packet), Some(frame_source)) = (parse(bytes), bytes.get(6..12).and_then(Mac::from_slice))
        else {
            return Ok(None);
        };
        if packet.op == ArpOp::Request && !packet.is_announcement() {
            return Ok(None);
        }
        let now_ns = clock_monotonic();
        let at_ns = match stamp {
            Some(stamp) => {
                receive_time(stamp, clock_realtime(), now_ns, self.empty_at_ns.load(Ordering::Relaxed))
            }
            None => now_ns,
        };
        Ok(Some(Received { packet, frame_source, at_ns }))
    }
}

/// The receive time on CLOCK_MONOTONIC of a frame that the kernel stamped on CLOCK_REALTIME.
///
/// The age is the difference of two readings of the same clock. Should that clock be set in between, the age is
/// wrong; but the frame cannot be from the future, nor older than the moment the queue was last seen empty.
fn receive_time(stamp_realtime: u64, now_realtime: u64, now: u64, empty_at: u64) -> u64 {
    let age = now_realtime.saturating_sub(stamp_realtime);
    now.saturating_sub(age).max(empty_at).min(now)
}

fn classify(source: io::Error, ifindex: u32) -> ArpError {
    match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => ArpError::Permission(ifindex),
        Some(libc::ENODEV | libc::ENXIO) => ArpError::LinkGone(ifindex),
        Some(libc::ENETDOWN) => ArpError::LinkDown(ifindex),
        Some(libc::EAGAIN | libc::ENOBUFS) => ArpError::Busy(ifindex),
        _ => ArpError::Io { ifindex, source },
    }
}

/// Classic BPF: ARP for IPv4 over Ethernet that is a reply, or a request whose sender and target
/// addresses are equal. The rest never wakes this process.
fn filter() -> [libc::sock_filter; 13] {
    const LD_H: u16 = 0x28; // BPF_LD | BPF_H | BPF_ABS
    const LD_W: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
    const TAX: u16 = 0x07; // BPF_MISC | BPF_TAX
    const JEQ: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
    const JEQ_X: u16 = 0x1d; // BPF_JMP | BPF_JEQ | BPF_X
    const RET: u16 = 0x06; // BPF_RET | BPF_K
    let op = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    [
        op(LD_H, 0, 0, 12),
        op(JEQ, 0, 10, u32::from(ETH_P_ARP)), // not ARP: drop
        op(LD_W, 0, 0, 14),
        op(JEQ, 0, 8, 0x0001_0800), // not Ethernet and IPv4: drop
        op(LD_W, 0, 0, 18),
        op(JEQ, 5, 0, 0x0604_0002), // reply: accept
        op(JEQ, 0, 5, 0x0604_0001), // not a request either: drop
        op(LD_W, 0, 0, 28),
        op(TAX, 0, 0, 0),
        op(LD_W, 0, 0, 38),
        op(JEQ_X, 0, 1, 0), // sender and target address differ: drop
        op(RET, 0, 0, u32::MAX),
        op(RET, 0, 0, 0),
    ]
}

/// Opens, filters and binds the socket, in this order: nothing that the filter refuses is ever queued.
fn open_socket(ifindex: u32) -> io::Result<OwnedFd> {
    // SAFETY: socket takes three numbers; a descriptor that it returned is owned by nobody else.
    let fd = unsafe {
        let fd = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC, 0);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(fd)
    };
    let mut code = filter();
    let program = libc::sock_fprog { len: code.len() as libc::c_ushort, filter: code.as_mut_ptr() };
    let on: libc::c_int = 1;
    set_option(&fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)?;
    set_option(&fd, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, &on)?;
    set_option(&fd, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, &on)?;
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as libc::c_ushort,
        sll_protocol: ETH_P_ALL.to_be(),
        sll_ifindex: i32::try_from(ifindex).map_err(|_| io::Error::from_raw_os_error(libc::ENODEV))?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    // SAFETY: the pointer and the length are those of one sockaddr_ll that lives through the call.
    let result = unsafe {
        libc::bind(fd.as_raw_fd(), (&raw const address).cast(), size_of_val(&address) as libc::socklen_t)
    };
    if result == 0 { Ok(fd) } else { Err(io::Error::last_os_error()) }
}

fn set_option<T>(fd: &OwnedFd, level: i32, name: i32, value: &T) -> io::Result<()> {
    // SAFETY: the pointer and the length are those of one value that lives through the call; the callers pass
    // the type that the option takes, and the filter program's pointer is that of a live array.
    let result = unsafe {
        let value = std::ptr::from_ref(value).cast();
        libc::setsockopt(fd.as_raw_fd(), level, name, value, size_of::<T>() as libc::socklen_t)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Room for the one control message that is asked for, aligned as its header wants.
#[repr(C, align(8))]
struct Control([u8; 64]);

/// Receives one frame and the kernel's time stamp of it (CLOCK_REALTIME, nanoseconds).
fn recv_stamped(fd: &OwnedFd, frame: &mut [u8]) -> io::Result<(usize, Option<u64>)> {
    let mut control = Control([0; 64]);
    let mut part = libc::iovec { iov_base: frame.as_mut_ptr().cast(), iov_len: frame.len() };
    // SAFETY: msghdr is plain data for which all zeros are valid. Its pointers are to `part`, which covers
    // exactly `frame`, and to `control`; all three live through the call. The CMSG macros walk only what the kernel
    // wrote, and the time is read unaligned from a message whose length was checked.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = (&raw mut control).cast();
        message.msg_controllen = size_of::<Control>() as _;
        let len = libc::recvmsg(fd.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT);
        let len = usize::try_from(len).map_err(|_| io::Error::last_os_error())?;
        let mut stamp = None;
        let mut header = libc::CMSG_FIRSTHDR(&raw const message);
        while !header.is_null() {
            let is_stamp =
                (*header).cmsg_level == libc::SOL_SOCKET && (*header).cmsg_type == libc::SCM_TIMESTAMPNS;
            if is_stamp
                && (*header).cmsg_len as usize >= libc::CMSG_LEN(size_of::<libc::timespec>() as u32) as usize
            {
                let time = libc::CMSG_DATA(header).cast::<libc::timespec>().read_unaligned();
                stamp = Some(nanoseconds(time));
            }
            header = libc::CMSG_NXTHDR(&raw const message, header);
        }
        Ok((len, stamp))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROBER: Mac = Mac([2, 0, 0x0a, 0, 1, 1]);
    const HOST: Mac = Mac([0xaa, 0xbb, 0xcc, 0xdd, 0xee, 1]);

    /// RFC 826 and RFC 5227, 2.1.1, by hand: who has 10.0.0.1? tell 0.0.0.0.
    #[rustfmt::skip]
    const PROBE: [u8; FRAME_LEN] = [
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0x00, 0x0a, 0x00, 0x01, 0x01, 0x08, 0x06,
        0x00, 0x01, 0x08, 0x00, 0x06, 0x04, 0x00, 0x01,
        0x02, 0x00, 0x0a, 0x00, 0x01, 0x01, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x0a, 0x00, 0x00, 0x01,
    ];

    /// The answer: 10.0.0.1 is at aa:bb:cc:dd:ee:01.
    #[rustfmt::skip]
    const REPLY: [u8; FRAME_LEN] = [
        0x02, 0x00, 0x0a, 0x00, 0x01, 0x01, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0x01, 0x08, 0x06,
        0x00, 0x01, 0x08, 0x00, 0x06, 0x04, 0x00, 0x02,
        0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0x01, 0x0a, 0x00, 0x00, 0x01,
        0x02, 0x00, 0x0a, 0x00, 0x01, 0x01, 0x00, 0x00, 0x00, 0x00,
    ];

    const ANSWER: ArpPacket = ArpPacket {
        op: ArpOp::Reply,
        sender_mac: HOST,
        sender_ip: Ipv4Addr::new(10, 0, 0, 1),
        target_mac: PROBER,
        target_ip: Ipv4Addr::UNSPECIFIED,
    };

    #[test]
    fn a_probe_is_these_bytes() {
        let target = Ipv4Addr::new(10, 0, 0, 1);
        assert_eq!(build_probe(PROBER, target, Mac::BROADCAST), PROBE);
        assert_eq!(build_probe(PROBER, target, HOST)[..6], HOST.0);
    }

    #[test]
    fn a_reply_is_read_and_written() {
        assert_eq!(parse(&REPLY), Some(ANSWER));
        assert_eq!(build(PROBER, HOST, &ANSWER), REPLY);
        let mut padded = REPLY.to_vec();
        padded.resize(60, 0xa5);
        assert_eq!(parse(&padded), Some(ANSWER));
    }

    #[test]
    fn every_truncation_is_refused() {
        for len in 0..FRAME_LEN {
            assert_eq!(parse(&REPLY[..len]), None, "{len}");
        }
    }

    #[test]
    fn other_packets_are_refused() {
        for (at, value, what) in [
            (13, 0x00, "IPv4"),
            (15, 0x06, "IEEE 802"),
            (16, 0x86, "protocol"),
            (18, 8, "hardware length"),
            (19, 16, "protocol length"),
            (21, 3, "RARP request"),
            (20, 2, "op 514"),
        ] {
            let mut frame = REPLY;
            frame[at] = value;
            assert_eq!(parse(&frame), None, "{what}");
        }
    }

    #[test]
    fn an_announcement_has_equal_addresses() {
        let address = Ipv4Addr::new(10, 0, 0, 1);
        let announcement = ArpPacket { op: ArpOp::Request, target_ip: address, ..ANSWER };
        assert!(announcement.is_announcement());
        assert!(!ANSWER.is_announcement());
        let zero = ArpPacket { sender_ip: Ipv4Addr::UNSPECIFIED, ..ANSWER };
        assert!(!zero.is_announcement());
    }

    #[test]
    fn receive_times_stay_between_the_last_empty_queue_and_now() {
        assert_eq!(receive_time(1_000_700, 1_001_000, 5_000, 4_000), 4_700);
        assert_eq!(receive_time(1_000_000, 9_000_000, 5_000, 4_000), 4_000, "the clock was set forward");
        assert_eq!(receive_time(9_000_000, 1_000_000, 5_000, 4_000), 5_000, "the clock was set back");
        assert_eq!(receive_time(0, u64::MAX, 5_000, 0), 0);
    }

    /// Runs the filter as the kernel would; enough of it for these instructions.
    fn accepts(frame: &[u8]) -> bool {
        let word = |at: usize| u32::from_be_bytes(frame[at..at + 4].try_into().expect("4 bytes"));
        let half = |at: usize| u16::from_be_bytes(frame[at..at + 2].try_into().expect("2 bytes"));
        let code = filter();
        let (mut a, mut x, mut pc) = (0u32, 0u32, 0usize);
        loop {
            let op = code[pc];
            pc += 1;
            match op.code {
                0x20 => a = word(op.k as usize),
                0x28 => a = u32::from(half(op.k as usize)),
                0x07 => x = a,
                0x15 => pc += usize::from(if a == op.k { op.jt } else { op.jf }),
                0x1d => pc += usize::from(if a == x { op.jt } else { op.jf }),
                0x06 => return op.k != 0,
                other => panic!("unknown instruction {other:#x}"),
            }
        }
    }

    #[test]
    fn the_filter_lets_replies_and_announcements_through_only() {
        assert!(accepts(&REPLY));
        assert!(!accepts(&PROBE), "a request");
        let address = Ipv4Addr::new(10, 0, 0, 1);
        let announcement = ArpPacket { op: ArpOp::Request, target_ip: address, ..ANSWER };
        assert!(accepts(&build(Mac::BROADCAST, HOST, &announcement)));
        let mut rarp = REPLY;
        rarp[21] = 4;
        assert!(!accepts(&rarp), "RARP reply");
        let mut other = REPLY;
        other[16] = 0x86;
        assert!(!accepts(&other), "another protocol");
        let mut ip = REPLY;
        ip[13] = 0;
        assert!(!accepts(&ip), "IPv4");
    }
}
