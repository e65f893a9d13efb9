//! Standing entries over every kind of change, message by message.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lb_core::host::addr::MacAddr as CoreMac;
use lb_core::host::config::Config;
use lb_core::host::health::{FULL_SHARE, Neighbour};
use lb_core::host::ids::Ids;
use lb_core::host::plan::{HealthView, Seen};
use openflow::{
    FlowMod, FlowModCommand, GroupMod, GroupModCommand, Instruction, MatchField, Message, NiciraMsg,
    NxmField, Xid,
};

use super::*;
use crate::core::balance::EntriesKind;
use crate::core::cookie::{self, Purpose, Sequence};

const SWITCH: DatapathId = DatapathId(0x77);
const LIMITS: Limits = Limits { tcp_idle_s: 300, udp_idle_s: 300, gone_idle_s: 600, learned: 65_536 };
const NOW: Duration = Duration::from_secs(1000);

/// A configuration and the health of its backends, which a test changes step by step.
struct World {
    config: Config,
    ids: Ids,
    states: BTreeMap<IpAddr, State>,
    plan: Plan,
}

impl World {
    fn new(text: &str) -> Self {
        let config = Config::from_toml(text, "test").expect("good");
        let mut world = Self { config, ids: Ids::default(), states: BTreeMap::new(), plan: Plan::default() };
        world.replan();
        world
    }

    fn replan(&mut self) -> Plan {
        let mut health = HealthView::new();
        for vip in &self.config.vips {
            for backend in &vip.backends {
                let key = lb_core::host::ids::BackendKey::of(vip, backend);
                let last = match backend.address {
                    IpAddr::V4(address) => address.octets()[3],
                    IpAddr::V6(address) => address.octets()[15],
                };
                let neighbour = Neighbour { mac: CoreMac([2, 0, 0, 0, 0, last]), interface: 1 };
                let state = self.states.get(&backend.address).copied().unwrap_or(State::Up);
                health.insert(key, Seen { state, neighbour: Some(neighbour), share: FULL_SHARE });
            }
        }
        self.plan = Plan::from_config(&self.config, &mut self.ids, &health, Some(&self.plan)).expect("ids");
        self.plan.clone()
    }

    fn set(&mut self, address: &str, state: State) -> Plan {
        self.states.insert(address.parse().expect("an address"), state);
        self.replan()
    }
}

const TWO_VIPS: &str = r#"
[[vip]]
address = "10.0.1.1"
port = 80
on_down = "repick"
[[vip.backend]]
address = "10.0.0.1"
port = 8080
[[vip.backend]]
address = "10.0.0.2"
port = 8080
weight = 3
[[vip]]
address = "10.0.1.1"
port = 53
protocol = "udp"
[[vip.backend]]
address = "10.0.0.1"
[[vip.backend]]
address = "10.0.0.2"
"#;

/// Table, priority and match.
type Place = (u8, u16, Match);

/// The tables and groups of a switch, as its messages make them.
#[derive(Default)]
struct Tables {
    entries: BTreeMap<Place, (Sequence, Vec<Action>, u16)>,
    groups: BTreeMap<u32, Vec<openflow::Bucket>>,
    flushes: usize,
    version: Option<Version>,
    /// The VIPs by id.
    numbers: BTreeMap<u16, u32>,
}

impl Tables {
    fn take(&mut self, message: &Message) {
        let (mut bytes, version) = (Vec::new(), self.version.unwrap_or(Version::V1_3));
        message.encode(version, Xid(1), &mut bytes).expect("encodes");
        let mut again = Vec::new();
        Message::decode(&bytes).expect("decodes").2.encode(version, Xid(1), &mut again).expect("encodes");
        assert_eq!(again, bytes);
        match message {
            Message::FlowMod(flow_mod) | Message::Nicira(NiciraMsg::FlowMod(flow_mod)) => {
                self.flow_mod(flow_mod);
            }
            Message::GroupMod(group_mod) => self.group_mod(group_mod),
            Message::Nicira(NiciraMsg::CtFlush(_)) => self.flushes += 1,
            Message::Nicira(NiciraMsg::FlowModTableId(true)) | Message::MultipartRequest(_) => {}
            other => panic!("{other:?}"),
        }
    }

    fn flow_mod(&mut self, flow_mod: &FlowMod) {
        match flow_mod.command {
            FlowModCommand::Add => {
                let (purpose, sequence) = cookie::read(flow_mod.cookie).expect("ours");
                assert_eq!(purpose, Purpose::Standing);
                let actions = match flow_mod.instructions.as_slice() {
                    [Instruction::ApplyActions(actions)] => actions.clone(),
                    [] => Vec::new(),
                    other => panic!("{other:?}"),
                };
                for action in &actions {
                    if let Action::Group(number) = action {
                        assert!(self.groups.contains_key(&number.0), "an entry of a group that is not there");
                    }
                }
                let key = (flow_mod.table_id.0, flow_mod.priority, flow_mod.match_.clone());
                self.entries.insert(key, (sequence, actions, flow_mod.idle_timeout));
            }
            FlowModCommand::Delete => {
                let wanted = match flow_mod.match_.fields.as_slice() {
                    [] => flow_mod.cookie.0,
                    [MatchField::Raw { body, .. }] => {
                        u64::from_be_bytes(body.as_slice().try_into().expect("8"))
                    }
                    other => panic!("{other:?}"),
                };
                let (_, sequence) = cookie::read(openflow::Cookie(wanted)).expect("ours");
                let table = flow_mod.table_id.0;
                let count = self.entries.len();
                self.entries.retain(|key, (of, ..)| key.0 != table || *of != sequence);
                assert!(self.entries.len() < count, "nothing to delete");
            }
            other => panic!("{other:?}"),
        }
    }

    fn group_mod(&mut self, group_mod: &GroupMod) {
        let number = group_mod.group_id.0;
        let there = self.groups.contains_key(&number);
        match group_mod.command {
            GroupModCommand::Add => assert!(!there, "group {number} is there"),
            GroupModCommand::Modify => assert!(there, "group {number} is not there"),
            GroupModCommand::Delete => {
                let used = |actions: &Vec<Action>| actions.contains(&Action::Group(group_mod.group_id));
                assert!(
                    !self.entries.values().any(|(_, actions, _)| used(actions)),
                    "entries would go with it"
                );
                self.groups.remove(&number);
                return;
            }
        }
        self.groups.insert(number, group_mod.buckets.clone());
    }

    /// Whether new connections of every one of these VIPs find a backend, whatever a hash says.
    fn serves(&self, vips: &[u16]) -> Result<(), String> {
        for vip in vips {
            let id = self.numbers.get(vip).copied().unwrap_or_default();
            let loads = |actions: &Vec<Action>| actions.contains(&load(VIP, id));
            let begins = self.entries.iter().any(|(key, (_, actions, _))| key.1 >= 1000 && loads(actions));
            if !begins {
                return Err(format!("VIP {vip}: nothing begins"));
            }
            let is_pick = |key: &(u8, u16, Match)| {
                key.0 == CONNECTIONS.0
                    && key.1 == PICK
                    && key.2.fields.contains(&MatchField::from(NxmField::reg(VIP, id)))
            };
            let pick =
                self.entries.iter().find(|(key, _)| is_pick(key)).ok_or(format!("VIP {vip}: no pick"))?;
            self.picks(id, &pick.1.1)?;
        }
        Ok(())
    }

    fn picks(&self, vip: u32, actions: &[Action]) -> Result<(), String> {
        match actions {
            [Action::Group(number)]
                if self.groups.get(&number.0).is_some_and(|buckets| !buckets.is_empty()) =>
            {
                Ok(())
            }
            [
                Action::Nicira(NxAction::RegLoad { value: bank, .. }),
                Action::Nicira(NxAction::Multipath { max_link, .. }),
                _,
            ] => {
                let missing = (0..=u32::from(*max_link)).find(|slot| {
                    let fields = registers(&[(VIP, vip), (BANK, *bank as u32), (SLOT, *slot)]).fields;
                    let is_it =
                        |key: &(u8, u16, Match)| key.0 == CHOICE.0 && key.2.fields.starts_with(&fields);
                    !self.entries.keys().any(is_it)
                });
                missing.map_or(Ok(()), |slot| Err(format!("VIP {vip}: slot {slot} is empty")))
            }
            other => Err(format!("VIP {vip}: {other:?}")),
        }
    }

    fn backends_of_group(&self, vip: u16) -> usize {
        self.numbers.get(&vip).and_then(|number| self.groups.get(number)).map_or(0, Vec::len)
    }
}

struct Bed {
    standing: Standing,
    tables: Tables,
    lines: Vec<String>,
    /// VIPs that have to be served at every moment.
    always: Vec<u16>,
}

impl Bed {
    fn new(kind: EntriesKind, version: Version, plan: &Plan) -> Self {
        let standing = Standing::new(kind, LIMITS);
        let numbers = plan.vips.values().map(|vip| (vip.id.id, number(plan, vip))).collect();
        let tables = Tables { version: Some(version), numbers, ..Tables::default() };
        let mut bed = Self { standing, tables, lines: Vec::new(), always: Vec::new() };
        let steps = bed.standing.ready(SWITCH, version, true, FoundStanding::default(), plan, NOW);
        bed.take(steps);
        if version == Version::V1_3 && kind != EntriesKind::Learn {
            let steps = bed.standing.groups(SWITCH, &[]);
            bed.take(steps);
        }
        bed
    }

    fn take(&mut self, steps: Vec<Step>) -> usize {
        let mut sent = 0;
        for step in steps {
            match step {
                Step::Send(dpid, message) => {
                    assert_eq!(dpid, SWITCH);
                    self.tables.take(&message);
                    sent += 1;
                }
                Step::Log(_, text) => self.lines.push(text),
            }
            self.tables.serves(&self.always).expect("no gap");
        }
        sent
    }

    fn follow(&mut self, plan: &Plan) -> usize {
        let steps = self.standing.replanned(plan, NOW);
        self.take(steps)
    }
}

fn forms() -> [(EntriesKind, Version, Form); 3] {
    [
        (EntriesKind::Proactive, Version::V1_3, Form::Tracked),
        (EntriesKind::Learn, Version::V1_3, Form::Learned),
        (EntriesKind::Proactive, Version::V1_0, Form::Learned),
    ]
}

#[test]
fn no_vip_is_ever_without_a_backend_for_new_connections() {
    for (kind, version, form) in forms() {
        let mut world = World::new(TWO_VIPS);
        let mut bed = Bed::new(kind, version, &world.plan);
        assert_eq!(bed.standing.form(SWITCH), Some(form));
        bed.always = vec![1, 2];
        assert_eq!(bed.follow(&world.plan), 0, "nothing has changed");
        let three = |world: &mut World| {
            for vip in &mut world.config.vips {
                let more = vip.backends[0].clone();
                vip.backends.push(lb_core::host::config::BackendConfig {
                    address: "10.0.0.3".parse().unwrap(),
                    name: "h3".into(),
                    ..more
                });
            }
        };
        three(&mut world);
        for plan in [
            world.replan(),
            world.set("10.0.0.1", State::Down),
            world.set("10.0.0.2", State::Draining),
            world.set("10.0.0.1", State::Up),
            world.set("10.0.0.3", State::Disabled),
        ] {
            assert!(bed.follow(&plan) > 0);
            bed.tables.serves(&[1, 2]).unwrap();
        }
        for vip in &mut world.config.vips {
            vip.backends[0].weight = 7;
            vip.backends.truncate(1);
        }
        bed.follow(&world.replan());
        assert_eq!(bed.follow(&world.plan), 0);
    }
}

#[test]
fn what_is_over_leaves_nothing_behind() {
    for (kind, version, _) in forms() {
        let mut world = World::new(TWO_VIPS);
        let mut bed = Bed::new(kind, version, &world.plan);
        let before: BTreeSet<_> = bed.tables.entries.keys().cloned().collect();
        for state in [State::Down, State::Up, State::Draining, State::Up] {
            bed.follow(&world.set("10.0.0.2", state));
        }
        let after: BTreeSet<_> = bed.tables.entries.keys().cloned().collect();
        assert_eq!(before, after);
        world.config.vips.clear();
        bed.follow(&world.replan());
        assert!(bed.tables.groups.is_empty());
        let left = bed.tables.entries.keys().filter(|key| key.0 != CONNECTIONS.0 && key.1 > 1).count();
        assert_eq!(left, 0, "{:?}", bed.tables.entries);
    }
}

#[test]
fn a_dead_backend_takes_nothing_new_and_its_connections_go_by_policy() {
    let mut world = World::new(TWO_VIPS);
    let mut bed = Bed::new(EntriesKind::Group, Version::V1_3, &world.plan);
    let probe = bed.tables.flushes;
    assert_eq!(bed.tables.backends_of_group(1), 2);
    bed.follow(&world.set("10.0.0.1", State::Down));
    assert_eq!(bed.tables.backends_of_group(1), 1);
    assert_eq!(bed.tables.flushes - probe, 2, "TCP with repick, and UDP, which always gets another");
    let steps = bed.standing.tick(NOW);
    assert_eq!(steps, []);
    let steps = bed.standing.tick(NOW + Duration::from_secs(1));
    assert_eq!(steps.len(), 2, "once more, for the caches");
    let steps = bed.standing.tick(NOW + Duration::from_secs(9));
    assert_eq!(steps, []);
}

#[test]
fn connections_of_a_dead_backend_stay_or_are_reset_only_when_established() {
    let policy = |word: &str| TWO_VIPS.replace("repick", word);
    for word in ["keep", "reset"] {
        let mut world = World::new(&policy(word));
        let mut bed = Bed::new(EntriesKind::Group, Version::V1_3, &world.plan);
        let flushes = bed.tables.flushes;
        bed.follow(&world.set("10.0.0.1", State::Down));
        assert_eq!(bed.tables.flushes - flushes, 1, "only UDP is forgotten");
        let mark = mark(
            world.plan.backends.values().find(|b| b.key.port == 8080 && b.state == State::Down).unwrap(),
        );
        let of = |key: &(u8, u16, Match)| {
            key.2.fields.contains(&NxmField::CtMark { value: mark, mask: None }.into())
        };
        let entries: Vec<_> = bed.tables.entries.iter().filter(|(key, _)| of(key)).collect();
        assert_eq!(entries.len(), 2, "established, and half-open");
        let to_controller = entries
            .iter()
            .filter(|(_, (_, actions, _))| actions.last() == Some(&Action::to_controller()))
            .count();
        assert_eq!(to_controller, if word == "keep" { 1 } else { 2 });
    }
}

#[test]
fn a_backend_that_is_not_configured_any_more_keeps_its_connections_until_they_are_idle() {
    for (kind, version, _) in forms() {
        let mut world = World::new(TWO_VIPS);
        let mut bed = Bed::new(kind, version, &world.plan);
        world.config.vips[0].backends.remove(0);
        bed.follow(&world.replan());
        let leaving: Vec<Sequence> =
            bed.tables.entries.values().filter(|(.., idle_s)| *idle_s == 600).map(|(of, ..)| *of).collect();
        assert!(leaving.len() >= 2, "its connections, and its answers: {leaving:?}");
        for sequence in &leaving {
            bed.tables.entries.retain(|_, (of, ..)| of != sequence);
            let steps = bed.standing.removed(SWITCH, *sequence, true);
            assert_eq!(bed.take(steps), 0);
        }
        assert_eq!(bed.follow(&world.plan), 0, "they do not come back");
        bed.follow(&world.set("10.0.0.2", State::Draining));
        assert!(bed.tables.entries.values().all(|(.., idle_s)| *idle_s == 0));
    }
}

#[test]
fn an_entry_that_somebody_deleted_is_put_back() {
    let world = World::new(TWO_VIPS);
    let mut bed = Bed::new(EntriesKind::Learn, Version::V1_3, &world.plan);
    let (key, (sequence, ..)) =
        bed.tables.entries.iter().next().map(|(k, v)| (k.clone(), v.clone())).unwrap();
    bed.tables.entries.remove(&key);
    let steps = bed.standing.removed(SWITCH, sequence, false);
    assert_eq!(bed.take(steps), 1);
    assert!(bed.tables.entries.contains_key(&key));
}

#[test]
fn after_a_reconnect_what_is_right_stays_and_what_is_not_goes() {
    let mut world = World::new(TWO_VIPS);
    let mut bed = Bed::new(EntriesKind::Proactive, Version::V1_3, &world.plan);
    bed.always = vec![1, 2];
    let entries = bed.tables.entries.iter().map(|(key, (of, ..))| (TableId(key.0), *of)).collect();
    let found = FoundStanding { entries, ..FoundStanding::default() };
    let groups: Vec<GroupId> = bed.tables.groups.keys().map(|number| GroupId(*number)).collect();
    let plan = world.set("10.0.0.1", State::Down);
    // Another controller: it knows nothing.
    bed.standing = Standing::new(EntriesKind::Proactive, LIMITS);
    let steps = bed.standing.ready(SWITCH, Version::V1_3, true, found, &plan, NOW);
    bed.take(steps);
    let others = [GroupId(7)];
    let steps = bed.standing.groups(SWITCH, &[&groups[..], &others].concat());
    bed.take(steps);
    let fresh = Bed::new(EntriesKind::Proactive, Version::V1_3, &plan);
    assert_eq!(bed.tables.groups, fresh.tables.groups);
    assert!(bed.tables.entries == fresh.tables.entries, "as on a new switch");
}

#[test]
fn what_an_earlier_controller_left_stays_until_the_backends_are_known() {
    for (kind, version, _) in forms() {
        let mut world = World::new(TWO_VIPS);
        let mut bed = Bed::new(kind, version, &world.plan);
        bed.always = vec![1, 2];
        let entries = bed.tables.entries.iter().map(|(key, (of, ..))| (TableId(key.0), *of)).collect();
        let found = FoundStanding { entries, groups: bed.tables.groups.keys().copied().collect() };
        let groups: Vec<GroupId> = bed.tables.groups.keys().map(|number| GroupId(*number)).collect();
        let before = bed.tables.entries.clone();
        bed.standing = Standing::new(kind, LIMITS);
        world.states.insert("10.0.0.1".parse().unwrap(), State::Probing);
        let plan = world.set("10.0.0.2", State::Probing);
        let steps = bed.standing.ready(SWITCH, version, true, found.clone(), &plan, NOW);
        bed.take(steps);
        let steps = bed.standing.groups(SWITCH, &groups);
        bed.take(steps);
        bed.follow(&world.set("10.0.0.1", State::Up));
        assert_eq!(bed.standing.tick(NOW + Duration::from_secs(14)), []);
        assert!(bed.tables.entries == before, "the second has not been asked yet");
        bed.follow(&world.set("10.0.0.2", State::Down));
        assert!(bed.tables.entries != before);
        assert_eq!(bed.follow(&world.plan), 0);
        // One that nobody ever hears of does not hold it up for ever.
        bed.standing = Standing::new(kind, LIMITS);
        let plan = world.set("10.0.0.2", State::Probing);
        let entries = bed.tables.entries.iter().map(|(key, (of, ..))| (TableId(key.0), *of)).collect();
        let steps = bed.standing.ready(SWITCH, version, true, FoundStanding { entries, ..found }, &plan, NOW);
        bed.take(steps);
        let steps = bed.standing.groups(SWITCH, &groups);
        bed.take(steps);
        let steps = bed.standing.tick(NOW + Duration::from_secs(15));
        assert!(bed.take(steps) > 0);
    }
}

#[test]
fn what_a_switch_cannot_do_is_refused_by_name() {
    let world = World::new(TWO_VIPS);
    let mut bed = Bed::new(EntriesKind::Group, Version::V1_0, &world.plan);
    assert_eq!(bed.standing.form(SWITCH), None);
    assert!(bed.lines[0].contains("no VIP is served there with --lb-entries group"), "{:?}", bed.lines);
    assert_eq!(bed.follow(&world.plan), 0);
    for (kind, form) in [(EntriesKind::Proactive, Some(Form::Learned)), (EntriesKind::Group, None)] {
        let mut standing = Standing::new(kind, LIMITS);
        assert_eq!(
            standing.ready(SWITCH, Version::V1_3, true, FoundStanding::default(), &world.plan, NOW).len(),
            2
        );
        let steps = standing.cannot_track(SWITCH);
        assert_eq!(standing.form(SWITCH), form);
        assert_eq!(steps.len() > 1, form.is_some());
        assert_eq!(standing.cannot_track(SWITCH), [], "the first answer decides");
    }
    let mut standing = Standing::new(EntriesKind::Proactive, LIMITS);
    let steps = standing.ready(SWITCH, Version::V1_3, false, FoundStanding::default(), &world.plan, NOW);
    let [Step::Log(_, text)] = steps.as_slice() else { panic!("{steps:?}") };
    assert!(text.contains("does not know Nicira's extensions; take --lb-entries reactive"), "{text}");
}

#[test]
fn who_may_not_open_connections_finds_no_backend() {
    let lists = "allow = [\"10.0.0.0/8\"]\ndeny = [\"10.66.0.0/16\"]\non_down";
    let world = World::new(&TWO_VIPS.replacen("on_down", lists, 1));
    let bed = Bed::new(EntriesKind::Group, Version::V1_3, &world.plan);
    let picks: Vec<_> = bed
        .tables
        .entries
        .iter()
        .filter(|(key, _)| key.0 == CONNECTIONS.0 && (PICK..HAIRPIN).contains(&key.1))
        .filter(|(key, _)| {
            key.2.fields.contains(&NxmField::reg(VIP, number(&world.plan, &world.plan.vips[&1])).into())
        })
        .map(|(key, (_, actions, _))| (key.1, actions.is_empty()))
        .collect();
    assert_eq!(picks, [(PICK + 9, false), (PICK + 17, true)], "nobody else, the longer prefix first");
}

#[test]
fn what_is_done_otherwise_is_said_once_for_each_vip() {
    let text = TWO_VIPS
        .replace("port = 53", "port = 53\nselection = \"least-connections\"\naffinity_s = 60")
        .replace("port = 80\n", "port = 80\nselection = \"maglev\"\n");
    let lines = left_undone(&World::new(&text).config);
    assert_eq!(lines.len(), 2);
    assert!(lines[0].contains("selection maglev") && lines[0].contains("by a hash of the flow"), "{lines:?}");
    assert!(
        lines[1].contains("least-connections, affinity_s") && lines[1].contains("client's address"),
        "{lines:?}"
    );
}

#[test]
fn zones_of_switches_of_one_machine_differ() {
    let zones: BTreeSet<u16> = (1..=500).map(|dpid| zone(DatapathId(dpid))).collect();
    assert_eq!(zones.len(), 500);
    assert_eq!(zone(DatapathId(0)), 1);
}
