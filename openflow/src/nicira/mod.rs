//! Nicira's messages (ovs-ofctl(8), nicira-ext.h of Open vSwitch): EXPERIMENTER messages with id 0x2320.
//!
//! ```text
//!  experimenter = 0x2320 (32) | subtype (32) | body
//! ```

mod flow;
mod packet_in;
mod tables;

pub use packet_in::{PacketIn2, PacketIn2Property};
pub use tables::{
    AsyncProperty, CtFlush, CtTuple, RawProperty, TlvMap, TlvTableMod, TlvTableModCommand, TlvTableReply,
};

use crate::wire::{Put, Reader, Wire};
use crate::{
    AsyncConfig, DecodeError, EncodeError, ErrorKind, FlowMod, FlowRemoved, NICIRA, PacketIn, Role, Version,
};

/// A message of Nicira's, in both versions.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub enum NiciraMsg {
    /// Asks for a role, without a generation id.
    RoleRequest(Role),
    /// The role in force.
    RoleReply(Role),
    /// Chooses the form of flow entries in what the switch sends (1.0).
    SetFlowFormat(FlowFormat),
    /// FLOW_MOD with an NXM match; the table counts when [`NiciraMsg::FlowModTableId`] is on.
    FlowMod(FlowMod),
    /// FLOW_REMOVED with an NXM match.
    FlowRemoved(FlowRemoved),
    /// Lets flow-mods of 1.0 name a table; see [`crate::FlowModFlags::NX_TABLE_ID`].
    FlowModTableId(bool),
    /// Chooses the form of packet-ins.
    SetPacketInFormat(PacketInFormat),
    /// PACKET_IN with an NXM match.
    PacketIn(PacketIn),
    /// Has flow statistics tell ages.
    FlowAge,
    /// SET_ASYNC of 1.3.
    SetAsyncConfig(AsyncConfig),
    /// Names this connection, for [`crate::NxAction::Controller`].
    SetControllerId(u16),
    /// Ends the flow monitor of this number (1.0).
    FlowMonitorCancel(u32),
    /// Changes come faster than they can be told: none until [`NiciraMsg::FlowMonitorResumed`] (1.0).
    FlowMonitorPaused,
    /// The last change of the pause has been told (1.0).
    FlowMonitorResumed,
    /// Maps options of Geneve tunnels to match fields.
    TlvTableMod(TlvTableMod),
    /// Asks for [`NiciraMsg::TlvTableReply`].
    TlvTableRequest,
    /// The map.
    TlvTableReply(TlvTableReply),
    /// SET_ASYNC of 1.4, as properties.
    SetAsyncConfig2(Vec<AsyncProperty>),
    /// Goes on with a packet that [`crate::Controller2Property::Pause`] stopped.
    Resume(PacketIn2),
    /// Forgets all connections of a zone.
    CtFlushZone(u16),
    /// PACKET_IN as properties.
    PacketIn2(PacketIn2),
    /// Forgets connections.
    CtFlush(CtFlush),
}

/// Form of flow entries in what a switch sends (1.0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub enum FlowFormat {
    /// That of 1.0.
    OpenFlow10,
    /// With NXM matches.
    Nxm,
    /// Another number.
    Other(u32),
}

/// Form of packet-ins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub enum PacketInFormat {
    /// That of the version.
    Standard,
    /// [`NiciraMsg::PacketIn`].
    Nxt,
    /// [`NiciraMsg::PacketIn2`].
    Nxt2,
    /// Another number.
    Other(u32),
}

const ROLE_REQUEST: u32 = 10;
const ROLE_REPLY: u32 = 11;
const SET_FLOW_FORMAT: u32 = 12;
const FLOW_MOD: u32 = 13;
const FLOW_REMOVED: u32 = 14;
const FLOW_MOD_TABLE_ID: u32 = 15;
const SET_PACKET_IN_FORMAT: u32 = 16;
const PACKET_IN: u32 = 17;
const FLOW_AGE: u32 = 18;
const SET_ASYNC_CONFIG: u32 = 19;
const SET_CONTROLLER_ID: u32 = 20;
const FLOW_MONITOR_CANCEL: u32 = 21;
const FLOW_MONITOR_PAUSED: u32 = 22;
const FLOW_MONITOR_RESUMED: u32 = 23;
const TLV_TABLE_MOD: u32 = 24;
const TLV_TABLE_REQUEST: u32 = 25;
const TLV_TABLE_REPLY: u32 = 26;
const SET_ASYNC_CONFIG2: u32 = 27;
const RESUME: u32 = 28;
const CT_FLUSH_ZONE: u32 = 29;
const PACKET_IN2: u32 = 30;
const CT_FLUSH: u32 = 32;

impl NiciraMsg {
    /// Reads what follows the subtype; `None` when there is no such subtype.
    pub(crate) fn decode(subtype: u32, body: &mut Reader<'_>) -> Result<Option<Self>, DecodeError> {
        Ok(Some(match subtype {
            ROLE_REQUEST => Self::RoleRequest(decode_role(body)?),
            ROLE_REPLY => Self::RoleReply(decode_role(body)?),
            SET_FLOW_FORMAT => Self::SetFlowFormat(FlowFormat::from_wire(body.u32("format")?)),
            FLOW_MOD => Self::FlowMod(flow::decode_mod(body)?),
            FLOW_REMOVED => Self::FlowRemoved(flow::decode_removed(body)?),
            FLOW_MOD_TABLE_ID => Self::FlowModTableId(decode_bool(body)?),
            SET_PACKET_IN_FORMAT => Self::SetPacketInFormat(PacketInFormat::from_wire(body.u32("format")?)),
            PACKET_IN => Self::PacketIn(packet_in::decode(body)?),
            FLOW_AGE => Self::FlowAge,
            SET_ASYNC_CONFIG => Self::SetAsyncConfig(Wire::read(body, "masks")?),
            SET_CONTROLLER_ID => Self::SetControllerId(padded_u16(body, "controller_id")?),
            FLOW_MONITOR_CANCEL => Self::FlowMonitorCancel(body.u32("id")?),
            FLOW_MONITOR_PAUSED => Self::FlowMonitorPaused,
            FLOW_MONITOR_RESUMED => Self::FlowMonitorResumed,
            TLV_TABLE_MOD => Self::TlvTableMod(TlvTableMod::decode(body)?),
            TLV_TABLE_REQUEST => Self::TlvTableRequest,
            TLV_TABLE_REPLY => Self::TlvTableReply(TlvTableReply::decode(body)?),
            SET_ASYNC_CONFIG2 => Self::SetAsyncConfig2(tables::decode_async(body)?),
            RESUME => Self::Resume(PacketIn2::decode(body)?),
            CT_FLUSH_ZONE => Self::CtFlushZone(padded_u16(body, "zone_id")?),
            PACKET_IN2 => Self::PacketIn2(PacketIn2::decode(body)?),
            CT_FLUSH => Self::CtFlush(CtFlush::decode(body)?),
            _ => return Ok(None),
        }))
    }

    /// Writes what follows the header of the message.
    pub(crate) fn encode(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.put_u32(NICIRA);
        out.put_u32(self.subtype());
        match self {
            Self::RoleRequest(role) | Self::RoleReply(role) => encode_role(*role, out)?,
            Self::SetFlowFormat(format) => out.put_u32(format.to_wire()),
            Self::FlowMod(flow_mod) => flow::encode_mod(flow_mod, version, out)?,
            Self::FlowRemoved(removed) => flow::encode_removed(removed, version, out)?,
            Self::FlowModTableId(set) => {
                out.put_u8(u8::from(*set));
                out.zeros(7);
            }
            Self::SetPacketInFormat(format) => out.put_u32(format.to_wire()),
            Self::PacketIn(packet_in) => packet_in::encode(packet_in, out)?,
            Self::FlowAge | Self::FlowMonitorPaused | Self::FlowMonitorResumed | Self::TlvTableRequest => {}
            Self::SetAsyncConfig(config) => config.put(version, out)?,
            Self::SetControllerId(number) | Self::CtFlushZone(number) => {
                out.zeros(6);
                out.put_u16(*number);
            }
            Self::FlowMonitorCancel(id) => out.put_u32(*id),
            Self::TlvTableMod(table_mod) => table_mod.encode(version, out)?,
            Self::TlvTableReply(reply) => reply.encode(version, out)?,
            Self::SetAsyncConfig2(properties) => tables::encode_async(properties, out)?,
            Self::Resume(packet) | Self::PacketIn2(packet) => packet.encode(out)?,
            Self::CtFlush(flush) => flush.encode(out)?,
        }
        Ok(())
    }

    /// Number of the message among Nicira's.
    pub fn subtype(&self) -> u32 {
        match self {
            Self::RoleRequest(_) => ROLE_REQUEST,
            Self::RoleReply(_) => ROLE_REPLY,
            Self::SetFlowFormat(_) => SET_FLOW_FORMAT,
            Self::FlowMod(_) => FLOW_MOD,
            Self::FlowRemoved(_) => FLOW_REMOVED,
            Self::FlowModTableId(_) => FLOW_MOD_TABLE_ID,
            Self::SetPacketInFormat(_) => SET_PACKET_IN_FORMAT,
            Self::PacketIn(_) => PACKET_IN,
            Self::FlowAge => FLOW_AGE,
            Self::SetAsyncConfig(_) => SET_ASYNC_CONFIG,
            Self::SetControllerId(_) => SET_CONTROLLER_ID,
            Self::FlowMonitorCancel(_) => FLOW_MONITOR_CANCEL,
            Self::FlowMonitorPaused => FLOW_MONITOR_PAUSED,
            Self::FlowMonitorResumed => FLOW_MONITOR_RESUMED,
            Self::TlvTableMod(_) => TLV_TABLE_MOD,
            Self::TlvTableRequest => TLV_TABLE_REQUEST,
            Self::TlvTableReply(_) => TLV_TABLE_REPLY,
            Self::SetAsyncConfig2(_) => SET_ASYNC_CONFIG2,
            Self::Resume(_) => RESUME,
            Self::CtFlushZone(_) => CT_FLUSH_ZONE,
            Self::PacketIn2(_) => PACKET_IN2,
            Self::CtFlush(_) => CT_FLUSH,
        }
    }

    /// Name of the message.
    pub fn name(&self) -> &'static str {
        match self {
            Self::RoleRequest(_) => "NXT_ROLE_REQUEST",
            Self::RoleReply(_) => "NXT_ROLE_REPLY",
            Self::SetFlowFormat(_) => "NXT_SET_FLOW_FORMAT",
            Self::FlowMod(_) => "NXT_FLOW_MOD",
            Self::FlowRemoved(_) => "NXT_FLOW_REMOVED",
            Self::FlowModTableId(_) => "NXT_FLOW_MOD_TABLE_ID",
            Self::SetPacketInFormat(_) => "NXT_SET_PACKET_IN_FORMAT",
            Self::PacketIn(_) => "NXT_PACKET_IN",
            Self::FlowAge => "NXT_FLOW_AGE",
            Self::SetAsyncConfig(_) => "NXT_SET_ASYNC_CONFIG",
            Self::SetControllerId(_) => "NXT_SET_CONTROLLER_ID",
            Self::FlowMonitorCancel(_) => "NXT_FLOW_MONITOR_CANCEL",
            Self::FlowMonitorPaused => "NXT_FLOW_MONITOR_PAUSED",
            Self::FlowMonitorResumed => "NXT_FLOW_MONITOR_RESUMED",
            Self::TlvTableMod(_) => "NXT_TLV_TABLE_MOD",
            Self::TlvTableRequest => "NXT_TLV_TABLE_REQUEST",
            Self::TlvTableReply(_) => "NXT_TLV_TABLE_REPLY",
            Self::SetAsyncConfig2(_) => "NXT_SET_ASYNC_CONFIG2",
            Self::Resume(_) => "NXT_RESUME",
            Self::CtFlushZone(_) => "NXT_CT_FLUSH_ZONE",
            Self::PacketIn2(_) => "NXT_PACKET_IN2",
            Self::CtFlush(_) => "NXT_CT_FLUSH",
        }
    }
}

impl FlowFormat {
    fn from_wire(number: u32) -> Self {
        match number {
            0 => Self::OpenFlow10,
            2 => Self::Nxm,
            other => Self::Other(other),
        }
    }

    fn to_wire(self) -> u32 {
        match self {
            Self::OpenFlow10 => 0,
            Self::Nxm => 2,
            Self::Other(other) => other,
        }
    }
}

impl PacketInFormat {
    fn from_wire(number: u32) -> Self {
        match number {
            0 => Self::Standard,
            1 => Self::Nxt,
            2 => Self::Nxt2,
            other => Self::Other(other),
        }
    }

    fn to_wire(self) -> u32 {
        match self {
            Self::Standard => 0,
            Self::Nxt => 1,
            Self::Nxt2 => 2,
            Self::Other(other) => other,
        }
    }
}

fn decode_role(body: &mut Reader<'_>) -> Result<Role, DecodeError> {
    match body.u32("role")? {
        0 => Ok(Role::Equal),
        1 => Ok(Role::Master),
        2 => Ok(Role::Slave),
        other => Err(body.bad_value("role", 4, other, ErrorKind::RoleRequestBadRole)),
    }
}

fn encode_role(role: Role, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    out.put_u32(match role {
        Role::Equal => 0,
        Role::Master => 1,
        Role::Slave => 2,
        Role::NoChange => return Err(EncodeError::invalid("Nicira's role", "it cannot be asked for alone")),
    });
    Ok(())
}

fn decode_bool(body: &mut Reader<'_>) -> Result<bool, DecodeError> {
    let set = match body.u8("set")? {
        0 => false,
        1 => true,
        other => return Err(body.bad_value("set", 1, other, ErrorKind::BadRequestBadLen)),
    };
    body.pad(7)?;
    Ok(set)
}

/// Six bytes of padding, and a number.
fn padded_u16(body: &mut Reader<'_>, field: &'static str) -> Result<u16, DecodeError> {
    body.pad(6)?;
    body.u16(field)
}
