//! Addresses, and the keys of services, prefixes and lists.

use super::{LIST_RANGES, ServiceRecord};

/// An IPv6 address, or an IPv4 address mapped into it (RFC 4291, section 2.5.5.2), as two words in memory
/// order.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, PartialOrd, Ord)]
pub struct Address(pub [u64; 2]);

impl Address {
    /// The unspecified IPv6 address, in records: none.
    pub const ZERO: Self = Self([0, 0]);

    /// Whether this is an IPv4 address.
    #[inline(always)]
    pub const fn is_v4(self) -> bool {
        let prefix = if cfg!(target_endian = "little") { self.0[1] as u32 } else { (self.0[1] >> 32) as u32 };
        self.0[0] == 0 && prefix == 0x0000_ffffu32.to_be()
    }

    /// The mapped form of an IPv4 address as it is read from the packet.
    #[inline(always)]
    pub const fn from_v4_wire(address: u32) -> Self {
        if cfg!(target_endian = "little") {
            Self([0, 0xffff_0000 | (address as u64) << 32])
        } else {
            Self([0, 0x0000_ffff_0000_0000 | address as u64])
        }
    }

    /// The mapped form of an IPv4 address given by its octets.
    pub const fn from_v4(octets: [u8; 4]) -> Self {
        Self::from_v4_wire(u32::from_ne_bytes(octets))
    }

    /// An IPv6 address given by its octets.
    pub const fn from_v6(o: [u8; 16]) -> Self {
        Self([
            u64::from_ne_bytes([o[0], o[1], o[2], o[3], o[4], o[5], o[6], o[7]]),
            u64::from_ne_bytes([o[8], o[9], o[10], o[11], o[12], o[13], o[14], o[15]]),
        ])
    }

    /// The IPv4 part of a mapped address, as it is written into the packet.
    #[inline(always)]
    pub const fn v4_wire(self) -> u32 {
        if cfg!(target_endian = "little") { (self.0[1] >> 32) as u32 } else { self.0[1] as u32 }
    }

    /// The octets, in network order.
    pub const fn octets(self) -> [u8; 16] {
        let (a, b) = (self.0[0].to_ne_bytes(), self.0[1].to_ne_bytes());
        [a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]
    }

    /// Position of this address in an "is it ours?" bitmap.
    #[inline(always)]
    pub const fn bitmap_bit(self) -> u32 {
        let folded = self.0[0] ^ self.0[1];
        (folded.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48) as u32
    }
}

/// A VIP's or a backend's service: address, port, protocol. Port 0 stands for every port of the protocol,
/// port 0 with protocol 0 for the address itself.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, PartialOrd, Ord)]
pub struct ServiceKey {
    /// The address.
    pub address: Address,
    /// Port (network byte order) and protocol, see [`ServiceKey::new`].
    pub service: u64,
}

impl ServiceKey {
    /// The key of a port (network byte order) and IP protocol number at an address.
    #[inline(always)]
    pub const fn new(address: Address, port: u16, protocol: u8) -> Self {
        Self { address, service: port as u64 | (protocol as u64) << 16 }
    }

    /// The key that stands for the address as such.
    #[inline(always)]
    pub const fn of_address(address: Address) -> Self {
        Self::new(address, 0, 0)
    }

    /// The slot of this key in a direct-mapped table of [`super::SERVICE_SLOTS`].
    #[inline(always)]
    pub const fn slot(&self) -> u32 {
        let folded = self.address.0[0] ^ self.address.0[1] ^ self.service.rotate_left(13);
        (folded.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 52) as u32
    }
}

/// What a VIP service key stands for, as it lies in a table.
///
/// ```text
///  63            32 31          16 15           0
///  +---------------+--------------+--------------+
///  |       0       |  port list   |    VIP id    |
///  +---------------+--------------+--------------+
/// ```
/// The key of an address and protocol with port 0 may carry the number of a list of port ranges beside the VIP of
/// every port; the list is tried first.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, PartialOrd, Ord)]
pub struct VipTarget(pub u64);

impl VipTarget {
    /// A VIP's id (0: none) and the number of a list of port ranges (0: none).
    pub const fn new(vip: u16, list: u16) -> Self {
        Self(vip as u64 | (list as u64) << 16)
    }

    /// The VIP's id; 0 when there is none.
    #[inline(always)]
    pub const fn vip(self) -> u16 {
        self.0 as u16
    }

    /// The number of the list of port ranges; 0 when there is none.
    #[inline(always)]
    pub const fn list(self) -> u16 {
        (self.0 >> 16) as u16
    }
}

/// A slot of the direct-mapped table in front of the VIP services: most look-ups end here, without a hash table.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct VipSlot {
    /// The key that owns the slot.
    pub key: ServiceKey,
    /// What it stands for.
    pub target: VipTarget,
    /// 1 when other keys of this slot are in the hash table; 0 when there is no other.
    pub more: u64,
}

/// A slot of the direct-mapped table in front of the backend services.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct BackendSlot {
    /// The key that owns the slot.
    pub key: ServiceKey,
    /// The VIPs that it answers for.
    pub record: ServiceRecord,
    /// 1 when other keys of this slot are in the hash table; 0 when there is no other.
    pub more: u64,
}

/// A range of ports of one protocol, and the VIP that serves it.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PortRange {
    /// The first port, host byte order.
    pub first: u16,
    /// The last port, host byte order; below `first` in an unused place.
    pub last: u16,
    /// The VIP's id; 0 ends the list.
    pub vip: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// Zero.
    pub reserved: u8,
}

/// The ranges of an address or of an address prefix, tried in order.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PortList {
    /// Filled from the front.
    pub ranges: [PortRange; LIST_RANGES],
}

/// Key of the VIP prefixes, as the kernel's longest prefix match wants it. The value is a list's number.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub struct PrefixKey {
    /// Bits of the address that count; an IPv4 prefix counts 96 more.
    pub length: u32,
    /// The address, as octets in network order.
    pub address: [u8; 16],
}

/// Key of the allow and deny lists, as the kernel's longest prefix match wants it. The value is a constant of
/// [`super::verdict`].
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub struct AclKey {
    /// 32 for the VIP, and the bits of the address that count; an IPv4 prefix counts 96 more.
    pub length: u32,
    /// The VIP's id in network byte order: it is compared first.
    pub vip: u32,
    /// The client's address.
    pub address: Address,
}
