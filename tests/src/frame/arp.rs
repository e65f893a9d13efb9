//! ARP.

use super::{BROADCAST, Ip, Mac, ethernet, octets};

/// An ARP packet for IPv4 over Ethernet (RFC 826).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arp {
    /// Destination MAC of the frame.
    pub dst_mac: Mac,
    /// Source MAC of the frame.
    pub src_mac: Mac,
    /// VLAN tags: TPID and TCI, outermost first.
    pub tags: Vec<(u16, u16)>,
    /// Hardware type, protocol type, their lengths.
    pub head: [u8; 6],
    /// 1 request, 2 reply.
    pub operation: u16,
    /// Sender MAC and IPv4 address.
    pub sender: (Mac, Ip),
    /// Target MAC and IPv4 address.
    pub target: (Mac, Ip),
    /// Bytes behind the packet.
    pub padding: usize,
}

impl Arp {
    /// A broadcast request.
    #[must_use]
    pub fn request(sender: (Mac, Ip), target: Ip) -> Self {
        Self {
            dst_mac: BROADCAST,
            src_mac: sender.0,
            tags: Vec::new(),
            head: [0, 1, 8, 0, 6, 4],
            operation: 1,
            sender,
            target: ([0; 6], target),
            padding: 18,
        }
    }

    /// The answer of `mac` to this request.
    #[must_use]
    pub fn answered_by(&self, mac: Mac) -> Self {
        Self {
            dst_mac: self.sender.0,
            src_mac: mac,
            operation: 2,
            sender: (mac, self.target.1),
            target: self.sender,
            ..self.clone()
        }
    }

    /// With a VLAN tag put outside of those there are.
    #[must_use]
    pub fn tag(mut self, tpid: u16, tci: u16) -> Self {
        self.tags.insert(0, (tpid, tci));
        self
    }

    /// The frame.
    ///
    /// # Panics
    /// An address is not IPv4.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = ethernet(self.dst_mac, self.src_mac, &self.tags, 0x0806);
        out.extend(self.head);
        out.extend(self.operation.to_be_bytes());
        for (mac, address) in [self.sender, self.target] {
            assert!(address.is_ipv4(), "ARP is for IPv4, not for {address}");
            out.extend(mac);
            out.extend(octets(address));
        }
        out.extend(vec![0; self.padding]);
        out
    }
}
