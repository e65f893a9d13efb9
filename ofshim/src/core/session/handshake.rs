//! What is asked of a switch, and what follows from its answers: the handshake, bundles and barriers.

use std::time::Duration;

use openflow::{
    BundleAdd, BundleControl, BundleControlKind, BundleFlags, ErrorMsg, FeaturesReply, FlowMod, Message,
    MultipartReply, MultipartRequest, NiciraMsg, OnfMsg, PortNo, ReplyBody, RequestBody, RoleMsg,
    SwitchConfig, Version, Xid,
};

use super::{Raised, Refusal, Session, Stage};
use crate::core::event::{AskedRole, Level};
use crate::core::limit::more;
use crate::core::link::Context;
use crate::core::net::handover::StandBy;
use crate::core::pipeline::Layout;
use crate::core::report::LogKey;
use crate::core::requests::Asked;
use crate::core::switch::Switch;

/// All or nothing, in order.
const BUNDLE: BundleFlags = BundleFlags::ATOMIC.with(BundleFlags::ORDERED);

impl Session {
    /// Sends a request, and notes what it asks.
    fn request(&mut self, message: &Message, asked: Asked, ctx: &mut Context<'_>) {
        let xid = self.link.send(message, ctx);
        self.requests.add(xid, asked, ctx.now);
    }

    pub(super) fn features(&mut self, mut features: FeaturesReply) -> Result<Raised<'static>, Refusal> {
        if features.auxiliary_id != 0 {
            let reason =
                format!("it is auxiliary connection {}; only main ones are served", features.auxiliary_id);
            return Err(Refusal::silent(reason));
        }
        let layout = Layout::of(self.link.version, features.n_tables);
        let ports = features.ports.take().unwrap_or_default();
        self.switch = Some(Switch::new(features.datapath_id, layout, ports));
        self.stage = Stage::Named;
        Ok(Raised::Named)
    }

    /// Goes on with the handshake: nobody else has the switch's datapath id.
    pub fn go_on(&mut self, ctx: &mut Context<'_>) {
        if self.stage != Stage::Named {
            return;
        }
        self.stage = Stage::Asking;
        let Some(AskedRole { role, generation_id }) = ctx.settings.role else {
            return self.ask_for_ports(ctx);
        };
        // 1.0 has roles as an extension, without generations.
        let request = match self.link.version {
            Version::V1_3 => Message::RoleRequest(RoleMsg { role, generation_id }),
            Version::V1_0 => Message::Nicira(NiciraMsg::RoleRequest(role)),
        };
        self.request(&request, Asked::Role, ctx);
    }

    pub(super) fn ask_for_ports(&mut self, ctx: &mut Context<'_>) {
        // Fragments as any packets, which have no ports in a match (1.0, 3.4): balancing relies on seeing each of them.
        let config = SwitchConfig { flags: 0, miss_send_len: 0xffff };
        self.link.send(&Message::SetConfig(config), ctx);
        // Extensions are used for balancing alone.
        if ctx.settings.balancing.is_some() || ctx.settings.stand_by != StandBy::default() {
            let maker = MultipartRequest::from(RequestBody::Desc);
            self.request(&Message::MultipartRequest(maker), Asked::Maker, ctx);
        }
        match self.link.version {
            Version::V1_3 => {
                let request = MultipartRequest::from(RequestBody::PortDesc);
                self.request(&Message::MultipartRequest(request), Asked::Ports, ctx);
            }
            Version::V1_0 => self.ask_for_flows(ctx),
        }
    }

    fn ask_for_flows(&mut self, ctx: &mut Context<'_>) {
        let request = MultipartRequest::from(RequestBody::Flow(openflow::FlowStatsRequest::default()));
        self.request(&Message::MultipartRequest(request), Asked::Flows, ctx);
    }

    /// Asks for the counters of all ports, unless the switch still owes an answer.
    pub fn ask_for_counters(&mut self, ctx: &mut Context<'_>) {
        if self.is_ready() && !self.requests.wait_for_counters() {
            let request = MultipartRequest::from(RequestBody::PortStats(PortNo::ANY));
            self.request(&Message::MultipartRequest(request), Asked::Counters, ctx);
        }
    }

    pub(super) fn multipart(
        &mut self,
        xid: Xid,
        reply: MultipartReply,
        ctx: &mut Context<'_>,
    ) -> Option<Raised<'static>> {
        let last = !reply.more();
        let switch = self.switch.as_mut()?;
        match (self.requests.asked(xid), reply.body) {
            (Some(Asked::Ports), ReplyBody::PortDesc(ports)) => {
                switch.add_ports(ports);
                if last {
                    self.requests.take(xid);
                    self.ask_for_flows(ctx);
                }
            }
            (Some(Asked::Flows), ReplyBody::Flow(flows)) => {
                switch.found(flows);
                if last {
                    self.requests.take(xid);
                    self.reconcile(ctx);
                }
            }
            (Some(Asked::Maker), ReplyBody::Desc(description)) => {
                self.requests.take(xid);
                switch.described(&description.mfr_desc.to_string());
            }
            (_, ReplyBody::GroupDesc(groups)) => {
                self.groups.extend(groups.into_iter().map(|group| group.group_id));
                if last {
                    return Some(Raised::Groups(std::mem::take(&mut self.groups)));
                }
            }
            (Some(Asked::Counters), ReplyBody::PortStats(ports)) => {
                if last {
                    self.requests.take(xid);
                }
                return Some(Raised::PortStats(ports));
            }
            _ => {}
        }
        None
    }

    /// Sends the difference between what the switch has and what it should have, in a bundle where it knows bundles.
    fn reconcile(&mut self, ctx: &mut Context<'_>) {
        let Some(switch) = &mut self.switch else { return };
        let (found, standing, changes) = switch.reconcile(ctx);
        (self.found, self.standing) = (found, standing);
        if self.link.version == Version::V1_0 {
            return self.send_plainly(changes, ctx);
        }
        let open = self.control(BundleControlKind::OpenRequest);
        self.request(&open, Asked::Open(changes), ctx);
    }

    /// Sends changes one by one, and asks for when they are done.
    fn send_plainly(&mut self, changes: Vec<FlowMod>, ctx: &mut Context<'_>) {
        if let Some(switch) = &mut self.switch {
            for flow_mod in changes {
                switch.send_flow_mod(flow_mod, &mut self.link, ctx);
            }
        }
        self.request(&Message::BarrierRequest, Asked::Settled, ctx);
    }

    fn control(&self, kind: BundleControlKind) -> Message {
        Message::Onf(OnfMsg::BundleControl(BundleControl::new(self.bundle, kind, BUNDLE)))
    }

    /// Adds changes to the open bundle, and commits it.
    fn fill(&mut self, changes: &[FlowMod], ctx: &mut Context<'_>) -> Xid {
        for flow_mod in changes {
            let xid = self.link.next_xid();
            let change = Message::FlowMod(flow_mod.clone());
            let add = OnfMsg::BundleAdd(BundleAdd::new(self.bundle, BUNDLE, xid, change));
            self.link.send_as(&Message::Onf(add), xid, ctx);
        }
        if let Some(switch) = &mut self.switch {
            switch.count_flow_mods(changes.len());
        }
        let commit = self.control(BundleControlKind::CommitRequest);
        self.link.send(&commit, ctx)
    }

    /// Sends later changes, together if the switch knows bundles; what is sent behind them comes after them.
    pub fn change(&mut self, changes: Vec<FlowMod>, ctx: &mut Context<'_>) {
        if !self.knows_bundles || changes.len() < 2 {
            if let Some(switch) = &mut self.switch {
                for flow_mod in changes {
                    switch.send_flow_mod(flow_mod, &mut self.link, ctx);
                }
            }
            return;
        }
        self.bundle = self.bundle.wrapping_add(1);
        let open = self.control(BundleControlKind::OpenRequest);
        self.link.send(&open, ctx);
        let xid = self.fill(&changes, ctx);
        self.requests.add(xid, Asked::Later(changes), ctx.now);
    }

    /// The switch says that a bundle is open, or done.
    pub(super) fn bundle_control(&mut self, xid: Xid, kind: BundleControlKind, ctx: &mut Context<'_>) {
        match (kind, self.requests.asked(xid)) {
            (BundleControlKind::OpenReply, Some(Asked::Open(_))) => {
                let Some(Asked::Open(changes)) = self.requests.take(xid) else { return };
                self.knows_bundles = true;
                let xid = self.fill(&changes, ctx);
                self.requests.add(xid, Asked::Commit(changes), ctx.now);
            }
            (BundleControlKind::CommitReply, Some(Asked::Commit(_))) => {
                self.requests.take(xid);
                self.request(&Message::BarrierRequest, Asked::Settled, ctx);
            }
            (BundleControlKind::CommitReply, Some(Asked::Later(_))) => {
                self.requests.take(xid);
            }
            _ => {}
        }
    }

    /// The switch did all that was sent before a barrier.
    pub(super) fn barrier(&mut self, xid: Xid, ctx: &mut Context<'_>) -> Option<Raised<'static>> {
        match self.requests.asked(xid)? {
            Asked::Barrier(token) => {
                let token = *token;
                self.requests.take(xid);
                Some(Raised::Confirmed(token))
            }
            Asked::Settled => {
                self.requests.take(xid);
                Some(self.settled(ctx))
            }
            _ => None,
        }
    }

    fn settled(&mut self, ctx: &mut Context<'_>) -> Raised<'static> {
        self.stage = Stage::Ready;
        let name = self.name();
        if let Some(switch) = &mut self.switch {
            let bundles = if self.knows_bundles { ", bundles" } else { "" };
            let text =
                format!("{name} is ready: OpenFlow {}{bundles}, {}", self.link.version, switch.summary());
            ctx.log(Level::Info, text);
            switch.knowledge_changed(&mut self.link, ctx);
        }
        Raised::Ready(std::mem::take(&mut self.found), std::mem::take(&mut self.standing))
    }

    /// Sends a barrier; [`Raised::Confirmed`] tells its token. While too many are not answered none is sent.
    pub fn barrier_for(&mut self, token: u64, ctx: &mut Context<'_>) {
        if self.requests.has_room() {
            self.request(&Message::BarrierRequest, Asked::Barrier(token), ctx);
        }
    }

    /// Deals with an error that answers a request; false if it answers none.
    pub(super) fn refused(
        &mut self,
        xid: Xid,
        error: &ErrorMsg,
        ctx: &mut Context<'_>,
    ) -> Result<bool, Refusal> {
        let Some(asked) = self.requests.take(xid) else { return Ok(false) };
        let refuses = format!("it refuses {}: {}", asked.words(), error.kind);
        match asked {
            Asked::Open(changes) => {
                ctx.log(Level::Debug, format!("{}: {refuses}; sending changes one by one", self.name()));
                self.send_plainly(changes, ctx);
            }
            Asked::Commit(changes) => {
                self.knows_bundles = false;
                ctx.log(Level::Warn, format!("{}: {refuses}; sending changes one by one", self.name()));
                self.send_plainly(changes, ctx);
            }
            Asked::Later(changes) => {
                self.knows_bundles = false;
                ctx.log(Level::Warn, format!("{}: {refuses}; sending changes one by one", self.name()));
                self.change(changes, ctx);
            }
            // It is asked for what it may not tell.
            Asked::Maker => {}
            Asked::Barrier(_) | Asked::Counters => return Ok(false),
            Asked::Role | Asked::Ports | Asked::Flows | Asked::Settled => {
                return Err(Refusal::silent(refuses));
            }
        }
        Ok(true)
    }

    /// Deals with requests that were not answered in time.
    pub(super) fn give_up(&mut self, ctx: &mut Context<'_>) -> Result<(), Refusal> {
        for asked in self.requests.late(ctx.now) {
            let silent = format!("it does not answer {}", asked.words());
            match asked {
                Asked::Maker => {}
                Asked::Open(changes) => self.send_plainly(changes, ctx),
                Asked::Barrier(_) | Asked::Later(_) | Asked::Counters => {
                    if let Some(left_out) = ctx.limiter.allow(LogKey::Unanswered(self.link.conn), ctx.now) {
                        let text = format!("{}: {silent}{}", self.name(), more(left_out));
                        ctx.log(Level::Warn, text);
                    }
                }
                Asked::Role | Asked::Ports | Asked::Flows | Asked::Commit(_) | Asked::Settled => {
                    return Err(Refusal::silent(silent));
                }
            }
        }
        Ok(())
    }

    /// This controller itself was late by so much: that was not the switch's silence.
    pub fn excuse(&mut self, late: Duration) {
        self.heard += late;
        self.since += late;
        self.requests.excuse(late);
    }
}
