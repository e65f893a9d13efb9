//! What the measuring programs share with the host that fills their maps. Included by both.

/// Bytes of every frame that is measured: Ethernet, and 64 more, in which the longest of the headers measured end.
pub const FRAME_BYTES: usize = 78;
/// Bytes of the Ethernet header.
pub const ETHERNET_BYTES: usize = 14;
/// Words of 16 bits of the body, those that are not sent included: what a kind of packet does not have goes to the last.
pub const BODY_HALVES: usize = 64;
/// The slot of the program that the wrapper calls.
pub const TARGET: u32 = 0;

/// The next frame, and how the one after it is made from it.
///
/// The wrapper writes the frame in whole words, so that no load of the program under test spans two recent stores,
/// which would cost it a stall that no packet from a NIC causes.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Template {
    /// Bytes 0 to 8 of the frame.
    pub head: u64,
    /// Bytes 8 to 14, and two that are not sent.
    pub head_rest: u64,
    /// The rest of the frame, then what is not sent.
    pub body: [u16; BODY_HALVES],
    /// The flow that the frame belongs to.
    pub flow: u32,
    /// One less than the number of flows, a power of two.
    pub mask: u32,
    /// Sum of the IP header (not inverted) of flow 0.
    pub ip_sum: u32,
    /// Sum of the transport (not inverted) of flow 0.
    pub l4_sum: u32,
    /// The port of flow 0, host byte order.
    pub port: u32,
    /// Index in `body` of the low half of the client's address.
    pub address_at: u32,
    /// Index in `body` of the client's port.
    pub port_at: u32,
    /// Index in `body` of the IP header's checksum.
    pub ip_sum_at: u32,
    /// Index in `body` of the transport's checksum.
    pub l4_sum_at: u32,
    /// Zero.
    pub reserved: u32,
}

/// What differs between the flows of a template: host byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patch {
    /// Low half of the client's address.
    pub address: u16,
    /// The client's port.
    pub port: u16,
    /// Checksum of the IP header.
    pub ip_sum: u16,
    /// Checksum of the transport.
    pub l4_sum: u16,
}

impl Template {
    /// Flow number `flow`: the low 16 bits of its number are the client's address, the others go to its port.
    #[inline(always)]
    pub const fn patch(&self, flow: u32) -> Patch {
        let (address, port) = (flow & 0xffff, flow >> 16);
        Patch {
            address: address as u16,
            port: (self.port + port) as u16,
            ip_sum: !fold(self.ip_sum + address),
            l4_sum: !fold(self.l4_sum + address + port),
        }
    }

    /// The flow after `flow`: all of them in turn, in an order that no prefetcher follows (a linear congruential
    /// generator of full period: Hull and Dobell, 1962).
    #[inline(always)]
    pub const fn after(&self, flow: u32) -> u32 {
        flow.wrapping_mul(1_664_525).wrapping_add(1_013_904_223) & self.mask
    }
}

/// A sum of at most a few 16-bit words as one (RFC 1071).
#[inline(always)]
const fn fold(sum: u32) -> u16 {
    let once = (sum & 0xffff) + (sum >> 16);
    ((once & 0xffff) + (once >> 16)) as u16
}
