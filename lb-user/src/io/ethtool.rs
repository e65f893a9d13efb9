//! Checksum, VLAN and GRO offloads of an interface, and its driver's statistics (SIOCETHTOOL inside its namespace).
//!
//! A device has the features that were asked for (`requested`) and those in force (`active`); some need others,
//! so that without TX checksums a veth has no TSO either. Only the request is changed here, and only for
//! the features named, so what depended on them comes back by itself when they are restored.
//!
//! Every number passed to the kernel, but for the statistics, is a u32 in host order (linux/ethtool.h, struct ethtool_gstrings,
//! ethtool_gfeatures, ethtool_sfeatures):
//!
//! ```text
//!  GSSET_INFO  | cmd | reserved | set mask (u64) | count |
//!  GSTRINGS    | cmd | set | count | names, 32 bytes each ...
//!  GFEATURES   | cmd | blocks | available, requested, active, never changed | ... one block for 32 features
//!  SFEATURES   | cmd | blocks | valid, requested | ...
//!  GSTATS      | cmd | count | numbers (u64) ...
//! ```

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use serde::{Deserialize, Serialize};

use super::netns::{NetNs, NetNsError, NsRef, run_in};

const SIOCETHTOOL: u64 = 0x8946;
const ETHTOOL_GDRVINFO: u32 = 0x0000_0003;
const ETHTOOL_GSTRINGS: u32 = 0x0000_001b;
const ETHTOOL_GSTATS: u32 = 0x0000_001d;
const ETHTOOL_GSSET_INFO: u32 = 0x0000_0037;
const ETHTOOL_GFEATURES: u32 = 0x0000_003a;
const ETHTOOL_SFEATURES: u32 = 0x0000_003b;
/// The string set with the names of the driver's statistics.
const ETH_SS_STATS: u32 = 1;
/// The string set with the features' names.
const ETH_SS_FEATURES: u32 = 4;
/// Bytes of one name (ETH_GSTRING_LEN).
const NAME_LEN: usize = 32;
/// Words of struct ethtool_drvinfo, and the bytes of its driver name.
const DRVINFO_WORDS: usize = 49;
const DRIVER_NAME: std::ops::Range<usize> = 4..36;
/// More features than any kernel has: guards against a senseless answer.
const MAX_FEATURES: usize = 1024;

/// More statistics than any device has: a veth has ten for each of at most 4096 queues.
const MAX_STATISTICS: usize = 65_536;

/// Why an interface's offloads could not be read or set.
#[derive(Debug, thiserror::Error)]
pub enum EthtoolError {
    /// The namespace cannot be entered.
    #[error(transparent)]
    NetNs(#[from] NetNsError),
    /// There is no such interface in that namespace.
    #[error("interface {ifname} does not exist in {ns}; see `ip link`")]
    Missing {
        /// The interface.
        ifname: String,
        /// The namespace.
        ns: String,
    },
    /// Only root, or a process with CAP_NET_ADMIN, may do this.
    #[error("no permission to change the offloads of {0}; run as root")]
    Permission(String),
    /// The driver cannot switch it off.
    #[error("{ifname}: {feature} is on and the driver does not let it be turned off")]
    Fixed {
        /// The interface.
        ifname: String,
        /// The feature, as `ethtool -k` names it.
        feature: String,
    },
    /// The kernel said yes and did not do it.
    #[error("{ifname}: {feature} did not change; another program may hold it, see `ethtool -k {ifname}`")]
    NotTaken {
        /// The interface.
        ifname: String,
        /// The feature, as `ethtool -k` names it.
        feature: String,
    },
    /// Anything else that the kernel answered.
    #[error("ethtool on {ifname}: {source}")]
    Io {
        /// The interface.
        ifname: String,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// Which offloads to change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Offloads {
    /// Checksums that are left to the device when sending: XDP sees them unfinished.
    pub tx_checksum: bool,
    /// VLAN tags that are left to the device when sending: XDP does not see them.
    pub tx_vlan: bool,
    /// VLAN tags that the device strips when receiving: XDP does not see them.
    pub rx_vlan: bool,
    /// Generic receive offload, the only one to turn on: what XDP redirects to a veth is joined there again, which saves
    /// its host a pass through the stack for each segment. A veth does not keep it by itself.
    #[serde(default)]
    pub rx_gro: bool,
}

impl Offloads {
    /// What the veth peers of XDP ports need.
    pub const PEER: Self = Self { tx_checksum: true, tx_vlan: true, rx_vlan: false, rx_gro: false };
    /// What they need where XDP redirects to them.
    pub const REDIRECTED: Self = Self { rx_gro: true, ..Self::PEER };
    /// What a hardware port with XDP needs.
    pub const NIC: Self = Self { tx_checksum: false, tx_vlan: false, rx_vlan: true, rx_gro: false };

    /// Whether a feature is to be on or off; nothing if it is not meant.
    fn wants(self, feature: &str) -> Option<bool> {
        let off = (self.tx_checksum && feature.starts_with("tx-checksum-"))
            || (self.tx_vlan && matches!(feature, "tx-vlan-hw-insert" | "tx-vlan-stag-hw-insert"))
            || (self.rx_vlan && matches!(feature, "rx-vlan-hw-parse" | "rx-vlan-stag-hw-parse"));
        let on = self.rx_gro && feature == "rx-gro";
        (off || on).then_some(on)
    }
}

/// One feature of a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Feature {
    /// Its name, as `ethtool -k` prints it.
    pub name: String,
    /// It can be changed.
    pub available: bool,
    /// It was asked for.
    pub requested: bool,
    /// It is in force.
    pub active: bool,
}

/// A feature that was turned off or on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeatureChange {
    /// Its name, as `ethtool -k` prints it.
    pub name: String,
    /// Whether it was asked for before.
    pub requested_before: bool,
    /// Whether it was turned on.
    #[serde(default)]
    pub turned_on: bool,
}

/// What [`make`] changes on one interface, enough for [`restore`] to undo it in another process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OffloadChange {
    /// The interface's namespace.
    pub ns: NsRef,
    /// The interface.
    pub ifname: String,
    /// Its index: another interface of the same name is left alone.
    pub ifindex: u32,
    /// What was changed; empty if all was as wanted.
    pub features: Vec<FeatureChange>,
}

impl OffloadChange {
    /// Joins this change with an earlier one of the same interface, as a later daemon finds it: what was
    /// first seen is what will be restored. An earlier change of another interface counts for nothing.
    pub fn after(mut self, earlier: &OffloadChange) -> Self {
        if (self.ns.id, &self.ifname, self.ifindex) != (earlier.ns.id, &earlier.ifname, earlier.ifindex) {
            return self;
        }
        let mut features = earlier.features.clone();
        self.features.retain(|new| earlier.features.iter().all(|old| old.name != new.name));
        features.append(&mut self.features);
        Self { features, ..self }
    }

    /// Whether nothing was changed.
    pub fn is_empty(&self) -> bool {
        self.features.is_empty()
    }
}

/// What [`restore`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Restored {
    /// The interface is as it was before the change.
    Done,
    /// The interface, or its namespace, does not exist any more: nothing to do.
    Gone,
}

/// The features of an interface, in the kernel's order.
pub fn features(ns: &NetNs, ifname: &str) -> Result<Vec<Feature>, EthtoolError> {
    run_in(ns, || Device::open(ns, ifname)?.features())?
}

/// The name of an interface's driver, such as `veth`.
pub fn driver(ns: &NetNs, ifname: &str) -> Result<String, EthtoolError> {
    run_in(ns, || Device::open(ns, ifname)?.driver())?
}

/// What the driver of a veth counts, by name; nothing for an interface of another driver. `ns` is the calling thread's
/// namespace.
pub fn veth_statistics_here(ns: &NetNs, ifname: &str) -> Result<Option<Vec<(String, u64)>>, EthtoolError> {
    let device = Device::open(ns, ifname)?;
    if device.driver()? != "veth" {
        return Ok(None);
    }
    device.statistics().map(Some)
}

/// The names of the features of `what` that are in force and should be off.
pub fn active(ns: &NetNs, ifname: &str, what: Offloads) -> Result<Vec<String>, EthtoolError> {
    let features = features(ns, ifname)?;
    Ok(features
        .into_iter()
        .filter(|f| f.active && what.wants(&f.name) == Some(false))
        .map(|f| f.name)
        .collect())
}

/// What [`make`] would change on an interface: nothing is changed yet, so that the change can be written down
/// before it is made.
pub fn plan(ns: &NetNs, ifname: &str, what: Offloads) -> Result<OffloadChange, EthtoolError> {
    run_in(ns, || {
        let device = Device::open(ns, ifname)?;
        let features = device.features()?;
        let fixed = |f: &&Feature| what.wants(&f.name) == Some(false) && f.active && !f.available;
        if let Some(fixed) = features.iter().find(fixed) {
            return Err(EthtoolError::Fixed { ifname: ifname.to_owned(), feature: fixed.name.clone() });
        }
        let changes = features
            .iter()
            .filter(|f| f.available)
            .filter_map(|f| {
                let turned_on = what.wants(&f.name)?;
                // In force without a request it goes with the next change of anything.
                let differs = f.requested != turned_on || (f.active && !turned_on);
                let (name, requested_before) = (f.name.clone(), f.requested);
                differs.then_some(FeatureChange { name, requested_before, turned_on })
            })
            .collect();
        let ns = NsRef { id: ns.id(), path: ns.path().to_owned() };
        Ok(OffloadChange { ns, ifname: ifname.to_owned(), ifindex: device.ifindex, features: changes })
    })?
}

/// Makes a planned change. A second call changes nothing.
pub fn make(ns: &NetNs, change: &OffloadChange) -> Result<(), EthtoolError> {
    run_in(ns, || {
        let device = Device::open(ns, &change.ifname)?;
        let wanted = |name: &str| change.features.iter().find(|c| c.name == name).map(|c| c.turned_on);
        device.request(&device.features()?, wanted)?;
        match device.features()?.iter().find(|f| wanted(&f.name).is_some_and(|on| on != f.active)) {
            Some(f) => Err(EthtoolError::NotTaken { ifname: change.ifname.clone(), feature: f.name.clone() }),
            None => Ok(()),
        }
    })?
}

/// Gives an interface back the requests that it had before `change`. A second call changes nothing.
pub fn restore(change: &OffloadChange) -> Result<Restored, EthtoolError> {
    let ns = match NetNs::open(&change.ns) {
        Ok(ns) => ns,
        Err(NetNsError::Missing { .. } | NetNsError::Replaced { .. } | NetNsError::NotANamespace(_)) => {
            return Ok(Restored::Gone);
        }
        Err(other) => return Err(other.into()),
    };
    run_in(&ns, || {
        let device = match Device::open(&ns, &change.ifname) {
            Ok(device) if device.ifindex == change.ifindex => device,
            Ok(_) | Err(EthtoolError::Missing { .. }) => return Ok(Restored::Gone),
            Err(other) => return Err(other),
        };
        let features = device.features()?;
        let before = |name: &str| change.features.iter().find(|c| c.name == name).map(|c| c.requested_before);
        device.request(&features, before)?;
        let after = device.features()?;
        match after.iter().find(|f| before(&f.name).is_some_and(|wanted| wanted != f.requested)) {
            Some(f) => Err(EthtoolError::NotTaken { ifname: change.ifname.clone(), feature: f.name.clone() }),
            None => Ok(Restored::Done),
        }
    })?
}

/// An interface of the calling thread's namespace.
struct Device {
    socket: OwnedFd,
    ifname: String,
    ifindex: u32,
}

impl Device {
    fn open(ns: &NetNs, ifname: &str) -> Result<Self, EthtoolError> {
        let io = |source| EthtoolError::Io { ifname: ifname.to_owned(), source };
        let missing =
            || EthtoolError::Missing { ifname: ifname.to_owned(), ns: ns.path().display().to_string() };
        let name = CString::new(ifname).map_err(|_| missing())?;
        // SAFETY: the name ends with NUL and lives through the call.
        let ifindex = unsafe { libc::if_nametoindex(name.as_ptr()) };
        if ifindex == 0 || ifname.len() >= libc::IFNAMSIZ {
            return Err(missing());
        }
        // SAFETY: socket takes three numbers; a descriptor that it returned is owned by nobody else.
        let socket = unsafe {
            let fd = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
            if fd < 0 {
                return Err(io(io::Error::last_os_error()));
            }
            OwnedFd::from_raw_fd(fd)
        };
        Ok(Self { socket, ifname: ifname.to_owned(), ifindex })
    }

    /// Performs the command in `words`, whose first word is its number; the answer replaces them. The slice has
    /// to be as long as the kernel's answer to that command.
    fn ioctl(&self, words: &mut [u32]) -> Result<(), EthtoolError> {
        // SAFETY: ifreq is plain data for which all zeros are valid.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(self.ifname.bytes()) {
            *to = from as libc::c_char;
        }
        request.ifr_ifru.ifru_data = words.as_mut_ptr().cast();
        // SAFETY: the request holds a name that ends with NUL (`open` checked its length) and a pointer to `words`,
        // which lives through the call and which the callers make as long as the kernel writes.
        let result = unsafe { libc::ioctl(self.socket.as_raw_fd(), SIOCETHTOOL as _, &raw mut request) };
        if result >= 0 {
            return Ok(());
        }
        let source = io::Error::last_os_error();
        Err(match source.raw_os_error() {
            Some(libc::EPERM) => EthtoolError::Permission(self.ifname.clone()),
            _ => EthtoolError::Io { ifname: self.ifname.clone(), source },
        })
    }

    fn driver(&self) -> Result<String, EthtoolError> {
        let mut words = [0u32; DRVINFO_WORDS];
        words[0] = ETHTOOL_GDRVINFO;
        self.ioctl(&mut words)?;
        Ok(text(bytes(&words).get(DRIVER_NAME).unwrap_or_default()))
    }

    /// How many strings are in a set; more than `most` is a senseless answer.
    fn count(&self, set: u32, most: usize) -> Result<usize, EthtoolError> {
        let mut info = [ETHTOOL_GSSET_INFO, 0, 0, 0, 0];
        // The mask is a u64: its bit is in the lower half, wherever this machine keeps that.
        let mask = (1u64 << set).to_ne_bytes();
        let (low, high) = mask.split_at(4);
        info[2] = u32::from_ne_bytes(low.try_into().unwrap_or_default());
        info[3] = u32::from_ne_bytes(high.try_into().unwrap_or_default());
        self.ioctl(&mut info)?;
        let count = info[4] as usize;
        if count > most {
            let source = io::Error::other(format!("the kernel claims {count} strings in set {set}"));
            return Err(EthtoolError::Io { ifname: self.ifname.clone(), source });
        }
        Ok(count)
    }

    /// The driver's statistics. Their number follows the number of queues, which others may change between two calls,
    /// and the kernel writes as many as there are: there is room for all that a device can have.
    fn statistics(&self) -> Result<Vec<(String, u64)>, EthtoolError> {
        let count = self.count(ETH_SS_STATS, MAX_STATISTICS)?;
        if count == 0 {
            return Ok(Vec::new());
        }
        let mut names = vec![0u32; 3 + MAX_STATISTICS * NAME_LEN / size_of::<u32>()];
        names[..3].copy_from_slice(&[ETHTOOL_GSTRINGS, ETH_SS_STATS, count as u32]);
        self.ioctl(&mut names)?;
        let mut values = vec![0u32; 2 + MAX_STATISTICS * size_of::<u64>() / size_of::<u32>()];
        values[..2].copy_from_slice(&[ETHTOOL_GSTATS, count as u32]);
        self.ioctl(&mut values)?;
        let same = names[2].min(values[1]).min(MAX_STATISTICS as u32) as usize;
        let names = bytes(names.get(3..3 + same * NAME_LEN / size_of::<u32>()).unwrap_or_default());
        let values = bytes(values.get(2..2 + same * size_of::<u64>() / size_of::<u32>()).unwrap_or_default());
        Ok(decode_statistics(&names, &values))
    }

    fn features(&self) -> Result<Vec<Feature>, EthtoolError> {
        let count = self.count(ETH_SS_FEATURES, MAX_FEATURES)?;
        let mut names = vec![0u32; 3 + count * NAME_LEN / size_of::<u32>()];
        names[..3].copy_from_slice(&[ETHTOOL_GSTRINGS, ETH_SS_FEATURES, count as u32]);
        self.ioctl(&mut names)?;
        let blocks = count.div_ceil(32);
        let mut state = vec![0u32; 2 + blocks * 4];
        state[..2].copy_from_slice(&[ETHTOOL_GFEATURES, blocks as u32]);
        self.ioctl(&mut state)?;
        Ok(decode_features(&bytes(names.get(3..).unwrap_or_default()), state.get(2..).unwrap_or_default()))
    }

    /// Sets the requests of those features for which `wanted` says something; none, no system call.
    fn request(
        &self,
        features: &[Feature],
        wanted: impl Fn(&str) -> Option<bool>,
    ) -> Result<(), EthtoolError> {
        match encode_request(features, wanted) {
            Some(mut words) => self.ioctl(&mut words),
            None => Ok(()),
        }
    }
}

/// Puts the names and the blocks of four words together. Features without a name are kept: the position
/// counts.
fn decode_features(names: &[u8], blocks: &[u32]) -> Vec<Feature> {
    names
        .chunks_exact(NAME_LEN)
        .enumerate()
        .map(|(i, name)| {
            let bit =
                |word: usize| blocks.get(i / 32 * 4 + word).is_some_and(|bits| bits >> (i % 32) & 1 == 1);
            Feature { name: text(name), available: bit(0), requested: bit(1), active: bit(2) }
        })
        .collect()
}

/// Puts the names and the numbers together.
fn decode_statistics(names: &[u8], values: &[u8]) -> Vec<(String, u64)> {
    let values = values.as_chunks().0.iter().map(|value| u64::from_ne_bytes(*value));
    names.chunks_exact(NAME_LEN).map(text).zip(values).collect()
}

/// The words of ETHTOOL_SFEATURES, if anything changeable is to be changed.
fn encode_request(features: &[Feature], wanted: impl Fn(&str) -> Option<bool>) -> Option<Vec<u32>> {
    let blocks = features.len().div_ceil(32);
    let mut words = vec![0u32; 2 + blocks * 2];
    let mut any = false;
    for (i, feature) in features.iter().enumerate() {
        let Some(on) = wanted(&feature.name).filter(|on| feature.available && *on != feature.requested)
        else {
            continue;
        };
        let bit = 1u32 << (i % 32);
        if let Some([valid, requested]) = words.get_mut(2 + i / 32 * 2..).and_then(|w| w.first_chunk_mut()) {
            *valid |= bit;
            *requested |= if on { bit } else { 0 };
            any = true;
        }
    }
    words[..2].copy_from_slice(&[ETHTOOL_SFEATURES, blocks as u32]);
    any.then_some(words)
}

fn bytes(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// The text before the first NUL.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::netns::NsId;
    use super::*;

    fn feature(name: &str, available: bool, requested: bool, active: bool) -> Feature {
        Feature { name: name.to_owned(), available, requested, active }
    }

    fn change(ifindex: u32, features: &[(&str, bool)]) -> OffloadChange {
        OffloadChange {
            ns: NsRef { id: NsId { dev: 4, ino: 9 }, path: PathBuf::from("/run/netns/x") },
            ifname: "h1-eth0".to_owned(),
            ifindex,
            features: features
                .iter()
                .map(|&(name, requested_before)| FeatureChange {
                    name: name.to_owned(),
                    requested_before,
                    turned_on: false,
                })
                .collect(),
        }
    }

    #[test]
    fn bits_belong_to_names_by_position() {
        let mut names = vec![0u8; 34 * NAME_LEN];
        names[..3].copy_from_slice(b"one");
        names[33 * NAME_LEN..33 * NAME_LEN + 4].copy_from_slice(b"last");
        let blocks = [1, 1, 0, 0, 2, 0, 2, 0];
        let features = decode_features(&names, &blocks);
        assert_eq!(features.len(), 34);
        assert_eq!(features[0], feature("one", true, true, false));
        assert_eq!(features[1], feature("", false, false, false));
        assert_eq!(features[33], feature("last", true, false, true));
    }

    #[test]
    fn numbers_belong_to_names_by_position() {
        let mut names = vec![0u8; 2 * NAME_LEN];
        names[..3].copy_from_slice(b"one");
        names[NAME_LEN..NAME_LEN + 4].copy_from_slice(b"last");
        let values: Vec<u8> = [7u64, u64::MAX].into_iter().flat_map(u64::to_ne_bytes).collect();
        let expected = vec![("one".to_owned(), 7), ("last".to_owned(), u64::MAX)];
        assert_eq!(decode_statistics(&names, &values), expected);
    }

    #[test]
    fn only_what_differs_is_requested() {
        let mut features = vec![feature("", false, false, false); 33];
        features[0] = feature("a", true, true, true);
        features[1] = feature("fixed", false, true, true);
        features[32] = feature("b", true, false, false);
        let words = encode_request(&features, |name| (name != "b").then_some(false));
        assert_eq!(words, Some(vec![ETHTOOL_SFEATURES, 2, 1, 0, 0, 0]));
        let words = encode_request(&features, |name| (name == "b").then_some(true));
        assert_eq!(words, Some(vec![ETHTOOL_SFEATURES, 2, 0, 0, 1, 1]));
        assert_eq!(encode_request(&features, |name| (name == "b").then_some(false)), None);
        assert_eq!(encode_request(&[], |_| Some(true)), None);
    }

    #[test]
    fn which_features_are_meant() {
        assert_eq!(Offloads::PEER.wants("tx-checksum-ip-generic"), Some(false));
        assert_eq!(Offloads::PEER.wants("tx-vlan-hw-insert"), Some(false));
        assert_eq!(Offloads::PEER.wants("rx-vlan-hw-parse"), None);
        assert_eq!(Offloads::PEER.wants("rx-checksum"), None);
        assert_eq!(Offloads::PEER.wants("rx-gro"), None);
        assert_eq!(Offloads::REDIRECTED.wants("rx-gro"), Some(true));
        assert_eq!(Offloads::REDIRECTED.wants("rx-gro-hw"), None);
        assert_eq!(Offloads::PEER.wants("tx-gre-csum-segmentation"), None);
        assert_eq!(Offloads::NIC.wants("rx-vlan-hw-parse"), Some(false));
        assert_eq!(Offloads::NIC.wants("tx-checksum-ipv4"), None);
    }

    #[test]
    fn the_first_value_seen_is_the_one_restored() {
        let earlier = change(7, &[("tx-checksum-ip-generic", true)]);
        let later = change(7, &[("tx-checksum-ip-generic", false), ("tx-vlan-hw-insert", true)]);
        let joined = later.clone().after(&earlier);
        assert_eq!(joined, change(7, &[("tx-checksum-ip-generic", true), ("tx-vlan-hw-insert", true)]));
        assert_eq!(later.clone().after(&change(8, &[("x", true)])), later, "another interface");
    }

    #[test]
    fn records_survive_json() {
        let record = change(7, &[("tx-checksum-ip-generic", true)]);
        let text = serde_json::to_string(&record).expect("json");
        assert_eq!(serde_json::from_str::<OffloadChange>(&text).expect("record"), record);
    }
}
