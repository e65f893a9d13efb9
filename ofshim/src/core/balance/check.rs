//! What of a balancer's configuration flow entries cannot do, by name.

use std::net::IpAddr;

use lb_core::host::config::{Config, ConnectionsConfig, Mode, PlacementKind};
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

/// What is left undone of a configuration, a line for each VIP, and one for `[connections]`.
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
    lines.extend(connections_left_undone(&config.connections, entries));
    lines
}

/// The keys of `[connections]` that were given and do nothing.
fn connections_left_undone(given: &ConnectionsConfig, entries: EntriesKind) -> Option<String> {
    let default = ConnectionsConfig::default();
    let stands = entries.stands();
    // Learned entries have timeouts of their own; the tracker's are the switch's.
    let tracked = stands && entries != EntriesKind::Learn;
    let keys = [
        ("max_new_per_s", stands && given.max_new_per_s.is_some_and(|most| most > 0)),
        ("half_open_size", given.half_open_size != default.half_open_size),
        ("affinity_size", stands && given.affinity_size != default.affinity_size),
        ("source_size", stands && given.source_size != default.source_size),
        ("fragment_size", given.fragment_size != default.fragment_size),
        ("syn_s", stands && given.syn_s != default.syn_s),
        ("established_s", tracked && given.established_s != default.established_s),
        ("closing_s", stands && given.closing_s != default.closing_s),
        ("udp_s", tracked && given.udp_s != default.udp_s),
        ("unverified_s", stands && given.unverified_s != default.unverified_s),
        ("fragment_s", stands && given.fragment_s != default.fragment_s),
    ];
    let undone: Vec<&str> = keys.into_iter().filter(|(_, undone)| *undone).map(|(key, _)| key).collect();
    (!undone.is_empty()).then(|| {
        let (word, many) = (entries.word(), if undone.len() == 1 { "is" } else { "are" });
        format!("[connections]: {} {many} not done with --lb-entries {word}", undone.join(", "))
    })
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

    #[test]
    fn settings_of_connections_that_do_nothing_are_named() {
        let head = "[connections]\nmax_new_per_s = 100\nsyn_s = 10\nestablished_s = 100\nudp_s = 9\nhalf_open_size = 512";
        let config = parsed(head, "address = \"10.0.1.1\"", "10.0.0.1");
        let of = |entries| left_undone(&config, entries);
        let undone =
            |keys: &str, word: &str| vec![format!("[connections]: {keys} not done with --lb-entries {word}")];
        assert_eq!(of(EntriesKind::Reactive), undone("half_open_size is", "reactive"));
        assert_eq!(of(EntriesKind::Learn), undone("max_new_per_s, half_open_size, syn_s are", "learn"));
        let all = "max_new_per_s, half_open_size, syn_s, established_s, udp_s are";
        assert_eq!(of(EntriesKind::Group), undone(all, "group"));
        let plain = parsed("", "address = \"10.0.1.1\"", "10.0.0.1");
        assert_eq!(left_undone(&plain, EntriesKind::Group), Vec::<String>::new());
    }
}
