//! Thousands of connections: an echo server of one thread, and a client that counts what becomes of its own.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::net::Net;
use super::raw::enter;

const PATIENCE: Duration = Duration::from_secs(10);

/// Descriptors that this process may have: two for each connection, and some.
pub fn allow_descriptors(number: u64) {
    let limit = libc::rlimit { rlim_cur: number, rlim_max: number };
    // SAFETY: the limit is a valid struct that lives through the call.
    let result = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

/// A TCP server on a host that sends back what it gets, its number before each piece. Ends with this.
pub struct Echo {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    /// Listens on a port of a host.
    pub fn start(net: &Net, number: u32, port: u16) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (ns, stopped) = (net.ns(number), Arc::clone(&stop));
        let (ready, is_ready) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            enter(&ns);
            let listener = TcpListener::bind(("0.0.0.0", port)).unwrap();
            // The standard library's backlog is too short for a thousand connections a second on a busy machine.
            // SAFETY: a descriptor of ours and a number; listening again changes the backlog.
            assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 4096) }, 0);
            listener.set_nonblocking(true).unwrap();
            ready.send(()).unwrap();
            serve(&listener, number, &stopped);
        });
        is_ready.recv().unwrap();
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One loop over everything that is ready (epoll(7)).
fn serve(listener: &TcpListener, number: u32, stop: &AtomicBool) {
    // SAFETY: takes a flag and returns a descriptor.
    let epoll = unsafe { libc::epoll_create1(0) };
    assert!(epoll >= 0);
    let add = |fd: i32| {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: fd as u64 };
        // SAFETY: both descriptors are open, and the event lives through the call.
        assert_eq!(unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &raw mut event) }, 0);
    };
    add(listener.as_raw_fd());
    let mut streams = std::collections::BTreeMap::new();
    let mut events = [libc::epoll_event { events: 0, u64: 0 }; 256];
    while !stop.load(Ordering::Relaxed) {
        // SAFETY: the events are valid for writing, as many as are said.
        let ready = unsafe { libc::epoll_wait(epoll, events.as_mut_ptr(), 256, 50) };
        for event in events.iter().take(usize::try_from(ready).unwrap_or(0)) {
            let fd = event.u64 as i32;
            if fd == listener.as_raw_fd() {
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(true).unwrap();
                    add(stream.as_raw_fd());
                    streams.insert(stream.as_raw_fd(), stream);
                }
            } else if !streams.get_mut(&fd).is_some_and(|stream| answer(stream, number)) {
                streams.remove(&fd);
            }
        }
    }
    // SAFETY: the descriptor is ours.
    unsafe { libc::close(epoll) };
}

/// Answers what is there; false at the end.
fn answer(stream: &mut TcpStream, number: u32) -> bool {
    let mut piece = [0; 256];
    match stream.read(&mut piece) {
        Ok(0) => false,
        Ok(length) => stream.write_all(&[format!("{number} ").as_bytes(), &piece[..length]].concat()).is_ok(),
        Err(error) => error.kind() == ErrorKind::WouldBlock,
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
}

impl Counts {
    fn count(&self, result: &std::io::Result<String>) {
        let row = match result {
            Ok(_) => &self.served,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => &self.reset,
            Err(_) => &self.failed,
        };
        row.fetch_add(1, Ordering::Relaxed);
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
        counts.count(&connect(to).map(|(_, at)| at));
    }
}
