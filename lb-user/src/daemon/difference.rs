//! The way from one configuration to another in words: what a person wants to see before it is gone.

use lb_core::host::config::{BackendConfig, Config, VipConfig};
use lb_core::host::overlay::Target;
use serde::Serialize;
use serde_json::Value;

/// One line for each difference: settings by their table and key, VIPs by name, backends by VIP and name.
pub fn difference(old: &Config, new: &Config) -> Vec<String> {
    let mut lines = Vec::new();
    settings(old, new, &mut lines);
    for vip in &old.vips {
        if !new.vips.iter().any(|other| other.key() == vip.key()) {
            lines.push(format!("{}: removed; its connections end", title(vip)));
        }
    }
    for vip in &new.vips {
        match old.vips.iter().find(|other| other.key() == vip.key()) {
            None => {
                let names: Vec<String> = vip.backends.iter().map(with_weight).collect();
                lines.push(format!("{}: added, backends {}", title(vip), names.join(", ")));
            }
            Some(before) => of_vip(before, vip, &mut lines),
        }
    }
    lines
}

/// Everything that is not in a VIP.
fn settings(old: &Config, new: &Config, lines: &mut Vec<String>) {
    let (Value::Object(old), Value::Object(new)) = (json(old), json(new)) else { return };
    for (table, value) in new.iter().filter(|(table, _)| *table != "vips") {
        changes(old.get(table).unwrap_or(&Value::Null), value, &mut |path, before, after| {
            let key = if path.is_empty() { String::new() } else { format!(" {path}") };
            lines.push(format!("[{table}]{key}: {before} -> {after}"));
        });
    }
}

fn of_vip(old: &VipConfig, new: &VipConfig, lines: &mut Vec<String>) {
    let bare = |vip: &VipConfig| json(&VipConfig { backends: Vec::new(), ..vip.clone() });
    changes(&bare(old), &bare(new), &mut |path, before, after| {
        lines.push(format!("{}: {path}: {before} -> {after}", title(new)));
    });
    let target = |vip: &VipConfig, backend: &BackendConfig| Target::new(vip, backend);
    for backend in &old.backends {
        if !new.backends.iter().any(|other| target(new, other) == target(old, backend)) {
            lines.push(format!(
                "{}: backend {} removed; its connections stay until they end",
                title(new),
                backend.name
            ));
        }
    }
    for backend in &new.backends {
        let Some(before) = old.backends.iter().find(|other| target(old, other) == target(new, backend))
        else {
            lines.push(format!("{}: backend {} added", title(new), with_weight(backend)));
            continue;
        };
        changes(&json(before), &json(backend), &mut |path, before, after| {
            lines.push(format!("{}: backend {}: {path}: {before} -> {after}", title(new), backend.name));
        });
    }
    let kept = |vip: &VipConfig, other: &VipConfig| -> Vec<Target> {
        let targets: Vec<Target> = other.backends.iter().map(|backend| target(other, backend)).collect();
        vip.backends.iter().map(|backend| target(vip, backend)).filter(|one| targets.contains(one)).collect()
    };
    if kept(old, new) != kept(new, old) {
        lines.push(format!("{}: its backends are in another order", title(new)));
    }
}

/// Calls `changed` for every leaf that differs, with its path and both values as people write them.
fn changes(old: &Value, new: &Value, changed: &mut impl FnMut(&str, String, String)) {
    fn walk(path: &str, old: &Value, new: &Value, changed: &mut impl FnMut(&str, String, String)) {
        match (old, new) {
            _ if old == new => {}
            (Value::Object(before), Value::Object(after)) => {
                let gone = before.keys().filter(|key| !after.contains_key(*key));
                for key in after.keys().chain(gone) {
                    let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    let value =
                        |map: &serde_json::Map<String, Value>| map.get(key).cloned().unwrap_or_default();
                    walk(&path, &value(before), &value(after), changed);
                }
            }
            _ => changed(path, word(old), word(new)),
        }
    }
    walk("", old, new, changed);
}

fn json(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

fn word(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn title(vip: &VipConfig) -> String {
    let key = vip.key().to_string();
    if vip.name == key { format!("VIP {key}") } else { format!("VIP {} ({key})", vip.name) }
}

fn with_weight(backend: &BackendConfig) -> String {
    if backend.weight == 1 { backend.name.clone() } else { format!("{} x{}", backend.name, backend.weight) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
[health]
interval_ms = 200
[[vip]]
name = "web"
address = "10.0.1.1"
port = 80
backend = [{ name = "h1", address = "10.0.0.1" }, { name = "h2", address = "10.0.0.2" }]
[[vip]]
address = "10.0.1.2"
backend = [{ address = "10.0.0.1" }]
"#;

    fn lines(changed: &str) -> Vec<String> {
        let config = |text: &str| Config::from_toml(text, "f").unwrap();
        difference(&config(FILE), &config(changed))
    }

    #[test]
    fn nothing_changed_is_nothing_to_say() {
        assert_eq!(lines(FILE), Vec::<String>::new());
        assert_eq!(lines(&format!("# a comment\n{FILE}")), Vec::<String>::new());
    }

    #[test]
    fn every_change_is_a_line() {
        let changed = FILE
            .replace("interval_ms = 200", "interval_ms = 500\n[placement]\nattach = [\"s1-eth1\"]")
            .replace("port = 80", "port = 80\nselection = \"maglev\"\non_down = \"repick\"")
            .replace(
                "{ name = \"h2\", address = \"10.0.0.2\" }",
                "{ name = \"h3\", address = \"10.0.0.3\", weight = 2 }",
            )
            .replace(
                "name = \"h1\", address = \"10.0.0.1\"",
                "name = \"first\", address = \"10.0.0.1\", weight = 5",
            )
            .replace("address = \"10.0.1.2\"", "address = \"10.0.1.3\"");
        let expected = [
            "[placement] attach: [] -> [\"s1-eth1\"]",
            "[health] interval_ms: 200 -> 500",
            "VIP 10.0.1.2/tcp: removed; its connections end",
            "VIP web (10.0.1.1:80/tcp): selection: random -> maglev",
            "VIP web (10.0.1.1:80/tcp): on_down: keep -> repick",
            "VIP web (10.0.1.1:80/tcp): backend h2 removed; its connections stay until they end",
            "VIP web (10.0.1.1:80/tcp): backend first: name: h1 -> first",
            "VIP web (10.0.1.1:80/tcp): backend first: weight: 1 -> 5",
            "VIP web (10.0.1.1:80/tcp): backend h3 x2 added",
            "VIP 10.0.1.3/tcp: added, backends 10.0.0.1",
        ];
        let mut found = lines(&changed);
        let mut expected = expected.map(str::to_owned).to_vec();
        found.sort();
        expected.sort();
        assert_eq!(found, expected);
    }

    #[test]
    fn another_order_is_a_change_since_it_moves_shares() {
        let (h1, h2) =
            ("{ name = \"h1\", address = \"10.0.0.1\" }", "{ name = \"h2\", address = \"10.0.0.2\" }");
        let turned = FILE.replace(&format!("{h1}, {h2}"), &format!("{h2}, {h1}"));
        assert_eq!(lines(&turned), ["VIP web (10.0.1.1:80/tcp): its backends are in another order"]);
    }
}
