//! How the core reads and changes a packet, whatever holds its bytes.
//!
//! [`Packet`] is implemented by the XDP context and by [`HostPacket`]. Its operations also fit a socket
//! buffer (TCX): headers are read and written by value, no reference into the packet outlives a call, and
//! a checksum is changed by a difference, which `bpf_l4_csum_replace` can take as well.

use network_types::arp::ArpHdr;
use network_types::eth::EthHdr;
use network_types::ip::Ipv4Hdr;
use network_types::tcp::TcpHdr;
use network_types::udp::UdpHdr;

use crate::checksum::Diff;

/// Types that may be copied out of and into packet bytes.
///
/// # Safety
/// Every bit pattern must be a valid value, and the type must have no padding: it is read from bytes that
/// anybody may have sent, and written back as bytes.
pub unsafe trait Wire: Copy {}

// SAFETY: byte arrays and integers have no padding and no invalid bit pattern.
unsafe impl Wire for [u8; 2] {}
// SAFETY: as above.
unsafe impl Wire for [u8; 6] {}
// SAFETY: as above.
unsafe impl Wire for [u16; 2] {}
// SAFETY: as above.
unsafe impl Wire for u16 {}
// SAFETY: as above.
unsafe impl Wire for u32 {}
// SAFETY: as above.
unsafe impl Wire for u8 {}
// SAFETY: as above.
unsafe impl Wire for [u8; 4] {}
// SAFETY: as above.
unsafe impl Wire for [u8; 8] {}
// SAFETY: as above.
unsafe impl Wire for [u32; 3] {}
// SAFETY: as above.
unsafe impl Wire for [u64; 2] {}
// SAFETY: repr(C) over two six-byte arrays and a u16 at offset 12: size 14, no padding.
unsafe impl Wire for EthHdr {}
// SAFETY: repr(C) over byte arrays only.
unsafe impl Wire for Ipv4Hdr {}
// SAFETY: repr(C) over byte arrays only (the flags are a bit field over `[u8; 2]`).
unsafe impl Wire for TcpHdr {}
// SAFETY: repr(C) over byte arrays only.
unsafe impl Wire for UdpHdr {}
// SAFETY: repr(C) over byte arrays only.
unsafe impl Wire for ArpHdr {}

const _: () = {
    assert!(size_of::<EthHdr>() == 14);
    assert!(size_of::<Ipv4Hdr>() == 20 && align_of::<Ipv4Hdr>() == 1);
    assert!(size_of::<TcpHdr>() == 20 && align_of::<TcpHdr>() == 1);
    assert!(size_of::<UdpHdr>() == 8 && align_of::<UdpHdr>() == 1);
    assert!(size_of::<ArpHdr>() == 28 && align_of::<ArpHdr>() == 1);
};

/// A frame, from its Ethernet header on. Offsets count from the first byte of the frame.
pub trait Packet {
    /// A frame whose first `N` bytes are there.
    type Head<'h, const N: usize>: Packet
    where
        Self: 'h;

    /// The same frame, if its first `N` bytes are there: reading and writing within them needs no look at its end, and
    /// nothing beyond them, nor the length of the frame, is touched through it.
    fn head<const N: usize>(&mut self) -> Option<Self::Head<'_, N>>;

    /// The interface it came in on.
    fn ingress_ifindex(&self) -> u32;

    /// Whether the whole frame, without the frame check sequence, has so many bytes. A question and not a number:
    /// in XDP the answer is nearly always in the first buffer, and only the rest costs a call.
    fn has(&self, bytes: u32) -> bool;

    /// Makes the first `length` bytes readable, or as many as there are: a socket buffer may hold them apart.
    fn make_readable(&mut self, length: u32);

    /// Copies a header out. `None` where the frame ends before the header does.
    fn read<T: Wire>(&self, offset: usize) -> Option<T>;

    /// Copies a header in. `None`, with nothing written, where the frame ends before the header does.
    fn write<T: Wire>(&mut self, offset: usize, value: T) -> Option<()>;

    /// Puts so many bytes in front of the frame; what they hold is not defined. `None`, with nothing changed, where
    /// there is no room.
    fn grow_front(&mut self, bytes: usize) -> Option<()>;

    /// Makes the frame so many bytes long, by cutting off its end or adding zeros to it. `None`, with nothing changed, where
    /// that cannot be done.
    fn set_length(&mut self, bytes: u32) -> Option<()>;

    /// Corrects the TCP or UDP checksum that stands at `offset`.
    ///
    /// `addresses` is the change of the pseudo header, `ports` that of the header itself: a socket buffer
    /// with a partial checksum needs them apart. With `udp`, a checksum of zero means that there is none and
    /// stays so, and a result of zero is written as 0xffff (RFC 768). Comes last: on a socket buffer it ends
    /// the life of everything read before.
    fn fix_l4_checksum(&mut self, offset: usize, addresses: Diff, ports: Diff, udp: bool) -> Option<()>;
}

/// What [`Packet::fix_l4_checksum`] does where the checksum is always complete: XDP and the host.
#[inline(always)]
pub fn fix_checksum_in_place<P: Packet>(
    packet: &mut P,
    offset: usize,
    addresses: Diff,
    ports: Diff,
    udp: bool,
) -> Option<()> {
    let old: u16 = packet.read(offset)?;
    if udp && old == 0 {
        return Some(());
    }
    let new = addresses.and(ports).apply(old);
    packet.write(offset, if udp && new == 0 { 0xffff } else { new })
}

/// A frame in ordinary memory.
#[cfg(feature = "std")]
#[derive(Debug)]
pub struct HostPacket<'a> {
    bytes: &'a mut Vec<u8>,
    ifindex: u32,
}

#[cfg(feature = "std")]
impl<'a> HostPacket<'a> {
    /// The frame `bytes`, received on the interface `ifindex`.
    pub fn new(bytes: &'a mut Vec<u8>, ifindex: u32) -> Self {
        Self { bytes, ifindex }
    }
}

#[cfg(feature = "std")]
impl Packet for HostPacket<'_> {
    type Head<'h, const N: usize>
        = HostPacket<'h>
    where
        Self: 'h;

    fn head<const N: usize>(&mut self) -> Option<Self::Head<'_, N>> {
        if self.bytes.len() < N {
            return None;
        }
        Some(HostPacket { bytes: self.bytes, ifindex: self.ifindex })
    }

    fn ingress_ifindex(&self) -> u32 {
        self.ifindex
    }

    fn has(&self, bytes: u32) -> bool {
        self.bytes.len() >= bytes as usize
    }

    fn make_readable(&mut self, _length: u32) {}

    fn read<T: Wire>(&self, offset: usize) -> Option<T> {
        let bytes = self.bytes.get(offset..offset.checked_add(size_of::<T>())?)?;
        // SAFETY: the slice has exactly the size of T, the read needs no alignment, and Wire allows every
        // bit pattern.
        Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
    }

    fn write<T: Wire>(&mut self, offset: usize, value: T) -> Option<()> {
        let bytes = self.bytes.get_mut(offset..offset.checked_add(size_of::<T>())?)?;
        // SAFETY: the slice has exactly the size of T, the write needs no alignment, and Wire has no padding.
        unsafe { bytes.as_mut_ptr().cast::<T>().write_unaligned(value) };
        Some(())
    }

    fn grow_front(&mut self, bytes: usize) -> Option<()> {
        self.bytes.splice(0..0, core::iter::repeat_n(0, bytes));
        Some(())
    }

    fn set_length(&mut self, bytes: u32) -> Option<()> {
        self.bytes.resize(bytes as usize, 0);
        Some(())
    }

    fn fix_l4_checksum(&mut self, offset: usize, addresses: Diff, ports: Diff, udp: bool) -> Option<()> {
        fix_checksum_in_place(self, offset, addresses, ports, udp)
    }
}
