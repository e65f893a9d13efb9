//! QUEUE_GET_CONFIG (1.0: 5.3.4, 1.3: 7.3.6) and queue descriptions (1.0: 5.2.2, 1.3: 7.2.2).
//!
//! ```text
//!  1.0: port (16) | pad (48) | queue ...     queue: queue_id (32) | len (16) | pad (16) | property ...
//!  1.3: port (32) | pad (32) | queue ...     queue: queue_id (32) | port (32) | len (16) | pad (48) | property ...
//!  property: property (16) | len (16) | pad (32) | as the property says
//! ```

use crate::wire::{Put, Reader, Wire, read_all};
use crate::{DecodeError, EncodeError, PortNo, Version};

/// QUEUE_GET_CONFIG_REPLY: the queues of a port.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct QueueConfig {
    /// The port that was asked for; [`PortNo::ANY`] for all (1.3).
    pub port: PortNo,
    /// Its queues.
    pub queues: Vec<PacketQueue>,
}

/// One queue.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct PacketQueue {
    /// Its number.
    pub queue_id: u32,
    /// The port that it belongs to; in 1.0 always the port of the reply.
    pub port: PortNo,
    /// What is known of it.
    pub properties: Vec<QueueProperty>,
}

/// A property of a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub enum QueueProperty {
    /// Guaranteed rate in 1/10 of a percent; above 1000: none.
    MinRate(u16),
    /// Highest rate in 1/10 of a percent; above 1000: none (1.3).
    MaxRate(u16),
    /// A property of an experimenter, kept as it came (1.3).
    Experimenter {
        /// Whose it is.
        experimenter: u32,
        /// What follows.
        #[cfg_attr(feature = "serde", serde(serialize_with = "crate::shown::hex"))]
        body: Vec<u8>,
    },
    /// A property that the version does not define, kept as it came.
    Other {
        /// Wire type.
        kind: u16,
        /// What follows the 8-byte header.
        #[cfg_attr(feature = "serde", serde(serialize_with = "crate::shown::hex"))]
        body: Vec<u8>,
    },
}

const MIN_RATE: u16 = 1;
const MAX_RATE: u16 = 2;
const EXPERIMENTER: u16 = 0xffff;
const PROPERTY_HEADER_BYTES: usize = 4;

/// Padding that fills port number and padding up to 8 bytes.
pub(crate) fn port_pad(version: Version, size: usize) -> usize {
    size - if version == Version::V1_3 { 4 } else { 2 }
}

/// QUEUE_GET_CONFIG_REQUEST: the port.
pub(crate) fn decode_request(body: &mut Reader<'_>) -> Result<PortNo, DecodeError> {
    let port = body.port("port")?;
    let size = if body.version() == Version::V1_3 { 8 } else { 4 };
    body.pad(port_pad(body.version(), size))?;
    Ok(port)
}

pub(crate) fn encode_request(port: PortNo, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    out.put_port(port, version)?;
    out.zeros(port_pad(version, if version == Version::V1_3 { 8 } else { 4 }));
    Ok(())
}

impl QueueConfig {
    pub(crate) fn decode(body: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let port = body.port("port")?;
        body.pad(port_pad(body.version(), 8))?;
        let queues = read_all(body, |body| PacketQueue::decode(body, port))?;
        Ok(Self { port, queues })
    }

    pub(crate) fn encode(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.put_port(self.port, version)?;
        out.zeros(port_pad(version, 8));
        self.queues.iter().try_for_each(|queue| queue.encode(self.port, version, out))
    }
}

impl PacketQueue {
    fn decode(reader: &mut Reader<'_>, of_reply: PortNo) -> Result<Self, DecodeError> {
        let v1_3 = reader.version() == Version::V1_3;
        let queue_id = reader.u32("queue.queue_id")?;
        let port = if v1_3 { reader.port("queue.port")? } else { of_reply };
        let mut body = reader.rest_of(if v1_3 { 10 } else { 6 }, "queue.len")?;
        body.pad(if v1_3 { 6 } else { 2 })?;
        let properties = read_all(&mut body, |body| QueueProperty::read(body, "property"))?;
        Ok(Self { queue_id, port, properties })
    }

    fn encode(&self, of_reply: PortNo, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let start = out.len();
        out.put_u32(self.queue_id);
        match version {
            Version::V1_3 => out.put_port(self.port, version)?,
            Version::V1_0 if self.port == of_reply => {}
            Version::V1_0 => return Err(EncodeError::not_in(version, "queues of several ports in a reply")),
        }
        let length_at = out.len();
        out.put_u16(0);
        out.zeros(if version == Version::V1_3 { 6 } else { 2 });
        self.properties.iter().try_for_each(|property| property.put(version, out))?;
        out.patch_len(length_at, start, "queue")
    }
}

impl Wire for QueueProperty {
    fn read(reader: &mut Reader<'_>, _: &'static str) -> Result<Self, DecodeError> {
        let kind = reader.u16("property.type")?;
        let mut body = reader.rest_of(PROPERTY_HEADER_BYTES, "property.len")?;
        body.pad(4)?;
        Ok(match kind {
            MIN_RATE => Self::MinRate(rate(&mut body)?),
            MAX_RATE => Self::MaxRate(rate(&mut body)?),
            EXPERIMENTER => {
                let experimenter = body.u32("property.experimenter")?;
                body.pad(4)?;
                Self::Experimenter { experimenter, body: body.rest().to_vec() }
            }
            kind => Self::Other { kind, body: body.rest().to_vec() },
        })
    }

    fn put(&self, _: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let start = out.len();
        out.put_u16(match self {
            Self::MinRate(_) => MIN_RATE,
            Self::MaxRate(_) => MAX_RATE,
            Self::Experimenter { .. } => EXPERIMENTER,
            Self::Other { kind, .. } => *kind,
        });
        out.zeros(6);
        match self {
            Self::MinRate(rate) | Self::MaxRate(rate) => {
                out.put_u16(*rate);
                out.zeros(6);
            }
            Self::Experimenter { experimenter, body } => {
                out.put_u32(*experimenter);
                out.zeros(4);
                out.extend_from_slice(body);
            }
            Self::Other { body, .. } => out.extend_from_slice(body),
        }
        out.patch_len(start + 2, start, "queue property")
    }
}

fn rate(body: &mut Reader<'_>) -> Result<u16, DecodeError> {
    let rate = body.u16("property.rate")?;
    body.pad(6)?;
    body.finish()?;
    Ok(rate)
}
