//! Features (1.0: 5.3.1, 1.3: 7.3.1) and configuration (1.0: 5.3.2, 1.3: 7.3.2) of a switch.

use crate::wire::{Put, Reader, refuse};
use crate::{DatapathId, DecodeError, EncodeError, Port, Version};

/// `capabilities` bit: flow statistics.
pub const CAPABILITY_FLOW_STATS: u32 = 1;
/// `capabilities` bit: table statistics.
pub const CAPABILITY_TABLE_STATS: u32 = 1 << 1;
/// `capabilities` bit: port statistics.
pub const CAPABILITY_PORT_STATS: u32 = 1 << 2;

/// FEATURES_REPLY: who the switch is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct FeaturesReply {
    /// Its id.
    pub datapath_id: DatapathId,
    /// Packets that it can keep.
    pub n_buffers: u32,
    /// Its flow tables.
    pub n_tables: u8,
    /// Which connection of the switch this is; 0 is the main one (1.3).
    pub auxiliary_id: u8,
    /// `OFPC_*` bits; bit 3 is group statistics in 1.3 and spanning tree in 1.0.
    pub capabilities: u32,
    /// Supported actions by number (1.0); 0 in 1.3.
    pub actions: u32,
    /// Its ports (1.0); 1.3 has the port description multipart instead.
    pub ports: Option<Vec<Port>>,
}

/// GET_CONFIG_REPLY and SET_CONFIG.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct SwitchConfig {
    /// How fragments are treated: 0 as any packet, 1 dropped, 2 reassembled.
    pub flags: u16,
    /// Bytes of a packet that a table miss sends to the controller; 0xffff for whole packets.
    pub miss_send_len: u16,
}

impl FeaturesReply {
    pub(crate) fn decode(body: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let v1_3 = body.version() == Version::V1_3;
        let datapath_id = DatapathId(body.u64("datapath_id")?);
        let (n_buffers, n_tables) = (body.u32("n_buffers")?, body.u8("n_tables")?);
        let auxiliary_id = if v1_3 { body.u8("auxiliary_id")? } else { 0 };
        body.pad(if v1_3 { 2 } else { 3 })?;
        let (capabilities, actions) = (body.u32("capabilities")?, body.u32("actions")?);
        let ports = if v1_3 { None } else { Some(Port::decode_list(body)?) };
        Ok(Self { datapath_id, n_buffers, n_tables, auxiliary_id, capabilities, actions, ports })
    }

    pub(crate) fn encode(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.put_u64(self.datapath_id.0);
        out.put_u32(self.n_buffers);
        out.put_u8(self.n_tables);
        out.put_u8(self.auxiliary_id);
        out.zeros(2);
        out.put_u32(self.capabilities);
        out.put_u32(self.actions);
        match version {
            Version::V1_0 => {
                refuse(self.auxiliary_id != 0, version, "auxiliary connections")?;
                self.ports.iter().flatten().try_for_each(|port| port.encode(version, out))
            }
            Version::V1_3 => refuse(self.ports.is_some(), version, "ports in a features reply"),
        }
    }
}

impl SwitchConfig {
    pub(crate) fn decode(body: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { flags: body.u16("flags")?, miss_send_len: body.u16("miss_send_len")? })
    }

    pub(crate) fn encode(self, out: &mut Vec<u8>) {
        out.put_u16(self.flags);
        out.put_u16(self.miss_send_len);
    }
}
