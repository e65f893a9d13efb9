//! Message types: the byte in the header of each version, and the name (1.0: 5.1, 1.3: 7.1).

use crate::Version;

/// What a message is, the same for all versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Hello,
    Error,
    EchoRequest,
    EchoReply,
    Experimenter,
    FeaturesRequest,
    FeaturesReply,
    GetConfigRequest,
    GetConfigReply,
    SetConfig,
    PacketIn,
    FlowRemoved,
    PortStatus,
    PacketOut,
    FlowMod,
    PortMod,
    MultipartRequest,
    MultipartReply,
    BarrierRequest,
    BarrierReply,
    RoleRequest,
    RoleReply,
    GroupMod,
    TableMod,
    MeterMod,
    QueueGetConfigRequest,
    QueueGetConfigReply,
    GetAsyncRequest,
    GetAsyncReply,
    SetAsync,
}

/// Kind, name, type byte in 1.0 and in 1.3.
const TABLE: &[(Kind, &str, Option<u8>, Option<u8>)] = &[
    (Kind::Hello, "HELLO", Some(0), Some(0)),
    (Kind::Error, "ERROR", Some(1), Some(1)),
    (Kind::EchoRequest, "ECHO_REQUEST", Some(2), Some(2)),
    (Kind::EchoReply, "ECHO_REPLY", Some(3), Some(3)),
    (Kind::Experimenter, "EXPERIMENTER", Some(4), Some(4)),
    (Kind::FeaturesRequest, "FEATURES_REQUEST", Some(5), Some(5)),
    (Kind::FeaturesReply, "FEATURES_REPLY", Some(6), Some(6)),
    (Kind::GetConfigRequest, "GET_CONFIG_REQUEST", Some(7), Some(7)),
    (Kind::GetConfigReply, "GET_CONFIG_REPLY", Some(8), Some(8)),
    (Kind::SetConfig, "SET_CONFIG", Some(9), Some(9)),
    (Kind::PacketIn, "PACKET_IN", Some(10), Some(10)),
    (Kind::FlowRemoved, "FLOW_REMOVED", Some(11), Some(11)),
    (Kind::PortStatus, "PORT_STATUS", Some(12), Some(12)),
    (Kind::PacketOut, "PACKET_OUT", Some(13), Some(13)),
    (Kind::FlowMod, "FLOW_MOD", Some(14), Some(14)),
    (Kind::GroupMod, "GROUP_MOD", None, Some(15)),
    (Kind::PortMod, "PORT_MOD", Some(15), Some(16)),
    (Kind::TableMod, "TABLE_MOD", None, Some(17)),
    (Kind::MultipartRequest, "MULTIPART_REQUEST", Some(16), Some(18)),
    (Kind::MultipartReply, "MULTIPART_REPLY", Some(17), Some(19)),
    (Kind::BarrierRequest, "BARRIER_REQUEST", Some(18), Some(20)),
    (Kind::BarrierReply, "BARRIER_REPLY", Some(19), Some(21)),
    (Kind::QueueGetConfigRequest, "QUEUE_GET_CONFIG_REQUEST", Some(20), Some(22)),
    (Kind::QueueGetConfigReply, "QUEUE_GET_CONFIG_REPLY", Some(21), Some(23)),
    (Kind::RoleRequest, "ROLE_REQUEST", None, Some(24)),
    (Kind::RoleReply, "ROLE_REPLY", None, Some(25)),
    (Kind::GetAsyncRequest, "GET_ASYNC_REQUEST", None, Some(26)),
    (Kind::GetAsyncReply, "GET_ASYNC_REPLY", None, Some(27)),
    (Kind::SetAsync, "SET_ASYNC", None, Some(28)),
    (Kind::MeterMod, "METER_MOD", None, Some(29)),
];

impl Kind {
    /// Kind and name of a type byte, if the version defines it.
    pub(crate) fn from_wire(version: Version, byte: u8) -> Option<(Self, &'static str)> {
        TABLE
            .iter()
            .find(|(_, _, v1_0, v1_3)| pick(version, *v1_0, *v1_3) == Some(byte))
            .map(|(kind, name, ..)| (*kind, *name))
    }

    /// The type byte, or `None` when the version has no such message.
    pub(crate) fn to_wire(self, version: Version) -> Option<u8> {
        let row = TABLE.iter().find(|(kind, ..)| *kind == self)?;
        pick(version, row.2, row.3)
    }

    /// The name, without a prefix.
    pub(crate) fn name(self) -> &'static str {
        let row = TABLE.iter().find(|(kind, ..)| *kind == self);
        row.map_or("message", |(_, name, ..)| name)
    }
}

fn pick(version: Version, v1_0: Option<u8>, v1_3: Option<u8>) -> Option<u8> {
    match version {
        Version::V1_0 => v1_0,
        Version::V1_3 => v1_3,
    }
}
