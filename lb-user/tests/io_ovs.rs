//! Open vSwitch's bridges, from a database of the test's own.

mod io_bed;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use io_bed::{Process, as_root, run};
use lb_user::io::ovs::{self, OvsError};

struct Database {
    folder: PathBuf,
    address: String,
    _server: Process,
}

impl Database {
    fn start() -> Self {
        let folder = std::env::temp_dir().join(format!("iox-ovs-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).expect("folder");
        let path = |name: &str| folder.join(name).display().to_string();
        let (file, socket, control) = (path("conf.db"), path("db.sock"), path("db.ctl"));
        run("ovsdb-tool", &["create", &file, "/usr/share/openvswitch/vswitch.ovsschema"]);
        let (remote, control) = (format!("--remote=punix:{socket}"), format!("--unixctl={control}"));
        let server = Process::start(&["ovsdb-server", &file, &remote, &control, "--no-chdir"]);
        for _ in 0..250 {
            if fs::exists(&socket).is_ok_and(|there| there) {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { folder, address: format!("unix:{socket}"), _server: server }
    }

    fn vsctl(&self, line: &str) {
        let database = format!("--db={}", self.address);
        let words = [database.as_str(), "--no-wait"].into_iter().chain(line.split_whitespace());
        run("ovs-vsctl", &words.collect::<Vec<_>>());
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn bridges_and_ports_of_a_running_instance() {
    if !as_root("bridges_and_ports_of_a_running_instance") {
        return;
    }
    let database = Database::start();
    assert_eq!(ovs::bridges_of(Some(&database.address)).expect("an empty database"), []);
    database.vsctl("add-br ioxs2");
    database.vsctl("add-br ioxs1 -- set Bridge ioxs1 datapath_type=netdev");
    database.vsctl("add-port ioxs1 ioxs1-eth2 -- add-port ioxs1 ioxs1-eth1");
    database.vsctl("add-port ioxs1 iox-p -- set Interface iox-p type=patch options:peer=iox-q");
    database.vsctl("add-bond ioxs2 ioxbond ioxb1 ioxb0");
    let bridges = ovs::bridges_of(Some(&database.address)).expect("bridges");
    let text: Vec<String> = bridges
        .iter()
        .map(|b| {
            let ports: Vec<String> = b.ports.iter().map(|p| format!("{}:{}", p.name, p.kind)).collect();
            format!("{} {} {}", b.name, b.datapath_type, ports.join(" "))
        })
        .collect();
    assert_eq!(
        text,
        [
            "ioxs1 netdev iox-p:patch ioxs1:internal ioxs1-eth1: ioxs1-eth2:",
            "ioxs2  ioxb0: ioxb1: ioxs2:internal",
        ]
    );
}

#[test]
fn a_stopped_instance_names_the_mend() {
    if !as_root("a_stopped_instance_names_the_mend") {
        return;
    }
    let error = ovs::bridges_of(Some("unix:/no/such/iox.sock")).expect_err("nobody there");
    assert!(matches!(error, OvsError::NotRunning), "{error}");
    assert!(error.to_string().contains("ovs-ctl start"), "{error}");
}
