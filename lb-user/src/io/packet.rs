//! A packet socket on one interface: what a filter lets through comes in with the kernel's time of it, whole frames go
//! out.
//!
//! The socket is opened inside the namespace of its interface and polled from the main runtime. It works in a host's
//! own namespace, and from the switch's side of a host's veth: what is sent there goes to the host directly, and the
//! answer comes in on the same veth after XDP passed it. A port of the kernel's own bridge or of Open vSwitch's kernel
//! datapath hands its frames to the switch before any protocol sees them, so the socket asks for all protocols, which
//! the kernel serves before that, and filters.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::netns::{NetNs, NetNsError, run_in};
use super::sys::{clock_monotonic, clock_realtime, nanoseconds};

/// Every protocol (linux/if_ether.h).
const ETH_P_ALL: u16 = 0x0003;
/// The longest frame that is read, in bytes: the rest of a longer one is cut off.
const LONGEST_BYTES: usize = 9216;

/// What ends the wait for a frame. A link that goes down is an error and nothing to read.
const WAKE_UP: Interest = Interest::READABLE.add(Interest::ERROR);

/// A frame and when it came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// The frame from its destination address on, without VLAN tags: the kernel takes them off before.
    pub frame: Vec<u8>,
    /// When the kernel took it in: CLOCK_MONOTONIC, nanoseconds.
    pub at_ns: u64,
}

/// Why a packet socket does not work.
#[derive(Debug, thiserror::Error)]
pub enum PacketError {
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
    /// The transmit queue or the socket's buffer is full: the frame was not sent.
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

/// A packet socket. One task receives; [`open`](Self::open) needs a tokio runtime around it.
#[derive(Debug)]
pub struct PacketSocket {
    fd: AsyncFd<OwnedFd>,
    ifindex: u32,
    /// When the queue was last seen empty: whatever is read later came in after this.
    empty_at_ns: AtomicU64,
}

impl PacketSocket {
    /// Opens the socket on interface `ifindex` of `ns`. Frames that the classic BPF program `filter` refuses never
    /// wake this process.
    ///
    /// # Errors
    /// The namespace, the interface or the permission is not there, or the kernel refuses the filter.
    pub fn open(ns: &NetNs, ifindex: u32, filter: &[libc::sock_filter]) -> Result<Self, PacketError> {
        let opened_at_ns = clock_monotonic();
        let code = filter.to_vec();
        let fd = run_in(ns, move || open_socket(ifindex, code))?.map_err(|e| classify(e, ifindex))?;
        // SAFETY: an OwnedFd always names the same open descriptor, and AsyncFd deregisters it before dropping it.
        let fd = unsafe { AsyncFd::register(fd) }
            .map_err(|e| PacketError::Io { ifindex, source: e.into_parts().1 })?;
        Ok(Self { fd, ifindex, empty_at_ns: AtomicU64::new(opened_at_ns) })
    }

    /// The interface, in the namespace that it was opened in.
    pub fn ifindex(&self) -> u32 {
        self.ifindex
    }

    /// Puts another filter into force at once.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn set_filter(&self, filter: &[libc::sock_filter]) -> Result<(), PacketError> {
        attach_filter(self.fd.get_ref(), &mut filter.to_vec()).map_err(|e| classify(e, self.ifindex))
    }

    /// Sends a frame as it is.
    ///
    /// # Errors
    /// The interface is gone or down, or has no room: the frame was not sent.
    pub fn send(&self, frame: &[u8]) -> Result<(), PacketError> {
        // SAFETY: the pointer and the length are those of one slice that lives through the call.
        let sent = unsafe {
            libc::send(self.fd.get_ref().as_raw_fd(), frame.as_ptr().cast(), frame.len(), libc::MSG_DONTWAIT)
        };
        if sent < 0 { Err(classify(io::Error::last_os_error(), self.ifindex)) } else { Ok(()) }
    }

    /// Waits for the next frame. Safe to drop and call again.
    ///
    /// # Errors
    /// When the interface goes down it says [`PacketError::LinkDown`] once, and goes on when it is up again. A deletion
    /// looks the same here; sending then says [`PacketError::LinkGone`], and the socket is of no use.
    pub async fn recv(&self) -> Result<Received, PacketError> {
        loop {
            let ready = self.fd.ready(WAKE_UP).await;
            let mut guard = ready.map_err(|source| PacketError::Io { ifindex: self.ifindex, source })?;
            match guard.try_io(|_| self.try_recv()) {
                Ok(Ok(received)) => return Ok(received),
                Err(_) => {}
                Ok(Err(e)) => return Err(classify(e, self.ifindex)),
            }
        }
    }

    /// The next frame that is queued already; `None` when the queue is empty, or the link is down. Asks the kernel, not
    /// the runtime, which may not have noticed a frame yet.
    pub fn next_queued(&self) -> Option<Received> {
        self.try_recv().ok()
    }

    /// Takes one frame from the queue.
    fn try_recv(&self) -> io::Result<Received> {
        let before_ns = clock_monotonic();
        let mut frame = [0u8; LONGEST_BYTES];
        let (len, stamp) = match recv_stamped(self.fd.get_ref(), &mut frame) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                self.empty_at_ns.store(before_ns, Ordering::Relaxed);
                return Err(e);
            }
            other => other?,
        };
        let now_ns = clock_monotonic();
        let at_ns = match stamp {
            Some(stamp) => {
                receive_time(stamp, clock_realtime(), now_ns, self.empty_at_ns.load(Ordering::Relaxed))
            }
            None => now_ns,
        };
        Ok(Received { frame: frame.get(..len).unwrap_or_default().to_vec(), at_ns })
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

fn classify(source: io::Error, ifindex: u32) -> PacketError {
    match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => PacketError::Permission(ifindex),
        Some(libc::ENODEV | libc::ENXIO) => PacketError::LinkGone(ifindex),
        Some(libc::ENETDOWN) => PacketError::LinkDown(ifindex),
        Some(libc::EAGAIN | libc::ENOBUFS) => PacketError::Busy(ifindex),
        _ => PacketError::Io { ifindex, source },
    }
}

/// Opens, filters and binds the socket, in this order: nothing that the filter refuses is ever queued.
fn open_socket(ifindex: u32, mut code: Vec<libc::sock_filter>) -> io::Result<OwnedFd> {
    // SAFETY: socket takes three numbers; a descriptor that it returned is owned by nobody else.
    let fd = unsafe {
        let fd = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC, 0);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(fd)
    };
    let on: libc::c_int = 1;
    attach_filter(&fd, &mut code)?;
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

fn attach_filter(fd: &OwnedFd, code: &mut [libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog { len: code.len() as libc::c_ushort, filter: code.as_mut_ptr() };
    set_option(fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
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

    #[test]
    fn receive_times_stay_between_the_last_empty_queue_and_now() {
        assert_eq!(receive_time(1_000_700, 1_001_000, 5_000, 4_000), 4_700);
        assert_eq!(receive_time(1_000_000, 9_000_000, 5_000, 4_000), 4_000, "the clock was set forward");
        assert_eq!(receive_time(9_000_000, 1_000_000, 5_000, 4_000), 5_000, "the clock was set back");
        assert_eq!(receive_time(0, u64::MAX, 5_000, 0), 0);
    }
}
