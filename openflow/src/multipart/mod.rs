//! Multipart messages (1.3: 7.3.5), which are the statistics messages of 1.0 (5.3.5).

mod flow_monitor;
mod group;
mod kinds;
mod meter;
mod nicira;
mod queue;
mod reply;
mod request;
mod table_features;

pub use flow_monitor::{FlowMonitorRequest, FlowUpdate, FlowUpdateEvent, FlowUpdateFull, MatchForm};
pub use group::{BucketCounter, GroupDesc, GroupFeatures, GroupStats};
pub use meter::{MeterBandStats, MeterConfig, MeterFeatures, MeterStats};
pub use nicira::NxFlowStats;
pub use queue::{QUEUE_ALL, QueueStats, QueueStatsRequest};
pub use table_features::{TableFeature, TableFeatures, TypeId};

use crate::{
    Cookie, Experimenter, FixedText, FlowModFlags, GroupId, Instruction, Match, MeterId, Port, PortNo,
    TableId,
};

/// MULTIPART_REQUEST.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct MultipartRequest {
    /// `OFPMPF_REQ_*` bits; bit 0: more parts follow.
    pub flags: u16,
    /// What is asked for.
    pub body: RequestBody,
}

impl From<RequestBody> for MultipartRequest {
    fn from(body: RequestBody) -> Self {
        Self { flags: 0, body }
    }
}

/// What a multipart request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub enum RequestBody {
    /// Description of the switch.
    Desc,
    /// Flow entries.
    Flow(FlowStatsRequest),
    /// Sums over flow entries.
    Aggregate(FlowStatsRequest),
    /// Flow tables.
    Table,
    /// Counters of one port, or of all with [`PortNo::ANY`].
    PortStats(PortNo),
    /// Descriptions of all ports (1.3; an extension of Open vSwitch's in 1.0).
    PortDesc,
    /// Counters of queues.
    Queue(QueueStatsRequest),
    /// Counters of one group, or of all with [`GroupId::ALL`] (1.3).
    Group(GroupId),
    /// All groups as they were set up (1.3).
    GroupDesc,
    /// What the switch can do with groups (1.3).
    GroupFeatures,
    /// Counters of one meter, or of all with [`MeterId::ALL`] (1.3).
    Meter(MeterId),
    /// One meter as it was set up, or all with [`MeterId::ALL`] (1.3).
    MeterConfig(MeterId),
    /// What the switch can do with meters (1.3).
    MeterFeatures,
    /// What the tables can do; not empty: what they shall do (1.3).
    TableFeatures(Vec<TableFeatures>),
    /// To be told of changes of flow entries: Nicira's in 1.0, ONF's in 1.3.
    FlowMonitor(Vec<FlowMonitorRequest>),
    /// Flow entries, in Nicira's form (1.0).
    NxFlow(FlowStatsRequest),
    /// Sums over flow entries, asked for in Nicira's form (1.0).
    NxAggregate(FlowStatsRequest),
    /// What an experimenter (vendor in 1.0) defines, kept as it came.
    Experimenter(Experimenter),
    /// A kind that the version does not define, kept as it came.
    Other {
        /// Wire type.
        kind: u16,
        /// What follows the multipart header.
        #[cfg_attr(feature = "serde", serde(serialize_with = "crate::shown::hex"))]
        body: Vec<u8>,
    },
}

/// Which flow entries a request is about.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct FlowStatsRequest {
    /// Table, or [`TableId::ALL`].
    pub table_id: TableId,
    /// Entries with an output to this port; [`PortNo::ANY`] for all.
    pub out_port: PortNo,
    /// Entries with this group; [`GroupId::ANY`] for all (1.3).
    pub out_group: GroupId,
    /// Entries with these bits in their cookie (1.3).
    pub cookie: Cookie,
    /// Which bits of the cookie count (1.3).
    pub cookie_mask: u64,
    /// Entries at least as specific as this match.
    #[cfg_attr(feature = "serde", serde(rename = "match"))]
    pub match_: Match,
}

impl Default for FlowStatsRequest {
    /// All entries of all tables.
    fn default() -> Self {
        Self {
            table_id: TableId::ALL,
            out_port: PortNo::ANY,
            out_group: GroupId::ANY,
            cookie: Cookie(0),
            cookie_mask: 0,
            match_: Match::new(),
        }
    }
}

/// MULTIPART_REPLY.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct MultipartReply {
    /// `OFPMPF_REPLY_*` bits; bit 0: more parts follow.
    pub flags: u16,
    /// What is told.
    pub body: ReplyBody,
}

/// Bit of a multipart message's flags: more parts with the same xid follow.
pub const MULTIPART_MORE: u16 = 1;

impl MultipartRequest {
    /// Whether all of it is taken apart.
    pub(crate) fn is_typed(&self) -> bool {
        !matches!(self.body, RequestBody::Experimenter(_) | RequestBody::Other { .. })
    }
}

impl MultipartReply {
    /// Whether all of it is taken apart.
    pub(crate) fn is_typed(&self) -> bool {
        !matches!(self.body, ReplyBody::Experimenter(_) | ReplyBody::Other { .. })
    }

    /// Whether more parts with the same xid follow.
    pub fn more(&self) -> bool {
        self.flags & MULTIPART_MORE != 0
    }
}

/// What a multipart reply tells.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub enum ReplyBody {
    /// Description of the switch.
    Desc(Box<SwitchDesc>),
    /// Flow entries.
    Flow(Vec<FlowStats>),
    /// Sums over flow entries.
    Aggregate(AggregateStats),
    /// Flow tables.
    Table(Vec<TableStats>),
    /// Counters of ports.
    PortStats(Vec<PortStats>),
    /// Descriptions of ports (1.3; an extension of Open vSwitch's in 1.0).
    PortDesc(Vec<Port>),
    /// Counters of queues.
    Queue(Vec<QueueStats>),
    /// Counters of groups (1.3).
    Group(Vec<GroupStats>),
    /// Groups as they were set up (1.3).
    GroupDesc(Vec<GroupDesc>),
    /// What the switch can do with groups (1.3).
    GroupFeatures(GroupFeatures),
    /// Counters of meters (1.3).
    Meter(Vec<MeterStats>),
    /// Meters as they were set up (1.3).
    MeterConfig(Vec<MeterConfig>),
    /// What the switch can do with meters (1.3).
    MeterFeatures(MeterFeatures),
    /// What the tables can do (1.3).
    TableFeatures(Vec<TableFeatures>),
    /// Changes of flow entries: Nicira's in 1.0, ONF's in 1.3.
    FlowMonitor(Vec<FlowUpdate>),
    /// Flow entries, in Nicira's form (1.0).
    NxFlow(Vec<NxFlowStats>),
    /// Sums over flow entries, in Nicira's form (1.0).
    NxAggregate(AggregateStats),
    /// What an experimenter (vendor in 1.0) defines, kept as it came.
    Experimenter(Experimenter),
    /// A kind that the version does not define, kept as it came.
    Other {
        /// Wire type.
        kind: u16,
        /// What follows the multipart header.
        #[cfg_attr(feature = "serde", serde(serialize_with = "crate::shown::hex"))]
        body: Vec<u8>,
    },
}

/// Description of a switch, in its maker's words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct SwitchDesc {
    /// Maker, at most 256 bytes.
    pub mfr_desc: FixedText,
    /// Hardware, at most 256 bytes.
    pub hw_desc: FixedText,
    /// Software, at most 256 bytes.
    pub sw_desc: FixedText,
    /// Serial number, at most 32 bytes.
    pub serial_num: FixedText,
    /// This datapath, at most 256 bytes.
    pub dp_desc: FixedText,
}

/// One flow entry.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct FlowStats {
    /// Its table.
    pub table_id: TableId,
    /// Seconds since it came.
    pub duration_sec: u32,
    /// Nanoseconds beyond those.
    pub duration_nsec: u32,
    /// Its priority.
    pub priority: u16,
    /// Its idle timeout in seconds.
    pub idle_timeout: u16,
    /// Its hard timeout in seconds.
    pub hard_timeout: u16,
    /// Its flags (1.3).
    pub flags: FlowModFlags,
    /// Its cookie.
    pub cookie: Cookie,
    /// Packets that it matched.
    pub packet_count: u64,
    /// Bytes of those.
    pub byte_count: u64,
    /// What it matches.
    #[cfg_attr(feature = "serde", serde(rename = "match"))]
    pub match_: Match,
    /// What it does; in 1.0 nothing or one [`Instruction::ApplyActions`].
    pub instructions: Vec<Instruction>,
}

/// Sums over flow entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct AggregateStats {
    /// Packets.
    pub packet_count: u64,
    /// Bytes.
    pub byte_count: u64,
    /// Entries.
    pub flow_count: u32,
}

/// Counters of one flow table.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct TableStats {
    /// Which table.
    pub table_id: TableId,
    /// Entries in it.
    pub active_count: u32,
    /// Packets looked up.
    pub lookup_count: u64,
    /// Packets that an entry matched.
    pub matched_count: u64,
    /// What 1.0 tells besides; `None` in 1.3.
    pub v1_0: Option<TableInfo>,
}

/// What 1.0 tells of a table besides its counters.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct TableInfo {
    /// Its name, at most 32 bytes.
    pub name: FixedText,
    /// `OFPFW_*` bits that it can wildcard.
    pub wildcards: u32,
    /// Entries that it can hold.
    pub max_entries: u32,
}

/// Counters of one port; all ones where a switch does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct PortStats {
    /// Which port.
    pub port_no: PortNo,
    /// Packets received.
    pub rx_packets: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Received packets dropped.
    pub rx_dropped: u64,
    /// Packets dropped before sending.
    pub tx_dropped: u64,
    /// Receive errors.
    pub rx_errors: u64,
    /// Send errors.
    pub tx_errors: u64,
    /// Frame alignment errors.
    pub rx_frame_err: u64,
    /// Overruns.
    pub rx_over_err: u64,
    /// CRC errors.
    pub rx_crc_err: u64,
    /// Collisions.
    pub collisions: u64,
    /// Seconds and nanoseconds that the port has been alive (1.3).
    pub duration: Option<(u32, u32)>,
}
