//! Keys and values of the balancer's tables, and the trait through which the core reads them.
//!
//! These types lie in BPF maps: `repr(C)`, whole integers and byte arrays, explicit padding, sizes asserted,
//! no `bool`, `Option` or enum inside. Ports and addresses are in network byte order, as in the packet.
//! An array slot that was never written reads as zeros, so index 0 never means a VIP, a backend or a port,
//! and state 0 means absent.

mod conn;
mod key;
mod record;
mod side;
mod tables;

pub use conn::*;
pub use key::*;
pub use record::*;
pub use side::*;
pub use tables::*;

/// Version of everything in this module. Maps of another version are never adopted.
pub const SCHEMA_VERSION: u32 = 3;

/// VIPs a data plane holds at most; ids run from 1.
pub const MAX_VIPS: usize = 257;
/// Backend records a data plane holds at most, over all VIPs; ids run from 1.
pub const MAX_BACKENDS: usize = 8192;
/// Switch ports a data plane is attached to at most; slots run from 1.
pub const MAX_PORTS: usize = 1024;
/// Address bits of one of the two "is it ours?" bitmaps.
pub const BITMAP_BITS: u32 = 1 << 16;
/// Words of both bitmaps: VIP addresses first, backend addresses behind them.
pub const BITMAP_WORDS: usize = 2 * BITMAP_BITS as usize / 64;
/// VIPs that may share one backend service.
pub const SERVICE_VIPS: usize = 4;
/// Slots of the direct-mapped tables in front of the VIP services and of the backend services; a power of two.
pub const SERVICE_SLOTS: usize = 4096;
/// Lists of port ranges a data plane holds at most; numbers run from 1.
pub const MAX_PORT_LISTS: usize = 256;
/// Ranges of one list.
pub const LIST_RANGES: usize = 8;
/// Slots of the round-robin ring.
pub const RING_SLOTS: usize = 4096;
/// Slots of the Maglev table; a prime (Eisenbud et al., NSDI 2016, section 3.4).
pub const MAGLEV_SLOTS: usize = 65537;
/// Room for them: the next power of two, so that an index is bounded by its bits. Linux 6.1 does not follow the
/// bounds of a product, and a compiler that knows the factor removes a mask.
pub const MAGLEV_CAPACITY: usize = 1 << 17;
/// Backends of one VIP at most.
pub const MAX_MEMBERS: usize = 655;
/// Slots of the list of members: the next power of two, so that an index is bounded by a mask.
pub const MEMBER_SLOTS: usize = 1024;

const _: () = {
    assert!(size_of::<ServiceKey>() == 24 && size_of::<ConnKey>() == 24);
    assert!(size_of::<ConnValue>() == 24 && size_of::<ConnEntry>() == 24);
    assert!(size_of::<VipSlot>() == 40 && size_of::<BackendSlot>() == 48);
    assert!(size_of::<PortList>() == 64 && size_of::<PrefixKey>() == 20 && size_of::<AclKey>() == 24);
    assert!(size_of::<ClientKey>() == 24 && size_of::<AffinityValue>() == 8 && size_of::<RateValue>() == 8);
    assert!(
        size_of::<FragmentKey>() == 40 && size_of::<FragmentValue>() == 40 && size_of::<SnatValue>() == 32
    );
    assert!(size_of::<AskerValue>() == 8 && size_of::<Leftover>() == 64);
    assert!(size_of::<VipRecord>() == 64 && size_of::<BackendRecord>() == 40);
    assert!(size_of::<ServiceRecord>() == 16 && size_of::<PortRecord>() == 8);
    assert!(size_of::<Settings>() == 56 && size_of::<TestInputs>() == 8);
    assert!(size_of::<SelectTable>() == 16 + 2 * (MEMBER_SLOTS + RING_SLOTS + MAGLEV_CAPACITY));
    assert!(size_of::<TrafficCounter>() == 56 && size_of::<GlobalCounter>() == 16);
};
