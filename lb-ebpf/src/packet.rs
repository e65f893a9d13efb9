//! The XDP frame as the core sees it.

use core::arch::asm;

use aya_ebpf::helpers::generated::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail, bpf_xdp_get_buff_len};
use aya_ebpf::programs::XdpContext;
use lb_core::checksum::Diff;
use lb_core::packet::{Packet, Wire, fix_checksum_in_place};

/// Offsets beyond this are refused: the verifier needs a bound, and all headers end before it.
const MAX_OFFSET: usize = 383;

/// A frame in an XDP program.
///
/// `CAREFUL` keeps the compiler from dropping the check of one access because of another one: it can prove more than the
/// verifier can follow. The common path reads in an order in which that does not happen.
pub struct XdpPacket<'a, const CAREFUL: bool> {
    ctx: &'a XdpContext,
}

impl<'a, const CAREFUL: bool> XdpPacket<'a, CAREFUL> {
    /// The frame of a program's context.
    #[inline(always)]
    pub fn new(ctx: &'a XdpContext) -> Self {
        Self { ctx }
    }

    /// Bytes of the whole frame, over all its buffers.
    #[inline(always)]
    pub fn length(&self) -> u32 {
        // SAFETY: the context is the one the kernel called the program with.
        (unsafe { bpf_xdp_get_buff_len(self.ctx.ctx) }) as u32
    }

    #[inline(always)]
    fn at<T: Wire>(&self, offset: usize) -> Option<*mut T> {
        if offset > MAX_OFFSET {
            return None;
        }
        let start = self.ctx.data() + offset;
        let mut end = self.ctx.data_end();
        if CAREFUL {
            // SAFETY: the value stays as it is; only the compiler no longer knows it.
            unsafe { asm!("{0} = {0}", inout(reg) end, options(nomem, nostack, preserves_flags)) };
        }
        if start + size_of::<T>() > end {
            return None;
        }
        Some(start as *mut T)
    }
}

impl<const CAREFUL: bool> Packet for XdpPacket<'_, CAREFUL> {
    type Head<'h, const N: usize>
        = HeadPacket<'h, N>
    where
        Self: 'h;

    #[inline(always)]
    fn head<const N: usize>(&mut self) -> Option<Self::Head<'_, N>> {
        let start = self.ctx.data();
        if start + N > self.ctx.data_end() {
            return None;
        }
        Some(HeadPacket { ctx: self.ctx, start: start as *mut u8 })
    }

    #[inline(always)]
    fn ingress_ifindex(&self) -> u32 {
        self.ctx.ingress_ifindex() as u32
    }

    #[inline(always)]
    fn has(&self, bytes: u32) -> bool {
        (self.ctx.data_end() - self.ctx.data()) as u32 >= bytes || self.length() >= bytes
    }

    #[inline(always)]
    fn make_readable(&mut self, _length: u32) {}

    #[inline(always)]
    fn read<T: Wire>(&self, offset: usize) -> Option<T> {
        // SAFETY: `at` checked the bounds; `Wire` allows every bit pattern, and the read needs no alignment.
        self.at::<T>(offset).map(|p| unsafe { p.read_unaligned() })
    }

    #[inline(always)]
    fn write<T: Wire>(&mut self, offset: usize, value: T) -> Option<()> {
        // SAFETY: `at` checked the bounds; `Wire` has no padding, and the write needs no alignment.
        self.at::<T>(offset).map(|p| unsafe { p.write_unaligned(value) })
    }

    #[inline(always)]
    fn grow_front(&mut self, bytes: usize) -> Option<()> {
        // SAFETY: the context is the one the kernel called the program with; all bounds are read anew afterwards.
        let result = unsafe { bpf_xdp_adjust_head(self.ctx.ctx, -(bytes as i32)) };
        if result == 0 { Some(()) } else { None }
    }

    #[inline(always)]
    fn set_length(&mut self, bytes: u32) -> Option<()> {
        let by = bytes.wrapping_sub(self.length()) as i32;
        if by == 0 {
            return Some(());
        }
        // SAFETY: as above.
        let result = unsafe { bpf_xdp_adjust_tail(self.ctx.ctx, by) };
        if result == 0 { Some(()) } else { None }
    }

    #[inline(always)]
    fn fix_l4_checksum(&mut self, offset: usize, addresses: Diff, ports: Diff, udp: bool) -> Option<()> {
        fix_checksum_in_place(self, offset, addresses, ports, udp)
    }
}

/// The first `N` bytes of a frame, which are there.
pub struct HeadPacket<'a, const N: usize> {
    ctx: &'a XdpContext,
    start: *mut u8,
}

impl<const N: usize> HeadPacket<'_, N> {
    #[inline(always)]
    fn at<T: Wire>(&self, offset: usize) -> Option<*mut T> {
        if offset > N || size_of::<T>() > N - offset {
            return None;
        }
        // SAFETY: within the N bytes that were found to be there; nothing moves the frame while this borrows it.
        Some(unsafe { self.start.add(offset) }.cast())
    }
}

impl<const N: usize> Packet for HeadPacket<'_, N> {
    type Head<'h, const M: usize>
        = XdpPacket<'h, true>
    where
        Self: 'h;

    #[inline(always)]
    fn head<const M: usize>(&mut self) -> Option<Self::Head<'_, M>> {
        None
    }

    #[inline(always)]
    fn ingress_ifindex(&self) -> u32 {
        self.ctx.ingress_ifindex() as u32
    }

    #[inline(always)]
    fn has(&self, bytes: u32) -> bool {
        XdpPacket::<false>::new(self.ctx).has(bytes)
    }

    #[inline(always)]
    fn make_readable(&mut self, _length: u32) {}

    #[inline(always)]
    fn read<T: Wire>(&self, offset: usize) -> Option<T> {
        // SAFETY: `at` checked the bounds; `Wire` allows every bit pattern, and the read needs no alignment.
        self.at::<T>(offset).map(|p| unsafe { p.read_unaligned() })
    }

    #[inline(always)]
    fn write<T: Wire>(&mut self, offset: usize, value: T) -> Option<()> {
        // SAFETY: `at` checked the bounds; `Wire` has no padding, and the write needs no alignment.
        self.at::<T>(offset).map(|p| unsafe { p.write_unaligned(value) })
    }

    #[inline(always)]
    fn grow_front(&mut self, _bytes: usize) -> Option<()> {
        None
    }

    #[inline(always)]
    fn set_length(&mut self, _bytes: u32) -> Option<()> {
        None
    }

    #[inline(always)]
    fn fix_l4_checksum(&mut self, offset: usize, addresses: Diff, ports: Diff, udp: bool) -> Option<()> {
        fix_checksum_in_place(self, offset, addresses, ports, udp)
    }
}
