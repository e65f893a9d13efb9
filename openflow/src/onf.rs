//! Messages of ONF's extensions of 1.3: EXPERIMENTER messages with id 0x4f4e4600.
//!
//! ```text
//!  experimenter = 0x4f4e4600 (32) | exp_type (32) | body
//!  bundle control (EXT-230): bundle_id (32) | type (16) | flags (16) | property ...
//!  bundle add: bundle_id (32) | pad (16) | flags (16) | message | zeros to 8 bytes and property ..., if any
//! ```

use crate::nicira::RawProperty;
use crate::wire::{Put, Reader, pad8, read_all};
use crate::{DecodeError, EncodeError, ErrorKind, Message, ONF, Problem, Role, Version, Xid};

/// A message of ONF's extensions (1.3).
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub enum OnfMsg {
    /// Ends the flow monitor of this number (EXT-187).
    FlowMonitorCancel(u32),
    /// Changes come faster than they can be told: none until [`OnfMsg::FlowMonitorResumed`] (EXT-187).
    FlowMonitorPaused,
    /// The last change of the pause has been told (EXT-187).
    FlowMonitorResumed,
    /// The switch changed the controller's role (EXT-191).
    RoleStatus(RoleStatus),
    /// Opens, closes, commits or discards a bundle (EXT-230).
    BundleControl(BundleControl),
    /// Adds a message to a bundle (EXT-230).
    BundleAdd(BundleAdd),
    /// What another controller asked of the switch (EXT-192).
    RequestForward(Box<EmbeddedMessage>),
}

/// Why and to what a controller's role changed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct RoleStatus {
    /// The role.
    pub role: Role,
    /// Why (`OFPCRR_*`): 0 another controller became master, 1 the switch's configuration, 2 an experimenter.
    pub reason: u8,
    /// Generation id of the election.
    pub generation_id: u64,
    /// Properties, kept as they came.
    pub properties: Vec<RawProperty>,
}

/// Opens, closes, commits or discards a bundle: messages that the switch takes all together or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct BundleControl {
    /// The bundle.
    pub bundle_id: u32,
    /// What to do, or what was done.
    pub kind: BundleControlKind,
    /// How the bundle is to be taken.
    pub flags: BundleFlags,
    /// Properties, kept as they came.
    pub properties: Vec<RawProperty>,
}

/// What a [`BundleControl`] does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub enum BundleControlKind {
    /// Opens a bundle.
    OpenRequest,
    /// It is open.
    OpenReply,
    /// Takes no more messages.
    CloseRequest,
    /// It is closed.
    CloseReply,
    /// Does all that was added.
    CommitRequest,
    /// All is done.
    CommitReply,
    /// Forgets all that was added.
    DiscardRequest,
    /// It is forgotten.
    DiscardReply,
}

/// `OFPBF_*` bits of a bundle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct BundleFlags(pub u16);

impl BundleFlags {
    /// All or nothing.
    pub const ATOMIC: Self = Self(1);
    /// In the order in which they were added.
    pub const ORDERED: Self = Self(1 << 1);

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

/// Adds a message to a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct BundleAdd {
    /// The bundle.
    pub bundle_id: u32,
    /// The flags with which it was opened.
    pub flags: BundleFlags,
    /// The message; its xid has to be that of the message around it.
    pub message: Box<EmbeddedMessage>,
    /// Properties, kept as they came.
    pub properties: Vec<RawProperty>,
}

/// A message in another one, of the same version.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct EmbeddedMessage {
    /// Its transaction id.
    pub xid: Xid,
    /// The message.
    pub message: Message,
}

const FLOW_MONITOR_CANCEL: u32 = 1870;
const FLOW_MONITOR_PAUSED: u32 = 1871;
const FLOW_MONITOR_RESUMED: u32 = 1872;
const ROLE_STATUS: u32 = 1911;
const BUNDLE_CONTROL: u32 = 2300;
const BUNDLE_ADD: u32 = 2301;
const REQUEST_FORWARD: u32 = 2350;

/// Kinds of bundle control in the order of their numbers.
const KINDS: [BundleControlKind; 8] = [
    BundleControlKind::OpenRequest,
    BundleControlKind::OpenReply,
    BundleControlKind::CloseRequest,
    BundleControlKind::CloseReply,
    BundleControlKind::CommitRequest,
    BundleControlKind::CommitReply,
    BundleControlKind::DiscardRequest,
    BundleControlKind::DiscardReply,
];

impl OnfMsg {
    /// Reads what follows the type; `None` when this codec knows no such type.
    pub(crate) fn decode(exp_type: u32, body: &mut Reader<'_>) -> Result<Option<Self>, DecodeError> {
        Ok(Some(match exp_type {
            FLOW_MONITOR_CANCEL => Self::FlowMonitorCancel(body.u32("id")?),
            FLOW_MONITOR_PAUSED => Self::FlowMonitorPaused,
            FLOW_MONITOR_RESUMED => Self::FlowMonitorResumed,
            ROLE_STATUS => Self::RoleStatus(RoleStatus::decode(body)?),
            BUNDLE_CONTROL => Self::BundleControl(BundleControl::decode(body)?),
            BUNDLE_ADD => Self::BundleAdd(BundleAdd::decode(body)?),
            REQUEST_FORWARD => Self::RequestForward(Box::new(EmbeddedMessage::decode(body)?)),
            _ => return Ok(None),
        }))
    }

    /// Writes what follows the header of the message.
    pub(crate) fn encode(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        if version != Version::V1_3 {
            return Err(EncodeError::not_in(version, self.name()));
        }
        out.put_u32(ONF);
        out.put_u32(self.exp_type());
        match self {
            Self::FlowMonitorCancel(id) => out.put_u32(*id),
            Self::FlowMonitorPaused | Self::FlowMonitorResumed => {}
            Self::RoleStatus(status) => status.encode(out)?,
            Self::BundleControl(control) => control.encode(out)?,
            Self::BundleAdd(add) => add.encode(version, out)?,
            Self::RequestForward(request) => request.message.encode(version, request.xid, out)?,
        }
        Ok(())
    }

    /// Number of the message among ONF's.
    pub fn exp_type(&self) -> u32 {
        match self {
            Self::FlowMonitorCancel(_) => FLOW_MONITOR_CANCEL,
            Self::FlowMonitorPaused => FLOW_MONITOR_PAUSED,
            Self::FlowMonitorResumed => FLOW_MONITOR_RESUMED,
            Self::RoleStatus(_) => ROLE_STATUS,
            Self::BundleControl(_) => BUNDLE_CONTROL,
            Self::BundleAdd(_) => BUNDLE_ADD,
            Self::RequestForward(_) => REQUEST_FORWARD,
        }
    }

    /// Name of the message.
    pub fn name(&self) -> &'static str {
        match self {
            Self::FlowMonitorCancel(_) => "ONFT_FLOW_MONITOR_CANCEL",
            Self::FlowMonitorPaused => "ONFT_FLOW_MONITOR_PAUSED",
            Self::FlowMonitorResumed => "ONFT_FLOW_MONITOR_RESUMED",
            Self::RoleStatus(_) => "ONFT_ROLE_STATUS",
            Self::BundleControl(_) => "ONFT_BUNDLE_CONTROL",
            Self::BundleAdd(_) => "ONFT_BUNDLE_ADD_MESSAGE",
            Self::RequestForward(_) => "ONFT_REQUESTFORWARD",
        }
    }
}

impl RoleStatus {
    fn decode(body: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let role = Role::decode(body)?;
        let reason = body.u8("reason")?;
        body.pad(3)?;
        let generation_id = body.u64("generation_id")?;
        Ok(Self { role, reason, generation_id, properties: read_all(body, RawProperty::decode)? })
    }

    fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.put_u32(self.role.to_wire());
        out.put_u8(self.reason);
        out.zeros(3);
        out.put_u64(self.generation_id);
        self.properties.iter().try_for_each(|property| property.encode(out))
    }
}

impl BundleControl {
    /// A control message without properties.
    pub fn new(bundle_id: u32, kind: BundleControlKind, flags: BundleFlags) -> Self {
        Self { bundle_id, kind, flags, properties: Vec::new() }
    }

    fn decode(body: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let bundle_id = body.u32("bundle_id")?;
        let number = body.u16("type")?;
        let Some(kind) = KINDS.get(usize::from(number)).copied() else {
            return Err(body.bad_value("type", 2, number, bundle_error(BAD_TYPE)));
        };
        let flags = BundleFlags(body.u16("flags")?);
        Ok(Self { bundle_id, kind, flags, properties: read_all(body, RawProperty::decode)? })
    }

    fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let number =
            KINDS.iter().zip(0..).find(|(kind, _)| **kind == self.kind).map_or(0, |(_, number)| number);
        out.put_u32(self.bundle_id);
        out.put_u16(number);
        out.put_u16(self.flags.0);
        self.properties.iter().try_for_each(|property| property.encode(out))
    }
}

/// `OFPBFC_BAD_TYPE` of the extension.
const BAD_TYPE: u16 = 2306;

fn bundle_error(exp_type: u16) -> ErrorKind {
    ErrorKind::Experimenter { exp_type, experimenter: ONF }
}

impl BundleAdd {
    /// Adds a message under the transaction id of the message around it.
    pub fn new(bundle_id: u32, flags: BundleFlags, xid: Xid, message: Message) -> Self {
        let message = Box::new(EmbeddedMessage { xid, message });
        Self { bundle_id, flags, message, properties: Vec::new() }
    }

    fn decode(body: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let bundle_id = body.u32("bundle_id")?;
        body.pad(2)?;
        let flags = BundleFlags(body.u16("flags")?);
        let before = body.remaining();
        let message = Box::new(EmbeddedMessage::decode(body)?);
        if !body.is_empty() {
            let padding = pad8(before - body.remaining());
            if body.remaining() <= padding {
                // Without properties there is no padding.
                body.finish()?;
            }
            body.pad(padding)?;
        }
        Ok(Self { bundle_id, flags, message, properties: read_all(body, RawProperty::decode)? })
    }

    fn encode(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.put_u32(self.bundle_id);
        out.zeros(2);
        out.put_u16(self.flags.0);
        let start = out.len();
        self.message.message.encode(version, self.message.xid, out)?;
        if !self.properties.is_empty() {
            out.zeros(pad8(out.len() - start));
        }
        self.properties.iter().try_for_each(|property| property.encode(out))
    }
}

impl EmbeddedMessage {
    /// Reads a message of the version of the message around it; what follows it stays.
    fn decode(body: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let at = body.offset();
        let mut header = body.clone();
        let version = header.u8("message.version")?;
        if version != body.version().to_wire() {
            let problem = Problem::BadValue(u64::from(version));
            return Err(body.error("message.version", at, problem, ErrorKind::BadRequestBadVersion));
        }
        header.u8("message.type")?;
        let length = usize::from(header.u16("message.length")?);
        let bytes = body.clone().nested("message")?.sub(length, "message")?;
        body.take(length, "message")?;
        let (xid, message) = Message::decode_embedded(bytes).map_err(|mut error| {
            error.offset += at;
            error
        })?;
        Ok(Self { xid, message })
    }
}
