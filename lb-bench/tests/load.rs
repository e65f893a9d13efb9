//! The load generator against servers in a network namespace: what it counts is what happened.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use testbed::namespace::with_ports;

const PORT: &str = "9100";

/// Runs `f` in a network namespace of its own, whose loopback interface is up.
fn in_namespace(f: impl FnOnce() -> Result<()> + Send) {
    if !testbed::root_or_say_so("the load generator in a namespace") {
        return;
    }
    let outcome = with_ports(|| {
        let up = Command::new("ip").args(["link", "set", "lo", "up"]).status()?;
        ensure!(up.success(), "ip link set lo up");
        f()
    });
    outcome.unwrap_or_else(|error| panic!("{error:#}"));
}

fn bench_load(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench-load"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

/// What it prints last.
fn result_of(arguments: &[&str]) -> Result<Value> {
    let output = bench_load(arguments).output()?;
    ensure!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    serde_json::from_str(text.lines().last().unwrap_or_default()).context("no JSON")
}

/// A server that ends with this value.
struct Server(Child);

impl Server {
    fn start(name: &str, address: &str) -> Result<Self> {
        let mut child =
            bench_load(&["serve", "--name", name, "--port", PORT, "--address", address]).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("no output")?).read_line(&mut line)?;
        ensure!(line == "ready\n", "the server says {line:?}");
        Ok(Self(child))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn all_that_is_offered_is_completed_and_named() {
    in_namespace(|| {
        let _servers = [Server::start("one", "127.0.0.1")?, Server::start("two", "127.0.0.2")?];
        let to = "127.0.0.1:9100,127.0.0.2:9100";
        let result =
            result_of(&["open", "--to", to, "--rate", "200", "--seconds", "1", "--spacing", "fixed"])?;
        assert_eq!(
            (&result["offered"], &result["completed"], &result["failed"]),
            (&200.into(), &200.into(), &0.into())
        );
        assert_eq!((&result["backends"]["one"], &result["backends"]["two"]), (&100.into(), &100.into()));
        let p = |name: &str| result[name].as_f64().unwrap();
        assert!(0.0 < p("p50_us") && p("p50_us") <= p("p90_us") && p("p90_us") <= p("p99_us"), "{result}");
        assert!(p("p99_us") <= p("max_us"), "{result}");
        // Source addresses and ports are those that it was told.
        let from = "127.0.0.8,127.0.0.9";
        let result = result_of(&["open", "--to", to, "--from", from, "--rate", "100", "--seconds", "0.2"])?;
        assert_eq!(result["offered"], result["completed"]);
        Ok(())
    });
}

#[test]
fn failures_are_counted_by_their_reason() {
    in_namespace(|| {
        let _server = Server::start("one", "127.0.0.1")?;
        let to = "127.0.0.1:9100,127.0.0.1:9";
        let result =
            result_of(&["open", "--to", to, "--rate", "100", "--seconds", "1", "--spacing", "fixed"])?;
        assert_eq!((&result["completed"], &result["failed"]), (&50.into(), &50.into()));
        assert_eq!(result["failures"], serde_json::json!({ "refused": 50 }));
        assert!(result["last_failed_ns"].as_u64().unwrap() > 0);
        // Addresses that nobody has: the namespace has no way there.
        let result = result_of(&["open", "--to", "192.0.2.1:9", "--rate", "10", "--seconds", "0.5"])?;
        assert_eq!(result["failures"]["unreachable"], result["offered"]);
        Ok(())
    });
}

/// A server that answers one connection after the other, each right away, but begins only after `pause`.
fn serve_late(pause: Duration, connections: usize) -> Result<thread::JoinHandle<Result<()>>> {
    let listener = TcpListener::bind(("127.0.0.1", 9100))?;
    Ok(thread::spawn(move || {
        thread::sleep(pause);
        for _ in 0..connections {
            let (mut stream, _) = listener.accept()?;
            stream.read_exact(&mut [0])?;
            stream.write_all(&[b'a'; 128])?;
        }
        Ok(())
    }))
}

#[test]
fn waiting_counts_from_when_a_connection_was_due() {
    in_namespace(|| {
        // The server stalls for the first second of two: a client that waits for answers would offer nothing meanwhile,
        // and see one slow answer. Here half of all connections wait, the first of them the whole second.
        let server = serve_late(Duration::from_secs(1), 100)?;
        let result = result_of(&[
            "open",
            "--to",
            "127.0.0.1:9100",
            "--rate",
            "50",
            "--seconds",
            "2",
            "--spacing",
            "fixed",
        ])?;
        server.join().expect("the server")?;
        assert_eq!(result["completed"], 100);
        let p = |name: &str| result[name].as_f64().unwrap();
        assert!(p("p99_us") >= 900_000.0 && p("max_us") >= 980_000.0, "{result}");
        assert!(p("p90_us") >= 700_000.0, "a tenth of all waited longer than 0.8 s: {result}");
        Ok(())
    });
}

#[test]
fn steps_end_where_nothing_listens_and_rise_where_something_does() {
    in_namespace(|| {
        let server = Server::start("one", "127.0.0.1")?;
        let climb = ["step", "--to", "127.0.0.1:9100", "--first", "20", "--most", "80", "--seconds", "0.3"];
        // Not a measurement: nothing may break it.
        let result = result_of(&[&climb[..], &["--limit-ms", "10000"]].concat())?;
        assert_eq!((&result["last_good"]["rate"], &result["breaking"]), (&80.0.into(), &Value::Null));
        assert_eq!(result["steps"].as_array().unwrap().len(), 3);
        drop(server);
        let result = result_of(&climb)?;
        assert_eq!((&result["last_good"], &result["breaking"]["rate"]), (&Value::Null, &20.0.into()));
        Ok(())
    });
}

#[test]
fn connections_that_stay_are_told_apart_from_those_that_break() {
    in_namespace(|| {
        let stays = Server::start("stays", "127.0.0.1")?;
        let mut goes = Server::start("goes", "127.0.0.2")?;
        let mut churn = bench_load(&[
            "churn",
            "--to",
            "127.0.0.1:9100,127.0.0.2:9100",
            "--flows",
            "200",
            "--open-rate",
            "1000",
            "--interval-ms",
            "100",
            "--seconds",
            "2",
        ])
        .spawn()?;
        let mut lines = BufReader::new(churn.stdout.take().context("no output")?).lines();
        let opened: Value = serde_json::from_str(&lines.next().context("no first line")??)?;
        assert_eq!(opened["opened"], 200, "{opened}");
        goes.0.kill()?;
        let result: Value = serde_json::from_str(&lines.next().context("no last line")??)?;
        ensure!(churn.wait()?.success());
        assert_eq!((&result["broken"], &result["held"]), (&100.into(), &100.into()), "{result}");
        assert_eq!(result["backends"], serde_json::json!({ "stays": 100 }));
        assert!(result["answers"].as_u64().unwrap() > 1000, "{result}");
        let broken = result["broken_at"].as_array().unwrap();
        assert!(broken.iter().all(|broken| broken[0].as_u64() > opened["at_ns"].as_u64()), "{result}");
        drop(stays);
        Ok(())
    });
}

#[test]
fn it_is_known_until_when_a_dead_backend_got_connections() {
    in_namespace(|| {
        let mut server = Server::start("one", "127.0.0.1")?;
        let alive =
            bench_load(&["alive", "--to", "127.0.0.1:9100", "--rate", "50", "--seconds", "3"]).spawn()?;
        thread::sleep(Duration::from_millis(500));
        server.0.kill()?;
        server.0.wait()?;
        thread::sleep(Duration::from_millis(500));
        server = Server::start("again", "127.0.0.1")?;
        let back_ns = lb_bench::poll::monotonic_ns();
        let output = alive.wait_with_output()?;
        let result: Value = serde_json::from_slice(&output.stdout)?;
        drop(server);
        let last = result["last_failed_ns"].as_u64().context("nothing failed")?;
        let begin = result["begin_ns"].as_u64().unwrap();
        assert!((begin..=back_ns).contains(&last), "{begin} {last} {back_ns}");
        assert!(result["failures"]["refused"].as_u64().unwrap() > 10, "{result}");
        Ok(())
    });
}

#[test]
fn wrong_arguments_are_refused() {
    let output = bench_load(&["open", "--to", "127.0.0.1:9", "--rate", "0"]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && told.contains("--rate"), "{told}");
    let output = bench_load(&["serve", "--name", "a-name-that-is-too-long", "--port", "1"]).output().unwrap();
    assert!(!output.status.success());
}
