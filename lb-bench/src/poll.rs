//! Waiting for many sockets in one thread, with a deadline in nanoseconds: a thin layer over epoll(7).

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// Events that one call reports at most.
const BATCH: usize = 256;

/// What to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Something to read, or the end.
    Read,
    /// That a connection is established or has failed, and each time that there is something new to read: told once, so
    /// the socket has to be read until it has no more.
    Connection,
}

/// A set of sockets that are waited for. A socket that is closed leaves the set.
pub struct Poll {
    epoll: OwnedFd,
    events: Vec<libc::epoll_event>,
}

impl Poll {
    /// An empty set.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made the descriptor, and nobody else has it.
        let epoll = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { epoll, events: vec![libc::epoll_event { events: 0, u64: 0 }; BATCH] })
    }

    /// Waits for `socket` from now on; `token` names it in the answers.
    pub fn add(&self, socket: impl AsFd, interest: Interest, token: u64) -> io::Result<()> {
        let events = match interest {
            Interest::Read => libc::EPOLLIN | libc::EPOLLRDHUP,
            Interest::Connection => libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET,
        };
        let mut event = libc::epoll_event { events: events as u32, u64: token };
        let fd = socket.as_fd().as_raw_fd();
        // SAFETY: both descriptors are open, and the event outlives the call, which reads it.
        let done =
            unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &raw mut event) };
        if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Waits until something happens or `limit` is over; appends the tokens of the sockets where something did.
    pub fn wait(&mut self, limit: Option<Duration>, tokens: &mut Vec<u64>) -> io::Result<()> {
        let limit = limit.map(|limit| libc::timespec {
            tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(limit.subsec_nanos()),
        });
        let limit = limit.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: the events have room for BATCH, the limit is null or outlives the call, and no signal mask is given.
        let count = unsafe {
            libc::epoll_pwait2(
                self.epoll.as_raw_fd(),
                self.events.as_mut_ptr(),
                BATCH as i32,
                limit,
                std::ptr::null(),
            )
        };
        let Ok(count) = usize::try_from(count) else {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::Interrupted { Ok(()) } else { Err(error) };
        };
        tokens.extend(self.events[..count].iter().map(|event| event.u64));
        Ok(())
    }
}

/// Lets this process have as many sockets as it is allowed to, and wakes its thread when it is due and not up to 50 us
/// later (PR_SET_TIMERSLACK). Returns how many sockets that is.
pub fn prepare_process() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the limit outlives the call, which writes it.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let most = libc::rlimit { rlim_cur: WANTED_FILES, rlim_max: limit.rlim_max.max(WANTED_FILES) };
    // SAFETY: the limit outlives the call, which reads it. Only root may raise the upper one.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const most) } == 0 {
        limit = most;
    } else {
        limit.rlim_cur = limit.rlim_max.min(WANTED_FILES);
        // SAFETY: as above.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    // SAFETY: no pointers; one nanosecond is the least that is not "the default".
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1u64) };
    Ok(limit.rlim_cur)
}

/// Lets this process go before others of the machine, so that a load generator is on time; only root may, and for others
/// nothing changes.
pub fn go_before_others() {
    // SAFETY: no pointers; 0 is this process.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, GENERATOR_NICE) };
}

/// The niceness of a load generator.
const GENERATOR_NICE: i32 = -10;

/// Sockets that a measurement may have open, all source ports of one address, and what belongs to the program itself.
const WANTED_FILES: u64 = 70_000;

/// Nanoseconds of CLOCK_MONOTONIC, which all processes of a machine share, also those in other network namespaces.
#[must_use]
pub fn monotonic_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the time outlives the call, which writes it; this clock is always there.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    let (seconds, rest) = (u64::try_from(now.tv_sec), u64::try_from(now.tv_nsec));
    seconds.unwrap_or(0) * 1_000_000_000 + rest.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    use std::time::Instant;

    use super::*;

    #[test]
    fn readers_and_deadlines_are_told() {
        let (mut here, there) = UnixStream::pair().unwrap();
        let mut poll = Poll::new().unwrap();
        poll.add(&there, Interest::Read, 7).unwrap();
        let mut tokens = Vec::new();
        let begin = Instant::now();
        poll.wait(Some(Duration::from_micros(300)), &mut tokens).unwrap();
        assert!(tokens.is_empty() && begin.elapsed() >= Duration::from_micros(300));
        here.write_all(b"x").unwrap();
        poll.wait(None, &mut tokens).unwrap();
        assert_eq!(tokens, [7]);
        poll.add(&here, Interest::Connection, 8).unwrap();
        poll.wait(None, &mut tokens).unwrap();
        poll.wait(None, &mut tokens).unwrap();
        tokens.sort_unstable();
        assert_eq!(tokens, [7, 7, 7, 8], "what is not read is told again, the connection once");
    }

    #[test]
    fn the_clock_goes_on() {
        let before = monotonic_ns();
        assert!(before > 0 && monotonic_ns() >= before);
    }
}
