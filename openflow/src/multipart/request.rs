//! Bytes of multipart requests.

use super::kinds::{self, Known};
use super::{FlowStatsRequest, MultipartRequest, RequestBody, TableFeatures, nicira};
use crate::wire::{Put, Reader, Wire, put_all, read_all, refuse};
use crate::{Cookie, DecodeError, EncodeError, GroupId, Match, MeterId, PortNo, TableId, Version};

impl MultipartRequest {
    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let kind = reader.u16("type")?;
        let flags = reader.u16("flags")?;
        let v1_3 = reader.version() == Version::V1_3;
        reader.pad(if v1_3 { 4 } else { 0 })?;
        let body = match kind {
            kind if !kinds::has(reader.version(), kind) => {
                RequestBody::Other { kind, body: reader.rest().to_vec() }
            }
            kinds::DESC => RequestBody::Desc,
            kinds::FLOW => RequestBody::Flow(FlowStatsRequest::decode(reader)?),
            kinds::AGGREGATE => RequestBody::Aggregate(FlowStatsRequest::decode(reader)?),
            kinds::TABLE => RequestBody::Table,
            kinds::PORT_STATS => RequestBody::PortStats(decode_port(reader)?),
            kinds::PORT_DESC => RequestBody::PortDesc,
            kinds::QUEUE => RequestBody::Queue(Wire::read(reader, "port_no")?),
            kinds::GROUP => RequestBody::Group(GroupId(padded_id(reader, "group_id")?)),
            kinds::GROUP_DESC => RequestBody::GroupDesc,
            kinds::GROUP_FEATURES => RequestBody::GroupFeatures,
            kinds::METER => RequestBody::Meter(MeterId(padded_id(reader, "meter_id")?)),
            kinds::METER_CONFIG => RequestBody::MeterConfig(MeterId(padded_id(reader, "meter_id")?)),
            kinds::METER_FEATURES => RequestBody::MeterFeatures,
            kinds::TABLE_FEATURES => RequestBody::TableFeatures(read_tables(reader)?),
            kinds::EXPERIMENTER => decode_experimenter(reader)?,
            kind => RequestBody::Other { kind, body: reader.rest().to_vec() },
        };
        Ok(Self { flags, body })
    }

    pub(crate) fn encode(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let kind = self.body.kind();
        let is_raw = matches!(self.body, RequestBody::Other { .. });
        if !is_raw && !kinds::has(version, kind) {
            return Err(EncodeError::not_in(version, "this multipart request"));
        }
        kinds::put_header(kind, self.flags, version, out);
        self.body.encode(version, out)
    }
}

impl RequestBody {
    fn kind(&self) -> u16 {
        match self {
            Self::Desc => kinds::DESC,
            Self::Flow(_) => kinds::FLOW,
            Self::Aggregate(_) => kinds::AGGREGATE,
            Self::Table => kinds::TABLE,
            Self::PortStats(_) => kinds::PORT_STATS,
            Self::PortDesc => kinds::PORT_DESC,
            Self::Queue(_) => kinds::QUEUE,
            Self::Group(_) => kinds::GROUP,
            Self::GroupDesc => kinds::GROUP_DESC,
            Self::GroupFeatures => kinds::GROUP_FEATURES,
            Self::Meter(_) => kinds::METER,
            Self::MeterConfig(_) => kinds::METER_CONFIG,
            Self::MeterFeatures => kinds::METER_FEATURES,
            Self::TableFeatures(_) => kinds::TABLE_FEATURES,
            Self::FlowMonitor(_) | Self::NxFlow(_) | Self::NxAggregate(_) | Self::Experimenter(_) => {
                kinds::EXPERIMENTER
            }
            Self::Other { kind, .. } => *kind,
        }
    }

    fn encode(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match self {
            Self::Desc
            | Self::Table
            | Self::PortDesc
            | Self::GroupDesc
            | Self::GroupFeatures
            | Self::MeterFeatures => Ok(()),
            Self::Flow(request) | Self::Aggregate(request) => request.encode(version, out),
            Self::PortStats(port) => {
                out.put_port(*port, version)?;
                out.zeros(if version == Version::V1_3 { 4 } else { 6 });
                Ok(())
            }
            Self::Queue(request) => request.put(version, out),
            Self::Group(GroupId(id)) | Self::Meter(MeterId(id)) | Self::MeterConfig(MeterId(id)) => {
                out.put_u32(*id);
                out.zeros(4);
                Ok(())
            }
            Self::TableFeatures(tables) => put_all(tables, version, out),
            Self::FlowMonitor(requests) => {
                kinds::put_known(&Known::FlowMonitor, version, out);
                put_all(requests, version, out)
            }
            Self::NxFlow(request) => encode_nx(&Known::Flow, request, version, out),
            Self::NxAggregate(request) => encode_nx(&Known::Aggregate, request, version, out),
            Self::Experimenter(experimenter) => experimenter.encode(version, out),
            Self::Other { body, .. } => {
                out.extend_from_slice(body);
                Ok(())
            }
        }
    }
}

fn decode_experimenter(reader: &mut Reader<'_>) -> Result<RequestBody, DecodeError> {
    Ok(match kinds::experimenter(reader)? {
        Ok(Known::Flow) => RequestBody::NxFlow(nicira::decode_request(reader)?),
        Ok(Known::Aggregate) => RequestBody::NxAggregate(nicira::decode_request(reader)?),
        Ok(Known::FlowMonitor) => {
            RequestBody::FlowMonitor(read_all(reader, |reader| Wire::read(reader, "monitor"))?)
        }
        Err(experimenter) => RequestBody::Experimenter(experimenter),
    })
}

fn encode_nx(
    known: &Known,
    request: &FlowStatsRequest,
    version: Version,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    refuse(version != Version::V1_0, version, "statistics in Nicira's form: the version's own do the same")?;
    kinds::put_known(known, version, out);
    nicira::encode_request(request, version, out)
}

/// A number with four bytes of padding behind it.
fn padded_id(reader: &mut Reader<'_>, field: &'static str) -> Result<u32, DecodeError> {
    let id = reader.u32(field)?;
    reader.pad(4)?;
    Ok(id)
}

/// Tables up to the end of the reader.
pub(super) fn read_tables(reader: &mut Reader<'_>) -> Result<Vec<TableFeatures>, DecodeError> {
    read_all(reader, |reader| TableFeatures::read(reader, "table"))
}

fn decode_port(reader: &mut Reader<'_>) -> Result<PortNo, DecodeError> {
    let port = reader.port("port_no")?;
    reader.pad(if reader.version() == Version::V1_3 { 4 } else { 6 })?;
    Ok(port)
}

impl FlowStatsRequest {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        if reader.version() == Version::V1_0 {
            let match_ = Match::decode(reader)?;
            let table_id = TableId(reader.u8("table_id")?);
            reader.pad(1)?;
            return Ok(Self { match_, table_id, out_port: reader.port("out_port")?, ..Self::default() });
        }
        let table_id = TableId(reader.u8("table_id")?);
        reader.pad(3)?;
        let (out_port, out_group) = (reader.port("out_port")?, GroupId(reader.u32("out_group")?));
        reader.pad(4)?;
        let (cookie, cookie_mask) = (Cookie(reader.u64("cookie")?), reader.u64("cookie_mask")?);
        Ok(Self { table_id, out_port, out_group, cookie, cookie_mask, match_: Match::decode(reader)? })
    }

    fn encode(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        if version == Version::V1_0 {
            refuse(
                self.cookie_mask != 0 || self.cookie != Cookie(0),
                version,
                "a cookie in a statistics request",
            )?;
            refuse(self.out_group != GroupId::ANY, version, "out_group in a statistics request")?;
            self.match_.encode(version, out)?;
            out.put_u8(self.table_id.0);
            out.zeros(1);
            return out.put_port(self.out_port, version);
        }
        out.put_u8(self.table_id.0);
        out.zeros(3);
        out.put_port(self.out_port, version)?;
        out.put_u32(self.out_group.0);
        out.zeros(4);
        out.put_u64(self.cookie.0);
        out.put_u64(self.cookie_mask);
        self.match_.encode(version, out)
    }
}
