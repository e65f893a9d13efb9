//! The server's side.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use lb_bench::protocol::{ANSWER_BYTES, Task};

/// What a request is answered with.
pub const ANSWER: [u8; ANSWER_BYTES] = [b'a'; ANSWER_BYTES];
/// Threads that accept connections and serve them.
const WORKERS: usize = 8;
/// Datagrams that are taken in one call.
const BATCH: usize = 64;
/// Pause of whoever counts datagrams once it has them all: woken by each of them it would take more time than what is
/// measured.
const LOOK_EVERY: Duration = Duration::from_micros(500);
/// Bytes of datagrams that wait meanwhile, and while it waits for a processor.
const ROOM_BYTES: libc::c_int = 32 << 20;
/// A client that says nothing for so long is left.
const PATIENCE: Duration = Duration::from_secs(10);

/// Datagrams that came.
static DATAGRAMS: AtomicU64 = AtomicU64::new(0);

/// Makes room for datagrams, as far as it is allowed: beyond the system's limit root alone.
fn make_room(socket: &UdpSocket) {
    for option in [libc::SO_RCVBUF, libc::SO_RCVBUFFORCE] {
        let room = ROOM_BYTES;
        let length = size_of_val(&room) as libc::socklen_t;
        // SAFETY: the kernel reads the number, which lives as long as this call.
        unsafe {
            libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, (&raw const room).cast(), length)
        };
    }
}

/// Serves until it is ended from outside.
pub fn run(address: IpAddr, port: u16, control: u16) -> Result<()> {
    let listen = |port| {
        let at = SocketAddr::new(address, port);
        TcpListener::bind(at).with_context(|| format!("cannot listen on {at}"))
    };
    let (load, questions) = (listen(port)?, listen(control)?);
    let datagrams =
        UdpSocket::bind((address, port)).with_context(|| format!("cannot bind UDP port {port}"))?;
    for _ in 0..WORKERS {
        let load = load.try_clone()?;
        thread::spawn(move || accept(&load));
    }
    thread::spawn(move || {
        if let Err(error) = count(&datagrams) {
            eprintln!("error: UDP: {error:#}");
        }
    });
    println!("ready");
    std::io::stdout().flush()?;
    for stream in questions.incoming() {
        // Whoever asked and went has no use for the answer.
        let answer = DATAGRAMS.load(Ordering::Relaxed).to_be_bytes();
        let _ = stream.and_then(|mut stream| stream.write_all(&answer));
    }
    Ok(())
}

fn accept(listener: &TcpListener) {
    for stream in listener.incoming().flatten() {
        // A client that breaks off counts its own failure.
        let _ = serve(stream);
    }
}

fn serve(mut stream: TcpStream) -> Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut task = [0];
    stream.read_exact(&mut task)?;
    match Task::of(task[0]) {
        Some(Task::Bulk) => {}
        Some(Task::Request) => return Ok(stream.write_all(&ANSWER)?),
        Some(Task::Hold) | None => bail!("task {} is not served here", task[0]),
    }
    let mut buffer = vec![0; 1 << 18];
    let mut total = 0u64;
    loop {
        match stream.read(&mut buffer)? {
            0 => break,
            bytes => total += bytes as u64,
        }
    }
    Ok(stream.write_all(&total.to_be_bytes())?)
}

/// Takes datagrams and counts them.
fn count(socket: &UdpSocket) -> Result<()> {
    make_room(socket);
    let mut buffers = [[0u8; 64]; BATCH];
    let mut parts = buffers
        .each_mut()
        .map(|buffer| libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() });
    let mut messages = parts.each_mut().map(|part| {
        // SAFETY: plain data, of which zeros are valid: no address, no control data.
        let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
        message.msg_hdr.msg_iov = part;
        message.msg_hdr.msg_iovlen = 1;
        message
    });
    loop {
        // SAFETY: each message points to a part, and each part to a buffer, that outlive the call; longer datagrams are
        // cut off.
        let taken = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                messages.as_mut_ptr(),
                BATCH as u32,
                libc::MSG_WAITFORONE,
                std::ptr::null_mut(),
            )
        };
        let Ok(taken) = u64::try_from(taken) else {
            let error = std::io::Error::last_os_error();
            if error.kind() == std::io::ErrorKind::Interrupted {
                continue;
            }
            return Err(error.into());
        };
        DATAGRAMS.fetch_add(taken, Ordering::Relaxed);
        if taken < BATCH as u64 {
            thread::sleep(LOOK_EVERY);
        }
    }
}
