//! Connections by TLS with certificates on both sides: an Open vSwitch of the test's own, in a namespace of its own,
//! with keys and certificates made by Open vSwitch's tool for that.

mod support;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use support::ovs::{must, root, run};
use support::{Controller, Folder, unique};

/// Keys and certificates: `controller` and `switch` of their CAs, `stranger` of a CA that nobody knows.
struct Pki {
    folder: Folder,
}

impl Pki {
    fn new() -> Self {
        let pki = Self { folder: Folder::new() };
        for (authority, name, kind) in [
            ("pki", "controller", "controller"),
            ("pki", "switch", "switch"),
            ("other", "stranger", "switch"),
        ] {
            if !pki.folder.0.join(authority).exists() {
                pki.run(&["init"], authority);
            }
            pki.run(&["-u", "req+sign", name, kind], authority);
        }
        pki
    }

    fn run(&self, arguments: &[&str], authority: &str) {
        let folder = &self.folder.0;
        let done = Command::new("ovs-pki")
            .arg(format!("--dir={}", folder.join(authority).display()))
            .arg(format!("--log={}", folder.join("log").display()))
            .args(arguments)
            .current_dir(folder)
            .output()
            .expect("ovs-pki; `cargo xtask setup` installs it");
        assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    }

    fn path(&self, name: &str) -> String {
        self.folder.0.join(name).display().to_string()
    }

    fn key(&self, of: &str) -> String {
        self.path(&format!("{of}-privkey.pem"))
    }

    fn cert(&self, of: &str) -> String {
        self.path(&format!("{of}-cert.pem"))
    }

    /// The certificate of a CA: `controllerca` or `switchca`.
    fn ca(&self, authority: &str) -> String {
        self.path(&format!("pki/{authority}/cacert.pem"))
    }

    /// The options of the controller.
    fn options(&self) -> Vec<String> {
        let files = [("--tls-key", self.key("controller")), ("--tls-cert", self.cert("controller"))];
        let files = files.into_iter().chain([("--tls-ca", self.ca("switchca"))]);
        files.flat_map(|(option, file)| [option.to_owned(), file]).collect()
    }
}

/// An Open vSwitch with one bridge and two hosts, in a namespace; it ends with this.
struct Switch {
    folder: Folder,
    namespace: String,
    daemons: Vec<Child>,
}

impl Switch {
    fn new() -> Self {
        let tag = format!("{}{}", std::process::id(), unique());
        let mut switch =
            Self { folder: Folder::new(), namespace: format!("ofx-tls{tag}"), daemons: Vec::new() };
        must(&format!("ip netns add {}", switch.namespace));
        let folder = switch.folder.0.clone();
        let (db, socket) = (folder.join("conf.db"), folder.join("db.sock"));
        must(&format!("ovsdb-tool create {} /usr/share/openvswitch/vswitch.ovsschema", db.display()));
        switch.daemon(
            "ovsdb-server",
            &[&db.display().to_string(), &format!("--remote=punix:{}", socket.display())],
        );
        switch.wait("the database", || socket.exists());
        switch.vsctl("--no-wait init");
        switch.daemon("ovs-vswitchd", &[&format!("unix:{}", socket.display())]);
        switch.vsctl("add-br br0 -- set bridge br0 datapath_type=netdev other-config:disable-in-band=true");
        switch.vsctl("set bridge br0 protocols=OpenFlow13 -- set-fail-mode br0 secure");
        switch.inside("ip link set lo up");
        for host in [1, 2] {
            must(&format!("ip netns add {}", switch.host(host)));
            let (here, there) = (&switch.namespace, switch.host(host));
            must(&format!("ip link add p{host} netns {here} type veth peer name eth0 netns {there}"));
            switch.inside(&format!("ip link set p{host} up"));
            for line in
                [format!("ip address add 10.78.0.{host}/24 dev eth0"), "ip link set eth0 up".to_owned()]
            {
                must(&format!("ip netns exec {} {line}", switch.host(host)));
            }
            switch.vsctl(&format!("add-port br0 p{host}"));
        }
        switch
    }

    fn host(&self, number: u32) -> String {
        format!("{}-h{number}", self.namespace)
    }

    fn inside(&self, command: &str) -> String {
        must(&format!("ip netns exec {} {command}", self.namespace))
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace, program]).env("OVS_RUNDIR", &self.folder.0);
        command
    }

    fn daemon(&mut self, program: &str, arguments: &[&str]) {
        let log = format!("--log-file={}", self.folder.0.join(program).display());
        let pid = format!("--pidfile={}", self.folder.0.join(format!("{program}.pid")).display());
        let daemon =
            self.command(program).args(arguments).args([log, pid]).stderr(Stdio::null()).spawn().unwrap();
        self.daemons.push(daemon);
    }

    fn vsctl(&self, rest: &str) -> String {
        let done = self.command("ovs-vsctl").arg("--timeout=10").args(rest.split(' ')).output().unwrap();
        assert!(done.status.success(), "{rest}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    }

    /// Connects the bridge to `address` with this key and certificate, and a CA to judge the controller by.
    fn connect(&self, kind: &str, address: &str, (key, cert, ca): (&str, &str, &str)) {
        self.vsctl("del-controller br0");
        self.vsctl(&format!("set-ssl {key} {cert} {ca}"));
        self.vsctl(&format!("set-controller br0 {kind}:{address}"));
    }

    fn flows(&self) -> String {
        let done =
            self.command("ovs-ofctl").args(["-O", "OpenFlow13", "dump-flows", "br0"]).output().unwrap();
        String::from_utf8(done.stdout).unwrap()
    }

    fn doctor(&self, controller: &Controller) -> String {
        let arguments = ["doctor", "--run-dir", &controller.run_dir(), "br0"];
        let done = self.command(env!("CARGO_BIN_EXE_ofshim")).args(arguments).output().unwrap();
        String::from_utf8(done.stdout).unwrap()
    }

    fn wait(&self, what: &str, holds: impl Fn() -> bool) {
        let end = Instant::now() + Duration::from_secs(10);
        while !holds() {
            let log = std::fs::read_to_string(self.folder.0.join("ovs-vswitchd")).unwrap_or_default();
            assert!(Instant::now() < end, "{what} did not come about: {log}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        // Their namespaces go when nothing is in them any more.
        for daemon in self.daemons.iter_mut().rev() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        for host in [1, 2] {
            run(&format!("ip netns del {}", self.host(host)));
        }
        run(&format!("ip netns del {}", self.namespace));
    }
}

#[test]
fn a_switch_is_served_by_tls_and_strangers_are_refused_on_either_side() {
    if !root("a_switch_is_served_by_tls_and_strangers_are_refused_on_either_side") {
        return;
    }
    let (pki, switch) = (Pki::new(), Switch::new());
    let options = pki.options();
    let mut options: Vec<&str> = options.iter().map(String::as_str).collect();
    options.extend(["--forwarding", "learning", "--no-discovery"]);
    let controller = Controller::start_in(&switch.namespace, &options);
    let address = controller.address();
    let files = |of: &str| (pki.key(of), pki.cert(of));
    let trusted = pki.ca("controllerca");

    // A certificate of another CA.
    let (key, cert) = files("stranger");
    switch.connect("ssl", &address, (&key, &cert, &trusted));
    controller
        .wait_for_log("refused by TLS: the switch's certificate is of a CA that --tls-ca does not have");
    // A switch that does not know the controller's CA, and one that does not speak TLS.
    let (key, cert) = files("switch");
    switch.connect("ssl", &address, (&key, &cert, &pki.ca("switchca")));
    controller.wait_for_log("refused by TLS: the switch refuses this controller");
    switch.connect("tcp", &address, (&key, &cert, &trusted));
    controller.wait_for_log("is it set to tcp: instead of ssl:?");
    let told = switch.doctor(&controller);
    assert!(told.contains(&format!("mend: ovs-vsctl set-controller br0 ssl:{address}")), "{told}");
    // One without any certificate.
    let silent = format!("timeout 10 openssl s_client -connect {address} -brief");
    Command::new("ip")
        .args(["netns", "exec", &switch.namespace])
        .args(silent.split(' '))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    controller.wait_for_log("refused by TLS: the switch shows no certificate");
    assert_eq!(
        (controller.logged("is ready"), controller.logged(" connected")),
        (0, 0),
        "{:#?}",
        controller.log()
    );
    assert!(!switch.flows().contains("cookie=0x6f667368"), "{}", switch.flows());

    // The right ones.
    switch.connect("ssl", &address, (&key, &cert, &trusted));
    controller.wait_for_log("is ready: OpenFlow 1.3");
    switch.wait("entries", || switch.flows().matches("cookie=0x6f66736801").count() == 3);
    let ping = format!("ip netns exec {} ping -q -c 3 -i 0.1 -W 2 10.78.0.2", switch.host(1));
    must(&ping);
    assert!(switch.flows().matches("cookie=0x6f66736802").count() == 2, "{}", switch.flows());
    assert_eq!(controller.read("status")["tls"], true);
    let told = switch.doctor(&controller);
    assert!(!told.lines().any(|line| line.starts_with("fail ")), "{told}");
}

#[test]
fn files_that_are_wrong_are_named() {
    if !root("files_that_are_wrong_are_named") {
        return;
    }
    let pki = Pki::new();
    let folder = Folder::new();
    let run_dir = folder.0.display().to_string();
    let (key, cert, ca) = (pki.key("controller"), pki.cert("controller"), pki.ca("switchca"));
    let refused = |key: &str, cert: &str, ca: &str| {
        let files = ["--tls-key", key, "--tls-cert", cert, "--tls-ca", ca];
        support::refusal(&[&["run", "--run-dir", &run_dir, "--listen", "127.0.0.1:0"], &files[..]].concat())
    };
    let none = pki.path("none.pem");
    for (option, line) in [
        ("--tls-key", refused(&none, &cert, &ca)),
        ("--tls-cert", refused(&key, &none, &ca)),
        ("--tls-ca", refused(&key, &cert, &none)),
    ] {
        assert!(line.starts_with(&format!("error: {option} {none} cannot be read: No such file")), "{line}");
    }
    let line = refused(&cert, &cert, &ca);
    assert!(
        line.starts_with(&format!("error: --tls-key {cert}: there is no private key in PEM form")),
        "{line}"
    );
    let line = refused(&key, &key, &ca);
    assert!(
        line.starts_with(&format!("error: --tls-cert {key}: there is no certificate in PEM form")),
        "{line}"
    );
    let line = refused(&key, &cert, &key);
    assert!(
        line.starts_with(&format!("error: --tls-ca {key}: there is no certificate in PEM form")),
        "{line}"
    );
    let line = refused(&pki.key("switch"), &cert, &ca);
    let told = format!(
        "error: --tls-key {} is not the key of the first certificate in --tls-cert",
        pki.key("switch")
    );
    assert!(line.starts_with(&told), "{line}");
    let broken = folder.file("broken.pem", "-----BEGIN CERTIFICATE-----\n?\n-----END CERTIFICATE-----\n");
    let line = refused(&key, &cert, &broken);
    assert!(line.starts_with(&format!("error: --tls-ca {broken}: ")), "{line}");
    let locked = folder.0.join("locked.pem").display().to_string();
    must(&format!("openssl pkey -in {key} -aes256 -passout pass:x -out {locked}"));
    assert!(refused(&locked, &cert, &ca).contains("the key is encrypted; write it without a password"));
    let alone = support::refusal(&["run", "--run-dir", &run_dir, "--tls-key", &key]);
    assert!(alone.contains("--tls-cert") && alone.contains("--tls-ca"), "{alone}");
    assert!(Path::new(&key).exists());
}
