//! One message of every kind, with every action, match field, instruction and property somewhere in them. They are
//! encoded and decoded, read by Open vSwitch, cut, changed at random, and kept as a corpus for fuzzing.

mod actions;
mod fields;
mod messages;
mod multipart;

use openflow::{Action, BufferId, FlowMod, Instruction, Match, Message, PacketOut, PortNo, Version};

/// A message with a name that tells what is special about it.
pub struct Sample {
    /// The name: small letters, digits and underscores.
    pub name: String,
    /// The version that it is written in.
    pub version: Version,
    /// The message.
    pub message: Message,
    /// What Open vSwitch 3.1 reads of it, or why it does not.
    pub ovs: Ovs,
}

/// What Open vSwitch does with a sample.
pub enum Ovs {
    /// Its words contain these.
    Says(&'static [&'static str]),
    /// It refuses the message although its bytes are right.
    Refuses(&'static str),
}

/// All samples.
pub fn all() -> Vec<Sample> {
    let mut samples = messages::all();
    samples.extend(multipart::all());
    samples.extend(actions::all());
    samples.extend(fields::all());
    samples
}

fn sample(name: &str, version: Version, message: Message, says: &'static [&'static str]) -> Sample {
    Sample { name: name.to_owned(), version, message, ovs: Ovs::Says(says) }
}

fn refused(name: &str, version: Version, message: Message, why: &'static str) -> Sample {
    Sample { name: name.to_owned(), version, message, ovs: Ovs::Refuses(why) }
}

/// A flow-mod that does these actions to TCP packets.
fn doing(actions: Vec<Action>) -> Message {
    doing_with(Match::new().eth_type(0x0800).ip_proto(6), actions)
}

/// A flow-mod that does these actions to what it matches.
fn doing_with(match_: Match, actions: Vec<Action>) -> Message {
    let instructions = vec![Instruction::ApplyActions(actions)];
    Message::FlowMod(FlowMod { match_, instructions, ..FlowMod::default() })
}

/// A flow-mod that matches this.
fn matching(match_: Match) -> Message {
    Message::FlowMod(FlowMod { match_, ..FlowMod::default() })
}

/// A packet-out that does these actions.
fn sending(actions: Vec<Action>) -> Message {
    let data = vec![0xff; 14];
    Message::PacketOut(PacketOut { buffer_id: BufferId::NO_BUFFER, in_port: PortNo(1), actions, data })
}
