//! `lb capture`: what the balancer saw, with its verdict, as a file for Wireshark or `lb explain --pcap`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::net::IpAddr;
use std::path::Path;

use lb_core::watch::{CaptureRecord, Snap};
use lb_core::{Class, Reason};
use serde::Serialize;

use super::pcapng::{Direction, Packet, Writer};
use super::{Clock, follow, lock, vip_named};
use crate::api::Status;
use crate::cli::CaptureArgs;
use crate::client;
use crate::dataplane::{Pins, Ring};
use crate::explain::frame;
use crate::failure::Failure;
use crate::io::mac::Mac;

/// What a capture came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Captured {
    /// The file.
    pub file: String,
    /// Packets that are in it.
    pub packets: u64,
    /// Packets that found no room on their way here.
    pub lost: u64,
}

/// Writes packets until there were enough, the time is over, or a signal ends it.
///
/// # Errors
/// No daemon, another `lb capture`, no right to read the maps, or a file that cannot be written.
pub async fn run(run_dir: &Path, pin_dir: &Path, arguments: &CaptureArgs) -> Result<Captured, Failure> {
    let status = client::status(run_dir).await.map_err(Failure::from)?;
    let filter = Filter::of(arguments, &status)?;
    let _lock = lock(run_dir, "capture")?;
    let pins = Pins::new(pin_dir);
    let mut ring: Ring<CaptureRecord> = Ring::open(&pins)?;
    let shown = arguments.file.display();
    let wrong = |error: std::io::Error| Failure::wrong(format!("{shown}: cannot be written: {error}"));
    let out: Box<dyn Write> = match arguments.file.as_os_str() == "-" {
        true => Box::new(std::io::stdout()),
        false => Box::new(File::create(&arguments.file).map_err(wrong)?),
    };
    let mut ports = Ports::of(&status);
    let mut writer = Writer::new(BufWriter::new(out), &ports.names).map_err(wrong)?;
    let clock = Clock::now();
    let mut packets = 0;
    follow(&mut ring, arguments.seconds, |record| {
        ports.learn(record);
        if filter.wants(record) {
            write(&mut writer, record, &ports, &clock, arguments.rewritten).map_err(wrong)?;
            packets += 1;
        }
        Ok(arguments.count != Some(packets))
    })
    .await?;
    writer.flush().map_err(wrong)?;
    Ok(Captured { file: shown.to_string(), packets, lost: ring.lost()? })
}

/// The interfaces of the file, in order: those of the balancer, and one for all others.
struct Ports {
    names: Vec<String>,
    ifindexes: Vec<u32>,
    /// The interface that frames from a MAC came in on.
    macs: BTreeMap<[u8; 6], u32>,
}

impl Ports {
    fn of(status: &Status) -> Self {
        let mut names: Vec<String> = status.interfaces.iter().map(|i| i.name.clone()).collect();
        names.push("other".to_owned());
        let mut ports = Self {
            names,
            ifindexes: status.interfaces.iter().map(|i| i.ifindex).collect(),
            macs: BTreeMap::new(),
        };
        for backend in status.vips.iter().flat_map(|vip| &vip.backends) {
            let at = status.interfaces.iter().find(|i| Some(&i.name) == backend.interface.as_ref());
            let mac = backend.mac.as_ref().and_then(|mac| mac.parse::<Mac>().ok());
            ports.macs.extend(mac.map(|mac| mac.0).zip(at.map(|i| i.ifindex)));
        }
        ports
    }

    /// Takes note of where a frame's sender is.
    fn learn(&mut self, record: &CaptureRecord) {
        if let Some(layout) = frame::layout(&part(&record.before, record.before_bytes)) {
            self.macs.insert(layout.macs.0, record.ifindex);
        }
    }

    fn number(&self, ifindex: u32) -> u32 {
        let found = self.ifindexes.iter().position(|other| *other == ifindex);
        found.unwrap_or(self.ifindexes.len()) as u32
    }

    fn name(&self, number: u32) -> &str {
        self.names.get(number as usize).map_or("other", String::as_str)
    }

    /// The interface that a rewritten packet left by: where it came in, or where its destination is, if that is known.
    fn egress(&self, record: &CaptureRecord) -> Option<u32> {
        let reason = reason(record)?;
        if reason.class() == Class::Answered || reason.name().ends_with("_transmit") {
            return Some(self.number(record.ifindex));
        }
        let layout = frame::layout(&part(&record.after, record.after_bytes))?;
        self.macs.get(&layout.macs.1).map(|ifindex| self.number(*ifindex))
    }
}

fn reason(record: &CaptureRecord) -> Option<Reason> {
    Reason::ALL.iter().copied().find(|reason| reason.index() == record.reason)
}

/// The bytes of a packet of this length that are there.
fn part(snap: &Snap, length: u32) -> Vec<u8> {
    let bytes = snap.iter().flat_map(|word| word.to_ne_bytes());
    bytes.take(length as usize).collect()
}

/// `to_backend_redirect: forwarded, leaves by s1-eth1`.
fn comment(record: &CaptureRecord, ports: &Ports) -> String {
    let Some(reason) = reason(record) else { return format!("reason {}", record.reason) };
    let name = reason.name();
    let how = match reason.class() {
        Class::Passed => "passed untouched".to_owned(),
        Class::Dropped => "dropped".to_owned(),
        _ if name.ends_with("_switch") => "rewritten, through the switch".to_owned(),
        _ => match ports.egress(record) {
            Some(port) => format!("rewritten, leaves by {}", ports.name(port)),
            None => "rewritten, leaves by another port".to_owned(),
        },
    };
    format!("{name}: {how}")
}

fn write(
    writer: &mut Writer<impl Write>,
    record: &CaptureRecord,
    ports: &Ports,
    clock: &Clock,
    rewritten: bool,
) -> std::io::Result<()> {
    let comment = comment(record, ports);
    let (before, after) =
        (part(&record.before, record.before_bytes), part(&record.after, record.after_bytes));
    let mut packet = Packet {
        interface: ports.number(record.ifindex),
        time_ns: clock.real_ns(record.time_ns),
        bytes: &before,
        length: record.before_bytes,
        direction: Direction::In,
        comment: &comment,
    };
    writer.packet(&packet)?;
    if !rewritten || record.after_bytes == 0 {
        return Ok(());
    }
    let comment = format!("{comment} (as it leaves)");
    packet.interface = ports.egress(record).unwrap_or(packet.interface);
    packet.bytes = &after;
    packet.length = record.after_bytes;
    packet.direction = Direction::Out;
    packet.comment = &comment;
    writer.packet(&packet)
}

/// Which packets are wanted.
struct Filter {
    vip: Option<IpAddr>,
    reason: Option<u32>,
}

impl Filter {
    fn of(arguments: &CaptureArgs, status: &Status) -> Result<Self, Failure> {
        let vip = arguments.vip.as_ref().map(|name| vip_named(status, name)).transpose()?;
        let reason = arguments.reason.as_ref().map(|name| {
            Reason::ALL.iter().find(|reason| reason.name() == name).ok_or_else(|| {
                let known: Vec<&str> = Reason::ALL.iter().map(|reason| reason.name()).collect();
                Failure::wrong(format!(
                    "--reason {name}: no reason is called so; there are: {}",
                    known.join(", ")
                ))
            })
        });
        let reason = reason.transpose()?.map(|reason| reason.index());
        Ok(Self { vip: vip.map(|vip| vip.address), reason })
    }

    /// Of a VIP are the packets that have its address when they come or when they leave.
    fn wants(&self, record: &CaptureRecord) -> bool {
        let names = |address: IpAddr, bytes: &[u8]| frame::mentions(bytes, address);
        self.reason.is_none_or(|reason| reason == record.reason)
            && self.vip.is_none_or(|vip| {
                names(vip, &part(&record.before, record.before_bytes))
                    || names(vip, &part(&record.after, record.after_bytes))
            })
    }
}

#[cfg(test)]
mod tests {
    use lb_core::watch::SNAP_BYTES;

    use super::*;
    use crate::render::tests::a_status;

    fn snap(frame: &[u8]) -> Snap {
        let mut snap = [0; SNAP_BYTES / 8];
        for (word, bytes) in snap.iter_mut().zip(frame.chunks(8)) {
            let mut padded = [0; 8];
            padded[..bytes.len()].copy_from_slice(bytes);
            *word = u64::from_ne_bytes(padded);
        }
        snap
    }

    #[test]
    fn a_comment_says_reason_and_way() {
        let mut ports = Ports::of(&a_status());
        let from_client = [[2, 0, 0, 0, 0, 9], [2, 0, 0, 0, 0, 3]].concat();
        let to_client = [[2, 0, 0, 0, 0, 3], [2, 0, 0, 0, 0, 9]].concat();
        let whole = |macs: Vec<u8>| snap(&[macs, vec![8, 0], vec![0; 46]].concat());
        let mut record = CaptureRecord {
            time_ns: 0,
            ifindex: 7,
            before_bytes: 60,
            after_bytes: 60,
            reason: Reason::ToClientRedirect.index(),
            before: whole(from_client),
            after: whole(to_client),
        };
        assert_eq!(comment(&record, &ports), "to_client_redirect: rewritten, leaves by another port");
        ports.learn(&record);
        assert_eq!(comment(&record, &ports), "to_client_redirect: rewritten, leaves by s1-eth1");
        record.reason = Reason::NoBackend.index();
        assert_eq!(comment(&record, &ports), "no_backend: dropped");
        record.reason = Reason::ArpAnswered.index();
        assert_eq!(comment(&record, &ports), "arp_answered: rewritten, leaves by s1-eth1");
        assert_eq!((part(&record.before, 60).len(), part(&record.before, 1500).len()), (60, SNAP_BYTES));
    }
}
