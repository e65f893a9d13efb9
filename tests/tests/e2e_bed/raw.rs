//! Frames as they are on the wire: packet sockets, and entering namespaces.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use super::net::Net;

/// Moves this thread into a named namespace. For threads made for it, which end with what they do there.
pub fn enter(ns: &str) {
    let file = File::open(format!("/run/netns/{ns}")).unwrap_or_else(|e| panic!("namespace {ns}: {e}"));
    // SAFETY: changes the namespace of this thread alone, by a descriptor that is open.
    let result = unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) };
    assert_eq!(result, 0, "namespace {ns}: {}", io::Error::last_os_error());
}

/// A frame's bytes, from the destination MAC on.
pub type Frame = Vec<u8>;

/// An interface's wire: sends frames as they are, and receives what the kernel sees, tags in their place.
pub struct Wire {
    socket: OwnedFd,
}

impl Wire {
    /// That of a host's interface.
    pub fn of_host(net: &Net, number: u32) -> Self {
        Self::inside(net, number, "eth0")
    }

    /// That of a host's interface of this name.
    pub fn inside(net: &Net, number: u32, interface: &str) -> Self {
        let ns = net.ns(number);
        let open = || {
            enter(&ns);
            Self::open(interface)
        };
        std::thread::scope(|scope| scope.spawn(open).join().unwrap())
    }

    /// That of an interface of this thread's namespace.
    pub fn open(interface: &str) -> Self {
        let protocol = (libc::ETH_P_ALL as u16).to_be();
        let name = std::ffi::CString::new(interface).unwrap();
        // SAFETY: plain calls; the name ends with a zero and lives on, the address has the length that is said, and
        // the socket is new, so that its owner is the only one.
        unsafe {
            let socket = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0);
            assert!(socket >= 0, "packet socket: {}", io::Error::last_os_error());
            let socket = OwnedFd::from_raw_fd(socket);
            let index = libc::if_nametoindex(name.as_ptr());
            assert!(index > 0, "{interface}: {}", io::Error::last_os_error());
            let mut address: libc::sockaddr_ll = std::mem::zeroed();
            address.sll_family = libc::AF_PACKET as u16;
            address.sll_protocol = protocol;
            address.sll_ifindex = index.cast_signed();
            option(&socket, libc::SOL_PACKET, libc::PACKET_AUXDATA, 1);
            option(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, 8 << 20);
            let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            let result = libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length);
            assert_eq!(result, 0, "{interface}: {}", io::Error::last_os_error());
            Self { socket }
        }
    }

    /// Sends a frame.
    pub fn send(&self, frame: &[u8]) {
        // SAFETY: reads the frame's bytes, which outlive the call.
        let sent = unsafe { libc::send(self.socket.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        assert_eq!(usize::try_from(sent).ok(), Some(frame.len()), "send: {}", io::Error::last_os_error());
    }

    /// The next frame, if one is there now. Frames that this end sends are left out unless `outgoing`.
    fn receive(&self, outgoing: bool) -> Option<Frame> {
        loop {
            let mut frame = vec![0u8; 65536];
            let mut control = [0u64; 16];
            // SAFETY: all buffers outlive the call, with the lengths that are said; a zeroed msghdr is an empty one.
            let (length, from, message) = unsafe {
                let mut from: libc::sockaddr_ll = std::mem::zeroed();
                let mut vector = libc::iovec { iov_base: frame.as_mut_ptr().cast(), iov_len: frame.len() };
                let mut message: libc::msghdr = std::mem::zeroed();
                message.msg_name = (&raw mut from).cast();
                message.msg_namelen = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
                message.msg_iov = &raw mut vector;
                message.msg_iovlen = 1;
                message.msg_control = control.as_mut_ptr().cast();
                message.msg_controllen = size_of_val(&control);
                let length = libc::recvmsg(self.socket.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT);
                (length, from, message)
            };
            let length = usize::try_from(length).ok()?;
            if from.sll_pkttype == libc::PACKET_OUTGOING && !outgoing {
                continue;
            }
            frame.truncate(length);
            if let Some(tag) = stripped_tag(&message) {
                frame.splice(12..12, tag);
            }
            return Some(frame);
        }
    }

    /// All frames that arrive within a time and that `wanted` holds for; returns early once there are `enough`.
    pub fn collect(&self, enough: usize, within: Duration, wanted: impl Fn(&[u8]) -> bool) -> Vec<Frame> {
        self.gather(enough, within, false, wanted)
    }

    /// As [`Self::collect`], with the frames that leave.
    pub fn overhear(&self, enough: usize, within: Duration, wanted: impl Fn(&[u8]) -> bool) -> Vec<Frame> {
        self.gather(enough, within, true, wanted)
    }

    fn gather(
        &self,
        enough: usize,
        within: Duration,
        outgoing: bool,
        wanted: impl Fn(&[u8]) -> bool,
    ) -> Vec<Frame> {
        let end = Instant::now() + within;
        let mut found = Vec::new();
        while found.len() < enough && Instant::now() < end {
            match self.receive(outgoing) {
                Some(frame) if wanted(&frame) => found.push(frame),
                Some(_) => {}
                None => std::thread::sleep(Duration::from_millis(2)),
            }
        }
        found
    }
}

/// The VLAN tag that the kernel took out of the frame on its way in: TPID and TCI.
fn stripped_tag(message: &libc::msghdr) -> Option<[u8; 4]> {
    const TPID_VALID: u32 = 1 << 6;
    // SAFETY: the kernel filled the control buffer in, and the macros stay inside it; the data is read unaligned.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(message);
        if header.is_null() || (*header).cmsg_type != libc::PACKET_AUXDATA {
            return None;
        }
        let data: libc::tpacket_auxdata = std::ptr::read_unaligned(libc::CMSG_DATA(header).cast());
        if data.tp_status & libc::TP_STATUS_VLAN_VALID == 0 {
            return None;
        }
        let tpid = if data.tp_status & TPID_VALID == 0 { 0x8100 } else { data.tp_vlan_tpid };
        let ([a, b], [c, d]) = (tpid.to_be_bytes(), data.tp_vlan_tci.to_be_bytes());
        Some([a, b, c, d])
    }
}

fn option(socket: &OwnedFd, level: libc::c_int, name: libc::c_int, value: libc::c_int) {
    // SAFETY: reads a value of the length that is said.
    let result = unsafe {
        let length = size_of::<libc::c_int>() as libc::socklen_t;
        libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), length)
    };
    assert_eq!(result, 0, "socket option {name}: {}", io::Error::last_os_error());
}

/// What Open vSwitch sees of the hosts: it receives on these ports just as this does, behind XDP.
pub struct Capture(Vec<Wire>);

impl Capture {
    /// Listens on all host-facing ports.
    pub fn start(net: &Net) -> Self {
        Self(net.ports().iter().map(|port| Wire::open(port)).collect())
    }

    /// The frames since the last call, in both directions, that `wanted` holds for.
    pub fn take(&self, wanted: impl Fn(&[u8]) -> bool) -> Vec<Frame> {
        let frames = self.0.iter().flat_map(|wire| std::iter::from_fn(|| wire.receive(true)));
        frames.filter(|frame| wanted(frame)).collect()
    }
}
