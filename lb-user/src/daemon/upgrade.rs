//! Another version of the programs, put in place under load, and taken back when its books are wrong.
//!
//! ```text
//!  object -> fits the tables? -> loaded beside the old one -> ledger, flows -> swapped -> ledger, flows
//!                                                                                |  wrong: swapped back
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result};
use lb_core::conn::state;
use lb_core::ledger::Ledger;
use lb_core::table::{ConnKey, ConnValue};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::api::Losses;
use crate::control::{Flows, Packets, Upgraded};
use crate::dataplane::{ConnTable, Pins, Swap, Version};
use crate::io::devices::{self, DeviceCounters};
use crate::io::netns::{NetNs, NsRef};
use crate::io::sys;
use crate::server::{Denied, Reply};

use super::{Daemon, losses};

/// Between two looks at the ledger while it is verified.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// The devices' packets from which on the program's count is compared with theirs.
const ENOUGH_PACKETS: u64 = 8;

/// What established flows there are: their backend, and its generation.
type FlowTable = BTreeMap<ConnKey, (u16, u16)>;

/// An upgrade on its way.
pub struct Upgrade {
    verify: Option<Duration>,
    reply: Reply<Upgraded>,
    step: Step,
}

enum Step {
    /// The kernel checks the programs.
    Loading(JoinHandle<Result<(Version, Outside)>>),
    /// The new version is at work, and the books are compared.
    Verifying(Box<Verifying>),
    /// The flows are counted for the last time.
    Counting(Box<Verifying>, JoinHandle<Result<Outside>>),
}

struct Verifying {
    old: Version,
    swap: Swap,
    outside: Outside,
    before: Books,
    until: Instant,
    /// Why it was taken back.
    rolled_back: Option<String>,
}

/// What takes too long to read on the daemon's own thread.
pub struct Outside {
    flows: FlowTable,
    losses: Losses,
}

/// What became due.
pub enum Due {
    /// The new version is loaded, or refused.
    Loaded(Result<(Version, Outside)>),
    /// Time to look at the ledger.
    Look,
    /// The flows are counted.
    Counted(Result<Outside>),
}

/// The books at one moment. The counters run while they are read, so what came in is read before and after what ended:
/// `received_early <= ended <= received_late`, but for one packet in work on each processor.
#[derive(Clone, Debug, Default)]
struct Books {
    received_early: u64,
    received_late: u64,
    ledger: Ledger,
    devices: DeviceCounters,
}

impl Books {
    fn ended(&self) -> u64 {
        let Ledger { forwarded, answered, passed, dropped, .. } = self.ledger;
        forwarded + answered + passed + dropped
    }

    /// What is wrong with these books since `before`; `processors` packets may be in work.
    fn fault(&self, before: &Self, processors: u64) -> Option<String> {
        let came_at_least = self.received_early.saturating_sub(before.received_late);
        let came_at_most = self.received_late.saturating_sub(before.received_early);
        let ended = self.ended().saturating_sub(before.ended());
        let devices = self.devices.since(before.devices).received;
        if came_at_least > ended + 2 * processors {
            return Some(format!("{} of {came_at_least} packets ended nowhere", came_at_least - ended));
        }
        if ended > came_at_most + 2 * processors {
            return Some(format!("{ended} packets ended, and only {came_at_most} came in"));
        }
        if devices >= ENOUGH_PACKETS && came_at_most * 2 < devices {
            return Some(format!(
                "the devices received {devices} packets, the program counted {came_at_most}"
            ));
        }
        None
    }
}

impl Upgrade {
    /// Waits for what is due next; for ever without an upgrade. Safe to drop and call again.
    pub async fn next(upgrade: &mut Option<Self>) -> Due {
        let Some(upgrade) = upgrade else { return std::future::pending().await };
        match &mut upgrade.step {
            Step::Loading(task) => Due::Loaded(task.await.unwrap_or_else(|error| Err(error.into()))),
            Step::Verifying(_) => {
                tokio::time::sleep(LOOK_EVERY).await;
                Due::Look
            }
            Step::Counting(_, task) => Due::Counted(task.await.unwrap_or_else(|error| Err(error.into()))),
        }
    }
}

impl Daemon {
    /// Begins an upgrade to `object`.
    pub(super) fn upgrade(&mut self, object: Vec<u8>, verify: Option<Duration>, reply: Reply<Upgraded>) {
        if self.upgrade.is_some() {
            let busy = "another upgrade is under way; wait for its end".to_owned();
            reply.send(Err(Denied::Wrong(busy))).ok();
            return;
        }
        let loader = self.dataplane.version_loader(&self.config.connections);
        let outside = self.outside();
        let load = move || {
            let version = loader.load(&object)?;
            Ok((version, outside()?))
        };
        let step = Step::Loading(tokio::task::spawn_blocking(load));
        self.upgrade = Some(Upgrade { verify, reply, step });
    }

    /// Goes on with the upgrade.
    pub(super) fn upgrade_goes_on(&mut self, due: Due) -> Result<()> {
        let Some(Upgrade { verify, reply, step }) = self.upgrade.take() else { return Ok(()) };
        match (due, step) {
            (Due::Loaded(Err(refusal)), _) => {
                tracing::error!("upgrade refused, the programs stay: {refusal:#}");
                reply.send(Err(Denied::Wrong(format!("{refusal:#}")))).ok();
            }
            (Due::Loaded(Ok((version, outside))), _) => {
                let before = self.books()?;
                match self.dataplane.swap(version) {
                    Ok((old, swap)) => {
                        let until = Instant::now() + verify.unwrap_or_default();
                        let verifying = Verifying { old, swap, outside, before, until, rolled_back: None };
                        self.look(Upgrade { verify, reply, step: Step::Verifying(Box::new(verifying)) })?;
                    }
                    Err(error) => {
                        tracing::error!("upgrade failed, the programs stay: {error:#}");
                        reply.send(Err(Denied::from(error))).ok();
                    }
                }
            }
            (Due::Look, step @ Step::Verifying(_)) => self.look(Upgrade { verify, reply, step })?,
            (Due::Counted(outside), Step::Counting(verifying, _)) => {
                self.finish_upgrade(*verifying, outside, verify, reply)?;
            }
            // Nothing else is waited for.
            (_, step) => self.upgrade = Some(Upgrade { verify, reply, step }),
        }
        Ok(())
    }

    /// Looks at the books: goes on verifying, or counts the flows at the end.
    fn look(&mut self, mut upgrade: Upgrade) -> Result<()> {
        if let Step::Verifying(mut verifying) = upgrade.step {
            let fault = match upgrade.verify {
                Some(_) => self.books()?.fault(&verifying.before, u64::from(sys::processors())),
                None => None,
            };
            if let Some(fault) = fault {
                *verifying = self.roll_back(*verifying, fault)?;
            }
            upgrade.step = if verifying.rolled_back.is_some() || Instant::now() >= verifying.until {
                Step::Counting(verifying, tokio::task::spawn_blocking(self.outside()))
            } else {
                Step::Verifying(verifying)
            };
        }
        self.upgrade = Some(upgrade);
        Ok(())
    }

    /// Puts the old version back.
    fn roll_back(&mut self, verifying: Verifying, why: String) -> Result<Verifying> {
        tracing::error!("upgrade taken back: {why}");
        let Verifying { old, swap, outside, before, until, .. } = verifying;
        let (new, _) = self.dataplane.swap(old).context("the old programs cannot be put back")?;
        Ok(Verifying { old: new, swap, outside, before, until, rolled_back: Some(why) })
    }

    fn finish_upgrade(
        &mut self,
        mut verifying: Verifying,
        outside: Result<Outside>,
        verify: Option<Duration>,
        reply: Reply<Upgraded>,
    ) -> Result<()> {
        let (flows, losses) = match outside {
            Ok(after) => (
                compare(&verifying.outside.flows, &after.flows),
                losses::between(&verifying.outside.losses, &after.losses),
            ),
            Err(error) => {
                tracing::warn!("flows could not be counted: {error:#}");
                (Flows::default(), Losses::default())
            }
        };
        if verify.is_some() && flows.moved > 0 && verifying.rolled_back.is_none() {
            let why = format!("{} established flows went to another backend", flows.moved);
            verifying = self.roll_back(verifying, why)?;
        }
        self.dataplane.pin_programs()?;
        let after = self.books()?;
        let answer = report(&verifying, &after, flows, losses, verify.is_some());
        let Upgraded { links, swap_us, .. } = answer;
        match &answer.rolled_back {
            None => tracing::info!("programs replaced in {links} links in {swap_us} us"),
            Some(why) => tracing::warn!("the programs are those from before the upgrade: {why}"),
        }
        reply.send(Ok(answer)).ok();
        Ok(())
    }

    /// Reads the flows and the losses, on any thread.
    fn outside(&self) -> impl FnOnce() -> Result<Outside> + Send + use<> {
        let (pins, losses) = (self.pins.clone(), self.losses_reader());
        move || Ok(Outside { flows: established(&pins)?, losses: losses().0 })
    }

    fn books(&self) -> Result<Books> {
        let early = self.dataplane.counters()?;
        let late = self.dataplane.counters()?;
        let count = |reason| late.reasons.get(&reason).copied().unwrap_or(0);
        Ok(Books {
            received_early: early.global.received,
            received_late: late.global.received,
            ledger: Ledger::sum(late.global.received, count),
            devices: self.device_counters(),
        })
    }

    /// What the devices of the ports counted, together. One that has just gone has counted nothing.
    fn device_counters(&self) -> DeviceCounters {
        let spaces: BTreeSet<&NsRef> = self.placed.ports.iter().map(|port| &port.ns).collect();
        let mut sum = DeviceCounters::default();
        for space in spaces {
            let counters = NetNs::open(space).and_then(|ns| devices::counters(&ns)).unwrap_or_default();
            for port in self.placed.ports.iter().filter(|port| port.ns == *space) {
                sum = sum.plus(counters.get(&port.name).copied().unwrap_or_default());
            }
        }
        sum
    }
}

/// The established flows.
fn established(pins: &Pins) -> Result<FlowTable> {
    let mut flows = FlowTable::new();
    ConnTable::open(pins)?.for_each(|key: &ConnKey, value: &ConnValue| {
        if value.state == state::ESTABLISHED {
            flows.insert(*key, (value.backend, value.generation));
        }
    })?;
    Ok(flows)
}

fn compare(before: &FlowTable, after: &FlowTable) -> Flows {
    let mut flows = Flows { before: before.len() as u64, after: after.len() as u64, ..Flows::default() };
    for (key, backend) in before {
        match after.get(key) {
            Some(now) if now == backend => flows.kept += 1,
            Some(_) => flows.moved += 1,
            None => flows.ended += 1,
        }
    }
    flows
}

fn report(verifying: &Verifying, after: &Books, flows: Flows, losses: Losses, verified: bool) -> Upgraded {
    let Verifying { swap, before, rolled_back, .. } = verifying;
    let since = |now: u64, then: u64| now.saturating_sub(then);
    let received = since(after.received_late, before.received_late);
    let ended = since(after.ended(), before.ended());
    Upgraded {
        verified,
        rolled_back: rolled_back.clone(),
        links: swap.links,
        swap_us: swap.took_ns / 1000,
        flows,
        packets: Packets {
            received,
            forwarded: since(after.ledger.forwarded, before.ledger.forwarded),
            answered: since(after.ledger.answered, before.ledger.answered),
            passed: since(after.ledger.passed, before.ledger.passed),
            dropped: since(after.ledger.dropped, before.ledger.dropped),
            lost: since(after.received_early, before.received_late).saturating_sub(ended),
        },
        losses,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn books(early: u64, late: u64, ended: u64, devices: u64) -> Books {
        let ledger = Ledger { received: late, passed: ended, ..Ledger::default() };
        let devices = DeviceCounters { received: devices, ..DeviceCounters::default() };
        Books { received_early: early, received_late: late, ledger, devices }
    }

    #[test]
    fn what_runs_while_it_is_read_is_no_fault() {
        let before = books(1000, 1010, 1005, 5000);
        for after in [
            books(1000, 1010, 1005, 5000),
            books(2000, 2030, 2015, 6000),
            // One packet in work on each of two processors, at either reading.
            books(2000, 2030, 1995, 6000),
            books(2000, 2030, 2024, 6010),
        ] {
            assert_eq!(after.fault(&before, 2), None, "{after:?}");
        }
    }

    #[test]
    fn packets_that_end_nowhere_or_twice_or_are_not_counted_are_a_fault() {
        let before = books(1000, 1010, 1005, 5000);
        let fault = |after: Books| after.fault(&before, 2).unwrap_or_default();
        assert_eq!(fault(books(2000, 2030, 1900, 6000)), "95 of 990 packets ended nowhere");
        assert_eq!(fault(books(2000, 2030, 2100, 6000)), "1095 packets ended, and only 1030 came in");
        assert_eq!(fault(books(1010, 1010, 1010, 5008)), "");
        assert_eq!(
            fault(books(1000, 1010, 1005, 5100)),
            "the devices received 100 packets, the program counted 10"
        );
    }

    #[test]
    fn flows_are_kept_moved_or_ended() {
        let key = |port| ConnKey::new(lb_core::table::Address::from_v4([10, 0, 0, 9]), port, 1, 80, 6);
        let before = FlowTable::from([(key(1), (1, 0)), (key(2), (1, 0)), (key(3), (2, 0))]);
        let after = FlowTable::from([(key(1), (1, 0)), (key(2), (1, 1)), (key(4), (2, 0))]);
        let expected = Flows { before: 3, after: 3, kept: 1, moved: 1, ended: 1 };
        assert_eq!(compare(&before, &after), expected);
    }
}
