//! Wire types of multipart messages, and the headers that requests and replies share.
//!
//! ```text
//!  1.0: type (16) | flags (16) | body          1.3: type (16) | flags (16) | pad (32) | body
//!  of an experimenter: experimenter (32) | exp_type (32) | body; Nicira's in 1.0: + pad (32)
//! ```

use crate::wire::{Put, Reader};
use crate::{DecodeError, Experimenter, NICIRA, ONF, Version};

pub(super) const DESC: u16 = 0;
pub(super) const FLOW: u16 = 1;
pub(super) const AGGREGATE: u16 = 2;
pub(super) const TABLE: u16 = 3;
pub(super) const PORT_STATS: u16 = 4;
pub(super) const QUEUE: u16 = 5;
pub(super) const GROUP: u16 = 6;
pub(super) const GROUP_DESC: u16 = 7;
pub(super) const GROUP_FEATURES: u16 = 8;
pub(super) const METER: u16 = 9;
pub(super) const METER_CONFIG: u16 = 10;
pub(super) const METER_FEATURES: u16 = 11;
pub(super) const TABLE_FEATURES: u16 = 12;
pub(super) const PORT_DESC: u16 = 13;
pub(super) const EXPERIMENTER: u16 = 0xffff;

/// The first kind that 1.0 does not have.
const FIRST_OF_1_3: u16 = GROUP;

/// Whether a version has a kind; 1.0 with the port description that Open vSwitch added to it.
pub(super) fn has(version: Version, kind: u16) -> bool {
    version == Version::V1_3 || kind < FIRST_OF_1_3 || matches!(kind, PORT_DESC | EXPERIMENTER)
}

pub(super) fn put_header(kind: u16, flags: u16, version: Version, out: &mut Vec<u8>) {
    out.put_u16(kind);
    out.put_u16(flags);
    out.zeros(if version == Version::V1_3 { 4 } else { 0 });
}

const NXST_FLOW: u32 = 0;
const NXST_AGGREGATE: u32 = 1;
const NXST_FLOW_MONITOR: u32 = 2;
const ONFST_FLOW_MONITOR: u32 = 1870;

/// What of an experimenter this codec takes apart.
pub(super) enum Known {
    Flow,
    Aggregate,
    FlowMonitor,
}

/// The head of an experimenter's multipart: what it is, or all of it as it came.
pub(super) fn experimenter(reader: &mut Reader<'_>) -> Result<Result<Known, Experimenter>, DecodeError> {
    let mut known = reader.clone();
    let (id, exp_type) = (known.u32("experimenter")?, known.u32("exp_type").ok());
    let known_kind = match (reader.version(), id, exp_type) {
        (Version::V1_0, NICIRA, Some(NXST_FLOW)) => Known::Flow,
        (Version::V1_0, NICIRA, Some(NXST_AGGREGATE)) => Known::Aggregate,
        (Version::V1_0, NICIRA, Some(NXST_FLOW_MONITOR)) => Known::FlowMonitor,
        (Version::V1_3, ONF, Some(ONFST_FLOW_MONITOR)) => Known::FlowMonitor,
        _ => return Experimenter::decode(reader).map(Err),
    };
    known.pad(if reader.version() == Version::V1_0 { 4 } else { 0 })?;
    *reader = known;
    Ok(Ok(known_kind))
}

/// Writes the head of what this codec takes apart.
pub(super) fn put_known(kind: &Known, version: Version, out: &mut Vec<u8>) {
    let v1_0 = version == Version::V1_0;
    out.put_u32(if v1_0 { NICIRA } else { ONF });
    out.put_u32(match kind {
        Known::Flow => NXST_FLOW,
        Known::Aggregate => NXST_AGGREGATE,
        Known::FlowMonitor if v1_0 => NXST_FLOW_MONITOR,
        Known::FlowMonitor => ONFST_FLOW_MONITOR,
    });
    out.zeros(if v1_0 { 4 } else { 0 });
}
