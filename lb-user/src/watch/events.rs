//! `lb events`: connections as they are opened.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use lb_core::conn::state_name;
use lb_core::host::records::ip;
use lb_core::watch::EventRecord;
use serde::Serialize;

use super::{Clock, follow, lock, vip_named};
use crate::api::Status;
use crate::cli::EventsArgs;
use crate::client;
use crate::dataplane::{Pins, Ring};
use crate::failure::Failure;

/// A connection that was opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Event {
    /// When, in nanoseconds since 1970.
    pub time_ns: u64,
    /// `opened`.
    pub kind: &'static str,
    /// The client's address.
    pub client: IpAddr,
    /// The client's port.
    pub client_port: u16,
    /// The VIP's name.
    pub vip: String,
    /// The port on the VIP's side.
    pub vip_port: u16,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// The backend's address; `None` if it came after this command began.
    pub backend: Option<IpAddr>,
    /// As `lb conn` calls it.
    pub state: &'static str,
}

/// Prints events until there were enough, the time is over, or a signal ends it. A line each, or a JSON document each.
///
/// # Errors
/// No daemon, another `lb events`, or no right to read the maps.
pub async fn run(run_dir: &Path, pin_dir: &Path, arguments: &EventsArgs, json: bool) -> Result<(), Failure> {
    let status = client::status(run_dir).await.map_err(Failure::from)?;
    let vip = arguments.vip.as_ref().map(|name| vip_named(&status, name)).transpose()?.map(|vip| vip.id);
    let _lock = lock(run_dir, "events")?;
    let mut ring: Ring<EventRecord> = Ring::open(&Pins::new(pin_dir))?;
    let clock = Clock::now();
    let mut left = arguments.count;
    follow(&mut ring, arguments.seconds, |record| {
        if vip.is_some_and(|vip| vip != record.key.vip()) {
            return Ok(true);
        }
        let event = event(record, &status, &clock);
        let line = if json { serde_json::to_string(&event).unwrap_or_default() } else { line(&event) };
        let mut out = std::io::stdout().lock();
        if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
            // Whoever read it has seen enough.
            return Ok(false);
        }
        left = left.map(|left| left - 1);
        Ok(left != Some(0))
    })
    .await?;
    match ring.lost()? {
        0 => {}
        lost => eprintln!("warning: {lost} events found no room and are not shown"),
    }
    Ok(())
}

fn event(record: &EventRecord, status: &Status, clock: &Clock) -> Event {
    let vip = status.vips.iter().find(|vip| vip.id == record.key.vip());
    let backend = status.vips.iter().flat_map(|vip| &vip.backends).find(|b| b.id == record.value.backend);
    Event {
        time_ns: clock.real_ns(record.time_ns),
        kind: "opened",
        client: ip(record.key.client),
        client_port: u16::from_be(record.key.client_port()),
        vip: vip.map_or_else(|| format!("number {}", record.key.vip()), |vip| vip.name.clone()),
        vip_port: u16::from_be(record.key.vip_port()),
        protocol: match record.key.protocol() {
            6 => "tcp".to_owned(),
            17 => "udp".to_owned(),
            other => other.to_string(),
        },
        backend: backend.map(|backend| backend.address),
        state: state_name(record.value.state),
    }
}

/// `14:05:03.123456 opened 10.0.0.3:40000 > web port 80 tcp, backend 10.0.0.1, syn`. The time of day is UTC.
fn line(event: &Event) -> String {
    let us = event.time_ns / 1000;
    let s = us / 1_000_000;
    let client = SocketAddr::new(event.client, event.client_port);
    let backend = event.backend.map_or_else(|| "of late".to_owned(), |backend| backend.to_string());
    format!(
        "{:02}:{:02}:{:02}.{:06} {} {client} > {} port {} {}, backend {backend}, {}",
        s / 3600 % 24,
        s / 60 % 60,
        s % 60,
        us % 1_000_000,
        event.kind,
        event.vip,
        event.vip_port,
        event.protocol,
        event.state,
    )
}

#[cfg(test)]
mod tests {
    use lb_core::conn::state;
    use lb_core::table::{Address, ConnKey, ConnValue};

    use super::*;
    use crate::render::tests::a_status;

    #[test]
    fn an_event_in_a_line() {
        let key = ConnKey::new(Address::from_v4([10, 0, 0, 3]), 40_000u16.to_be(), 1, 80u16.to_be(), 6);
        let value = ConnValue { backend: 2, state: state::SYN, ..ConnValue::default() };
        let mut record = EventRecord { time_ns: 3_723_000_456_000, key, value, reserved: 0 };
        let clock = Clock(0);
        let expected = "01:02:03.000456 opened 10.0.0.3:40000 > web port 80 tcp, backend 10.0.0.2, syn";
        assert_eq!(line(&event(&record, &a_status(), &clock)), expected);
        record.key = ConnKey::new(Address::from_v4([10, 0, 0, 3]), 1, 7, 1, 17);
        record.value.backend = 9;
        assert!(
            line(&event(&record, &a_status(), &clock)).contains("> number 7 port 256 udp, backend of late")
        );
    }
}
