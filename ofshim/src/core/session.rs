//! One switch's connection, from its hello to its end.
//!
//! ```text
//!   Hello --hello--> Features --features reply--> Named --nobody else is that switch--> Asking --> Ready
//!
//!   Asking: (role, if one is asked for) --> ports (1.3) --> entries --> bundle (1.3, where known) --> barrier
//! ```
//!
//! Each arrow sends the next request. A connection that is not Ready in time is closed, as is one that is silent for
//! too long, one whose bytes are no OpenFlow, and one that speaks another version than agreed. What concerns more than
//! this switch is [`Raised`] to the controller.

use std::time::Duration;

use openflow::{
    ErrorKind, ErrorMsg, FlowRemoved, FrameError, FrameRef, Framer, GroupId, Hello, Message, NiciraMsg,
    OnfMsg, PacketInRef, Port, PortNo, PortStats, PortStatus, Role, Version, Xid,
};

use super::balance::proactive::{self, FoundStanding};
use super::cookie::{self, Purpose, Sequence};
use super::event::{Command, ConnId, Level};
use super::link::{Context, Link};
use super::net::FoundRoute;
use super::report::LogKey;
use super::requests::Requests;
use super::switch::Switch;

mod handshake;
mod role;

/// How long a handshake may take.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// Silence after which the switch is asked whether it is alive: before Open vSwitch asks (5 s).
const ECHO_AFTER: Duration = Duration::from_secs(2);
/// A switch that talks is asked once in this time all the same, to know how long messages take.
const MEASURE_EVERY: Duration = Duration::from_secs(10);
/// Silence after which it is given up: before Open vSwitch gives up (10 s).
const DEAD_AFTER: Duration = Duration::from_secs(8);
/// Bytes of a refused message that the answer quotes (1.3, 7.4.4: at least 64).
const QUOTED_BYTES: usize = 64;
/// Wire type of HELLO, the same in every version.
const TYPE_HELLO: u8 = 0;

/// How far the handshake is.
#[derive(Debug, PartialEq, Eq)]
enum Stage {
    Hello,
    Features,
    /// It told who it is, and may go on once nobody else is that.
    Named,
    /// It is asked for one thing after the other.
    Asking,
    Ready,
    Closed,
}

/// One switch's connection.
#[derive(Debug)]
pub struct Session {
    link: Link,
    framer: Framer,
    stage: Stage,
    since: Duration,
    heard: Duration,
    /// When an echo request was sent that is not answered yet.
    asked: Option<Duration>,
    measured: Duration,
    switch: Option<Switch>,
    /// The role of this controller, as far as it is known.
    role: Role,
    /// What it was asked and has not answered yet.
    requests: Requests,
    /// The last bundle.
    bundle: u32,
    /// Whether it takes several changes together (ONF EXT-230).
    knows_bundles: bool,
    /// The entries of routes that the switch listed.
    found: Vec<FoundRoute>,
    /// The standing entries that it listed.
    standing: FoundStanding,
    /// The groups that it has listed until now.
    groups: Vec<GroupId>,
}

/// What a session tells the controller.
#[derive(Debug)]
pub enum Raised<'a> {
    /// It told who it is, and waits to go on.
    Named,
    /// Its handshake is done; the entries of routes and the standing entries that it has.
    Ready(Vec<FoundRoute>, FoundStanding),
    /// All groups that it has.
    Groups(Vec<GroupId>),
    /// It has no groups, or cannot forget connections.
    CannotTrack,
    /// A packet came.
    PacketIn(PacketInRef<'a>),
    /// A port came, changed or went (`None`).
    Port(PortNo, Option<Port>),
    /// An entry of a route went.
    Removed(Purpose, Box<FlowRemoved>, Sequence),
    /// An entry of a route, of the way of answers, or of a balanced connection was refused.
    Refused(Purpose, Sequence),
    /// All before a barrier is done.
    Confirmed(u64),
    /// The counters of ports, or of a part of them.
    PortStats(Vec<PortStats>),
    /// An echo was answered after so long.
    RoundTrip(Duration),
}

/// Why a connection is closed, and the error that the switch is told first.
struct Refusal {
    reason: String,
    answer: Option<(ErrorKind, Xid, Vec<u8>)>,
}

impl Refusal {
    fn silent(reason: String) -> Self {
        Self { reason, answer: None }
    }

    fn of_frame(frame: &FrameRef<'_>, kind: ErrorKind, reason: String) -> Self {
        let quoted = frame.bytes.iter().copied().take(QUOTED_BYTES).collect();
        Self { reason, answer: Some((kind, frame.xid, quoted)) }
    }
}

impl Session {
    /// A new connection: sends our hello.
    pub fn new(conn: ConnId, peer: String, ctx: &mut Context<'_>) -> Self {
        let version = ctx.settings.versions.iter().copied().max().unwrap_or(Version::V1_3);
        let mut link = Link::new(conn, peer, version);
        // 1.0 has a hello without elements (5.5.1).
        let hello = match version {
            Version::V1_0 => Hello::default(),
            Version::V1_3 => Hello::offering(&ctx.settings.versions),
        };
        link.send(&Message::Hello(hello), ctx);
        ctx.log(Level::Debug, format!("{} connected", link.peer));
        Self {
            link,
            framer: Framer::new(),
            stage: Stage::Hello,
            since: ctx.now,
            heard: ctx.now,
            asked: None,
            measured: ctx.now,
            switch: None,
            role: Role::Equal,
            requests: Requests::default(),
            bundle: 1,
            knows_bundles: false,
            found: Vec::new(),
            standing: FoundStanding::default(),
            groups: Vec::new(),
        }
    }

    /// The switch, once it told who it is.
    #[must_use]
    pub const fn switch(&self) -> Option<&Switch> {
        self.switch.as_ref()
    }

    /// Whether the handshake is done.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.stage == Stage::Ready
    }

    /// Whether this side gave the connection up.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.stage == Stage::Closed
    }

    /// Connection, peer and version.
    #[must_use]
    pub const fn link(&self) -> &Link {
        &self.link
    }

    /// When it connected.
    #[must_use]
    pub const fn since(&self) -> Duration {
        self.since
    }

    /// How messages name the switch: by datapath id once it is known, and where it came from.
    #[must_use]
    pub fn name(&self) -> String {
        match &self.switch {
            Some(switch) => format!("switch {} ({})", switch.dpid(), self.link.peer),
            None => self.link.peer.clone(),
        }
    }

    /// The switch and the way to it, to send messages.
    pub fn parts(&mut self) -> Option<(&mut Switch, &mut Link)> {
        Some((self.switch.as_mut()?, &mut self.link))
    }

    /// Takes bytes of the switch. The messages in them are in the framer that this lends, until it is given back.
    pub fn feed(&mut self, bytes: &[u8], ctx: &mut Context<'_>) -> Framer {
        self.heard = ctx.now;
        if let Err(error) = self.framer.push(bytes) {
            self.close(Refusal::silent(error.to_string()), ctx);
        }
        std::mem::take(&mut self.framer)
    }

    /// Gives back what [`Self::feed`] lent.
    pub fn give_back(&mut self, framer: Framer) {
        self.framer = framer;
    }

    /// Handles a message of the switch, or the end of what can be followed; what concerns the controller.
    pub fn handle<'a>(
        &mut self,
        frame: Result<FrameRef<'a>, FrameError>,
        ctx: &mut Context<'_>,
    ) -> Option<Raised<'a>> {
        if self.is_closed() {
            return None;
        }
        let handled = match frame {
            Ok(frame) => self.frame(&frame, ctx),
            Err(error) => Err(unfollowable(&error)),
        };
        match handled {
            Ok(raised) => raised,
            Err(refusal) => {
                self.close(refusal, ctx);
                None
            }
        }
    }

    /// Asks whether the switch is alive.
    pub fn ask(&mut self, ctx: &mut Context<'_>) {
        if self.asked.is_none() {
            self.asked = Some(ctx.now);
            self.link.send(&Message::EchoRequest(Vec::new()), ctx);
        }
    }

    /// Handles the passing of time.
    pub fn tick(&mut self, ctx: &mut Context<'_>) {
        let silent = ctx.now.saturating_sub(self.heard);
        if !self.is_ready() && ctx.now.saturating_sub(self.since) >= HANDSHAKE_LIMIT {
            let reason = format!("its handshake was not done within {} s", HANDSHAKE_LIMIT.as_secs());
            return self.close(Refusal::silent(reason), ctx);
        }
        if self.is_ready() && silent >= DEAD_AFTER {
            let reason = format!("it was silent for {} s", DEAD_AFTER.as_secs());
            return self.close(Refusal::silent(reason), ctx);
        }
        let measure = ctx.now.saturating_sub(self.measured) >= MEASURE_EVERY;
        if self.is_ready() && (silent >= ECHO_AFTER || measure) {
            self.measured = ctx.now;
            self.ask(ctx);
        }
        if let Err(refusal) = self.give_up(ctx) {
            return self.close(refusal, ctx);
        }
        if self.is_ready()
            && let Some(switch) = &mut self.switch
        {
            switch.tick(ctx);
        }
    }

    /// Handles a change of what is known of the balancer.
    pub fn knowledge_changed(&mut self, ctx: &mut Context<'_>) {
        if self.is_ready()
            && let Some(switch) = &mut self.switch
        {
            switch.knowledge_changed(&mut self.link, ctx);
        }
    }

    /// Closes the connection because of something outside of it.
    pub fn close_because(&mut self, reason: &str, ctx: &mut Context<'_>) {
        self.close(Refusal::silent(reason.to_owned()), ctx);
    }

    /// The connection is gone: nothing is sent any more.
    pub fn forget(&mut self) {
        self.stage = Stage::Closed;
    }

    fn close(&mut self, refusal: Refusal, ctx: &mut Context<'_>) {
        if let Some((kind, xid, data)) = refusal.answer {
            // 1.0 lacks most of the error types; "bad type" is in both.
            let known = kind.to_wire(self.link.version).is_some();
            let kind = if known { kind } else { ErrorKind::BadRequestBadType };
            self.link.send_as(&Message::Error(ErrorMsg { kind, data }), xid, ctx);
        }
        let name = self.name();
        ctx.log(Level::Warn, format!("{name}: connection closed: {}", refusal.reason));
        ctx.commands.push(Command::Close { conn: self.link.conn });
        self.stage = Stage::Closed;
    }

    fn frame<'a>(
        &mut self,
        frame: &FrameRef<'a>,
        ctx: &mut Context<'_>,
    ) -> Result<Option<Raised<'a>>, Refusal> {
        self.link.messages.receive(frame.kind);
        if self.stage == Stage::Hello {
            return self.hello(frame, ctx).map(|()| None);
        }
        if frame.kind == TYPE_HELLO {
            return Ok(None);
        }
        if frame.version != self.link.version.to_wire() {
            let reason =
                format!("a message has wire version {}, agreed was {}", frame.version, self.link.version);
            return Err(Refusal::of_frame(frame, ErrorKind::BadRequestBadVersion, reason));
        }
        let rubbish = |error: openflow::DecodeError| {
            Refusal::of_frame(frame, error.error_kind(), format!("sent rubbish: {error}"))
        };
        if let Some(packet) = frame.packet_in().map_err(rubbish)? {
            return Ok(self.packet_in(packet, ctx));
        }
        let (_, xid, message) = frame.decode().map_err(rubbish)?;
        self.message(frame, xid, message, ctx)
    }

    /// A packet counts once the handshake is done; before that it is only let go of.
    fn packet_in<'a>(&mut self, packet: PacketInRef<'a>, ctx: &mut Context<'_>) -> Option<Raised<'a>> {
        if self.is_ready() {
            return Some(Raised::PacketIn(packet));
        }
        if let Some(switch) = &mut self.switch {
            switch.free_buffer(&packet, &mut self.link, ctx);
        }
        None
    }

    /// The first message: has to be a hello with a version in common (1.3, 6.3.1).
    fn hello(&mut self, frame: &FrameRef<'_>, ctx: &mut Context<'_>) -> Result<(), Refusal> {
        // An answer is in a version that the other side may know; 1.0 is the one that every side has an error for.
        self.link.version = Version::from_wire(frame.version).unwrap_or(Version::V1_0);
        if frame.kind != TYPE_HELLO {
            let reason = format!("its first message has type {}, a hello has to come first", frame.kind);
            return Err(Refusal {
                answer: Some((ErrorKind::HelloIncompatible, frame.xid, reason.clone().into_bytes())),
                reason,
            });
        }
        let (version, _, hello) = Message::decode_hello(frame.bytes).map_err(|error| {
            Refusal::of_frame(frame, error.error_kind(), format!("sent rubbish: {error}"))
        })?;
        let Some(agreed) = hello.negotiate(version, &ctx.settings.versions) else {
            let ours: Vec<String> = ctx.settings.versions.iter().map(Version::to_string).collect();
            let ours = ours.join(" and ");
            let text = format!("no common version: this controller speaks OpenFlow {ours}");
            let reason = format!("no common version: it has wire version {version}, here is OpenFlow {ours}");
            return Err(Refusal {
                reason,
                answer: Some((ErrorKind::HelloIncompatible, frame.xid, text.into_bytes())),
            });
        };
        self.link.version = agreed;
        self.link.send(&Message::FeaturesRequest, ctx);
        self.stage = Stage::Features;
        Ok(())
    }

    fn message(
        &mut self,
        frame: &FrameRef<'_>,
        xid: Xid,
        message: Message,
        ctx: &mut Context<'_>,
    ) -> Result<Option<Raised<'static>>, Refusal> {
        if let Message::Error(error) = &message {
            self.check_role(error, ctx)?;
        }
        match message {
            Message::EchoRequest(data) => self.link.send_as(&Message::EchoReply(data), xid, ctx),
            Message::EchoReply(_) => {
                let asked = self.asked.take();
                return Ok(asked.map(|asked| Raised::RoundTrip(ctx.now.saturating_sub(asked))));
            }
            Message::Error(error) if self.refused(xid, &error, ctx)? => {}
            Message::Error(error) => return Ok(self.error(&error, ctx)),
            Message::Onf(OnfMsg::BundleControl(control)) => self.bundle_control(xid, control.kind, ctx),
            Message::RoleReply(granted) => return self.granted(xid, granted.role, ctx).map(|()| None),
            Message::Nicira(NiciraMsg::RoleReply(granted)) => {
                return self.granted(xid, granted, ctx).map(|()| None);
            }
            Message::Onf(OnfMsg::RoleStatus(status)) => self.role_changed(&status, ctx)?,
            Message::FeaturesReply(features) if self.stage == Stage::Features => {
                return self.features(features).map(Some);
            }
            Message::MultipartReply(reply) => return Ok(self.multipart(xid, reply, ctx)),
            Message::BarrierReply => return Ok(self.barrier(xid, ctx)),
            Message::FlowRemoved(removed) => return Ok(self.removed(removed, ctx)),
            Message::PortStatus(status) => return Ok(self.port_status(status, ctx)),
            Message::FeaturesRequest
            | Message::GetConfigRequest
            | Message::SetConfig(_)
            | Message::PacketOut(_)
            | Message::FlowMod(_)
            | Message::PortMod(_)
            | Message::MultipartRequest(_)
            | Message::BarrierRequest
            | Message::GroupMod(_)
            | Message::TableMod(_)
            | Message::MeterMod(_)
            | Message::QueueGetConfigRequest(_)
            | Message::GetAsyncRequest
            | Message::SetAsync(_)
            | Message::RoleRequest(_) => {
                let reason = format!("sent a message of type {} that only controllers send", frame.kind);
                return Err(Refusal::of_frame(frame, ErrorKind::BadRequestBadType, reason));
            }
            Message::Hello(_)
            | Message::Experimenter(_)
            | Message::FeaturesReply(_)
            | Message::GetConfigReply(_)
            | Message::Nicira(_)
            | Message::Onf(_)
            | Message::QueueGetConfigReply(_)
            | Message::PacketIn(_)
            | Message::GetAsyncReply(_) => {}
        }
        Ok(None)
    }

    fn removed(&mut self, removed: FlowRemoved, ctx: &mut Context<'_>) -> Option<Raised<'static>> {
        let (purpose, sequence) = cookie::read(removed.cookie)?;
        self.switch.as_mut()?.flow_removed(&removed, &mut self.link, ctx);
        use Purpose::{Ahead, Balance, Pinned, Route, Standing, Steer, Watch};
        let route = matches!(purpose, Route | Ahead | Steer | Pinned | Balance | Standing | Watch);
        (route && self.is_ready()).then(|| Raised::Removed(purpose, Box::new(removed), sequence))
    }

    fn port_status(&mut self, status: PortStatus, ctx: &mut Context<'_>) -> Option<Raised<'static>> {
        let number = status.port.port_no;
        let switch = self.switch.as_mut()?;
        switch.port_status(status, &mut self.link, ctx);
        let port = switch.ports().get(&number).cloned();
        self.is_ready().then_some(Raised::Port(number, port))
    }

    fn error(&mut self, error: &ErrorMsg, ctx: &mut Context<'_>) -> Option<Raised<'static>> {
        if ctx.settings.stands() && proactive::is_refused_question(&error.data) {
            return Some(Raised::CannotTrack);
        }
        let name = self.name();
        // A buffer that is freed twice, or that was used before, is no loss.
        if matches!(error.kind, ErrorKind::BadRequestBufferEmpty | ErrorKind::BadRequestBufferUnknown) {
            ctx.log(Level::Debug, format!("{name}: error {}", error.kind));
            return None;
        }
        if let Some(switch) = &mut self.switch {
            switch.refused(error, &self.link, ctx);
        }
        if let Some(left_out) = ctx.limiter.allow(LogKey::SwitchError(self.link.conn, error.kind), ctx.now) {
            let about = match error.kind {
                ErrorKind::HelloIncompatible | ErrorKind::HelloEperm => {
                    format!(": {}", String::from_utf8_lossy(&error.data).escape_debug())
                }
                _ => error
                    .data
                    .get(1)
                    .map_or_else(String::new, |kind| format!(" about our message of type {kind}")),
            };
            ctx.log(
                Level::Warn,
                format!("{name}: error {}{about}{}", error.kind, super::limit::more(left_out)),
            );
        }
        let refused = cookie::of_refused_add(self.link.version, &error.data).and_then(cookie::read);
        refused
            .filter(|(purpose, _)| {
                matches!(purpose, Purpose::Route | Purpose::Steer | Purpose::Pinned | Purpose::Balance)
            })
            .map(|(purpose, sequence)| Raised::Refused(purpose, sequence))
    }
}

/// The refusal of a stream whose next message cannot be found.
fn unfollowable(error: &FrameError) -> Refusal {
    let (xid, quoted) = match error {
        FrameError::ShortLength { header: header @ [_, _, _, _, xid @ ..], .. } => {
            (Xid(u32::from_be_bytes(*xid)), header.to_vec())
        }
        FrameError::Overflow { .. } => (Xid(0), Vec::new()),
    };
    Refusal { reason: format!("sent rubbish: {error}"), answer: Some((error.error_kind(), xid, quoted)) }
}
