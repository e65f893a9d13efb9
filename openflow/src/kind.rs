//! Message types: the byte in the header of each version, and the name (1.0: 5.1, 1.3: 7.1).

use crate::wire::Put;
use crate::{EncodeError, Version, Xid};

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
    GroupMod,
    PortMod,
    TableMod,
    MultipartRequest,
    MultipartReply,
    BarrierRequest,
    BarrierReply,
    QueueGetConfigRequest,
    QueueGetConfigReply,
    RoleRequest,
    RoleReply,
    GetAsyncRequest,
    GetAsyncReply,
    SetAsync,
    MeterMod,
}

/// Kind, name, type byte in 1.0 and in 1.3; in the order of [`Kind`].
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
        let rows = match version {
            Version::V1_0 => &ROWS_1_0,
            Version::V1_3 => &ROWS_1_3,
        };
        let row = TABLE.get(usize::from(*rows.get(usize::from(byte))?))?;
        Some((row.0, row.1))
    }

    /// The type byte, or `None` when the version has no such message.
    pub(crate) fn to_wire(self, version: Version) -> Option<u8> {
        let row = TABLE.get(self as usize)?;
        pick(version, row.2, row.3)
    }

    /// Writes the header of a message, then what `body` writes, and the length of both.
    pub(crate) fn encode_with(
        self,
        version: Version,
        xid: Xid,
        out: &mut Vec<u8>,
        body: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        let start = out.len();
        let kind = self.to_wire(version).ok_or_else(|| EncodeError::not_in(version, self.name()))?;
        out.put_u8(version.to_wire());
        out.put_u8(kind);
        out.put_u16(0);
        out.put_u32(xid.0);
        body(out)?;
        out.patch_len(start + 2, start, "message")
    }

    /// The name, without a prefix.
    pub(crate) fn name(self) -> &'static str {
        TABLE.get(self as usize).map_or("message", |row| row.1)
    }
}

/// The name of a message type without a prefix, `PACKET_IN` say; `None` if the version does not define it.
#[must_use]
pub fn type_name(version: Version, byte: u8) -> Option<&'static str> {
    Kind::from_wire(version, byte).map(|(_, name)| name)
}

const fn pick(version: Version, v1_0: Option<u8>, v1_3: Option<u8>) -> Option<u8> {
    match version {
        Version::V1_0 => v1_0,
        Version::V1_3 => v1_3,
    }
}

/// Row of [`TABLE`] for each type byte of 1.0.
const ROWS_1_0: [u8; TYPES] = rows(Version::V1_0);
/// Row of [`TABLE`] for each type byte of 1.3.
const ROWS_1_3: [u8; TYPES] = rows(Version::V1_3);
/// No type byte is so high.
const TYPES: usize = 32;

const fn rows(version: Version) -> [u8; TYPES] {
    let mut rows = [u8::MAX; TYPES];
    let mut row: u8 = 0;
    while (row as usize) < TABLE.len() {
        let (kind, _, v1_0, v1_3) = TABLE[row as usize];
        assert!(kind as usize == row as usize, "the rows are in the order of the kinds");
        if let Some(byte) = pick(version, v1_0, v1_3) {
            rows[byte as usize] = row;
        }
        row += 1;
    }
    rows
}
