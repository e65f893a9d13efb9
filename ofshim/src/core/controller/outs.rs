//! What the network wants done, on its way to the sessions and the log.

use std::time::Duration;

use super::Controller;
use crate::core::event::{Command, Level};
use crate::core::limit::more;
use crate::core::link::Context;
use crate::core::net::Out;
use crate::core::outbox::Outbox;
use crate::core::report::{self, LogKey};
use crate::core::session::Session;

impl Controller {
    /// Sends what the network wants sent.
    pub(super) fn obey_network(&mut self, commands: &mut Outbox, now: Duration) {
        let outs = self.network.take_outs();
        self.obey(outs, commands, now);
        if let Some(classic) = &mut self.classic {
            let outs = classic.take_outs();
            self.obey(outs, commands, now);
        }
    }

    pub(super) fn obey(&mut self, outs: Vec<Out>, commands: &mut Outbox, now: Duration) {
        for out in outs {
            let dpid = match &out {
                Out::FlowMod { dpid, .. }
                | Out::PacketOut { dpid, .. }
                | Out::Barrier { dpid, .. }
                | Out::PortStats { dpid }
                | Out::Hold { dpid, .. }
                | Out::Message { dpid, .. }
                | Out::Flush { dpid } => *dpid,
                Out::Dropped { at, reason } => {
                    let (at, reason) = (*at, *reason);
                    let (_, mut ctx) = self.context(commands, now);
                    report::dropped(at.dpid, reason, at.port, &mut ctx);
                    continue;
                }
                Out::AskDaemon => {
                    commands.push(Command::AskDaemon);
                    continue;
                }
                Out::Log { level, text } => {
                    commands.push(Command::Log { level: *level, text: text.clone() });
                    continue;
                }
                Out::Moved { station, from, to } => {
                    let key = LogKey::Moved(to.dpid, *station);
                    if let Some(left_out) = self.limiter.allow(key, now) {
                        let text = format!("host {} moved from {from} to {to}", station.mac);
                        let text = text + &more(left_out);
                        commands.push(Command::Log { level: Level::Info, text });
                    }
                    continue;
                }
            };
            let conn = self.by_dpid.get(&dpid).copied();
            let (sessions, mut ctx) = self.context(commands, now);
            let Some(session) = conn.and_then(|conn| sessions.get_mut(&conn)) else { continue };
            match out {
                Out::Barrier { token, .. } => session.barrier_for(token, &mut ctx),
                Out::PortStats { .. } => session.ask_for_counters(&mut ctx),
                out => Self::obey_for_switch(session, out, &mut ctx),
            }
        }
    }

    /// Sends what the network wants sent to one switch.
    fn obey_for_switch(session: &mut Session, out: Out, ctx: &mut Context<'_>) {
        let Some((switch, link)) = session.parts() else { return };
        match out {
            Out::FlowMod { flow_mod, .. } => switch.send_flow_mod(*flow_mod, link, ctx),
            Out::PacketOut { packet, .. } => switch.send_packet(&packet, link, ctx),
            Out::Hold { key, .. } => switch.hold(key, link, ctx),
            Out::Message { message, .. } => switch.send_message(&message, link, ctx),
            Out::Flush { .. } => switch.flush(link, ctx),
            Out::Barrier { .. }
            | Out::PortStats { .. }
            | Out::Dropped { .. }
            | Out::Moved { .. }
            | Out::AskDaemon
            | Out::Log { .. } => {}
        }
    }
}
