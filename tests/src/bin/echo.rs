//! A TCP server for thousands of connections: sends back what it gets, its name before each piece. For the end-to-end
//! tests; it ends with the process that started it.
//!
//! `echo NAME PORT` prints `ready` once it listens.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;

use anyhow::{Context, Result, ensure};

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (name, port) = (arguments.next().context("a name")?, arguments.next().context("a port")?);
    end_with_parent()?;
    allow_all_descriptors()?;
    let listener = TcpListener::bind(("0.0.0.0", port.parse().context("a port")?))?;
    // The standard library's backlog is too short for a thousand connections a second on a busy machine.
    // SAFETY: a descriptor of ours and a number; listening again changes the backlog.
    ensure!(unsafe { libc::listen(listener.as_raw_fd(), 4096) } == 0, io::Error::last_os_error());
    listener.set_nonblocking(true)?;
    println!("ready");
    serve(&listener, &name)?;
    Ok(())
}

fn end_with_parent() -> Result<()> {
    // SAFETY: takes numbers.
    let result = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong) };
    ensure!(result == 0, io::Error::last_os_error());
    Ok(())
}

/// As many as the hard limit allows.
fn allow_all_descriptors() -> Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the limit is a valid struct that lives through both calls.
    let result = unsafe {
        let known = libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        limit.rlim_cur = limit.rlim_max;
        known | libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit)
    };
    ensure!(result == 0, io::Error::last_os_error());
    Ok(())
}

/// One loop over everything that is ready (epoll(7)).
fn serve(listener: &TcpListener, name: &str) -> io::Result<()> {
    // SAFETY: takes a flag and returns a descriptor.
    let epoll = unsafe { libc::epoll_create1(0) };
    if epoll < 0 {
        return Err(io::Error::last_os_error());
    }
    let add = |fd: i32| -> io::Result<()> {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: fd as u64 };
        // SAFETY: both descriptors are open, and the event lives through the call.
        match unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &raw mut event) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    add(listener.as_raw_fd())?;
    let mut streams = BTreeMap::new();
    let mut events = [libc::epoll_event { events: 0, u64: 0 }; 256];
    loop {
        // SAFETY: the events are valid for writing, as many as are said.
        let ready = unsafe { libc::epoll_wait(epoll, events.as_mut_ptr(), 256, -1) };
        for event in events.iter().take(usize::try_from(ready).unwrap_or(0)) {
            let fd = event.u64 as i32;
            if fd == listener.as_raw_fd() {
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(true)?;
                    add(stream.as_raw_fd())?;
                    streams.insert(stream.as_raw_fd(), stream);
                }
            } else if !streams.get_mut(&fd).is_some_and(|stream| answer(stream, name)) {
                streams.remove(&fd);
            }
        }
    }
}

/// Answers what is there; false at the end.
fn answer(stream: &mut TcpStream, name: &str) -> bool {
    let mut piece = [0; 256];
    match stream.read(&mut piece) {
        Ok(0) => false,
        Ok(length) => stream.write_all(&[name.as_bytes(), b" ", &piece[..length]].concat()).is_ok(),
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    }
}
