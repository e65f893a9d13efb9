//! Meters in multipart messages (1.3: 7.3.5.12 to 7.3.5.14).

use crate::meter::{MeterBand, MeterFlags};
use crate::wire::{Put, Reader, Wire, layout, put_all, read_all};
use crate::{DecodeError, EncodeError, MeterId, Version};

/// Counters of one meter.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct MeterStats {
    /// The meter.
    pub meter_id: MeterId,
    /// Flow entries that use it.
    pub flow_count: u32,
    /// Packets that came to it.
    pub packet_in_count: u64,
    /// Bytes of those.
    pub byte_in_count: u64,
    /// Seconds since it came.
    pub duration_sec: u32,
    /// Nanoseconds beyond those.
    pub duration_nsec: u32,
    /// Counters of its bands, in their order.
    pub bands: Vec<MeterBandStats>,
}

/// Counters of one band.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct MeterBandStats {
    /// Packets.
    pub packet_band_count: u64,
    /// Bytes of those.
    pub byte_band_count: u64,
}

layout! { MeterBandStats: packet_band_count, byte_band_count }

/// One meter as it was set up.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct MeterConfig {
    /// The unit of its rates, and what it counts.
    pub flags: MeterFlags,
    /// The meter.
    pub meter_id: MeterId,
    /// Its bands.
    pub bands: Vec<MeterBand>,
}

/// What the switch can do with meters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct MeterFeatures {
    /// The most meters.
    pub max_meter: u32,
    /// Bands that it has: bit 1 drop, 2 DSCP remark.
    pub band_types: u32,
    /// [`MeterFlags`] that it has.
    pub capabilities: u32,
    /// The most bands of a meter.
    pub max_bands: u8,
    /// The highest colour.
    pub max_color: u8,
}

layout! { MeterFeatures: max_meter, band_types, capabilities, max_bands, max_color + 2 }

/// Meter number and length, which come first in an entry of statistics.
const STATS_HEADER_BYTES: usize = 6;
/// The length field, which comes first in a configuration.
const LENGTH_BYTES: usize = 2;

impl Wire for MeterStats {
    fn read(reader: &mut Reader<'_>, _: &'static str) -> Result<Self, DecodeError> {
        let meter_id = MeterId(reader.u32("meter.meter_id")?);
        let mut body = reader.rest_of(STATS_HEADER_BYTES, "meter.len")?;
        body.pad(6)?;
        Ok(Self {
            meter_id,
            flow_count: body.u32("meter.flow_count")?,
            packet_in_count: body.u64("meter.packet_in_count")?,
            byte_in_count: body.u64("meter.byte_in_count")?,
            duration_sec: body.u32("meter.duration_sec")?,
            duration_nsec: body.u32("meter.duration_nsec")?,
            bands: read_all(&mut body, |body| Wire::read(body, "meter.band_stats"))?,
        })
    }

    fn put(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let start = out.len();
        out.put_u32(self.meter_id.0);
        out.zeros(8);
        out.put_u32(self.flow_count);
        out.put_u64(self.packet_in_count);
        out.put_u64(self.byte_in_count);
        out.put_u32(self.duration_sec);
        out.put_u32(self.duration_nsec);
        put_all(&self.bands, version, out)?;
        out.patch_len(start + 4, start, "meter statistics")
    }
}

impl Wire for MeterConfig {
    fn read(reader: &mut Reader<'_>, _: &'static str) -> Result<Self, DecodeError> {
        let mut body = reader.rest_of(LENGTH_BYTES, "meter_config.length")?;
        Ok(Self {
            flags: Wire::read(&mut body, "meter_config.flags")?,
            meter_id: Wire::read(&mut body, "meter_config.meter_id")?,
            bands: read_all(&mut body, |body| MeterBand::read(body, "band"))?,
        })
    }

    fn put(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let start = out.len();
        out.zeros(2);
        self.flags.put(version, out)?;
        self.meter_id.put(version, out)?;
        put_all(&self.bands, version, out)?;
        out.patch_len(start, start, "meter configuration")
    }
}
