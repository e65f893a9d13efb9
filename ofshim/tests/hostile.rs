//! Hostile switches on a running controller: garbage, half messages, floods, ten thousand ports, silence. A good switch
//! is served all the while, and the controller's memory stays bounded.

mod model;
mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use model::{BROADCAST, Model, frame, host};
use openflow::{Framer, MacAddr, Message, PortNo, PortReason, PortStatus, Version, Xid};
use support::Controller;

/// What the controller may take for all that the hostile switches do: their tables, and what waits for them.
const MAX_MEMORY_KIB: u64 = 256 << 10;

/// A switch in memory on a real connection.
struct Remote {
    model: Model,
    stream: TcpStream,
    framer: Framer,
}

impl Remote {
    fn ready(controller: &Controller, model: Model) -> Self {
        let mut stream = TcpStream::connect(controller.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.write_all(&model.hello()).unwrap();
        let mut remote = Self { model, stream, framer: Framer::new() };
        remote.talk_until(|model| model.inbox.contains(&Message::BarrierRequest));
        remote
    }

    /// Reads and answers until `done`.
    fn talk_until(&mut self, done: impl Fn(&Model) -> bool) {
        let mut buffer = [0; 8192];
        while !done(&self.model) {
            let count = self.stream.read(&mut buffer).unwrap();
            assert!(count > 0, "closed");
            self.framer.push(&buffer[..count]).unwrap();
            while let Some(frame) = self.framer.next_frame() {
                self.model.receive(&frame.unwrap().bytes);
            }
            self.stream.write_all(&std::mem::take(&mut self.model.outbox)).unwrap();
        }
    }

    /// Sends a broadcast of host 1.
    fn broadcast(&mut self) {
        self.model.emitted.clear();
        self.model.frame_in(PortNo(1), &frame(host(1), BROADCAST), None);
        self.stream.write_all(&std::mem::take(&mut self.model.outbox)).unwrap();
    }

    /// Whether it came out of the two other ports; discovery's frames come out besides.
    fn is_out(model: &Model) -> bool {
        let sent = frame(host(1), BROADCAST);
        model.emitted.iter().filter(|(_, bytes)| *bytes == sent).count() >= 2
    }

    /// How long a broadcast takes to come back for the other ports.
    fn round_trip(&mut self) -> Duration {
        let start = Instant::now();
        self.broadcast();
        self.talk_until(Self::is_out);
        start.elapsed()
    }

    /// Waits until broadcasts are forwarded: ports settle first.
    fn settle(&mut self) {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let until = Instant::now() + Duration::from_millis(300);
            self.broadcast();
            self.talk_until(|model| Self::is_out(model) || Instant::now() > until);
            if Self::is_out(&self.model) {
                return;
            }
            assert!(Instant::now() < end, "broadcasts are not forwarded");
        }
    }
}

/// Writes until the connection ends or `over`; reads nothing.
fn pour(stream: &mut TcpStream, over: &AtomicBool, mut next: impl FnMut() -> Vec<u8>) {
    stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    while !over.load(Ordering::Relaxed) {
        match stream.write_all(&next()) {
            Ok(()) => {}
            // Part of a message may be written: then what follows is garbage, as is fit here.
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => return,
        }
    }
}

/// Bytes that say little, always the same.
fn garbage(seed: &mut u64) -> Vec<u8> {
    let mut next = || {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*seed >> 33) as u8
    };
    (0..512).map(|_| next()).collect()
}

fn connect(address: &str) -> TcpStream {
    TcpStream::connect(address).unwrap()
}

/// Garbage on one connection after the other.
fn talks_rubbish(address: &str, over: &AtomicBool) {
    let mut seed = 1;
    while !over.load(Ordering::Relaxed) {
        let mut stream = connect(address);
        stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
        // A length in it may be up to 65,535: so much is sent that the message is there.
        for _ in 0..160 {
            if stream.write_all(&garbage(&mut seed)).is_err() {
                break;
            }
        }
        // The controller answers and closes; how it ends for this side is not looked at.
        stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let _ = stream.read(&mut [0; 4096]);
    }
}

/// The beginning of a message, and never its end, on many connections.
fn stops_half_way(address: &str, over: &AtomicBool) {
    let half = [4, 0, 0xff, 0xff, 0, 0, 0, 1, 0, 1];
    let streams: Vec<TcpStream> = (0..100)
        .map(|_| {
            let mut stream = connect(address);
            stream.write_all(&half).unwrap();
            stream
        })
        .collect();
    while !over.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(streams);
}

/// Packets of ever new senders, as fast as they are taken; the answers are not read.
fn floods(mut remote: Remote, over: &AtomicBool) {
    let mut sender = 0_u32;
    let Remote { model, stream, .. } = &mut remote;
    pour(stream, over, || {
        for _ in 0..100 {
            sender += 1;
            let [_, a, b, c] = sender.to_be_bytes();
            model.frame_in(PortNo(1), &frame(MacAddr([2, 7, 0, a, b, c]), BROADCAST), None);
        }
        std::mem::take(&mut model.outbox)
    });
}

/// Ten thousand ports that come and go.
fn flaps(mut remote: Remote, over: &AtomicBool) {
    let mut number = 0;
    let Remote { model, stream, .. } = &mut remote;
    pour(stream, over, || {
        number = number % 10_000 + 1;
        let mut bytes = Vec::new();
        for up in [true, false] {
            let port = model.port(PortNo(number), up);
            bytes.extend(
                model.encode(&Message::PortStatus(PortStatus { reason: PortReason::Modify, port }), Xid(0)),
            );
        }
        bytes
    });
}

#[test]
fn hostile_switches_neither_stop_nor_slow_the_others_and_memory_stays_bounded() {
    for forwarding in ["learning", "routed"] {
        let controller = Controller::start(&["--forwarding", forwarding]);
        let address = controller.address();
        let mut good = Remote::ready(&controller, Model::new(Version::V1_3, 1, 3));
        good.settle();
        let calm = good.round_trip();
        let flooder = Remote::ready(&controller, Model::new(Version::V1_3, 2, 3));
        let flapper = Remote::ready(&controller, Model::new(Version::V1_3, 3, 3));
        let over = AtomicBool::new(false);
        let mut worst = Duration::ZERO;
        std::thread::scope(|scope| {
            scope.spawn(|| talks_rubbish(&address, &over));
            scope.spawn(|| stops_half_way(&address, &over));
            scope.spawn(|| floods(flooder, &over));
            scope.spawn(|| flaps(flapper, &over));
            let end = Instant::now() + Duration::from_secs(6);
            let mut trips = 0;
            while Instant::now() < end {
                worst = worst.max(good.round_trip());
                trips += 1;
                let memory = controller.memory_kib();
                if memory > MAX_MEMORY_KIB {
                    over.store(true, Ordering::Relaxed);
                    panic!("{forwarding}: {memory} KiB");
                }
            }
            over.store(true, Ordering::Relaxed);
            assert!(trips > 20, "{forwarding}: {trips} round trips in 6 s, {calm:?} without the others");
        });
        assert!(worst < Duration::from_secs(3), "{forwarding}: {worst:?}, {calm:?} without the others");
        assert_eq!(controller.logged("switch 0000000000000001 (127.0.0.1"), 1, "it stays connected");
        assert!(controller.logged("connection closed: ") > 10, "rubbish is refused");
    }
}
