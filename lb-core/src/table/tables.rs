//! What the core needs of the tables.

use super::*;
use crate::decide::lend::PortRequest;
use crate::reason::Reason;
use crate::select::PickRequest;

/// What the core reads and counts: BPF maps in the XDP program, plain maps in [`crate::model`].
///
/// All methods take `&self`: entries change in place, and a look-up must not forbid the next one.
pub trait Tables {
    /// Coarse time. Tests fix it.
    fn now(&self) -> Ticks;
    /// A random number. Tests fix it.
    fn random(&self) -> u32;
    /// The next round-robin ticket of a VIP.
    fn ticket(&self, vip: u16) -> u32;
    /// Settings of the whole data plane.
    fn settings(&self) -> Option<&Settings>;
    /// A word of the two "is it ours?" bitmaps ([`BITMAP_WORDS`]).
    fn bitmap(&self, word: u32) -> u64;
    /// What a VIP service key stands for.
    fn vip_target(&self, key: &ServiceKey) -> VipTarget;
    /// The VIP of a service key, where it is found at the first look; 0 says nothing.
    fn vip_at_once(&self, key: &ServiceKey) -> u16 {
        self.vip_target(key).vip()
    }
    /// A VIP's record.
    fn vip(&self, id: u16) -> Option<&VipRecord>;
    /// The VIPs that a backend service answers for.
    fn service(&self, key: &ServiceKey) -> Option<&ServiceRecord>;
    /// A backend's record.
    fn backend(&self, id: u16) -> Option<&BackendRecord>;
    /// A connection that was established.
    fn conn(&self, key: &ConnKey) -> Option<&ConnEntry>;
    /// Makes an established connection where there is none under this key; `false` when nothing was inserted.
    fn conn_insert(&self, key: &ConnKey, value: &ConnValue) -> bool;
    /// Tells whoever watches that a connection was opened.
    #[inline(always)]
    fn tell_opened(&self, _key: &ConnKey, _value: &ConnValue) {}
    /// A connection that is not established yet.
    fn half_open(&self, key: &ConnKey) -> Option<&ConnEntry>;
    /// Makes a half-open connection where there is none under this key; `false` when nothing was inserted.
    fn half_open_insert(&self, key: &ConnKey, value: &ConnValue) -> bool;
    /// Forgets a half-open connection.
    fn half_open_remove(&self, key: &ConnKey);
    /// The other half of a full NAT connection, of an established one or (also) of a half-open one.
    fn snat(&self, key: &ConnKey) -> Option<SnatValue>;
    /// Stores the other half of a full NAT connection, among those of the half-open or of the established ones; `false` when
    /// the key is taken there, unless `replace`.
    fn snat_insert(&self, key: &ConnKey, value: &SnatValue, half_open: bool, replace: bool) -> bool;
    /// Forgets the other half of a full NAT connection among those of the half-open or of the established ones.
    fn snat_remove(&self, key: &ConnKey, half_open: bool);
    /// The backend that a client keeps.
    fn affinity(&self, key: &ClientKey) -> Option<AffinityValue>;
    /// Remembers the backend of a client.
    fn affinity_set(&self, key: &ClientKey, value: &AffinityValue);
    /// What the lists say of a client of a VIP: a constant of [`verdict`], 0 when nothing.
    fn acl(&self, key: &AclKey) -> u32;
    /// Counts an opening of a client in a window; how many there are now.
    fn source_opened(&self, key: &ClientKey, window: u32) -> u32;
    /// Openings of this processor in a window.
    fn opened(&self, window: u32) -> u32;
    /// Counts an opening of this processor in a window.
    fn count_opened(&self, window: u32);
    /// Live connections of a backend, as last counted and kept since.
    fn load(&self, backend: u16) -> u32;
    /// A backend got a connection (1) or lost one (-1).
    fn load_add(&self, backend: u16, change: i64);
    /// The list of port ranges of the longest VIP prefix that holds an address, 0 when none does.
    fn prefix(&self, address: Address) -> u16;
    /// A list of port ranges.
    fn port_list(&self, number: u16) -> Option<&PortList>;
    /// Where the parts of a packet go.
    fn fragment(&self, key: &FragmentKey) -> Option<FragmentValue>;
    /// Remembers where the parts of a packet go.
    fn fragment_set(&self, key: &FragmentKey, value: &FragmentValue);
    /// Who asked for an address in a VIP's name.
    fn asker(&self, key: &ClientKey) -> Option<AskerValue>;
    /// Remembers who asked.
    fn asker_set(&self, key: &ClientKey, value: &AskerValue);
    /// Leaves a word for the program that goes on with this packet.
    fn leave(&self, leftover: Leftover);
    /// What was left for this program.
    fn left(&self) -> Leftover;
    /// A VIP's selection table.
    fn selection(&self, vip: u16) -> Option<&SelectTable>;
    /// A port by its slot.
    fn port(&self, slot: u16) -> Option<&PortRecord>;
    /// The slot of an interface, 0 when the balancer is not attached to it.
    fn slot_of(&self, ifindex: u32) -> u16;
    /// [`crate::decide::lend::lend_port`]. Where a verifier looks at every call of a function anew, this is the place to call
    /// one that it looks at once.
    fn lend_port(&self, request: &PortRequest) -> u16
    where
        Self: Sized,
    {
        crate::decide::lend::lend_port(self, request)
    }
    /// [`crate::select::pick_code`]: likewise.
    fn pick(&self, request: &PickRequest) -> u32
    where
        Self: Sized,
    {
        crate::select::pick_code(self, request)
    }
    /// Counts a packet that came in.
    fn count_received(&self);
    /// Counts how a packet ended.
    fn count_reason(&self, reason: Reason);
    /// Counts a balanced packet whose checksum its sender left unfinished.
    fn count_partial_checksum(&self);
    /// Changes the counters of a VIP.
    fn count_vip(&self, vip: u16, change: impl FnOnce(&mut TrafficCounter));
    /// Changes the counters of a backend.
    fn count_backend(&self, backend: u16, change: impl FnOnce(&mut TrafficCounter));
}
