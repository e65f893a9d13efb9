//! Thousands of connections: echo servers, and a client that counts what becomes of its own.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::net::Net;
use super::raw::enter;
use super::shell::Process;

const PATIENCE: Duration = Duration::from_secs(10);

/// Lets this process have so many descriptors: one for each connection, and some.
pub fn allow_descriptors(number: u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the limit is a valid struct that lives through the call.
    assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) }, 0);
    limit.rlim_max = limit.rlim_max.max(number);
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: the same.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } != 0 {
        let error = std::io::Error::last_os_error();
        panic!("{number} descriptors are needed (`ulimit -Hn`): {error}");
    }
}

/// A TCP server on a host that sends back what it gets, its number before each piece: a process of its own, since ten
/// thousand connections take as many descriptors at either end. Ends with this.
pub struct Echo {
    _process: Process,
}

impl Echo {
    /// Listens on a port of a host.
    pub fn start(net: &Net, number: u32, port: u16) -> Self {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &net.ns(number), env!("CARGO_BIN_EXE_echo")]);
        command.args([number.to_string(), port.to_string()]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("the echo server");
        let mut process = Process(child);
        let mut line = String::new();
        BufReader::new(process.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "the echo server of host {number}");
        Self { _process: process }
    }
}

/// What became of connections.
#[derive(Debug, Default)]
pub struct Counts {
    /// Were served.
    pub served: AtomicU64,
    /// Were reset.
    pub reset: AtomicU64,
    /// Failed otherwise: no answer in time, refused.
    pub failed: AtomicU64,
    /// The longest time from a connection's begin to its first answer, in microseconds.
    pub longest_us: AtomicU64,
}

impl Counts {
    fn count(&self, result: &std::io::Result<String>, took: Duration) {
        self.longest_us.fetch_max(took.as_micros() as u64, Ordering::Relaxed);
        let row = match result {
            Ok(_) => &self.served,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => &self.reset,
            Err(_) => &self.failed,
        };
        row.fetch_add(1, Ordering::Relaxed);
    }

    /// The longest time from a connection's begin to its first answer: above a second where a SYN was lost.
    pub fn longest(&self) -> Duration {
        Duration::from_micros(self.longest_us.load(Ordering::Relaxed))
    }

    /// Served, reset, failed.
    pub fn numbers(&self) -> [u64; 3] {
        [&self.served, &self.reset, &self.failed].map(|row| row.load(Ordering::Relaxed))
    }
}

/// Sends a word and reads the answer.
pub fn say(stream: &mut TcpStream, word: &str) -> std::io::Result<String> {
    stream.write_all(word.as_bytes())?;
    let mut piece = [0; 256];
    match stream.read(&mut piece)? {
        0 => Err(ErrorKind::UnexpectedEof.into()),
        length => Ok(String::from_utf8_lossy(&piece[..length]).into_owned()),
    }
}

/// Connects from the calling thread's namespace, and says the first word; the host that answered.
pub fn connect(to: SocketAddr) -> std::io::Result<(TcpStream, String)> {
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    let at = say(&mut stream, "first")?;
    Ok((stream, at[..1].to_owned()))
}

/// Makes new connections from a host until told to stop, and counts them.
pub fn keep_connecting(net: &Net, host: u32, to: SocketAddr, stop: &AtomicBool, counts: &Counts) {
    enter(&net.ns(host));
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        counts.count(&connect(to).map(|(_, at)| at), began.elapsed());
    }
}
