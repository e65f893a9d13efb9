//! Actions of both versions.

use crate::wire::{Put, Reader};
use crate::{DecodeError, EncodeError, ErrorKind, GroupId, MatchField, NICIRA, ONF, PortNo, Version};

mod conntrack;
mod learn;
mod move_bits;
mod nicira;
mod property;
mod sample;
mod select;
mod v10;
mod v13;

pub use conntrack::{
    CT_COMMIT, CT_FORCE, ConnTrack, CtZone, NAT_DST, NAT_PERSISTENT, NAT_PROTO_HASH, NAT_PROTO_RANDOM,
    NAT_SRC, Nat,
};
pub use learn::{Learn, Learn2, LearnField, LearnSource, LearnSpec, LearnTarget};
pub use move_bits::MoveBits;
pub use nicira::{NxAction, OutputField};
pub use property::{Controller2, Controller2Property, Encap, EncapProperty};
pub use sample::{Sample4, SampleId};
pub use select::{Bundle, BundleLoad};

/// Value of [`Action::Output`]'s `max_len` that sends whole packets to the controller (`OFPCML_NO_BUFFER`).
pub const MAX_LEN_NO_BUFFER: u16 = 0xffff;

/// What to do with a packet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub enum Action {
    /// Send it out.
    Output {
        /// Where to.
        port: PortNo,
        /// Bytes of the packet that the controller gets, when the port is the controller.
        max_len: u16,
    },
    /// Write a field. In 1.0 Ethernet and IPv4 addresses, DSCP and transport ports can be written.
    SetField(MatchField),
    /// Write the VLAN id, adding a tag where there is none (1.0).
    SetVlanVid(u16),
    /// Write the VLAN priority, adding a tag where there is none (1.0).
    SetVlanPcp(u8),
    /// Take the VLAN tag off, if there is one (1.0).
    StripVlan,
    /// Add a VLAN tag of this Ethernet type (1.3).
    PushVlan(u16),
    /// Take the outermost VLAN tag off (1.3).
    PopVlan,
    /// Add an MPLS entry of this Ethernet type (1.3).
    PushMpls(u16),
    /// Take the outermost MPLS entry off; what follows has this Ethernet type (1.3).
    PopMpls(u16),
    /// Add a PBB service tag of this Ethernet type (1.3).
    PushPbb(u16),
    /// Take the outermost PBB service tag off (1.3).
    PopPbb,
    /// Go on with a group (1.3).
    Group(GroupId),
    /// Choose the queue for a later output (1.3).
    SetQueue(u32),
    /// Write the MPLS TTL (1.3).
    SetMplsTtl(u8),
    /// Count the MPLS TTL down (1.3).
    DecMplsTtl,
    /// Write the IP TTL (1.3).
    SetNwTtl(u8),
    /// Count the IP TTL down (1.3).
    DecNwTtl,
    /// Copy the TTL outwards (1.3).
    CopyTtlOut,
    /// Copy the TTL inwards (1.3).
    CopyTtlIn,
    /// Send it out through a queue (1.0).
    Enqueue {
        /// Where to.
        port: PortNo,
        /// Queue of that port.
        queue_id: u32,
    },
    /// An action of Nicira's, in both versions.
    Nicira(NxAction),
    /// Copy bits from field to field: ONF's form of [`NxAction::RegMove`] (1.3).
    CopyField(MoveBits),
    /// An action of another experimenter (vendor in 1.0), kept as it came.
    Experimenter {
        /// Whose it is.
        experimenter: u32,
        /// What follows, such that the whole action is a multiple of 8 bytes.
        #[cfg_attr(feature = "serde", serde(serialize_with = "crate::shown::hex"))]
        body: Vec<u8>,
    },
    /// An action that the version's specification does not define, kept as it came.
    Other {
        /// Wire type.
        kind: u16,
        /// What follows the 4-byte header, such that the whole action is a multiple of 8 bytes.
        #[cfg_attr(feature = "serde", serde(serialize_with = "crate::shown::hex"))]
        body: Vec<u8>,
    },
}

impl Action {
    /// Sends out of a port.
    pub fn output(port: PortNo) -> Self {
        Self::Output { port, max_len: 0 }
    }

    /// Sends the whole packet to the controller.
    pub fn to_controller() -> Self {
        Self::Output { port: PortNo::CONTROLLER, max_len: MAX_LEN_NO_BUFFER }
    }
}

impl From<NxAction> for Action {
    fn from(action: NxAction) -> Self {
        Self::Nicira(action)
    }
}

/// What both versions have in front of every action: type and length.
pub(crate) const HEADER_BYTES: usize = 4;

/// Reads actions up to the end of the reader, which holds nothing else.
pub(crate) fn decode_list(list: Reader<'_>) -> Result<Vec<Action>, DecodeError> {
    let mut list = list.blaming(ErrorKind::BadActionBadLen);
    let mut actions = Vec::new();
    while !list.is_empty() {
        let kind = list.u16("action.type")?;
        let length = usize::from(list.u16("action.len")?);
        if length < 8 || !length.is_multiple_of(8) {
            return Err(list.bad_length("action.len", 2, length));
        }
        let mut body = list.sub(length - HEADER_BYTES, "action")?;
        let action = match list.version() {
            Version::V1_0 => v10::decode(kind, &mut body)?,
            Version::V1_3 => v13::decode(kind, &mut body)?,
        };
        body.finish()?;
        actions.push(action);
    }
    Ok(actions)
}

/// Reads an action of an experimenter, behind type and length.
fn decode_experimenter(body: &mut Reader<'_>) -> Result<Action, DecodeError> {
    let experimenter = body.u32("experimenter")?;
    match experimenter {
        NICIRA => nicira::decode(body),
        ONF if body.version() == Version::V1_3 => move_bits::decode_onf(body),
        _ => Ok(Action::Experimenter { experimenter, body: body.rest().to_vec() }),
    }
}

/// Writes actions one behind the other.
pub(crate) fn encode_list(
    actions: &[Action],
    version: Version,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    for action in actions {
        let start = out.len();
        out.zeros(HEADER_BYTES);
        let kind = match version {
            Version::V1_0 => v10::encode(action, out)?,
            Version::V1_3 => v13::encode(action, out)?,
        };
        if !(out.len() - start).is_multiple_of(8) || out.len() - start < 8 {
            return Err(EncodeError::invalid(action.name(), "its bytes are not a multiple of 8"));
        }
        out.patch_u16(start, kind);
        out.patch_len(start + 2, start, "action")?;
    }
    Ok(())
}

impl Action {
    /// Name for error messages.
    fn name(&self) -> &'static str {
        match self {
            Self::Output { .. } => "action output",
            Self::SetField(_) => "action set_field",
            Self::SetVlanVid(_) => "action set_vlan_vid",
            Self::SetVlanPcp(_) => "action set_vlan_pcp",
            Self::StripVlan => "action strip_vlan",
            Self::PushVlan(_) => "action push_vlan",
            Self::PopVlan => "action pop_vlan",
            Self::PushMpls(_) => "action push_mpls",
            Self::PopMpls(_) => "action pop_mpls",
            Self::PushPbb(_) => "action push_pbb",
            Self::PopPbb => "action pop_pbb",
            Self::Group(_) => "action group",
            Self::SetQueue(_) => "action set_queue",
            Self::SetMplsTtl(_) => "action set_mpls_ttl",
            Self::DecMplsTtl => "action dec_mpls_ttl",
            Self::SetNwTtl(_) => "action set_nw_ttl",
            Self::DecNwTtl => "action dec_nw_ttl",
            Self::CopyTtlOut => "action copy_ttl_out",
            Self::CopyTtlIn => "action copy_ttl_in",
            Self::Enqueue { .. } => "action enqueue",
            Self::Nicira(action) => action.name(),
            Self::CopyField(_) => "action copy_field",
            Self::Experimenter { .. } => "action experimenter",
            Self::Other { .. } => "action of unknown type",
        }
    }
}
