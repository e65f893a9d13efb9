//! The orders about backends on disk, so that they outlive the controller: one JSON file, replaced as a whole.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use lb_core::host::addr::MacAddr;
use lb_core::host::config::Config;
use lb_core::host::overlay::{Change, Overlay, Target};
use openflow::Version;
use serde::{Deserialize, Serialize};

use crate::core::balance::check;

/// The name of the file in its folder, and of the one that says whose it is.
const FILE: &str = "orders.json";
const LOCK: &str = "orders.lock";
/// The version of the file's form.
const VERSION: u32 = 1;

/// The file, which is this process's as long as this lives.
#[derive(Debug)]
pub struct Orders {
    folder: PathBuf,
    _lock: File,
}

/// The file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    version: u32,
    orders: Vec<Order>,
}

/// What holds for one backend of one VIP.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    vip: String,
    address: IpAddr,
    port: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mac: Option<MacAddr>,
    change: Change,
}

impl Orders {
    /// Opens the file in `folder`, which is made if it is not there, and takes up what it keeps, less what does not fit
    /// `file` any more; a line of the log tells each.
    ///
    /// # Errors
    /// It is another controller's, or cannot be read, or is none of ours: it is left as it is. One line.
    pub fn open(folder: &Path, file: &Config, versions: &[Version]) -> anyhow::Result<(Self, Overlay)> {
        fs::create_dir_all(folder).with_context(|| {
            format!("state folder {} cannot be made; name another with --state-dir", folder.display())
        })?;
        let path = folder.join(LOCK);
        let lock = private().open(&path).with_context(|| format!("{} cannot be opened", path.display()))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => bail!(
                "{}: another controller keeps its orders there; end it, or name another folder with --state-dir",
                folder.display()
            ),
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("{} cannot be locked", path.display()));
            }
        }
        let orders = Self { folder: folder.to_owned(), _lock: lock };
        let kept = orders.read()?;
        let mut overlay = kept.clone();
        for line in overlay.settle(file) {
            tracing::info!("backend {line}");
        }
        let config = overlay.apply(file);
        let fits = config.recheck().map_err(|error| error.message().to_owned());
        if let Err(refusal) = fits.and_then(|()| check::config(&config, versions)) {
            tracing::warn!(
                "orders about backends do not fit this configuration and are forgotten: {refusal}"
            );
            overlay = Overlay::default();
        }
        if overlay != kept {
            orders.keep(&overlay)?;
        }
        for (target, change) in overlay.changes() {
            tracing::info!("backend {target}: still {change}");
        }
        Ok((orders, overlay))
    }

    /// Writes all orders down: they are on the disk when this returns, or those of before still are.
    ///
    /// # Errors
    /// The file cannot be written. One line.
    pub fn keep(&self, overlay: &Overlay) -> anyhow::Result<()> {
        let path = self.folder.join(FILE);
        self.replace(&path, overlay)
            .with_context(|| format!("orders about backends cannot be kept in {}", path.display()))
    }

    fn replace(&self, path: &Path, overlay: &Overlay) -> anyhow::Result<()> {
        if overlay.changes().is_empty() {
            match fs::remove_file(path) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        } else {
            let fresh = self.folder.join(format!(".{FILE}.new"));
            let mut file = private().truncate(true).open(&fresh)?;
            file.write_all(&text(overlay)?)?;
            file.sync_all()?;
            fs::rename(&fresh, path)?;
        }
        Ok(File::open(&self.folder)?.sync_all()?)
    }

    fn read(&self) -> anyhow::Result<Overlay> {
        let path = self.folder.join(FILE);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Overlay::default()),
            Err(error) => return Err(error).with_context(|| format!("{} cannot be read", path.display())),
        };
        parse(&text).map_err(|reason| {
            anyhow::anyhow!(
                "{}: {reason}; if it is damaged, remove it: orders about backends are lost then",
                path.display()
            )
        })
    }
}

/// A file of the controller's owner alone.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true).mode(0o600);
    options
}

fn text(overlay: &Overlay) -> anyhow::Result<Vec<u8>> {
    let order = |(target, change): (&Target, &Change)| {
        let Target { vip, address, port, mac } = target.clone();
        Order { vip, address, port, mac, change: change.clone() }
    };
    let kept = Kept { version: VERSION, orders: overlay.changes().iter().map(order).collect() };
    let mut text = serde_json::to_vec_pretty(&kept)?;
    text.push(b'\n');
    Ok(text)
}

fn parse(text: &[u8]) -> Result<Overlay, String> {
    /// What every version of the file has.
    #[derive(Deserialize)]
    struct Head {
        version: u32,
    }
    let head: Head = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    if head.version != VERSION {
        return Err(format!("it is of version {}, and this ofshim knows version {VERSION}", head.version));
    }
    let kept: Kept = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let mut changes = BTreeMap::new();
    for Order { vip, address, port, mac, change } in kept.orders {
        let target = Target { vip, address, port, mac };
        if changes.insert(target.clone(), change).is_some() {
            return Err(format!("backend {target} is in it twice"));
        }
    }
    Ok(Overlay::new(changes))
}

#[cfg(test)]
mod tests {
    use lb_core::host::overlay::{self, Whom};

    use super::*;

    const BOTH: [Version; 2] = [Version::V1_0, Version::V1_3];

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("ofshim-orders-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn open(&self, file: &Config) -> anyhow::Result<(Orders, Overlay)> {
            Orders::open(&self.0, file, &BOTH)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).ok();
        }
    }

    fn file(backends: &[&str]) -> Config {
        let backends: Vec<String> =
            backends.iter().map(|address| format!("{{ address = \"{address}\" }}")).collect();
        let text = format!(
            "[[vip]]\nname = \"web\"\naddress = \"10.0.1.1\"\nport = 80\nbackend = [{}]\n",
            backends.join(", ")
        );
        Config::from_toml(&text, "lb.toml").unwrap()
    }

    /// A drain, a weight, one that is added and one that is removed.
    fn ordered(file: &Config) -> Overlay {
        let add = overlay::Order::Add { name: Some("h9".to_owned()), weight: 2 };
        let orders = [
            ("10.0.0.1", overlay::Order::Drain { deadline_ms: Some(60_000) }),
            ("10.0.0.1", overlay::Order::Weight(7)),
            ("10.0.0.9:8080", add),
            ("10.0.0.2", overlay::Order::Remove),
        ];
        orders.iter().fold(Overlay::default(), |overlay, (backend, order)| {
            overlay.ordered(file, Whom { backend, vip: Some("web") }, order, 1_000).unwrap().0
        })
    }

    #[test]
    fn orders_are_there_for_the_next_controller_and_for_no_other_meanwhile() {
        let (folder, file) = (Folder::new("again"), file(&["10.0.0.1", "10.0.0.2", "10.0.0.3"]));
        let (orders, none) = folder.open(&file).unwrap();
        assert_eq!(none, Overlay::default());
        let overlay = ordered(&file);
        assert_eq!(overlay.changes().len(), 3);
        orders.keep(&overlay).unwrap();
        let taken = folder.open(&file).unwrap_err().to_string();
        assert!(taken.contains("another controller") && taken.contains("--state-dir"), "{taken}");
        drop(orders);
        let (orders, again) = folder.open(&file).unwrap();
        assert_eq!(again, overlay);
        orders.keep(&Overlay::default()).unwrap();
        assert!(!folder.0.join(FILE).exists(), "without orders there is no file");
        drop(orders);
        assert_eq!(folder.open(&file).unwrap().1, Overlay::default());
    }

    #[test]
    fn what_does_not_fit_the_file_any_more_is_dropped_and_the_rest_stays() {
        let (folder, before) = (Folder::new("settled"), file(&["10.0.0.1", "10.0.0.2", "10.0.0.3"]));
        let (orders, _) = folder.open(&before).unwrap();
        orders.keep(&ordered(&before)).unwrap();
        drop(orders);
        let now = file(&["10.0.0.2", "10.0.0.3"]);
        let (orders, overlay) = folder.open(&now).unwrap();
        let targets: Vec<String> =
            overlay.changes().keys().map(|target| target.address.to_string()).collect();
        assert_eq!(targets, ["10.0.0.2", "10.0.0.9"]);
        drop(orders);
        assert_eq!(folder.open(&before).unwrap().1, overlay, "what was dropped does not come back");
    }

    #[test]
    fn a_damaged_or_foreign_file_is_named_with_the_mend_and_left_alone() {
        let folder = Folder::new("damaged");
        for (text, part) in [
            ("not JSON", "expected"),
            ("{\"version\":2,\"orders\":[]}", "it is of version 2"),
            ("{\"version\":1,\"orders\":[],\"more\":1}", "unknown field"),
            ("{\"version\":1,\"orders\":[{\"vip\":\"10.0.1.1:80/tcp\"}]}", "missing field"),
            (
                "{\"version\":1,\"orders\":[{\"vip\":\"a\",\"address\":\"10.0.0.1\",\"port\":1,\"change\":{}},\
                 {\"vip\":\"a\",\"address\":\"10.0.0.1\",\"port\":1,\"change\":{}}]}",
                "is in it twice",
            ),
        ] {
            fs::write(folder.0.join(FILE), text).unwrap();
            let line = format!("{:#}", folder.open(&file(&["10.0.0.1"])).unwrap_err());
            assert!(line.contains(FILE) && line.contains(part) && line.contains("remove it"), "{line}");
            assert_eq!(line.lines().count(), 1, "{line}");
            assert_eq!(fs::read_to_string(folder.0.join(FILE)).unwrap(), text);
        }
    }
}
