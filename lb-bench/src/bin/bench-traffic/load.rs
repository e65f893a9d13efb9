//! The clients' side.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use lb_bench::protocol::Task;
use serde_json::{Value, json};

use crate::serve::ANSWER;

/// A connection or answer that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(5);
/// Datagrams that are sent in one call.
const BATCH: usize = 64;
/// setsockopt(2): how long the datagrams are into which the kernel cuts what is sent (udp(7)).
const UDP_SEGMENT: libc::c_int = 103;

/// What one call can send: the largest IPv4 packet without its headers.
const MAX_PIECE_BYTES: usize = 65_507;

/// How datagrams are handed to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sending {
    /// One by one, in one call.
    Single,
    /// As one piece of memory that the kernel cuts up behind the routing decision.
    Segmented,
}
/// What is still under way comes within this time, or not at all.
const SETTLE: Duration = Duration::from_millis(200);

fn open(to: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Bytes that arrived at the server, and the seconds until it said so.
pub fn bulk(to: SocketAddr, time: Duration) -> Result<Value> {
    let mut stream = open(to).with_context(|| format!("cannot connect to {to}"))?;
    let data = vec![Task::Bulk as u8; 1 << 18];
    stream.write_all(&data[..1])?;
    let begin = Instant::now();
    loop {
        stream.write_all(&data).context("the connection broke")?;
        if begin.elapsed() >= time {
            break;
        }
    }
    stream.shutdown(Shutdown::Write)?;
    let mut answer = [0; 8];
    stream.read_exact(&mut answer).context("the server did not say how much came")?;
    Ok(json!({ "bytes": u64::from_be_bytes(answer), "seconds": begin.elapsed().as_secs_f64() }))
}

/// One request on a connection of its own.
fn request(to: SocketAddr) -> std::io::Result<()> {
    let mut stream = open(to)?;
    stream.write_all(&[Task::Request as u8])?;
    let mut answer = [0; ANSWER.len()];
    stream.read_exact(&mut answer)?;
    // The server closes, so that its side waits out old segments and not this one: ports stay free here.
    stream.read(&mut answer[..1]).map(|_| ())
}

/// Requests that were answered, and how many not.
pub fn connect(to: &[SocketAddr], time: Duration, workers: u32) -> Result<Value> {
    let begin = Instant::now();
    let counts = on_threads(workers, |worker| {
        let (mut completed, mut failed) = (0u64, 0u64);
        // At least one, however late this thread got its turn.
        for turn in worker as usize.. {
            match request(to[turn % to.len()]) {
                Ok(()) => completed += 1,
                Err(_) => failed += 1,
            }
            if begin.elapsed() >= time {
                break;
            }
        }
        (completed, failed)
    })?;
    let seconds = begin.elapsed().as_secs_f64();
    let completed: u64 = counts.iter().map(|(completed, _)| completed).sum();
    let failed: u64 = counts.iter().map(|(_, failed)| failed).sum();
    Ok(json!({ "completed": completed, "failed": failed, "seconds": seconds }))
}

/// How long answers took, from when their requests were due: waiting for a client that is busy counts.
pub fn latency(to: &[SocketAddr], time: Duration, rate: u32, workers: u32) -> Result<Value> {
    let begin = Instant::now();
    let total = (time.as_secs_f64() * f64::from(rate)).ceil() as u32;
    let results = on_threads(workers, |worker| {
        let (mut times_us, mut failed) = (Vec::new(), 0u64);
        for number in (worker..total).step_by(workers as usize) {
            let due = begin + Duration::from_secs_f64(f64::from(number) / f64::from(rate));
            thread::sleep(due.saturating_duration_since(Instant::now()));
            match request(to[number as usize % to.len()]) {
                Ok(()) => times_us.push(due.elapsed().as_secs_f64() * 1e6),
                Err(_) => failed += 1,
            }
        }
        (times_us, failed)
    })?;
    let failed: u64 = results.iter().map(|(_, failed)| failed).sum();
    let mut times_us: Vec<f64> = results.into_iter().flat_map(|(times, _)| times).collect();
    times_us.sort_by(f64::total_cmp);
    ensure!(!times_us.is_empty(), "none of {total} requests was answered");
    Ok(json!({
        "completed": times_us.len(),
        "failed": failed,
        "p50_us": percentile(&times_us, 0.5),
        "p99_us": percentile(&times_us, 0.99),
        "max_us": times_us.last(),
    }))
}

/// The least of the sorted values that so large a share does not exceed.
fn percentile(sorted: &[f64], share: f64) -> Option<f64> {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

/// Datagrams that were sent by so many senders, each with a flow of its own, and that came.
pub fn udp(
    to: SocketAddr,
    control: &[SocketAddr],
    time: Duration,
    bytes: usize,
    senders: u32,
    sending: Sending,
) -> Result<Value> {
    let open = || -> Result<UdpSocket> {
        let socket = UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
        socket.connect(to).with_context(|| format!("cannot send to {to}"))?;
        Ok(socket)
    };
    let sockets = (0..senders).map(|_| open()).collect::<Result<Vec<_>>>()?;
    let before = counted(control)?;
    let begin = Instant::now();
    let sent = thread::scope(|scope| {
        let threads: Vec<_> = sockets
            .iter()
            .map(|socket| scope.spawn(move || flood(socket, begin, time, bytes, sending)))
            .collect();
        let ended = threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        ended.sum::<Result<u64>>()
    })?;
    let seconds = begin.elapsed().as_secs_f64();
    thread::sleep(SETTLE);
    let received = counted(control)? - before;
    ensure!(received > 0, "none of {sent} datagrams to {to} came");
    Ok(json!({ "sent": sent, "received": received, "seconds": seconds }))
}

fn flood(socket: &UdpSocket, begin: Instant, time: Duration, bytes: usize, sending: Sending) -> Result<u64> {
    let (each, messages_a_call) = match sending {
        Sending::Single => (1, BATCH),
        Sending::Segmented => {
            segment(socket, bytes)?;
            (BATCH.min(MAX_PIECE_BYTES / bytes), 1)
        }
    };
    let mut data = vec![b'u'; bytes * each];
    let mut part = libc::iovec { iov_base: data.as_mut_ptr().cast(), iov_len: data.len() };
    let mut messages: [libc::mmsghdr; BATCH] = std::array::from_fn(|_| {
        // SAFETY: plain data, of which zeros are valid: no address, no control data.
        let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
        message.msg_hdr.msg_iov = &raw mut part;
        message.msg_hdr.msg_iovlen = 1;
        message
    });
    let mut sent = 0u64;
    while begin.elapsed() < time {
        // SAFETY: every message points to the one part, and it to the data; both outlive the call, which reads them.
        let result =
            unsafe { libc::sendmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), messages_a_call as u32, 0) };
        if let Ok(count) = u64::try_from(result) {
            sent += count * each as u64;
            continue;
        }
        let error = std::io::Error::last_os_error();
        match error.raw_os_error() {
            // No room for now, or an ICMP error of an earlier one.
            Some(libc::ENOBUFS | libc::EAGAIN | libc::EINTR | libc::ECONNREFUSED) => thread::yield_now(),
            _ => bail!("cannot send: {error}"),
        }
    }
    Ok(sent)
}

/// Has the kernel cut what is sent into datagrams of so many bytes.
fn segment(socket: &UdpSocket, bytes: usize) -> Result<()> {
    let size = bytes as libc::c_int;
    let length = size_of_val(&size) as libc::socklen_t;
    // SAFETY: the kernel reads the number, which lives as long as this call.
    let result = unsafe {
        let option = (&raw const size).cast();
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_UDP, UDP_SEGMENT, option, length)
    };
    ensure!(result == 0, "cannot send segmented datagrams: {}", std::io::Error::last_os_error());
    Ok(())
}

/// The datagrams that all servers have counted.
fn counted(control: &[SocketAddr]) -> Result<u64> {
    let mut sum = 0;
    for server in control {
        let mut answer = [0; 8];
        open(*server)
            .and_then(|mut stream| stream.read_exact(&mut answer))
            .with_context(|| format!("cannot ask {server}"))?;
        sum += u64::from_be_bytes(answer);
    }
    Ok(sum)
}

/// What each of several threads says.
fn on_threads<T: Send>(workers: u32, work: impl Fn(u32) -> T + Sync) -> Result<Vec<T>> {
    thread::scope(|scope| {
        let threads: Vec<_> = (0..workers)
            .map(|worker| {
                let work = &work;
                scope.spawn(move || work(worker))
            })
            .collect();
        let results = threads.into_iter().map(|thread| thread.join().ok());
        results.collect::<Option<_>>().context("a client panicked")
    })
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;
    use crate::serve;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let sorted: Vec<f64> = (1..=200).map(f64::from).collect();
        assert_eq!(percentile(&sorted, 0.5), Some(100.0));
        assert_eq!(percentile(&sorted, 0.99), Some(198.0));
        assert_eq!(percentile(&sorted[..1], 0.99), Some(1.0));
        assert_eq!(percentile(&[], 0.5), None);
    }

    /// Ports of the loopback address that nobody has at this moment.
    fn free_ports() -> (u16, u16) {
        let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
        let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        (port(&listeners[0]), port(&listeners[1]))
    }

    #[test]
    fn client_and_server_count_the_same() {
        let localhost = Ipv4Addr::LOCALHOST.into();
        let (port, control) = free_ports();
        thread::spawn(move || serve::run(localhost, port, control));
        let (to, control) = (SocketAddr::new(localhost, port), SocketAddr::new(localhost, control));
        let deadline = Instant::now() + Duration::from_secs(10);
        while counted(&[control]).is_err() {
            assert!(Instant::now() < deadline, "the server does not listen");
            thread::sleep(Duration::from_millis(10));
        }
        let time = Duration::from_millis(100);
        let result = bulk(to, time).unwrap();
        assert_eq!(result["bytes"].as_u64().unwrap() % (1 << 18), 0, "everything came");
        let result = connect(&[to, to], time, 2).unwrap();
        assert!(result["completed"].as_u64().unwrap() > 0 && result["failed"] == 0, "{result}");
        let result = latency(&[to], time, 100, 4).unwrap();
        assert_eq!((&result["completed"], &result["failed"]), (&json!(10), &json!(0)));
        assert!(result["p50_us"].as_f64().unwrap() <= result["p99_us"].as_f64().unwrap());
        for sending in [Sending::Single, Sending::Segmented] {
            let result = udp(to, &[control], time, 18, 2, sending).unwrap();
            let (sent, received) = (result["sent"].as_u64().unwrap(), result["received"].as_u64().unwrap());
            assert!(0 < received && received <= sent, "{sending:?}: {result}");
        }
    }

    #[test]
    fn nobody_there_is_an_error() {
        let (port, _) = free_ports();
        let nobody = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
        assert!(bulk(nobody, Duration::from_millis(10)).is_err());
        assert!(latency(&[nobody], Duration::from_millis(10), 100, 1).is_err());
        let result = connect(&[nobody], Duration::from_millis(10), 1).unwrap();
        assert_eq!(result["completed"], 0);
        assert!(udp(nobody, &[nobody], Duration::from_millis(10), 18, 1, Sending::Single).is_err());
    }
}
