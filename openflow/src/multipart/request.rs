//! Bytes of multipart requests.

use super::{FlowStatsRequest, MultipartRequest, RequestBody, kinds};
use crate::wire::{Put, Reader, refuse};
use crate::{Cookie, DecodeError, EncodeError, GroupId, Match, PortNo, TableId, Version};

impl MultipartRequest {
    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let kind = reader.u16("type")?;
        let flags = reader.u16("flags")?;
        let v1_3 = reader.version() == Version::V1_3;
        reader.pad(if v1_3 { 4 } else { 0 })?;
        let body = match kind {
            kinds::DESC => RequestBody::Desc,
            kinds::FLOW => RequestBody::Flow(FlowStatsRequest::decode(reader)?),
            kinds::AGGREGATE => RequestBody::Aggregate(FlowStatsRequest::decode(reader)?),
            kinds::TABLE => RequestBody::Table,
            kinds::PORT_STATS => RequestBody::PortStats(decode_port(reader)?),
            kinds::PORT_DESC if v1_3 => RequestBody::PortDesc,
            kind => RequestBody::Other { kind, body: reader.rest().to_vec() },
        };
        Ok(Self { flags, body })
    }

    pub(crate) fn encode(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let kind = match &self.body {
            RequestBody::Desc => kinds::DESC,
            RequestBody::Flow(_) => kinds::FLOW,
            RequestBody::Aggregate(_) => kinds::AGGREGATE,
            RequestBody::Table => kinds::TABLE,
            RequestBody::PortStats(_) => kinds::PORT_STATS,
            RequestBody::PortDesc => kinds::PORT_DESC,
            RequestBody::Other { kind, .. } => *kind,
        };
        kinds::put_header(kind, self.flags, version, out);
        match &self.body {
            RequestBody::Desc | RequestBody::Table => Ok(()),
            RequestBody::Flow(request) | RequestBody::Aggregate(request) => request.encode(version, out),
            RequestBody::PortStats(port) => {
                out.put_port(*port, version)?;
                out.zeros(if version == Version::V1_3 { 4 } else { 6 });
                Ok(())
            }
            RequestBody::PortDesc => {
                refuse(version == Version::V1_0, version, "the port description request")
            }
            RequestBody::Other { body, .. } => {
                out.extend_from_slice(body);
                Ok(())
            }
        }
    }
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
