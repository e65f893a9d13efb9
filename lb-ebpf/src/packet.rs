//! The XDP frame as the core sees it.

use aya_ebpf::helpers::generated::bpf_xdp_get_buff_len;
use aya_ebpf::programs::XdpContext;
use lb_core::checksum::Diff;
use lb_core::packet::{Packet, Wire, fix_checksum_in_place};

/// Offsets beyond this are refused: the verifier needs a bound, and all headers end before it.
const MAX_OFFSET: usize = 255;

/// A frame in an XDP program.
pub struct XdpPacket<'a> {
    ctx: &'a XdpContext,
}

impl<'a> XdpPacket<'a> {
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
        if start + size_of::<T>() > self.ctx.data_end() {
            return None;
        }
        Some(start as *mut T)
    }
}

impl Packet for XdpPacket<'_> {
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
    fn fix_l4_checksum(&mut self, offset: usize, addresses: Diff, ports: Diff, udp: bool) -> Option<()> {
        fix_checksum_in_place(self, offset, addresses, ports, udp)
    }
}
