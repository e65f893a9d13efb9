//! Queues in multipart messages (1.0: 5.3.5, 1.3: 7.3.5.8).

use crate::wire::{Put, Reader, Wire, refuse};
use crate::{DecodeError, EncodeError, PortNo, Version};

/// Which queues a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct QueueStatsRequest {
    /// The port; for all of them [`PortNo::ANY`] in 1.3, [`PortNo::ALL`] in 1.0.
    pub port_no: PortNo,
    /// The queue, or [`QUEUE_ALL`].
    pub queue_id: u32,
}

/// All queues of a port, in requests (`OFPQ_ALL`).
pub const QUEUE_ALL: u32 = 0xffff_ffff;

/// Counters of one queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct QueueStats {
    /// Its port.
    pub port_no: PortNo,
    /// Its number.
    pub queue_id: u32,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Packets dropped for want of room.
    pub tx_errors: u64,
    /// Seconds and nanoseconds that the queue has been there (1.3).
    pub duration: Option<(u32, u32)>,
}

/// Port and queue, which request and reply begin with.
impl Wire for QueueStatsRequest {
    fn read(reader: &mut Reader<'_>, field: &'static str) -> Result<Self, DecodeError> {
        let port_no = reader.port(field)?;
        reader.pad(if reader.version() == Version::V1_3 { 0 } else { 2 })?;
        Ok(Self { port_no, queue_id: reader.u32("queue.queue_id")? })
    }

    fn put(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.put_port(self.port_no, version)?;
        out.zeros(if version == Version::V1_3 { 0 } else { 2 });
        out.put_u32(self.queue_id);
        Ok(())
    }
}

impl Wire for QueueStats {
    fn read(reader: &mut Reader<'_>, _: &'static str) -> Result<Self, DecodeError> {
        let QueueStatsRequest { port_no, queue_id } = Wire::read(reader, "queue.port_no")?;
        let v1_3 = reader.version() == Version::V1_3;
        Ok(Self {
            port_no,
            queue_id,
            tx_bytes: reader.u64("queue.tx_bytes")?,
            tx_packets: reader.u64("queue.tx_packets")?,
            tx_errors: reader.u64("queue.tx_errors")?,
            duration: if v1_3 {
                Some((reader.u32("queue.duration_sec")?, reader.u32("queue.duration_nsec")?))
            } else {
                None
            },
        })
    }

    fn put(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        QueueStatsRequest { port_no: self.port_no, queue_id: self.queue_id }.put(version, out)?;
        out.put_u64(self.tx_bytes);
        out.put_u64(self.tx_packets);
        out.put_u64(self.tx_errors);
        match (version, self.duration) {
            (Version::V1_0, duration) => refuse(duration.is_some(), version, "the age of a queue"),
            (Version::V1_3, Some((sec, nsec))) => {
                out.put_u32(sec);
                out.put_u32(nsec);
                Ok(())
            }
            (Version::V1_3, None) => Err(EncodeError::invalid("queue statistics", "1.3 needs the duration")),
        }
    }
}
