//! OpenFlow 1.0 and 1.3: bytes to values and back, and nothing else.
//!
//! [`Framer`] cuts a stream into messages, [`Message::decode`] reads one, [`Message::encode`] writes one.
//! Values are the same for all versions where the meaning is; encoding names what a version cannot express.
//!
//! # Contract
//! No input makes decoding or framing panic or allocate more than a small multiple of its own size. What
//! decodes encodes back to the same bytes, but for padding, which is written as zeros.
#![forbid(unsafe_code)]

mod action;
mod error;
mod error_kind;
mod features;
mod fields;
mod flow;
mod framer;
mod hello;
mod instruction;
mod kind;
mod message;
mod multipart;
mod notice;
mod packet;
mod port;
mod role;
mod types;
mod wire;

pub use action::{Action, MAX_LEN_NO_BUFFER};
pub use error::{DecodeError, EncodeError, Problem};
pub use error_kind::ErrorKind;
pub use features::{
    CAPABILITY_FLOW_STATS, CAPABILITY_PORT_STATS, CAPABILITY_TABLE_STATS, FeaturesReply, SwitchConfig,
};
pub use fields::{Match, MatchField, VLAN_PRESENT};
pub use flow::{FlowMod, FlowModCommand, FlowModFlags, FlowRemoved, FlowRemovedReason};
pub use framer::{Frame, FrameError, Framer, HEADER_BYTES, MAX_MESSAGE_BYTES, READ_CHUNK_BYTES};
pub use hello::{Hello, HelloElement};
pub use instruction::Instruction;
pub use message::Message;
pub use multipart::{
    AggregateStats, FlowStats, FlowStatsRequest, MULTIPART_MORE, MultipartReply, MultipartRequest, PortStats,
    ReplyBody, RequestBody, SwitchDesc, TableInfo, TableStats,
};
pub use notice::{ErrorMsg, Experimenter};
pub use packet::{PacketIn, PacketInReason, PacketOut};
pub use port::{
    PORT_CONFIG_DOWN, PORT_CONFIG_NO_FLOOD, PORT_CONFIG_NO_PACKET_IN, PORT_STATE_LINK_DOWN, Port, PortMod,
    PortReason, PortStatus,
};
pub use role::{Role, RoleMsg};
pub use types::{
    BufferId, Cookie, DatapathId, FixedText, GroupId, MacAddr, MacAddrParseError, PortNo, TableId, Version,
    Xid,
};
