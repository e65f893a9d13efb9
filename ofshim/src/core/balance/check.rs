//! What of a balancer's configuration flow entries cannot do, by name.

use std::net::IpAddr;

use lb_core::host::config::{Config, Mode, PlacementKind};
use openflow::Version;

use super::{EntriesKind, proactive};

/// Whether flow entries can do what a configuration asks for, with switches of these versions.
///
/// # Errors
/// One line that names the first thing that they cannot do, and the mend.
pub fn config(config: &Config, versions: &[Version]) -> Result<(), String> {
    if config.placement.kind == PlacementKind::OneArm {
        return Err(
            "placement onearm: with --lb openflow the switches balance, and no host does; take `placement = \
                    \"inline\"`, or leave --lb away and run lb on that host"
                .to_owned(),
        );
    }
    for vip in &config.vips {
        let name = &vip.name;
        if !matches!(vip.mode, Mode::Nat | Mode::Dsr) {
            let word = match vip.mode {
                Mode::FullNat => "fullnat",
                _ => "ipip",
            };
            return Err(format!(
                "VIP {name}: mode {word} is not among those of --lb openflow; take `nat` or `dsr`, or balance it by lb"
            ));
        }
        if vip.prefix_len.is_some() {
            return Err(format!(
                "VIP {name}: --lb openflow serves single addresses; take `address = \"{}\"` without a prefix, or balance \
                 it by lb",
                vip.address
            ));
        }
        if let Some(host) = vip.backends.iter().find_map(|backend| backend.host.as_ref()) {
            return Err(format!(
                "VIP {name}: backend host {host:?}: its MAC is looked up by lb alone; name the backend's `mac` instead"
            ));
        }
        let backends = vip.backends.iter().map(|backend| backend.address);
        let is_v6 =
            std::iter::once(vip.address).chain(backends).any(|address| matches!(address, IpAddr::V6(_)));
        if is_v6 && !versions.contains(&Version::V1_3) {
            return Err(format!(
                "VIP {name}: OpenFlow 1.0 cannot match or write IPv6 addresses; leave --openflow 1.0 away and let the \
                 switches speak 1.3, or take IPv4 addresses"
            ));
        }
    }
    Ok(())
}

/// What is left undone of a configuration, a line for each VIP.
#[must_use]
pub fn left_undone(config: &Config, entries: EntriesKind) -> Vec<String> {
    let line = |vip: &lb_core::host::config::VipConfig| {
        let check = vip.check.as_ref()?;
        Some(format!(
            "VIP {}: its {} check is not done with --lb openflow; its backends are judged by ARP and neighbour discovery \
             alone",
            vip.name,
            check.kind.word()
        ))
    };
    let mut lines: Vec<String> = config.vips.iter().filter_map(line).collect();
    if entries.stands() {
        lines.extend(proactive::left_undone(config));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [Version; 2] = [Version::V1_0, Version::V1_3];

    fn parsed(head: &str, vip: &str, backend: &str) -> Config {
        let text = format!(
            "{head}\n[[vip]]\nname = \"web\"\nport = 80\n{vip}\n[[vip.backend]]\naddress = \"{backend}\"\n"
        );
        Config::from_toml(&text, "lb.toml").unwrap()
    }

    #[test]
    fn what_entries_cannot_do_is_refused_by_name() {
        let v4 = "address = \"10.0.1.1\"";
        assert_eq!(config(&parsed("", v4, "10.0.0.1"), &BOTH), Ok(()));
        assert_eq!(config(&parsed("", &format!("{v4}\nmode = \"dsr\""), "10.0.0.1"), &BOTH), Ok(()));
        let refused =
            config(&parsed("", &format!("{v4}\nmode = \"fullnat\""), "10.0.0.1"), &BOTH).unwrap_err();
        assert!(refused.starts_with("VIP web: mode fullnat is not among"), "{refused}");
        let onearm = "[placement]\nkind = \"onearm\"\nhost = \"lb1\"";
        let refused =
            config(&parsed(onearm, &format!("{v4}\nmode = \"dsr\""), "10.0.0.1"), &BOTH).unwrap_err();
        assert!(refused.starts_with("placement onearm"), "{refused}");
        let v6 = parsed("", "address = \"2001:db8::1\"", "2001:db8::2");
        assert_eq!(config(&v6, &BOTH), Ok(()));
        let refused = config(&v6, &[Version::V1_0]).unwrap_err();
        assert!(refused.starts_with("VIP web: OpenFlow 1.0 cannot match or write IPv6"), "{refused}");
    }

    #[test]
    fn checks_of_services_are_named_as_left_undone() {
        let text = "[health]\nprobe_address = \"10.0.0.200\"\n[[vip]]\nname = \"web\"\naddress = \"10.0.1.1\"\nport = 80\n\
                    check = { type = \"tcp\" }\n[[vip.backend]]\naddress = \"10.0.0.1\"\n";
        let lines = left_undone(&Config::from_toml(text, "lb.toml").unwrap(), EntriesKind::Reactive);
        assert_eq!(lines.len(), 1);
        assert!(lines[0].starts_with("VIP web: its tcp check is not done"), "{lines:?}");
    }
}
