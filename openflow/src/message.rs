//! The message: header, type, and the family that decodes and encodes the rest.

use crate::kind::Kind;
use crate::wire::{Reader, Wire};
use crate::{
    AsyncConfig, DecodeError, EncodeError, ErrorKind, ErrorMsg, Experimenter, FeaturesReply, FlowMod,
    FlowRemoved, GroupMod, Hello, MeterMod, MultipartReply, MultipartRequest, NICIRA, NiciraMsg, ONF, OnfMsg,
    PacketIn, PacketOut, PortMod, PortNo, PortStatus, Problem, QueueConfig, RoleMsg, SwitchConfig, TableMod,
    Version, Xid, hello, queue,
};

/// One OpenFlow message, the same for all versions where its meaning is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub enum Message {
    /// First message of both sides (1.0: 5.5.1, 1.3: 7.5.1).
    Hello(Hello),
    /// A refusal or failure (1.0: 5.4.4, 1.3: 7.4.4).
    Error(ErrorMsg),
    /// Asks whether the peer is alive; the bytes come back (1.0: 5.5.2, 1.3: 7.5.2).
    EchoRequest(#[cfg_attr(feature = "serde", serde(serialize_with = "crate::shown::hex"))] Vec<u8>),
    /// Answer with the request's bytes (1.0: 5.5.3, 1.3: 7.5.3).
    EchoReply(#[cfg_attr(feature = "serde", serde(serialize_with = "crate::shown::hex"))] Vec<u8>),
    /// A message of Nicira's extensions.
    Nicira(NiciraMsg),
    /// A message of ONF's extensions (1.3).
    Onf(OnfMsg),
    /// A message of another experimenter (vendor in 1.0), kept as it came (1.0: 5.5.4, 1.3: 7.5.4).
    Experimenter(Experimenter),
    /// Asks for [`Message::FeaturesReply`] (1.0: 5.3.1, 1.3: 7.3.1).
    FeaturesRequest,
    /// Who the switch is (1.0: 5.3.1, 1.3: 7.3.1).
    FeaturesReply(FeaturesReply),
    /// Asks for [`Message::GetConfigReply`] (1.0: 5.3.2, 1.3: 7.3.2).
    GetConfigRequest,
    /// The switch's configuration (1.0: 5.3.2, 1.3: 7.3.2).
    GetConfigReply(SwitchConfig),
    /// Configures the switch (1.0: 5.3.2, 1.3: 7.3.2).
    SetConfig(SwitchConfig),
    /// A packet for the controller (1.0: 5.4.1, 1.3: 7.4.1).
    PacketIn(PacketIn),
    /// A flow entry went (1.0: 5.4.2, 1.3: 7.4.2).
    FlowRemoved(FlowRemoved),
    /// A port came, went or changed (1.0: 5.4.3, 1.3: 7.4.3).
    PortStatus(PortStatus),
    /// A packet for the switch to send (1.0: 5.3.6, 1.3: 7.3.7).
    PacketOut(PacketOut),
    /// Adds, changes or deletes flow entries (1.0: 5.3.3, 1.3: 7.3.4.1).
    FlowMod(FlowMod),
    /// Changes a port (1.0: 5.3.3, 1.3: 7.3.4.3).
    PortMod(PortMod),
    /// Asks for statistics or descriptions (1.0: 5.3.5, 1.3: 7.3.5).
    MultipartRequest(MultipartRequest),
    /// Statistics or descriptions (1.0: 5.3.5, 1.3: 7.3.5).
    MultipartReply(MultipartReply),
    /// Asks for an answer once all before is done (1.0: 5.3.7, 1.3: 7.3.8).
    BarrierRequest,
    /// All before is done (1.0: 5.3.7, 1.3: 7.3.8).
    BarrierReply,
    /// Asks for a role (1.3: 7.3.9).
    RoleRequest(RoleMsg),
    /// The role in force (1.3: 7.3.9).
    RoleReply(RoleMsg),
    /// Adds, changes or deletes a group (1.3: 7.3.4.2).
    GroupMod(GroupMod),
    /// Configures a table (1.3: 7.3.3).
    TableMod(TableMod),
    /// Adds, changes or deletes a meter (1.3: 7.3.4.4).
    MeterMod(MeterMod),
    /// Asks for the queues of a port (1.0: 5.3.4, 1.3: 7.3.6).
    QueueGetConfigRequest(PortNo),
    /// The queues of a port (1.0: 5.3.4, 1.3: 7.3.6).
    QueueGetConfigReply(QueueConfig),
    /// Asks which asynchronous messages come (1.3: 7.3.10).
    GetAsyncRequest,
    /// Which asynchronous messages come (1.3: 7.3.10).
    GetAsyncReply(AsyncConfig),
    /// Chooses which asynchronous messages come (1.3: 7.3.10).
    SetAsync(AsyncConfig),
}

impl Message {
    /// Decodes one whole message, as [`crate::Framer`] gives it.
    ///
    /// # Errors
    /// Names the message, field and offset, and the error to answer with. A version that this codec does not
    /// speak is an error here; see [`Message::decode_hello`].
    pub fn decode(bytes: &[u8]) -> Result<(Version, Xid, Self), DecodeError> {
        Self::decode_at(bytes, 0)
    }

    /// Decodes a message that lies in another one, all that the reader has.
    pub(crate) fn decode_embedded(mut reader: Reader<'_>) -> Result<(Xid, Self), DecodeError> {
        let nesting = reader.nesting();
        Self::decode_at(reader.rest(), nesting).map(|(_, xid, message)| (xid, message))
    }

    fn decode_at(bytes: &[u8], nesting: u8) -> Result<(Version, Xid, Self), DecodeError> {
        let header = Header::decode(bytes)?;
        let version = header.version.ok_or_else(|| {
            let problem = Problem::BadValue(u64::from(header.version_byte));
            header.body.error("version", 0, problem, ErrorKind::BadRequestBadVersion)
        })?;
        let mut body = header.body.at_nesting(nesting);
        let message = Self::decode_body(header.kind, version, &mut body)?;
        body.finish()?;
        Ok((version, header.xid, message))
    }

    /// Decodes a HELLO of any version, also one that this codec does not speak; gives its version byte.
    ///
    /// # Errors
    /// The message is no HELLO, or its header's length is not that of `bytes`.
    pub fn decode_hello(bytes: &[u8]) -> Result<(u8, Xid, Hello), DecodeError> {
        let mut header = Header::decode(bytes)?;
        if header.kind != HELLO_BYTE {
            let problem = Problem::BadValue(u64::from(header.kind));
            return Err(header.body.error("type", 1, problem, ErrorKind::BadRequestBadType));
        }
        Ok((header.version_byte, header.xid, hello::decode(&mut header.body)))
    }

    /// Appends this message to `out`; `out` is unchanged when there is an error.
    ///
    /// # Errors
    /// Names what the version cannot express, or what is too long.
    pub fn encode(&self, version: Version, xid: Xid, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let start = out.len();
        let result = self.try_encode(version, xid, out);
        if result.is_err() {
            out.truncate(start);
        }
        result
    }

    /// Name of the message, as in error texts and logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Nicira(message) => message.name(),
            Self::Onf(message) => message.name(),
            other => other.kind().name(),
        }
    }

    /// Whether all of it is taken apart; false for what an unknown experimenter defines.
    pub fn is_typed(&self) -> bool {
        match self {
            Self::Experimenter(_) => false,
            Self::MultipartRequest(request) => request.is_typed(),
            Self::MultipartReply(reply) => reply.is_typed(),
            _ => true,
        }
    }

    fn decode_body(byte: u8, version: Version, body: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let Some((kind, _)) = Kind::from_wire(version, byte) else {
            let problem = Problem::BadValue(u64::from(byte));
            return Err(body.error("type", 1, problem, ErrorKind::BadRequestBadType));
        };
        Ok(match kind {
            Kind::Hello => Self::Hello(hello::decode(body)),
            Kind::Error => Self::Error(ErrorMsg::decode(body)?),
            Kind::EchoRequest => Self::EchoRequest(body.rest().to_vec()),
            Kind::EchoReply => Self::EchoReply(body.rest().to_vec()),
            Kind::Experimenter => Self::decode_experimenter(body)?,
            Kind::FeaturesRequest => Self::FeaturesRequest,
            Kind::FeaturesReply => Self::FeaturesReply(FeaturesReply::decode(body)?),
            Kind::GetConfigRequest => Self::GetConfigRequest,
            Kind::GetConfigReply => Self::GetConfigReply(SwitchConfig::decode(body)?),
            Kind::SetConfig => Self::SetConfig(SwitchConfig::decode(body)?),
            Kind::PacketIn => Self::PacketIn(PacketIn::decode(body)?),
            Kind::FlowRemoved => Self::FlowRemoved(FlowRemoved::decode(body)?),
            Kind::PortStatus => Self::PortStatus(PortStatus::decode(body)?),
            Kind::PacketOut => Self::PacketOut(PacketOut::decode(body)?),
            Kind::FlowMod => Self::FlowMod(FlowMod::decode(body)?),
            Kind::PortMod => Self::PortMod(PortMod::decode(body)?),
            Kind::MultipartRequest => Self::MultipartRequest(MultipartRequest::decode(body)?),
            Kind::MultipartReply => Self::MultipartReply(MultipartReply::decode(body)?),
            Kind::BarrierRequest => Self::BarrierRequest,
            Kind::BarrierReply => Self::BarrierReply,
            Kind::RoleRequest => Self::RoleRequest(RoleMsg::decode(body)?),
            Kind::RoleReply => Self::RoleReply(RoleMsg::decode(body)?),
            Kind::GroupMod => Self::GroupMod(GroupMod::decode(body)?),
            Kind::TableMod => Self::TableMod(TableMod::read(body, "table_mod")?),
            Kind::MeterMod => Self::MeterMod(MeterMod::decode(body)?),
            Kind::QueueGetConfigRequest => Self::QueueGetConfigRequest(queue::decode_request(body)?),
            Kind::QueueGetConfigReply => Self::QueueGetConfigReply(QueueConfig::decode(body)?),
            Kind::GetAsyncRequest => Self::GetAsyncRequest,
            Kind::GetAsyncReply => Self::GetAsyncReply(AsyncConfig::read(body, "masks")?),
            Kind::SetAsync => Self::SetAsync(AsyncConfig::read(body, "masks")?),
        })
    }

    fn decode_experimenter(body: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let whole = body.clone();
        let (experimenter, exp_type) = (body.u32("experimenter")?, body.u32("exp_type").ok());
        let known = match (experimenter, exp_type) {
            (NICIRA, Some(subtype)) => NiciraMsg::decode(subtype, body)?.map(Self::Nicira),
            (ONF, Some(exp_type)) if body.version() == Version::V1_3 => {
                OnfMsg::decode(exp_type, body)?.map(Self::Onf)
            }
            _ => None,
        };
        if let Some(known) = known {
            return Ok(known);
        }
        *body = whole;
        Experimenter::decode(body).map(Self::Experimenter)
    }

    fn kind(&self) -> Kind {
        match self {
            Self::Hello(_) => Kind::Hello,
            Self::Error(_) => Kind::Error,
            Self::EchoRequest(_) => Kind::EchoRequest,
            Self::EchoReply(_) => Kind::EchoReply,
            Self::Nicira(_) | Self::Onf(_) | Self::Experimenter(_) => Kind::Experimenter,
            Self::FeaturesRequest => Kind::FeaturesRequest,
            Self::FeaturesReply(_) => Kind::FeaturesReply,
            Self::GetConfigRequest => Kind::GetConfigRequest,
            Self::GetConfigReply(_) => Kind::GetConfigReply,
            Self::SetConfig(_) => Kind::SetConfig,
            Self::PacketIn(_) => Kind::PacketIn,
            Self::FlowRemoved(_) => Kind::FlowRemoved,
            Self::PortStatus(_) => Kind::PortStatus,
            Self::PacketOut(_) => Kind::PacketOut,
            Self::FlowMod(_) => Kind::FlowMod,
            Self::PortMod(_) => Kind::PortMod,
            Self::MultipartRequest(_) => Kind::MultipartRequest,
            Self::MultipartReply(_) => Kind::MultipartReply,
            Self::BarrierRequest => Kind::BarrierRequest,
            Self::BarrierReply => Kind::BarrierReply,
            Self::RoleRequest(_) => Kind::RoleRequest,
            Self::RoleReply(_) => Kind::RoleReply,
            Self::GroupMod(_) => Kind::GroupMod,
            Self::TableMod(_) => Kind::TableMod,
            Self::MeterMod(_) => Kind::MeterMod,
            Self::QueueGetConfigRequest(_) => Kind::QueueGetConfigRequest,
            Self::QueueGetConfigReply(_) => Kind::QueueGetConfigReply,
            Self::GetAsyncRequest => Kind::GetAsyncRequest,
            Self::GetAsyncReply(_) => Kind::GetAsyncReply,
            Self::SetAsync(_) => Kind::SetAsync,
        }
    }

    fn try_encode(&self, version: Version, xid: Xid, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.kind().encode_with(version, xid, out, |out| self.encode_body(version, out))
    }

    fn encode_body(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match self {
            Self::FeaturesRequest
            | Self::GetConfigRequest
            | Self::BarrierRequest
            | Self::BarrierReply
            | Self::GetAsyncRequest => {}
            Self::EchoRequest(body) | Self::EchoReply(body) => out.extend_from_slice(body),
            Self::Nicira(message) => message.encode(version, out)?,
            Self::Onf(message) => message.encode(version, out)?,
            Self::GroupMod(group_mod) => group_mod.encode(version, out)?,
            Self::TableMod(table_mod) => table_mod.put(version, out)?,
            Self::MeterMod(meter_mod) => meter_mod.encode(version, out)?,
            Self::QueueGetConfigRequest(port) => queue::encode_request(*port, version, out)?,
            Self::QueueGetConfigReply(config) => config.encode(version, out)?,
            Self::GetAsyncReply(config) | Self::SetAsync(config) => config.put(version, out)?,
            Self::GetConfigReply(config) | Self::SetConfig(config) => config.encode(out),
            Self::RoleRequest(role) | Self::RoleReply(role) => role.encode(out),
            Self::Hello(hello) => hello::encode(hello, out)?,
            Self::Error(error) => error.encode(version, out)?,
            Self::Experimenter(experimenter) => experimenter.encode(version, out)?,
            Self::FeaturesReply(features) => features.encode(version, out)?,
            Self::PacketIn(packet_in) => packet_in.encode(version, out)?,
            Self::FlowRemoved(removed) => removed.encode(version, out)?,
            Self::PortStatus(status) => status.encode(version, out)?,
            Self::PacketOut(packet_out) => packet_out.encode(version, out)?,
            Self::FlowMod(flow_mod) => flow_mod.encode(version, out)?,
            Self::PortMod(port_mod) => port_mod.encode(version, out)?,
            Self::MultipartRequest(request) => request.encode(version, out)?,
            Self::MultipartReply(reply) => reply.encode(version, out)?,
        }
        Ok(())
    }
}

/// A hello's type byte, in all versions there are.
const HELLO_BYTE: u8 = 0;

/// The header that all messages of all versions share, and what follows it.
pub(crate) struct Header<'a> {
    pub(crate) version_byte: u8,
    pub(crate) version: Option<Version>,
    pub(crate) kind: u8,
    xid: Xid,
    pub(crate) body: Reader<'a>,
}

impl<'a> Header<'a> {
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let version_byte = bytes.first().copied().unwrap_or(0);
        let version = Version::from_wire(version_byte);
        let speaking = version.unwrap_or(Version::V1_0);
        let kind = bytes.get(1).copied().unwrap_or(0);
        let name = match version.map(|version| Kind::from_wire(version, kind)) {
            Some(Some((_, name))) => name,
            Some(None) => "message of unknown type",
            None => "message of unknown version",
        };
        let mut body = Reader::new(bytes, speaking, name);
        body.take(2, "version")?;
        let length = usize::from(body.u16("length")?);
        let xid = Xid(body.u32("xid")?);
        if length != bytes.len() {
            let problem = Problem::BadLength(length);
            return Err(body.error("length", 2, problem, ErrorKind::BadRequestBadLen));
        }
        Ok(Self { version_byte, version, kind, xid, body })
    }
}
