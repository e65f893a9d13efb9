//! Bytes of multipart replies.

use super::kinds::{self, Known};
use super::request::read_tables;
use super::{
    AggregateStats, FlowStats, MultipartReply, PortStats, ReplyBody, SwitchDesc, TableInfo, TableStats,
};
use crate::wire::{Put, Reader, Wire, put_all, read_all, refuse};
use crate::{
    Cookie, DecodeError, EncodeError, FlowModFlags, Match, Port, PortNo, TableId, Version, instruction,
};

impl MultipartReply {
    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let kind = reader.u16("type")?;
        let flags = reader.u16("flags")?;
        let v1_3 = reader.version() == Version::V1_3;
        reader.pad(if v1_3 { 4 } else { 0 })?;
        let body = match kind {
            kind if !kinds::has(reader.version(), kind) => {
                ReplyBody::Other { kind, body: reader.rest().to_vec() }
            }
            kinds::DESC => ReplyBody::Desc(Box::new(SwitchDesc::decode(reader)?)),
            kinds::FLOW => ReplyBody::Flow(read_all(reader, FlowStats::decode)?),
            kinds::AGGREGATE => ReplyBody::Aggregate(AggregateStats::decode(reader)?),
            kinds::TABLE => ReplyBody::Table(read_all(reader, TableStats::decode)?),
            kinds::PORT_STATS => ReplyBody::PortStats(read_all(reader, PortStats::decode)?),
            kinds::PORT_DESC => ReplyBody::PortDesc(Port::decode_list(reader)?),
            kinds::QUEUE => ReplyBody::Queue(read_wire(reader)?),
            kinds::GROUP => ReplyBody::Group(read_wire(reader)?),
            kinds::GROUP_DESC => ReplyBody::GroupDesc(read_wire(reader)?),
            kinds::GROUP_FEATURES => ReplyBody::GroupFeatures(Wire::read(reader, "features")?),
            kinds::METER => ReplyBody::Meter(read_wire(reader)?),
            kinds::METER_CONFIG => ReplyBody::MeterConfig(read_wire(reader)?),
            kinds::METER_FEATURES => ReplyBody::MeterFeatures(Wire::read(reader, "features")?),
            kinds::TABLE_FEATURES => ReplyBody::TableFeatures(read_tables(reader)?),
            kinds::EXPERIMENTER => decode_experimenter(reader)?,
            kind => ReplyBody::Other { kind, body: reader.rest().to_vec() },
        };
        Ok(Self { flags, body })
    }

    pub(crate) fn encode(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let kind = self.body.kind();
        let is_raw = matches!(self.body, ReplyBody::Other { .. });
        if !is_raw && !kinds::has(version, kind) {
            return Err(EncodeError::not_in(version, "this multipart reply"));
        }
        kinds::put_header(kind, self.flags, version, out);
        self.body.encode(version, out)
    }
}

impl ReplyBody {
    fn kind(&self) -> u16 {
        match self {
            Self::Desc(_) => kinds::DESC,
            Self::Flow(_) => kinds::FLOW,
            Self::Aggregate(_) => kinds::AGGREGATE,
            Self::Table(_) => kinds::TABLE,
            Self::PortStats(_) => kinds::PORT_STATS,
            Self::PortDesc(_) => kinds::PORT_DESC,
            Self::Queue(_) => kinds::QUEUE,
            Self::Group(_) => kinds::GROUP,
            Self::GroupDesc(_) => kinds::GROUP_DESC,
            Self::GroupFeatures(_) => kinds::GROUP_FEATURES,
            Self::Meter(_) => kinds::METER,
            Self::MeterConfig(_) => kinds::METER_CONFIG,
            Self::MeterFeatures(_) => kinds::METER_FEATURES,
            Self::TableFeatures(_) => kinds::TABLE_FEATURES,
            Self::FlowMonitor(_) | Self::NxFlow(_) | Self::NxAggregate(_) | Self::Experimenter(_) => {
                kinds::EXPERIMENTER
            }
            Self::Other { kind, .. } => *kind,
        }
    }

    fn encode(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match self {
            Self::Desc(desc) => desc.encode(out),
            Self::Flow(flows) => flows.iter().try_for_each(|flow| flow.encode(version, out)),
            Self::Aggregate(sums) => {
                sums.encode(out);
                Ok(())
            }
            Self::Table(tables) => tables.iter().try_for_each(|table| table.encode(version, out)),
            Self::PortStats(ports) => ports.iter().try_for_each(|port| port.encode(version, out)),
            Self::PortDesc(ports) => ports.iter().try_for_each(|port| port.encode(version, out)),
            Self::Queue(queues) => put_all(queues, version, out),
            Self::Group(groups) => put_all(groups, version, out),
            Self::GroupDesc(groups) => put_all(groups, version, out),
            Self::GroupFeatures(features) => features.put(version, out),
            Self::Meter(meters) => put_all(meters, version, out),
            Self::MeterConfig(meters) => put_all(meters, version, out),
            Self::MeterFeatures(features) => features.put(version, out),
            Self::TableFeatures(tables) => put_all(tables, version, out),
            Self::FlowMonitor(updates) => {
                kinds::put_known(&Known::FlowMonitor, version, out);
                put_all(updates, version, out)
            }
            Self::NxFlow(flows) => {
                put_nx(&Known::Flow, version, out)?;
                put_all(flows, version, out)
            }
            Self::NxAggregate(sums) => {
                put_nx(&Known::Aggregate, version, out)?;
                sums.encode(out);
                Ok(())
            }
            Self::Experimenter(experimenter) => experimenter.encode(version, out),
            Self::Other { body, .. } => {
                out.extend_from_slice(body);
                Ok(())
            }
        }
    }
}

fn decode_experimenter(reader: &mut Reader<'_>) -> Result<ReplyBody, DecodeError> {
    Ok(match kinds::experimenter(reader)? {
        Ok(Known::Flow) => ReplyBody::NxFlow(read_wire(reader)?),
        Ok(Known::Aggregate) => ReplyBody::NxAggregate(AggregateStats::decode(reader)?),
        Ok(Known::FlowMonitor) => ReplyBody::FlowMonitor(read_wire(reader)?),
        Err(experimenter) => ReplyBody::Experimenter(experimenter),
    })
}

fn put_nx(known: &Known, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    refuse(version != Version::V1_0, version, "statistics in Nicira's form: the version's own do the same")?;
    kinds::put_known(known, version, out);
    Ok(())
}

/// Entries up to the end of the reader.
fn read_wire<T: Wire>(reader: &mut Reader<'_>) -> Result<Vec<T>, DecodeError> {
    read_all(reader, |reader| T::read(reader, "entry"))
}

const DESC_BYTES: usize = 256;
const SERIAL_BYTES: usize = 32;

impl SwitchDesc {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            mfr_desc: reader.text(DESC_BYTES, "mfr_desc")?,
            hw_desc: reader.text(DESC_BYTES, "hw_desc")?,
            sw_desc: reader.text(DESC_BYTES, "sw_desc")?,
            serial_num: reader.text(SERIAL_BYTES, "serial_num")?,
            dp_desc: reader.text(DESC_BYTES, "dp_desc")?,
        })
    }

    fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.put_text(&self.mfr_desc, DESC_BYTES, "mfr_desc")?;
        out.put_text(&self.hw_desc, DESC_BYTES, "hw_desc")?;
        out.put_text(&self.sw_desc, DESC_BYTES, "sw_desc")?;
        out.put_text(&self.serial_num, SERIAL_BYTES, "serial_num")?;
        out.put_text(&self.dp_desc, DESC_BYTES, "dp_desc")
    }
}

impl FlowStats {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let v1_3 = reader.version() == Version::V1_3;
        let length = usize::from(reader.u16("flow.length")?);
        let Some(body_len) = length.checked_sub(2) else {
            return Err(reader.bad_length("flow.length", 2, length));
        };
        let mut body = reader.sub(body_len, "flow")?;
        let table_id = TableId(body.u8("flow.table_id")?);
        body.pad(1)?;
        let early_match = if v1_3 { None } else { Some(Match::decode(&mut body)?) };
        let (duration_sec, duration_nsec) = (body.u32("flow.duration_sec")?, body.u32("flow.duration_nsec")?);
        let priority = body.u16("flow.priority")?;
        let (idle_timeout, hard_timeout) = (body.u16("flow.idle_timeout")?, body.u16("flow.hard_timeout")?);
        let flags = if v1_3 { FlowModFlags::decode(&mut body)? } else { FlowModFlags::default() };
        body.pad(if v1_3 { 4 } else { 6 })?;
        let cookie = Cookie(body.u64("flow.cookie")?);
        let (packet_count, byte_count) = (body.u64("flow.packet_count")?, body.u64("flow.byte_count")?);
        let match_ = match early_match {
            Some(match_) => match_,
            None => Match::decode(&mut body)?,
        };
        let instructions = instruction::decode_list(body)?;
        Ok(Self {
            table_id,
            duration_sec,
            duration_nsec,
            priority,
            idle_timeout,
            hard_timeout,
            flags,
            cookie,
            packet_count,
            byte_count,
            match_,
            instructions,
        })
    }

    fn encode(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let v1_3 = version == Version::V1_3;
        let start = out.len();
        out.zeros(2);
        out.put_u8(self.table_id.0);
        out.zeros(1);
        if !v1_3 {
            self.match_.encode(version, out)?;
        }
        out.put_u32(self.duration_sec);
        out.put_u32(self.duration_nsec);
        out.put_u16(self.priority);
        out.put_u16(self.idle_timeout);
        out.put_u16(self.hard_timeout);
        if v1_3 {
            self.flags.encode(version, out)?;
            out.zeros(4);
        } else {
            refuse(self.flags != FlowModFlags::default(), version, "flags in flow statistics")?;
            out.zeros(6);
        }
        out.put_u64(self.cookie.0);
        out.put_u64(self.packet_count);
        out.put_u64(self.byte_count);
        if v1_3 {
            self.match_.encode(version, out)?;
        }
        instruction::encode_list(&self.instructions, version, out)?;
        out.patch_len(start, start, "flow entry")
    }
}

impl AggregateStats {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let sums = Self {
            packet_count: reader.u64("packet_count")?,
            byte_count: reader.u64("byte_count")?,
            flow_count: reader.u32("flow_count")?,
        };
        reader.pad(4)?;
        Ok(sums)
    }

    fn encode(self, out: &mut Vec<u8>) {
        out.put_u64(self.packet_count);
        out.put_u64(self.byte_count);
        out.put_u32(self.flow_count);
        out.zeros(4);
    }
}

const TABLE_NAME_BYTES: usize = 32;

impl TableStats {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let table_id = TableId(reader.u8("table.table_id")?);
        reader.pad(3)?;
        let v1_0 = match reader.version() {
            Version::V1_0 => Some(TableInfo {
                name: reader.text(TABLE_NAME_BYTES, "table.name")?,
                wildcards: reader.u32("table.wildcards")?,
                max_entries: reader.u32("table.max_entries")?,
            }),
            Version::V1_3 => None,
        };
        Ok(Self {
            table_id,
            active_count: reader.u32("table.active_count")?,
            lookup_count: reader.u64("table.lookup_count")?,
            matched_count: reader.u64("table.matched_count")?,
            v1_0,
        })
    }

    fn encode(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.put_u8(self.table_id.0);
        out.zeros(3);
        match (version, &self.v1_0) {
            (Version::V1_0, Some(info)) => {
                out.put_text(&info.name, TABLE_NAME_BYTES, "table name")?;
                out.put_u32(info.wildcards);
                out.put_u32(info.max_entries);
            }
            (Version::V1_0, None) => {
                return Err(EncodeError::invalid("table statistics", "1.0 needs name, wildcards and size"));
            }
            (Version::V1_3, info) => refuse(info.is_some(), version, "name and size in table statistics")?,
        }
        out.put_u32(self.active_count);
        out.put_u64(self.lookup_count);
        out.put_u64(self.matched_count);
        Ok(())
    }
}

impl PortStats {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let v1_3 = reader.version() == Version::V1_3;
        let port_no: PortNo = reader.port("port.port_no")?;
        reader.pad(if v1_3 { 4 } else { 6 })?;
        Ok(Self {
            port_no,
            rx_packets: reader.u64("port.rx_packets")?,
            tx_packets: reader.u64("port.tx_packets")?,
            rx_bytes: reader.u64("port.rx_bytes")?,
            tx_bytes: reader.u64("port.tx_bytes")?,
            rx_dropped: reader.u64("port.rx_dropped")?,
            tx_dropped: reader.u64("port.tx_dropped")?,
            rx_errors: reader.u64("port.rx_errors")?,
            tx_errors: reader.u64("port.tx_errors")?,
            rx_frame_err: reader.u64("port.rx_frame_err")?,
            rx_over_err: reader.u64("port.rx_over_err")?,
            rx_crc_err: reader.u64("port.rx_crc_err")?,
            collisions: reader.u64("port.collisions")?,
            duration: if v1_3 {
                Some((reader.u32("port.duration_sec")?, reader.u32("port.duration_nsec")?))
            } else {
                None
            },
        })
    }

    fn encode(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.put_port(self.port_no, version)?;
        out.zeros(if version == Version::V1_3 { 4 } else { 6 });
        for counter in [
            self.rx_packets,
            self.tx_packets,
            self.rx_bytes,
            self.tx_bytes,
            self.rx_dropped,
            self.tx_dropped,
            self.rx_errors,
            self.tx_errors,
            self.rx_frame_err,
            self.rx_over_err,
            self.rx_crc_err,
            self.collisions,
        ] {
            out.put_u64(counter);
        }
        match (version, self.duration) {
            (Version::V1_0, duration) => refuse(duration.is_some(), version, "the age of a port"),
            (Version::V1_3, Some((sec, nsec))) => {
                out.put_u32(sec);
                out.put_u32(nsec);
                Ok(())
            }
            (Version::V1_3, None) => Err(EncodeError::invalid("port statistics", "1.3 needs the duration")),
        }
    }
}
