//! Every way a packet can end. The reason is the verdict and the counter.

/// What became of the packets that end with a reason.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub enum Class {
    /// Rewritten and on its way to a backend or back to a client.
    Forwarded,
    /// Answered by the balancer itself.
    Answered,
    /// Left untouched to whatever comes next on the host.
    Passed,
    /// Ended here.
    Dropped,
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $index:literal, $class:ident, $text:literal;)+) => {
        /// Every way a packet can end; the number is the index of its counter.
        #[repr(u8)]
        #[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
        pub enum Reason { $($(#[doc = $doc])+ $name = $index),+ }

        impl Reason {
            /// All reasons, in the order of their counters.
            pub const ALL: &'static [Reason] = &[$(Reason::$name),+];

            /// The name that status, statistics and logs print.
            pub const fn name(self) -> &'static str {
                match self { $(Reason::$name => $text),+ }
            }

            /// What became of the packet.
            #[inline(always)]
            pub const fn class(self) -> Class {
                match self { $(Reason::$name => Class::$class),+ }
            }
        }
    };
}

reasons! {
    /// Rewritten for a backend and redirected to its port.
    ToBackendRedirect = 0, Forwarded, "to_backend_redirect";
    /// Rewritten for a backend and sent out of the port it came in on.
    ToBackendTransmit = 1, Forwarded, "to_backend_transmit";
    /// Rewritten for a backend and handed to the switch.
    ToBackendSwitch = 2, Forwarded, "to_backend_switch";
    /// Rewritten for the client and redirected to its port.
    ToClientRedirect = 3, Forwarded, "to_client_redirect";
    /// Rewritten for the client and sent out of the port it came in on.
    ToClientTransmit = 4, Forwarded, "to_client_transmit";
    /// Rewritten for the client and handed to the switch.
    ToClientSwitch = 5, Forwarded, "to_client_switch";
    /// An ARP request for a VIP, answered with the VIP's virtual MAC.
    ArpAnswered = 6, Answered, "arp_answered";
    /// A neighbour solicitation for a VIP, answered with the VIP's virtual MAC.
    NdpAnswered = 7, Answered, "ndp_answered";
    /// An ICMP echo request to a VIP, answered.
    EchoAnswered = 8, Answered, "echo_answered";
    /// Nobody is in rotation, and the client was told so.
    Rejected = 9, Answered, "rejected";
    /// Too long for the tunnel to the backend, and the client was told so.
    TooBigAnswered = 10, Answered, "too_big_answered";
    /// Of a connection whose backend is down, and the client got a reset.
    ResetAnswered = 11, Answered, "reset_answered";

    /// Neither for a VIP nor from a backend.
    NotOurs = 16, Passed, "not_ours";
    /// Too short, or of an EtherType that the balancer does not look into.
    NotIp = 17, Passed, "not_ip";
    /// ARP that is no request for a VIP.
    ArpOther = 18, Passed, "arp_other";
    /// ARP in which somebody else claims a VIP as its own address.
    ArpVipClaimed = 19, Passed, "arp_vip_claimed";
    /// To a VIP, but not to its virtual MAC: balanced already, or on its way somewhere else.
    AlreadyBalanced = 20, Passed, "already_balanced";
    /// From a backend, but of no connection: direct traffic.
    NoConnection = 21, Passed, "no_connection";
    /// Neighbour discovery in which somebody else claims a VIP as its own address.
    NdpVipClaimed = 22, Passed, "ndp_vip_claimed";
    /// For a VIP, of no connection, while another balancer takes over or gives back: it is that one's.
    HandedOver = 23, Passed, "handed_over";

    /// To a VIP's address, but to no port or protocol that it serves.
    VipNoService = 32, Dropped, "vip_no_service";
    /// A fragment for a VIP: its later parts carry no ports.
    VipFragment = 33, Dropped, "vip_fragment";
    /// For a VIP, with IP lengths that contradict each other or the frame, or too short for its ports.
    VipMalformed = 34, Dropped, "vip_malformed";
    /// No backend is in rotation.
    NoBackend = 35, Dropped, "no_backend";
    /// The only backend in rotation is the client itself.
    Hairpin = 36, Dropped, "hairpin";
    /// Every backend would answer two VIPs with one and the same tuple.
    ReplyAmbiguous = 37, Dropped, "reply_ambiguous";
    /// The connection table refused the entry.
    TableFull = 38, Dropped, "table_full";
    /// The packet could not be rewritten as decided.
    RewriteFailed = 39, Dropped, "rewrite_failed";
    /// An ICMP error for a VIP that complains of a packet of no connection.
    IcmpNoConnection = 40, Dropped, "icmp_no_connection";
    /// A later fragment for a VIP whose first part was not seen.
    FragmentUnknown = 41, Dropped, "fragment_unknown";
    /// The client is on the VIP's deny list, or not on its allow list.
    Denied = 42, Dropped, "denied";
    /// The client opens connections faster than the VIP allows.
    SourceLimit = 43, Dropped, "source_limit";
    /// Connections are opened faster than the data plane allows.
    NewFlowCap = 44, Dropped, "new_flow_cap";
    /// Full NAT has no port left to lend for this backend.
    SnatExhausted = 45, Dropped, "snat_exhausted";
    /// The program for a rare kind of packet is not loaded.
    StageMissing = 46, Dropped, "stage_missing";
    /// For a VIP, behind extension headers that cannot be followed.
    VipExtension = 47, Dropped, "vip_extension";

    /// An ICMP error on its way to a backend.
    IcmpToBackend = 48, Forwarded, "icmp_to_backend";
    /// An ICMP error on its way to a client.
    IcmpToClient = 49, Forwarded, "icmp_to_client";
    /// A later fragment on its way to a backend.
    FragmentToBackend = 50, Forwarded, "fragment_to_backend";
    /// A later fragment on its way to a client.
    FragmentToClient = 51, Forwarded, "fragment_to_client";
    /// ARP or neighbour discovery of a backend that names the VIP: it leaves with the VIP's MAC.
    NeighbourCorrected = 52, Forwarded, "neighbour_corrected";
    /// The answer to such a question, on its way to the backend that asked.
    NeighbourToBackend = 53, Forwarded, "neighbour_to_backend";
}

/// Slots of the counter array: room for reasons to come.
pub const REASON_SLOTS: u32 = 64;

impl Reason {
    /// Index of this reason's counter.
    #[inline(always)]
    pub const fn index(self) -> u32 {
        self as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_indexes_are_unique_and_in_range() {
        for (i, a) in Reason::ALL.iter().enumerate() {
            assert!(a.index() < REASON_SLOTS);
            for b in &Reason::ALL[..i] {
                assert!(a.index() != b.index() && a.name() != b.name(), "{a:?} and {b:?}");
            }
        }
    }
}
