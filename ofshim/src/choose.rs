//! Which balancer and which forwarding a command line asks for, and what does not go together.

use std::net::Ipv4Addr;
use std::time::Duration;

use openflow::DatapathId;

use crate::cli::{Balancer, RunArgs};
use crate::core::Forwarding;
use crate::core::classic::{NoxSettings, Settings, pox};

/// Silence after which `nox` forgets hosts and connections.
const DEFAULT_AGE: Duration = Duration::from_secs(90);

/// What was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// How packets are forwarded.
    pub forwarding: Forwarding,
    /// The seed balancer, if one is to run.
    pub classic: Option<Settings>,
}

/// Reads the arguments that name a balancer.
///
/// # Errors
/// Something is missing, unreadable, or does not go together; one line with the mend.
pub fn balancer(args: &RunArgs) -> Result<Chosen, String> {
    let (word, more) = (args.lb.word(), &args.balance);
    let of_vip = matches!(args.lb, Balancer::Openflow | Balancer::Pox);
    let given = [
        ("--ip", args.ip.is_some(), of_vip, "--lb openflow or --lb pox"),
        ("--servers", args.servers.is_some(), of_vip, "--lb openflow or --lb pox"),
        ("--port", more.port.is_some(), args.lb == Balancer::Openflow, "--lb openflow"),
        ("--protocol", more.protocol.is_some(), args.lb == Balancer::Openflow, "--lb openflow"),
        ("--selection", more.selection.is_some(), args.lb == Balancer::Openflow, "--lb openflow"),
        ("--mode", more.mode.is_some(), args.lb == Balancer::Openflow, "--lb openflow"),
        ("--lb-entries", more.lb_entries.is_some(), args.lb == Balancer::Openflow, "--lb openflow"),
        ("--state-dir", args.state_dir.is_some(), args.lb == Balancer::Openflow, "--lb openflow"),
        (
            "--dpid",
            args.dpid.is_some(),
            matches!(args.lb, Balancer::Pox | Balancer::Nox),
            "--lb pox or --lb nox",
        ),
        ("--age", args.age.is_some(), args.lb == Balancer::Nox, "--lb nox"),
    ];
    if let Some((option, .., with)) = given.into_iter().find(|(_, given, fits, _)| *given && !fits) {
        return Err(format!("{option} does not go with --lb {word}: leave it out, or give {with}"));
    }
    let classic = match args.lb {
        Balancer::Auto | Balancer::None | Balancer::Openflow => None,
        Balancer::Pox => Some(Settings::Pox { pox: pox_settings(args)?, dpid: dpid(args)? }),
        Balancer::Nox => Some(Settings::Nox { nox: nox_settings(args)?, dpid: dpid(args)? }),
        Balancer::NoxPackets => Some(Settings::NoxPackets),
    };
    if classic.is_some() && args.config.is_some() {
        return Err(format!(
            "--config does not go with --lb {word}, which knows nothing of XDP: leave it out"
        ));
    }
    Ok(Chosen { forwarding: forwarding(args, classic.is_some())?, classic })
}

fn forwarding(args: &RunArgs, classic: bool) -> Result<Forwarding, String> {
    let Some(asked) = args.forwarding.map(Forwarding::from) else {
        return Ok(if classic { Forwarding::Hub } else { Forwarding::Routed });
    };
    let (how, word) = (asked.word(), args.lb.word());
    match (args.lb, asked) {
        (Balancer::Auto | Balancer::None, Forwarding::None) => {
            Err("--forwarding none needs --lb pox".to_owned())
        }
        (Balancer::Auto | Balancer::None, asked) => Ok(asked),
        (Balancer::Openflow, Forwarding::Routed) => Ok(asked),
        (Balancer::Openflow, _) => Err(format!(
            "--forwarding {how} does not go with --lb {word}, whose packets take routes: leave it out"
        )),
        (Balancer::Pox, Forwarding::Routed) => Err(format!(
            "--forwarding {how} does not go with --lb {word}, whose packets its entries would take: use hub, learning or \
             none"
        )),
        (Balancer::Pox, asked) => Ok(asked),
        (_, Forwarding::Hub) => Ok(Forwarding::Hub),
        _ => Err(format!(
            "--forwarding {how} does not go with --lb {word}, which floods what it does not balance: use hub, or leave it \
             out"
        )),
    }
}

fn pox_settings(args: &RunArgs) -> Result<pox::Settings, String> {
    let (Some(ip), Some(servers)) = (&args.ip, &args.servers) else {
        return Err(
            "--lb pox needs --ip and --servers, as in --ip 10.0.1.1 --servers 10.0.0.1,10.0.0.2".to_owned()
        );
    };
    let vip = address("--ip", ip)?;
    let mut addresses = Vec::new();
    for text in servers.split(',').map(str::trim).filter(|text| !text.is_empty()) {
        let server = address("--servers", text)?;
        if addresses.contains(&server) {
            return Err(format!("--servers: {server} is named twice; name it once"));
        }
        if server == vip {
            return Err(format!("--servers: {server} is the VIP; name the servers' own addresses"));
        }
        addresses.push(server);
    }
    if addresses.is_empty() {
        return Err(
            "--servers: no server; give addresses divided by commas, as in 10.0.0.1,10.0.0.2".to_owned()
        );
    }
    Ok(pox::Settings { vip, servers: addresses, seed: 0 })
}

fn nox_settings(args: &RunArgs) -> Result<NoxSettings, String> {
    if args.idle_timeout == 0 {
        return Err("--lb nox needs entries that end: give --idle-timeout 1 or more".to_owned());
    }
    let age = args.age.map_or(DEFAULT_AGE, Duration::from_secs);
    Ok(NoxSettings { age, idle_s: args.idle_timeout })
}

fn address(option: &str, text: &str) -> Result<Ipv4Addr, String> {
    let address: Ipv4Addr = text.trim().parse().map_err(|_| {
        format!("{option}: \"{text}\" is no IPv4 address; write one as 10.0.1.1, without a port: POX balances all of them")
    })?;
    let odd = address.is_unspecified() || address.is_multicast() || address.is_broadcast();
    if odd { Err(format!("{option}: {address} cannot be the address of a host")) } else { Ok(address) }
}

/// A datapath id as POX (`00-00-00-00-00-01`, perhaps `|5` for the upper 16 bits), Open vSwitch (16 hex digits) or
/// Python (`0x1`) write it; digits are hexadecimal in every case.
fn dpid(args: &RunArgs) -> Result<Option<DatapathId>, String> {
    let Some(text) = args.dpid.as_deref() else { return Ok(None) };
    let read = || -> Option<u64> {
        let (low, high) = text.split_once('|').unwrap_or((text, "0"));
        let digits = low.strip_prefix("0x").unwrap_or(low).replace(['-', ':'], "");
        if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        let low = u64::from_str_radix(&digits, 16).ok()?;
        let high: u16 = high.parse().ok()?;
        if high != 0 && low >> 48 != 0 { None } else { Some(low | u64::from(high) << 48) }
    };
    match read() {
        Some(id) => Ok(Some(DatapathId(id))),
        None => Err(format!(
            "--dpid: \"{text}\" is no datapath id; write its hex digits, as in 0000000000000001 or 00-00-00-00-00-01"
        )),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn chosen(arguments: &[&str]) -> Result<Chosen, String> {
        let cli = Cli::try_parse_from([&["ofshim", "run"], arguments].concat()).unwrap();
        let Command::Run(args) = cli.command else { panic!("not run") };
        balancer(&args)
    }

    const POX: [&str; 6] = ["--lb", "pox", "--ip", "10.0.1.1", "--servers", "10.0.0.1,10.0.0.2"];

    fn pox_with(more: &[&str]) -> Result<Chosen, String> {
        chosen(&[&POX, more].concat())
    }

    #[test]
    fn without_a_balancer_packets_are_routed() {
        assert_eq!(chosen(&[]), Ok(Chosen { forwarding: Forwarding::Routed, classic: None }));
        let hub = chosen(&["--forwarding", "hub"]).unwrap();
        assert_eq!(hub, Chosen { forwarding: Forwarding::Hub, classic: None });
        assert!(chosen(&["--forwarding", "none"]).unwrap_err().contains("needs --lb pox"));
    }

    #[test]
    fn pox_as_on_its_own_command_line() {
        let servers = vec![Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2)];
        let settings = pox::Settings { vip: Ipv4Addr::new(10, 0, 1, 1), servers, seed: 0 };
        let pox = |dpid| Some(Settings::Pox { pox: settings.clone(), dpid });
        assert_eq!(pox_with(&[]), Ok(Chosen { forwarding: Forwarding::Hub, classic: pox(None) }));
        for (how, forwarding) in [("learning", Forwarding::Learning), ("none", Forwarding::None)] {
            assert_eq!(pox_with(&["--forwarding", how]).unwrap().forwarding, forwarding);
        }
        let ids = [
            ("1", 1),
            ("0x1f", 0x1f),
            ("000000000000001f", 0x1f),
            ("00-00-00-00-00-1f", 0x1f),
            ("00-00-00-00-00-1f|5", 0x0005_0000_0000_001f),
            ("00:00:00:00:00:00:00:1f", 0x1f),
        ];
        for (text, id) in ids {
            assert_eq!(pox_with(&["--dpid", text]).unwrap().classic, pox(Some(DatapathId(id))), "{text}");
        }
    }

    #[test]
    fn both_forms_of_nox() {
        let nox = |age, idle_s| NoxSettings { age: Duration::from_secs(age), idle_s };
        let found = chosen(&["--lb", "nox"]).unwrap();
        assert_eq!(found.classic, Some(Settings::Nox { nox: nox(90, 10), dpid: None }));
        let found = chosen(&["--lb", "nox", "--age", "30", "--idle-timeout", "5", "--dpid", "2"]).unwrap();
        assert_eq!(found.classic, Some(Settings::Nox { nox: nox(30, 5), dpid: Some(DatapathId(2)) }));
        let found = chosen(&["--lb", "nox-packets", "--forwarding", "hub"]).unwrap();
        assert_eq!(found, Chosen { forwarding: Forwarding::Hub, classic: Some(Settings::NoxPackets) });
    }

    #[test]
    fn what_does_not_go_together_is_named() {
        let refused = |arguments: &[&str], part: &str| {
            let line = chosen(arguments).unwrap_err();
            assert!(line.contains(part) && !line.contains('\n'), "{arguments:?}: {line}");
        };
        refused(&["--ip", "10.0.1.1"], "--ip does not go with --lb auto");
        refused(&["--lb", "pox", "--port", "80"], "--port does not go with --lb pox");
        refused(&["--lb", "openflow", "--dpid", "1"], "--dpid does not go with --lb openflow");
        refused(&["--lb", "openflow", "--forwarding", "hub"], "packets take routes");
        refused(&["--lb", "nox", "--servers", "10.0.0.1"], "--servers does not go with --lb nox");
        refused(&["--lb", "nox-packets", "--dpid", "1"], "--dpid does not go with --lb nox-packets");
        refused(&["--lb", "nox-packets", "--age", "9"], "give --lb nox");
        refused(&["--lb", "pox", "--ip", "10.0.1.1"], "--lb pox needs --ip and --servers");
        refused(&["--lb", "nox", "--forwarding", "learning"], "floods what it does not balance");
        refused(&["--lb", "nox", "--idle-timeout", "0"], "--idle-timeout 1 or more");
        refused(&["--lb", "nox", "--config", "lb.toml"], "--config does not go with --lb nox");
        let refused = |more: &[&str], part: &str| {
            let line = pox_with(more).unwrap_err();
            assert!(line.contains(part) && !line.contains('\n'), "{more:?}: {line}");
        };
        refused(&["--forwarding", "routed"], "use hub, learning or none");
        for bad in ["", "x", "-", "00-00-00-00-00-01|x", "1|99999", "10000000000000000", "0x"] {
            refused(&["--dpid", bad], "is no datapath id");
        }
    }

    #[test]
    fn addresses_are_checked() {
        for (ip, servers, part) in [
            ("10.0.1", "10.0.0.1", "--ip: \"10.0.1\" is no IPv4 address"),
            ("10.0.1.1", "10.0.0.1:80", "\"10.0.0.1:80\" is no IPv4 address"),
            ("2001:db8::1", "10.0.0.1", "is no IPv4 address"),
            ("10.0.1.1", " , ", "--servers: no server"),
            ("10.0.1.1", "10.0.0.1,10.0.0.1", "named twice"),
            ("10.0.1.1", "10.0.1.1", "is the VIP"),
            ("0.0.0.0", "10.0.0.1", "cannot be the address of a host"),
            ("10.0.1.1", "224.0.0.1", "cannot be the address of a host"),
        ] {
            let line = chosen(&["--lb", "pox", "--ip", ip, "--servers", servers]).unwrap_err();
            assert!(line.contains(part) && !line.contains('\n'), "{line}");
        }
    }
}
