//! Ports (1.0: 5.2.1, 1.3: 7.2.1), PORT_STATUS (1.0: 5.4.3, 1.3: 7.4.3) and PORT_MOD (1.0: 5.3.3, 1.3: 7.3.4.3).

use crate::wire::{Put, Reader, refuse};
use crate::{DecodeError, EncodeError, FixedText, MacAddr, PortNo, Version};

/// `config` bit: the port is administratively down.
pub const PORT_CONFIG_DOWN: u32 = 1;
/// `config` bit: flooding leaves this port out (1.0).
pub const PORT_CONFIG_NO_FLOOD: u32 = 1 << 4;
/// `config` bit: no packet-in for this port.
pub const PORT_CONFIG_NO_PACKET_IN: u32 = 1 << 6;
/// `state` bit: there is no link.
pub const PORT_STATE_LINK_DOWN: u32 = 1;

/// A port of a switch.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Port {
    /// Its number.
    pub port_no: PortNo,
    /// Its Ethernet address.
    pub hw_addr: MacAddr,
    /// Its name, at most 16 bytes.
    pub name: FixedText,
    /// `OFPPC_*` bits.
    pub config: u32,
    /// `OFPPS_*` bits.
    pub state: u32,
    /// Features in use: `OFPPF_*` bits as in 1.3 (7.2.1), whatever the version.
    pub curr: u32,
    /// Features that it advertises.
    pub advertised: u32,
    /// Features that it has.
    pub supported: u32,
    /// Features that its peer advertises.
    pub peer: u32,
    /// Current rate in kbit/s; 0 in 1.0.
    pub curr_speed_kbps: u32,
    /// Highest rate in kbit/s; 0 in 1.0.
    pub max_speed_kbps: u32,
}

impl Port {
    /// Neither administratively down nor without link.
    pub fn is_up(&self) -> bool {
        self.config & PORT_CONFIG_DOWN == 0 && self.state & PORT_STATE_LINK_DOWN == 0
    }
}

/// PORT_STATUS: a port came, went or changed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct PortStatus {
    /// What happened.
    pub reason: PortReason,
    /// The port as it is now.
    pub port: Port,
}

/// What happened to a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub enum PortReason {
    /// It came.
    Add,
    /// It went.
    Delete,
    /// It changed.
    Modify,
    /// A reason that the specification does not define.
    Other(u8),
}

/// PORT_MOD: changes a port's behaviour.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct PortMod {
    /// Which port.
    pub port_no: PortNo,
    /// Its address, as a check.
    pub hw_addr: MacAddr,
    /// `OFPPC_*` bits.
    pub config: u32,
    /// Which of them change.
    pub mask: u32,
    /// Features to advertise, as in [`Port::curr`]; 0 changes none.
    pub advertise: u32,
}

const NAME_BYTES: usize = 16;
/// `OFPPF_*` bits of the rates that both versions have.
const SHARED_RATES: u32 = 0x7f;
/// 1.3 has four more rates below copper, fibre, autonegotiation and pause.
const EXTRA_RATES: u32 = 4;

impl Port {
    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let v1_3 = reader.version() == Version::V1_3;
        let port_no = reader.port("port.port_no")?;
        reader.pad(if v1_3 { 4 } else { 0 })?;
        let hw_addr = reader.mac("port.hw_addr")?;
        reader.pad(if v1_3 { 2 } else { 0 })?;
        Ok(Self {
            port_no,
            hw_addr,
            name: reader.text(NAME_BYTES, "port.name")?,
            config: reader.u32("port.config")?,
            state: reader.u32("port.state")?,
            curr: decode_rates(reader, "port.curr")?,
            advertised: decode_rates(reader, "port.advertised")?,
            supported: decode_rates(reader, "port.supported")?,
            peer: decode_rates(reader, "port.peer")?,
            curr_speed_kbps: if v1_3 { reader.u32("port.curr_speed")? } else { 0 },
            max_speed_kbps: if v1_3 { reader.u32("port.max_speed")? } else { 0 },
        })
    }

    /// Reads ports up to the end of the reader.
    pub(crate) fn decode_list(reader: &mut Reader<'_>) -> Result<Vec<Self>, DecodeError> {
        let mut ports = Vec::new();
        while !reader.is_empty() {
            ports.push(Self::decode(reader)?);
        }
        Ok(ports)
    }

    pub(crate) fn encode(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let v1_3 = version == Version::V1_3;
        out.put_port(self.port_no, version)?;
        out.zeros(if v1_3 { 4 } else { 0 });
        out.extend_from_slice(&self.hw_addr.0);
        out.zeros(if v1_3 { 2 } else { 0 });
        out.put_text(&self.name, NAME_BYTES, "port name")?;
        out.put_u32(self.config);
        out.put_u32(self.state);
        for rates in [self.curr, self.advertised, self.supported, self.peer] {
            put_rates(rates, version, out)?;
        }
        if v1_3 {
            out.put_u32(self.curr_speed_kbps);
            out.put_u32(self.max_speed_kbps);
            return Ok(());
        }
        refuse(self.curr_speed_kbps != 0 || self.max_speed_kbps != 0, version, "port rates in kbit/s")
    }
}

impl PortStatus {
    pub(crate) fn decode(body: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let reason = match body.u8("reason")? {
            0 => PortReason::Add,
            1 => PortReason::Delete,
            2 => PortReason::Modify,
            other => PortReason::Other(other),
        };
        body.pad(7)?;
        Ok(Self { reason, port: Port::decode(body)? })
    }

    pub(crate) fn encode(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.put_u8(match self.reason {
            PortReason::Add => 0,
            PortReason::Delete => 1,
            PortReason::Modify => 2,
            PortReason::Other(other) => other,
        });
        out.zeros(7);
        self.port.encode(version, out)
    }
}

impl PortMod {
    pub(crate) fn decode(body: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let v1_3 = body.version() == Version::V1_3;
        let port_no = body.port("port_no")?;
        body.pad(if v1_3 { 4 } else { 0 })?;
        let hw_addr = body.mac("hw_addr")?;
        body.pad(if v1_3 { 2 } else { 0 })?;
        let (config, mask) = (body.u32("config")?, body.u32("mask")?);
        let advertise = decode_rates(body, "advertise")?;
        body.pad(4)?;
        Ok(Self { port_no, hw_addr, config, mask, advertise })
    }

    pub(crate) fn encode(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let v1_3 = version == Version::V1_3;
        out.put_port(self.port_no, version)?;
        out.zeros(if v1_3 { 4 } else { 0 });
        out.extend_from_slice(&self.hw_addr.0);
        out.zeros(if v1_3 { 2 } else { 0 });
        out.put_u32(self.config);
        out.put_u32(self.mask);
        put_rates(self.advertise, version, out)?;
        out.zeros(4);
        Ok(())
    }
}

/// Bits of 1.0 that mean something.
const DEFINED_1_0: u32 = 0xfff;

/// `OFPPF_*` bits as 1.3 numbers them. Bits that 1.0 does not define move along; the four highest have no place but that
/// of the extra rates, which they take only when others without a meaning are there to tell.
fn decode_rates(reader: &mut Reader<'_>, field: &'static str) -> Result<u32, DecodeError> {
    let bits = reader.u32(field)?;
    if reader.version() == Version::V1_3 {
        return Ok(bits);
    }
    let moved = bits & SHARED_RATES | (bits & !SHARED_RATES) << EXTRA_RATES;
    let highest = bits >> (u32::BITS - EXTRA_RATES);
    let has_others = bits << EXTRA_RATES >> EXTRA_RATES & !DEFINED_1_0 != 0;
    Ok(if has_others { moved | highest << SHARED_RATES.count_ones() } else { moved })
}

fn put_rates(bits: u32, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    if version == Version::V1_3 {
        out.put_u32(bits);
        return Ok(());
    }
    let above = !(SHARED_RATES << EXTRA_RATES | SHARED_RATES);
    let extra = bits & !(SHARED_RATES | above);
    let has_others = bits >> EXTRA_RATES & !DEFINED_1_0 != 0;
    refuse(extra != 0 && !has_others, version, "port features of 40 Gbit/s and more")?;
    let highest = (extra >> SHARED_RATES.count_ones()) << (u32::BITS - EXTRA_RATES);
    out.put_u32(bits & SHARED_RATES | (bits & above) >> EXTRA_RATES | highest);
    Ok(())
}
