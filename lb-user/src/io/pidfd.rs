//! Processes as descriptors: waiting for the end of one that is not our child (pidfd_open(2), Linux 5.3).

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use tokio::io::unix::AsyncFd;

/// A process, whatever becomes of its number.
#[derive(Debug)]
pub struct PidFd {
    fd: AsyncFd<OwnedFd>,
}

impl PidFd {
    /// The process that has this number now. Needs a tokio runtime around it.
    ///
    /// # Errors
    /// There is none.
    pub fn open(pid: u32) -> io::Result<Self> {
        let pid = libc::pid_t::try_from(pid).map_err(|_| io::ErrorKind::InvalidInput)?;
        // SAFETY: pidfd_open takes a process id and flags, and touches no memory.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        let fd = RawFd::try_from(fd).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
        // SAFETY: the kernel just gave this descriptor to us alone.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: an OwnedFd always names the same open descriptor, and AsyncFd deregisters it before dropping it.
        let fd = unsafe { AsyncFd::register(fd) }.map_err(|error| error.into_parts().1)?;
        Ok(Self { fd })
    }

    /// Waits until the process has ended. Safe to drop and call again.
    pub async fn ended(&self) {
        // Readable means ended, and stays so (pidfd_open(2)).
        drop(self.fd.readable().await);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_end_of_a_process_is_seen_and_seen_again() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("sleep");
        let process = PidFd::open(child.id()).expect("a process");
        let alive = tokio::time::timeout(std::time::Duration::from_millis(20), process.ended()).await;
        assert!(alive.is_err(), "it has not ended");
        child.kill().expect("killed");
        process.ended().await;
        child.wait().expect("waited for");
        process.ended().await;
        assert!(PidFd::open(child.id()).is_err(), "its number is nobody's");
    }
}
