//! OpenFlow 1.0 and 1.3: bytes to values and back, and nothing else.
//!
//! [`Framer`] cuts a stream into messages, [`Message::decode`] reads one, [`Message::encode`] writes one.
//! [`FrameRef`], [`PacketInRef`] and [`PacketOutRef`] do the same for packets without a copy.
//! Values are the same for all versions where the meaning is; encoding names what a version cannot express.
//!
//! # Contract
//! No input makes decoding or framing panic, exhaust the stack, or allocate more than a small multiple of its own
//! size. What decodes encodes back to the same bytes, but for padding, which is written as zeros.
//!
//! # Example
//! ```
//! use openflow::{Action, FlowMod, Instruction, Match, Message, PortNo, Version, Xid};
//!
//! let entry = FlowMod {
//!     priority: 100,
//!     match_: Match::new().eth_type(0x0800).ipv4_dst([10, 0, 1, 1].into()),
//!     instructions: vec![Instruction::ApplyActions(vec![Action::output(PortNo(2))])],
//!     ..FlowMod::default()
//! };
//! let message = Message::FlowMod(entry);
//! let mut bytes = Vec::new();
//! // The same value in both versions.
//! for version in [Version::V1_0, Version::V1_3] {
//!     bytes.clear();
//!     message.encode(version, Xid(7), &mut bytes)?;
//!     assert_eq!(Message::decode(&bytes)?, (version, Xid(7), message.clone()));
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod action;
mod async_config;
mod error;
mod error_kind;
mod features;
mod fields;
mod flow;
mod framer;
mod group;
mod hello;
mod instruction;
mod kind;
mod message;
mod meter;
mod multipart;
mod nicira;
mod notice;
mod onf;
mod packet;
mod port;
mod property;
mod queue;
mod role;
#[cfg(feature = "serde")]
mod shown;
mod table;
mod types;
mod view;
mod wire;

pub use action::{
    Action, Bundle, BundleLoad, CT_COMMIT, CT_FORCE, ConnTrack, Controller2, Controller2Property, CtZone,
    Encap, EncapProperty, Learn, Learn2, LearnField, LearnSource, LearnSpec, LearnTarget, MAX_LEN_NO_BUFFER,
    MoveBits, NAT_DST, NAT_PERSISTENT, NAT_PROTO_HASH, NAT_PROTO_RANDOM, NAT_SRC, Nat, NxAction, OutputField,
    Sample4, SampleId,
};
pub use async_config::AsyncConfig;
pub use error::{DecodeError, EncodeError, Problem};
pub use error_kind::ErrorKind;
pub use features::{
    CAPABILITY_FLOW_STATS, CAPABILITY_PORT_STATS, CAPABILITY_TABLE_STATS, FeaturesReply, SwitchConfig,
};
pub use fields::{ExperimenterField, FieldId, Match, MatchField, NxmField, Subfield, VLAN_PRESENT, ct_state};
pub use flow::{FlowMod, FlowModCommand, FlowModFlags, FlowRemoved, FlowRemovedReason};
pub use framer::{Frame, FrameError, Framer, HEADER_BYTES, MAX_MESSAGE_BYTES, READ_CHUNK_BYTES};
pub use group::{Bucket, GroupMod, GroupModCommand, GroupType};
pub use hello::{Hello, HelloElement};
pub use instruction::Instruction;
pub use kind::type_name;
pub use message::Message;
pub use meter::{MeterBand, MeterFlags, MeterMod, MeterModCommand};
pub use multipart::{
    AggregateStats, BucketCounter, FlowMonitorRequest, FlowStats, FlowStatsRequest, FlowUpdate,
    FlowUpdateEvent, FlowUpdateFull, GroupDesc, GroupFeatures, GroupStats, MULTIPART_MORE, MatchForm,
    MeterBandStats, MeterConfig, MeterFeatures, MeterStats, MultipartReply, MultipartRequest, NxFlowStats,
    PortStats, QUEUE_ALL, QueueStats, QueueStatsRequest, ReplyBody, RequestBody, SwitchDesc, TableFeature,
    TableFeatures, TableInfo, TableStats, TypeId,
};
pub use nicira::{
    AsyncProperty, CtFlush, CtTuple, FlowFormat, NiciraMsg, PacketIn2, PacketIn2Property, PacketInFormat,
    RawProperty, TlvMap, TlvTableMod, TlvTableModCommand, TlvTableReply,
};
pub use notice::{ErrorMsg, Experimenter};
pub use onf::{
    BundleAdd, BundleControl, BundleControlKind, BundleFlags, EmbeddedMessage, OnfMsg, RoleStatus,
};
pub use packet::{PacketIn, PacketInReason, PacketOut};
pub use port::{
    PORT_CONFIG_DOWN, PORT_CONFIG_NO_FLOOD, PORT_CONFIG_NO_PACKET_IN, PORT_STATE_LINK_DOWN, Port, PortMod,
    PortReason, PortStatus,
};
pub use queue::{PacketQueue, QueueConfig, QueueProperty};
pub use role::{Role, RoleMsg};
pub use table::TableMod;
pub use types::{
    BufferId, Cookie, DatapathId, FixedText, GroupId, MacAddr, MacAddrParseError, MeterId, NICIRA, ONF,
    PortNo, TableId, Version, Xid,
};
pub use view::{FrameRef, PacketInRef, PacketOutRef};
