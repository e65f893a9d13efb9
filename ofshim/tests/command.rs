//! The binary: what it refuses, what it tells, and how it ends. Needs no privileges.

mod model;
mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use model::{BROADCAST, Model, frame, host};
use openflow::{ErrorKind, Framer, Message, PortNo, Version};
use support::{Controller, Folder, ofshim, refusal};

/// A switch in memory on a real connection.
struct Remote {
    model: Model,
    stream: TcpStream,
    framer: Framer,
}

impl Remote {
    fn connect(controller: &Controller, model: Model) -> Self {
        let mut stream = TcpStream::connect(controller.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream.write_all(&model.hello()).unwrap();
        Self { model, stream, framer: Framer::new() }
    }

    /// Reads and answers until `done`.
    fn talk_until(&mut self, done: impl Fn(&Model) -> bool) {
        let mut buffer = [0; 4096];
        while !done(&self.model) {
            let count = self.stream.read(&mut buffer).unwrap();
            assert!(count > 0, "closed; got {:?}", self.model.inbox);
            self.framer.push(&buffer[..count]).unwrap();
            while let Some(frame) = self.framer.next_frame() {
                self.model.receive(&frame.unwrap().bytes);
            }
            self.stream.write_all(&std::mem::take(&mut self.model.outbox)).unwrap();
        }
    }

    fn ready(controller: &Controller, model: Model) -> Self {
        let mut remote = Self::connect(controller, model);
        remote.talk_until(|model| model.inbox.contains(&Message::BarrierRequest));
        controller.wait_for_log(&format!("switch {:016x}", remote.model.dpid));
        remote
    }
}

#[test]
fn wrong_input_is_one_line_and_status_2() {
    let folder = Folder::new();
    let run_dir = folder.0.display().to_string();
    let run = |options: &[&str]| refusal(&[&["--run-dir", &run_dir, "run"], options].concat());

    assert!(run(&["--listen", "127.0.0.1:70000"]).starts_with("error: invalid value '127.0.0.1:70000'"));
    assert!(run(&["--listen", "nowhere"]).contains("write an IP address and a port"));
    assert!(run(&["--openflow", "1.4"]).contains("1.0, 1.3"));
    assert!(run(&["--listen", "192.0.2.1:6653"]).starts_with("error: cannot listen on 192.0.2.1:6653: "));

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let line = run(&["--listen", &format!("127.0.0.1:0,{address}")]);
    assert!(line.starts_with(&format!("error: {address} is in use: end the other controller")), "{line}");

    let missing = folder.0.join("none.toml").display().to_string();
    assert!(run(&["--config", &missing]).contains("none.toml cannot be read"));
    let bad = folder.file(
        "lb.toml",
        "[[vip]]\naddress = \"10.0.1.1\"\nprot = 80\n\n[[vip.backend]]\naddress = \"10.0.0.1\"\n",
    );
    let line = run(&["--listen", "127.0.0.1:0", "--config", &bad]);
    assert!(line.contains("lb.toml:3: unknown key \"prot\""), "{line}");

    let file = folder.file("file", "");
    let line = refusal(&["--run-dir", &file, "run", "--listen", "127.0.0.1:0"]);
    assert!(line.contains("name another with --run-dir"), "{line}");
}

#[test]
fn without_a_controller_the_read_commands_say_so() {
    let folder = Folder::new();
    let run_dir = folder.0.display().to_string();
    for command in ["status", "topology", "hosts", "flows"] {
        let line = refusal(&[command, "--run-dir", &run_dir]);
        assert!(line.starts_with("error: no controller runs with the run folder"), "{line}");
        assert!(line.contains("ofshim run"), "{line}");
    }
    // A socket that a killed controller left behind is no controller.
    drop(UnixListener::bind(folder.0.join("ofshim.sock")).unwrap());
    assert!(refusal(&["status", "--run-dir", &run_dir]).contains("no controller runs"));
}

#[test]
fn a_second_controller_is_refused_and_a_killed_one_is_replaced() {
    let mut first = Controller::start(&[]);
    let run_dir = first.run_dir();
    let second = refusal(&["run", "--run-dir", &run_dir, "--listen", "127.0.0.1:0"]);
    assert!(second.contains("another controller runs with this run folder"), "{second}");
    let socket = std::path::Path::new(&run_dir).join("ofshim.sock");
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);

    assert_eq!(first.end("KILL"), None);
    assert!(socket.exists());
    let third = Controller::start(&["--run-dir", &run_dir]);
    let status = ofshim(&["status", "--run-dir", &run_dir]);
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
    drop(third);
}

#[test]
fn orders_that_cannot_be_read_are_left_alone_and_nothing_starts() {
    let (run_dir, folder) = (Folder::new(), Folder::new());
    let file = folder.file("orders.json", "{\"version\":7}");
    let (run_dir, state_dir) = (run_dir.0.display().to_string(), folder.0.display().to_string());
    let vip = ["--lb", "openflow", "--ip", "10.0.1.1", "--servers", "10.0.0.1"];
    let listen = ["run", "--run-dir", &run_dir, "--listen", "127.0.0.1:0", "--state-dir", &state_dir];
    let line = refusal(&[&listen[..], &vip].concat());
    assert!(line.contains("orders.json: it is of version 7") && line.contains("remove it"), "{line}");
    assert_eq!(std::fs::read_to_string(file).unwrap(), "{\"version\":7}");
    let line = refusal(&listen);
    assert!(line.contains("--state-dir does not go with --lb auto"), "{line}");
}

#[test]
fn orders_are_for_a_controller_that_balances() {
    let controller = Controller::start(&[]);
    for words in [&["drain", "h1"][..], &["add", "10.0.0.4"], &[]] {
        let run_dir = controller.run_dir();
        let line = refusal(&[&["backend", "--run-dir", &run_dir], words].concat());
        assert!(
            line.contains("this controller does not balance") && line.contains("--lb openflow"),
            "{line}"
        );
    }
    let vip = ["--lb", "openflow", "--ip", "10.0.1.1", "--servers", "10.0.0.1", "--port", "80"];
    let controller = Controller::start(&vip);
    let run_dir = controller.run_dir();
    let order = |words: &[&str]| ofshim(&[&["backend", "--run-dir", &run_dir], words].concat());
    assert!(order(&["add", "10.0.0.4:8080", "--name", "h4", "--weight", "2"]).status.success());
    assert!(order(&["drain", "10.0.0.1", "--deadline", "1h"]).status.success());
    controller.wait_for_log("backend 10.0.0.4 of VIP 10.0.1.1:80/tcp: added by order");
    let listed = String::from_utf8(order(&[]).stdout).unwrap();
    assert!(listed.contains("h4:8080") && listed.contains("disabled in 35"), "{listed}");
    let kept = std::fs::read_to_string(format!("{run_dir}/orders.json")).unwrap();
    assert!(kept.contains("\"h4\"") && kept.contains("draining"), "{kept}");
}

#[test]
fn both_signals_end_it_cleanly() {
    for signal in ["TERM", "INT"] {
        let mut controller = Controller::start(&[]);
        let _switch = Remote::ready(&controller, Model::new(Version::V1_3, 1, 3));
        assert_eq!(controller.end(signal), Some(0));
        controller.wait_for_log("stopped");
        assert!(!std::path::Path::new(&controller.run_dir()).join("ofshim.sock").exists());
    }
}

#[test]
fn the_read_commands_tell_what_there_is() {
    let folder = Folder::new();
    let file = folder.file(
        "lb.toml",
        "[[vip]]\naddress = \"10.0.1.1\"\nport = 80\n\n[[vip.backend]]\naddress = \"10.0.0.1\"\n",
    );
    let controller = Controller::learning(&["--config", &file]);
    let mut s1 = Remote::ready(&controller, Model::new(Version::V1_3, 0xab, 3));
    for (port, frame) in [(1, frame(host(1), BROADCAST)), (2, frame(host(2), host(1)))] {
        s1.model.frame_in(PortNo(port), &frame, None);
        s1.stream.write_all(&std::mem::take(&mut s1.model.outbox)).unwrap();
    }
    s1.talk_until(|model| model.emitted.len() == 3);

    let status = controller.read("status");
    assert_eq!(status["switches"][0]["dpid"], "00000000000000ab");
    assert_eq!((&status["hosts"], &status["flows"]), (&2.into(), &1.into()));
    assert_eq!(status["listen"][0], controller.address());
    assert_eq!(status["balancer"]["source"], "file");
    assert_eq!(status["balancer"]["vips"][0]["mac"], "02:6c:0a:00:01:01");
    assert_eq!(controller.read("topology")["switches"][0]["ports"][1]["hosts"], 1);
    assert_eq!(controller.read("hosts")["hosts"][0]["mac"], host(1).to_string());
    let flow = &controller.read("flows")["flows"][0];
    assert_eq!(
        (&flow["in_port"], &flow["out_port"], &flow["purpose"]),
        (&2.into(), &1.into(), &"forward".into())
    );
    for command in ["status", "topology", "hosts", "flows"] {
        let text = ofshim(&[command, "--run-dir", &controller.run_dir()]).stdout;
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("00000000000000ab"), "{text}");
    }
}

#[test]
fn rubbish_is_answered_and_others_do_not_notice() {
    let controller = Controller::learning(&[]);
    let mut good = Remote::ready(&controller, Model::new(Version::V1_0, 1, 3));
    let mut bad = Remote::ready(&controller, Model::new(Version::V1_3, 2, 3));
    bad.stream.write_all(&[4, 99, 0, 8, 0, 0, 0, 9]).unwrap();
    bad.talk_until(|model| matches!(model.inbox.last(), Some(Message::Error(_))));
    let Some(Message::Error(error)) = bad.model.inbox.last() else { unreachable!() };
    assert_eq!(error.kind, ErrorKind::BadRequestBadType);
    assert_eq!(bad.stream.read(&mut [0; 64]).unwrap(), 0, "closed");
    controller.wait_for_log("connection closed: sent rubbish");

    good.model.frame_in(PortNo(1), &frame(host(1), BROADCAST), None);
    good.stream.write_all(&std::mem::take(&mut good.model.outbox)).unwrap();
    good.talk_until(|model| model.emitted.len() == 2);
}

#[test]
fn a_storm_of_packets_slows_its_switch_down_and_loses_nothing() {
    let controller = Controller::learning(&[]);
    let mut switch = Remote::ready(&controller, Model::new(Version::V1_3, 1, 3));
    let mut big = frame(host(1), BROADCAST);
    big.resize(60_000, 0);
    switch.model.frame_in(PortNo(1), &big, None);
    let message = std::mem::take(&mut switch.model.outbox);
    let packets = (40 << 20) / message.len();
    let mut stream = switch.stream.try_clone().unwrap();
    let writer = std::thread::spawn(move || (0..packets).try_for_each(|_| stream.write_all(&message)));
    // It is busy, as a switch in a storm is, and reads what it gets only later.
    std::thread::sleep(Duration::from_secs(1));
    let mut buffer = vec![0; 16 << 10];
    let mut came = 0;
    while came < packets * big.len() {
        let count = switch.stream.read(&mut buffer).unwrap();
        assert!(count > 0, "closed after {came} bytes: {:?}", controller.log());
        came += count;
    }
    writer.join().unwrap().unwrap();
    assert_eq!(controller.logged("does not read"), 0);
}

#[test]
fn a_switch_that_does_not_read_is_closed_before_it_eats_memory() {
    let controller = Controller::learning(&[]);
    let mut slow = Remote::ready(&controller, Model::new(Version::V1_3, 2, 3));
    // Each packet comes back as a packet-out; nobody reads them, so they pile up.
    slow.stream.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut sent = 0;
    let mut big = frame(host(1), BROADCAST);
    big.resize(60_000, 0);
    slow.model.frame_in(PortNo(1), &big, None);
    let message = std::mem::take(&mut slow.model.outbox);
    while sent < 200 << 20 && slow.stream.write_all(&message).is_ok() {
        sent += message.len();
    }
    assert!(sent < 200 << 20, "never closed");
    controller.wait_for_log("it does not read what it is sent");
    let mut good = Remote::ready(&controller, Model::new(Version::V1_3, 1, 3));
    good.model.frame_in(PortNo(1), &frame(host(1), BROADCAST), None);
    good.stream.write_all(&std::mem::take(&mut good.model.outbox)).unwrap();
    good.talk_until(|model| model.emitted.len() == 2);
}

/// Answers one question for its status with each body, as an earlier daemon would: one that knows of no hand-over.
fn daemon(listener: UnixListener, bodies: &'static [&'static str]) {
    std::thread::spawn(move || {
        let mut bodies = bodies.iter();
        while bodies.len() > 0 {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let count = stream.read(&mut request).unwrap();
            let (status, body) = match &request[..count] {
                asked if asked.starts_with(b"GET /v1/status HTTP/1.1\r\n") => {
                    ("200 OK", *bodies.next().unwrap())
                }
                asked if asked.starts_with(b"GET /v1/handover HTTP/1.1\r\n") => ("404 Not Found", ""),
                asked => panic!("{}", String::from_utf8_lossy(asked)),
            };
            let length = body.len();
            let head = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
            stream.write_all((head + body).as_bytes()).unwrap();
        }
    });
}

#[test]
fn the_daemon_s_knowledge_is_taken_and_kept_when_it_goes() {
    let folder = Folder::new();
    let path = folder.0.join("lb.sock");
    daemon(
        UnixListener::bind(&path).unwrap(),
        &[
            r#"{"vips":[{"address":"10.0.1.1","mac":"02:6c:0a:00:01:01"}],"placement":{"kind":"inline"}}"#,
            r#"{"vips":[{"address":"10.0.1.2","mac":"02:6c:0a:00:01:02"}],"placement":{"kind":"onearm"}}"#,
            "rubbish",
        ],
    );
    let controller = Controller::start(&["--lb-socket", &path.display().to_string()]);
    controller.wait_for_log("inline, 0 backends, VIPs 10.0.1.1 (02:6c:0a:00:01:01), from the daemon");
    controller.wait_for_log("onearm, 0 backends, VIPs 10.0.1.2 (02:6c:0a:00:01:02), from the daemon");
    controller.wait_for_log("the balancer's daemon does not answer; what it said holds");
    let balancer = &controller.read("status")["balancer"];
    assert_eq!(
        (&balancer["source"], &balancer["vips"][0]["address"]),
        (&"daemon".into(), &"10.0.1.2".into())
    );
}
