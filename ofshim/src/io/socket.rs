//! The controller's unix socket: one controller for each run folder, readable by its owner only.

use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use tokio::net::UnixListener;

/// The name of the socket in the run folder.
pub const SOCKET_NAME: &str = "ofshim.sock";

/// The socket; its file goes with it.
#[derive(Debug)]
pub struct ApiSocket {
    path: PathBuf,
}

impl ApiSocket {
    /// Makes the run folder and the socket in it, with mode 0600. A socket that nobody listens on is replaced.
    ///
    /// # Errors
    /// Another controller runs with this folder, or the folder or socket cannot be made. One line.
    pub fn bind(run_dir: &Path) -> anyhow::Result<(Self, UnixListener)> {
        fs::create_dir_all(run_dir).with_context(|| {
            format!("run folder {} cannot be made; name another with --run-dir", run_dir.display())
        })?;
        let path = run_dir.join(SOCKET_NAME);
        refuse_if_taken(&path)?;
        // Made under another name first, so that it never stands there with wider permissions.
        let fresh = run_dir.join(format!(".{SOCKET_NAME}.{}", std::process::id()));
        let made = Self::make(&fresh, &path);
        if made.is_err() {
            let _ = fs::remove_file(&fresh);
        }
        let listener = made.with_context(|| {
            format!("socket {} cannot be made; name another folder with --run-dir", path.display())
        })?;
        Ok((Self { path }, listener))
    }

    fn make(fresh: &Path, path: &Path) -> std::io::Result<UnixListener> {
        let listener = UnixListener::bind(fresh)?;
        fs::set_permissions(fresh, Permissions::from_mode(0o600))?;
        fs::rename(fresh, path)?;
        Ok(listener)
    }
}

impl Drop for ApiSocket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn refuse_if_taken(path: &Path) -> anyhow::Result<()> {
    let place = path.display();
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("{place} cannot be looked at")),
        Ok(file) if !file.file_type().is_socket() => {
            bail!("{place} is in the way and is no socket; remove it")
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Ok(_) => {
            bail!("another controller runs with this run folder ({place} answers); end it or use --run-dir")
        }
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
        Err(error) => {
            Err(error).with_context(|| format!("{place} cannot be asked whether a controller runs"))
        }
    }
}
