//! Reading `[health]` and `[vip.check]`, and the rules between them and the rest.

use core::net::{IpAddr, Ipv6Addr};

use super::check::Places;
use super::error::Problems;
use super::parse::{MAX_INTERVAL_MS, PRESETS};
use super::read::{At, Section};
use super::vip::port;
use super::{CheckConfig, CheckKind, Config, DampingConfig, HealthConfig, HealthPreset, ProbeAddress};
use crate::host::addr;

const HEALTH_KEYS: &[&str] = &[
    "preset",
    "interval_ms",
    "timeout_ms",
    "rise",
    "fall",
    "jitter_pct",
    "flap_free",
    "flap_hold_ms",
    "flap_longest_ms",
    "flap_window_s",
    "probe_address",
    "probe_address6",
];
const CHECK_KEYS: &[&str] = &[
    "type",
    "port",
    "interval_ms",
    "timeout_ms",
    "rise",
    "fall",
    "jitter_pct",
    "send",
    "expect",
    "path",
    "host",
    "status",
];

/// The kinds of check, before their own keys are read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    Icmp,
    Tcp,
    Udp,
    Http,
}

const WORDS: &[(&str, Word)] =
    &[("icmp", Word::Icmp), ("tcp", Word::Tcp), ("udp", Word::Udp), ("http", Word::Http)];

/// Which keys only some kinds have.
const OWN_KEYS: &[(&str, &[Word])] = &[
    ("port", &[Word::Tcp, Word::Udp, Word::Http]),
    ("send", &[Word::Tcp, Word::Udp]),
    ("expect", &[Word::Tcp, Word::Udp, Word::Http]),
    ("path", &[Word::Http]),
    ("host", &[Word::Http]),
    ("status", &[Word::Http]),
];

/// The longest text of a check, in bytes: what is sent fits one packet, what is expected one buffer.
const MAX_TEXT_BYTES: usize = 1024;

/// `[health]`, and where its probe addresses stand.
pub(super) fn read(top: &Section<'_>, problems: &mut Problems) -> (HealthConfig, [usize; 2]) {
    let Some(section) = top.table("health", "[health]", HEALTH_KEYS, problems) else {
        return (HealthConfig::default(), [0; 2]);
    };
    let preset = section.choice("preset", PRESETS, HealthPreset::default(), problems).value;
    let base = HealthConfig::preset(preset);
    let pace = Pace::read(&section, "[health]", Pace::of_health(&base), problems);
    let damping = damping(&section, base.damping, problems);
    let v4 = probe_address(&section, "probe_address", problems).and_then(|at| match at.value {
        IpAddr::V4(value) => Some(At { value, offset: at.offset }),
        IpAddr::V6(_) => {
            problems.add(at.offset, "probe_address is an IPv6 address; name that one probe_address6");
            None
        }
    });
    let v6 = probe_address(&section, "probe_address6", problems).and_then(|at| match at.value {
        IpAddr::V6(value) => Some(At { value, offset: at.offset }),
        IpAddr::V4(_) => {
            problems.add(at.offset, "probe_address6 is an IPv4 address; name that one probe_address");
            None
        }
    });
    let offsets = [v4.map_or(section.offset, |at| at.offset), v6.map_or(section.offset, |at| at.offset)];
    let health = HealthConfig {
        preset,
        interval_ms: pace.interval_ms,
        timeout_ms: pace.timeout_ms,
        rise: pace.rise,
        fall: pace.fall,
        jitter_pct: pace.jitter_pct,
        damping,
        probe_address: ProbeAddress { v4: v4.map(|at| at.value), v6: v6.map(|at| at.value) },
    };
    (health, offsets)
}

/// When something is asked, and how often in a row an answer counts.
#[derive(Clone, Copy)]
struct Pace {
    interval_ms: u32,
    timeout_ms: u32,
    rise: u32,
    fall: u32,
    jitter_pct: u32,
}

impl Pace {
    fn of_health(base: &HealthConfig) -> Self {
        let HealthConfig { interval_ms, timeout_ms, rise, fall, jitter_pct, .. } = *base;
        Self { interval_ms, timeout_ms, rise, fall, jitter_pct }
    }

    fn of_check(base: &CheckConfig) -> Self {
        let CheckConfig { interval_ms, timeout_ms, rise, fall, jitter_pct, .. } = *base;
        Self { interval_ms, timeout_ms, rise, fall, jitter_pct }
    }

    fn read(section: &Section<'_>, name: &str, base: Self, problems: &mut Problems) -> Self {
        let interval_ms = section.number("interval_ms", 10..=MAX_INTERVAL_MS, base.interval_ms, problems);
        let timeout_ms = base.timeout_ms.min(interval_ms);
        let pace = Self {
            interval_ms,
            timeout_ms: section.number("timeout_ms", 1..=MAX_INTERVAL_MS, timeout_ms, problems),
            rise: section.number("rise", 1..=100, base.rise, problems),
            fall: section.number("fall", 1..=100, base.fall, problems),
            jitter_pct: section.number("jitter_pct", 0..=50, base.jitter_pct, problems),
        };
        if pace.timeout_ms > pace.interval_ms {
            let offset = section.has("timeout_ms").unwrap_or(section.offset);
            let (timeout, interval) = (pace.timeout_ms, pace.interval_ms);
            problems.add(
                offset,
                format!("timeout_ms = {timeout} in {name} is longer than interval_ms = {interval}; lower it or raise interval_ms"),
            );
        }
        pace
    }
}

fn damping(section: &Section<'_>, base: DampingConfig, problems: &mut Problems) -> DampingConfig {
    let hold_ms = section.number("flap_hold_ms", 0..=MAX_INTERVAL_MS, base.hold_ms, problems);
    let longest_ms = base.longest_hold_ms.max(hold_ms);
    let damping = DampingConfig {
        free_falls: section.number("flap_free", 0..=16, base.free_falls, problems),
        hold_ms,
        longest_hold_ms: section.number("flap_longest_ms", 0..=MAX_INTERVAL_MS, longest_ms, problems),
        window_s: section.number("flap_window_s", 1..=86_400, base.window_s, problems),
    };
    if damping.longest_hold_ms < damping.hold_ms {
        let offset = section.has("flap_longest_ms").unwrap_or(section.offset);
        let (longest, hold) = (damping.longest_hold_ms, damping.hold_ms);
        problems.add(
            offset,
            format!("flap_longest_ms = {longest} in [health] is shorter than flap_hold_ms = {hold}; raise it or lower flap_hold_ms"),
        );
    }
    damping
}

fn probe_address(section: &Section<'_>, key: &str, problems: &mut Problems) -> Option<At<IpAddr>> {
    let At { value: text, offset } = section.text(key, problems)?;
    let address = match text.trim().parse::<IpAddr>() {
        Ok(IpAddr::V6(address)) if is_host6(address) => Ok(IpAddr::V6(address)),
        Ok(IpAddr::V6(address)) => Err(format!("{key} {address} is not the address of one host")),
        _ => addr::parse_host(text, key).map_err(|error| error.to_string()),
    };
    match address {
        Ok(value) => Some(At { value, offset }),
        Err(message) => {
            problems.add(offset, message);
            None
        }
    }
}

fn is_host6(address: Ipv6Addr) -> bool {
    !(address.is_unspecified() || address.is_loopback() || address.is_multicast())
}

/// `[vip.check]`, if it is there.
pub(super) fn check(vip: &Section<'_>, problems: &mut Problems) -> Option<At<CheckConfig>> {
    let section = vip.table("check", "[vip.check]", CHECK_KEYS, problems)?;
    section.required("type", "\"tcp\"", problems)?;
    let word = section.choice("type", WORDS, Word::Icmp, problems).value;
    for (key, words) in OWN_KEYS {
        if let Some(offset) = section.has(key).filter(|_| !words.contains(&word)) {
            let names: Vec<&str> =
                WORDS.iter().filter(|(_, w)| words.contains(w)).map(|(name, _)| *name).collect();
            problems.add(
                offset,
                format!("{key} in [vip.check] is only for type \"{}\"; remove it", names.join("\" or \"")),
            );
        }
    }
    let kind = kind(&section, word, problems);
    let base = CheckConfig::with_default_timing(kind);
    let pace = Pace::read(&section, "[vip.check]", Pace::of_check(&base), problems);
    let check = CheckConfig {
        port: port(&section, problems).map(|port| port.value),
        interval_ms: pace.interval_ms,
        timeout_ms: pace.timeout_ms,
        rise: pace.rise,
        fall: pace.fall,
        jitter_pct: pace.jitter_pct,
        kind: base.kind,
    };
    Some(At { value: check, offset: section.offset })
}

fn kind(section: &Section<'_>, word: Word, problems: &mut Problems) -> CheckKind {
    let send = text(section, "send", problems);
    let expect = text(section, "expect", problems);
    if let Some(offset) = section.has("expect").filter(|_| expect.as_deref() == Some("")) {
        problems.add(offset, "expect in [vip.check] is empty, which every answer contains; remove it");
    }
    match word {
        Word::Icmp => CheckKind::Icmp,
        Word::Tcp => {
            if let Some(offset) = section.has("send").filter(|_| expect.is_none()) {
                problems.add(
                    offset,
                    "send in [vip.check] of type \"tcp\" needs to know a good answer; add expect, or remove it",
                );
            }
            CheckKind::Tcp { send, expect }
        }
        Word::Udp => CheckKind::Udp { send: send.unwrap_or_default(), expect },
        Word::Http => CheckKind::Http {
            path: path(section, problems),
            host: host(section, problems),
            status: status(section, problems),
            expect,
        },
    }
}

fn text(section: &Section<'_>, key: &str, problems: &mut Problems) -> Option<String> {
    let At { value, offset } = section.text(key, problems)?;
    if value.len() > MAX_TEXT_BYTES {
        problems
            .add(offset, format!("{key} in [vip.check] is longer than {MAX_TEXT_BYTES} bytes; shorten it"));
    }
    Some(value.to_owned())
}

/// Whether a text can stand in an HTTP request line or field without ending it.
fn is_plain(text: &str) -> bool {
    text.len() <= MAX_TEXT_BYTES && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn path(section: &Section<'_>, problems: &mut Problems) -> String {
    let Some(At { value, offset }) = section.text("path", problems) else { return "/".to_owned() };
    if !value.starts_with('/') || !is_plain(value) {
        problems.add(
            offset,
            format!("path {value:?} in [vip.check] is not one that can be asked for; write it from the slash on, without spaces, as in \"/health\""),
        );
    }
    value.to_owned()
}

fn host(section: &Section<'_>, problems: &mut Problems) -> Option<String> {
    let At { value, offset } = section.text("host", problems)?;
    if value.is_empty() || !is_plain(value) {
        problems.add(
            offset,
            format!("host {value:?} in [vip.check] is not a host name; write it as in \"www.example.org\""),
        );
    }
    Some(value.to_owned())
}

/// `"200"`, or `"200-299"`.
fn status(section: &Section<'_>, problems: &mut Problems) -> (u16, u16) {
    const ALL_GOOD: (u16, u16) = (200, 399);
    let Some(At { value, offset }) = section.text("status", problems) else { return ALL_GOOD };
    let code = |text: &str| text.trim().parse::<u16>().ok().filter(|code| (100..=599).contains(code));
    let (low, high) = value.split_once('-').unwrap_or((value, value));
    match (code(low), code(high)) {
        (Some(low), Some(high)) if low <= high => (low, high),
        _ => {
            problems.add(
                offset,
                format!("status {value:?} in [vip.check] is not a code or a range of codes; write it as in \"200\" or \"200-299\""),
            );
            ALL_GOOD
        }
    }
}

/// The rules between checks, VIPs and probe addresses.
pub(super) fn rules(config: &Config, places: &Places, problems: &mut Problems) {
    let probe = config.health.probe_address;
    for (vip, place) in config.vips.iter().zip(&places.vips) {
        for (address, &offset) in probes(&probe).into_iter().zip(&places.probe) {
            let Some(address) = address else { continue };
            let taken =
                vip.address == address || vip.backends.iter().any(|backend| backend.address == address);
            if taken {
                problems.add(
                    offset,
                    format!("probe address {address} is that of a VIP or backend; give one that nobody has"),
                );
            }
        }
        let Some(check) = &vip.check else { continue };
        let word = check.kind.word();
        let key = vip.key();
        if vip.ports.single().is_none() && check.port.is_none() && check.kind != CheckKind::Icmp {
            problems.add(
                place.check,
                format!(
                    "check {word} needs a port, since VIP {key} is for several; add port = 80 to [vip.check]"
                ),
            );
        }
        let without =
            vip.backends.iter().map(|b| vip.check_target(b)).find(|to| probe.towards(*to).is_none());
        if let Some(target) = without {
            let (name, example) = match target {
                IpAddr::V4(_) => ("probe_address", "10.0.0.250"),
                IpAddr::V6(_) => ("probe_address6", "fd00::250"),
            };
            problems.add(
                place.check,
                format!("check {word} of VIP {key} needs an address to ask {target} from; add {name} to [health], one that nobody has and the backends reach, as in \"{example}\""),
            );
        }
    }
}

fn probes(probe: &ProbeAddress) -> [Option<IpAddr>; 2] {
    [probe.v4.map(IpAddr::V4), probe.v6.map(IpAddr::V6)]
}
