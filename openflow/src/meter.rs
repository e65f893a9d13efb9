//! METER_MOD and its bands (1.3: 5.7, 7.3.4.4).
//!
//! ```text
//!  command (16) | flags (16) | meter_id (32) | band ...
//!  band: type (16) | len (16) | rate (32) | burst_size (32) | as the type says, 32 bits at least
//! ```

use crate::wire::{Put, Reader, Wire, put_all, read_all};
use crate::{DecodeError, EncodeError, ErrorKind, MeterId, Version};

/// METER_MOD: adds, changes or deletes a meter.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct MeterMod {
    /// What to do.
    pub command: MeterModCommand,
    /// The unit of its rates, and what it counts.
    pub flags: MeterFlags,
    /// The meter; [`MeterId::ALL`] in deletions.
    pub meter_id: MeterId,
    /// Its bands; none in deletions.
    pub bands: Vec<MeterBand>,
}

/// What a meter-mod does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub enum MeterModCommand {
    /// Adds a meter; there may be none of the same number.
    Add,
    /// Replaces flags and bands of a meter.
    Modify,
    /// Deletes a meter, and the flow entries that use it.
    Delete,
}

/// `OFPMF_*` bits of a meter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct MeterFlags(pub u16);

impl MeterFlags {
    /// Rates are in kbit/s.
    pub const KBPS: Self = Self(1);
    /// Rates are in packets/s.
    pub const PKTPS: Self = Self(1 << 1);
    /// The bands' burst sizes count.
    pub const BURST: Self = Self(1 << 2);
    /// Count packets and bytes.
    pub const STATS: Self = Self(1 << 3);

    /// All flags of both.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all flags of `other` are set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// What a meter does above a rate.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub enum MeterBand {
    /// Drops packets.
    Drop {
        /// Above this rate, in the unit of the meter's flags.
        rate: u32,
        /// Size of bursts: kbit or packets, as the rate.
        burst_size: u32,
    },
    /// Raises the drop precedence of the DSCP.
    DscpRemark {
        /// Above this rate, in the unit of the meter's flags.
        rate: u32,
        /// Size of bursts: kbit or packets, as the rate.
        burst_size: u32,
        /// Levels of drop precedence to add.
        prec_level: u8,
    },
    /// A band of an experimenter, kept as it came.
    Experimenter {
        /// Above this rate, in the unit of the meter's flags.
        rate: u32,
        /// Size of bursts: kbit or packets, as the rate.
        burst_size: u32,
        /// Whose it is.
        experimenter: u32,
        /// What follows.
        #[cfg_attr(feature = "serde", serde(serialize_with = "crate::shown::hex"))]
        body: Vec<u8>,
    },
    /// A band that the specification does not define, kept as it came.
    Other {
        /// Wire type.
        kind: u16,
        /// What follows the 4 bytes of type and length.
        #[cfg_attr(feature = "serde", serde(serialize_with = "crate::shown::hex"))]
        body: Vec<u8>,
    },
}

const DROP: u16 = 1;
const DSCP_REMARK: u16 = 2;
const EXPERIMENTER: u16 = 0xffff;
const BAND_HEADER_BYTES: usize = 4;

impl Wire for MeterBand {
    fn read(reader: &mut Reader<'_>, _: &'static str) -> Result<Self, DecodeError> {
        let kind = reader.u16("band.type")?;
        let mut body = reader.rest_of(BAND_HEADER_BYTES, "band.len")?;
        if !matches!(kind, DROP | DSCP_REMARK | EXPERIMENTER) {
            return Ok(Self::Other { kind, body: body.rest().to_vec() });
        }
        let (rate, burst_size) = (body.u32("band.rate")?, body.u32("band.burst_size")?);
        let band = match kind {
            DROP => {
                body.pad(4)?;
                Self::Drop { rate, burst_size }
            }
            DSCP_REMARK => {
                let prec_level = body.u8("band.prec_level")?;
                body.pad(3)?;
                Self::DscpRemark { rate, burst_size, prec_level }
            }
            _ => {
                let experimenter = body.u32("band.experimenter")?;
                Self::Experimenter { rate, burst_size, experimenter, body: body.rest().to_vec() }
            }
        };
        body.finish()?;
        Ok(band)
    }

    fn put(&self, _: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let start = out.len();
        let mut head = |kind: u16, rate: u32, burst_size: u32| {
            out.put_u16(kind);
            out.put_u16(0);
            out.put_u32(rate);
            out.put_u32(burst_size);
        };
        match self {
            Self::Drop { rate, burst_size } => {
                head(DROP, *rate, *burst_size);
                out.zeros(4);
            }
            Self::DscpRemark { rate, burst_size, prec_level } => {
                head(DSCP_REMARK, *rate, *burst_size);
                out.put_u8(*prec_level);
                out.zeros(3);
            }
            Self::Experimenter { rate, burst_size, experimenter, body } => {
                head(EXPERIMENTER, *rate, *burst_size);
                out.put_u32(*experimenter);
                out.extend_from_slice(body);
            }
            Self::Other { kind, body } => {
                out.put_u16(*kind);
                out.put_u16(0);
                out.extend_from_slice(body);
            }
        }
        out.patch_len(start + 2, start, "meter band")
    }
}

impl Wire for MeterModCommand {
    fn read(reader: &mut Reader<'_>, field: &'static str) -> Result<Self, DecodeError> {
        match reader.u16(field)? {
            0 => Ok(Self::Add),
            1 => Ok(Self::Modify),
            2 => Ok(Self::Delete),
            other => Err(reader.bad_value(field, 2, other, ErrorKind::MeterModBadCommand)),
        }
    }

    fn put(&self, _: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.put_u16(match self {
            Self::Add => 0,
            Self::Modify => 1,
            Self::Delete => 2,
        });
        Ok(())
    }
}

impl MeterMod {
    pub(crate) fn decode(body: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            command: Wire::read(body, "command")?,
            flags: Wire::read(body, "flags")?,
            meter_id: Wire::read(body, "meter_id")?,
            bands: read_all(body, |body| MeterBand::read(body, "band"))?,
        })
    }

    pub(crate) fn encode(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.command.put(version, out)?;
        self.flags.put(version, out)?;
        self.meter_id.put(version, out)?;
        put_all(&self.bands, version, out)
    }
}
