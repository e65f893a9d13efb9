//! The dependency lint: which crate may use which, and what stays out of the pure ones.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::process;
use crate::project::Project;

/// Who may import whom, of our own crates. `tests` may use all.
const MAY_USE: [(&str, &[&str]); 8] = [
    ("lb-bench", &["lb-core", "lb-user", "tests"]),
    ("lb-core", &[]),
    ("lb-ebpf", &["lb-core"]),
    ("lb-user", &["lb-core"]),
    ("ofbench", &["openflow"]),
    ("ofshim", &["lb-core", "openflow"]),
    ("openflow", &[]),
    ("xtask", &[]),
];

/// Crates of decisions and bytes, without a system underneath.
const PURE: [&str; 2] = ["lb-core", "openflow"];

/// What a pure crate does not reach, even through others.
const SYSTEM: [&str; 4] = ["aya", "aya-obj", "libc", "tokio"];

/// The part of the controller that has no sockets.
const PURE_FOLDER: &str = "ofshim/src/core";

/// Crates that the pure folder's sources do not name.
const SYSTEM_IN_SOURCE: [&str; 7] = ["aya", "axum", "hyper", "hyper_util", "libc", "socket2", "tokio"];

/// Checks the whole project; an error lists every violation.
pub fn check(project: &Project) -> Result<()> {
    let of_workspace = metadata(project, &project.root, &["--locked"])?;
    let of_programs = metadata(project, &project.ebpf_crate(), &["--no-deps"])?;
    let mut violations = imports(&of_workspace);
    violations.extend(imports(&of_programs));
    violations.extend(reached(&of_workspace));
    let mut sources = Vec::new();
    rust_files(&project.root.join(PURE_FOLDER), &mut sources)?;
    for file in sources {
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let name = file.strip_prefix(&project.root).unwrap_or(&file).display();
        violations.extend(named(&text).into_iter().map(|(line, what)| format!("{name}:{line} uses {what}")));
    }
    if violations.is_empty() {
        return Ok(());
    }
    bail!("{} broken:\n  {}", if violations.len() == 1 { "rule" } else { "rules" }, violations.join("\n  "))
}

fn metadata(project: &Project, folder: &Path, args: &[&str]) -> Result<Value> {
    let mut command = project.cargo();
    command.args(["metadata", "--format-version=1"]).args(args).current_dir(folder);
    Ok(serde_json::from_str(&process::capture(&mut command)?)?)
}

/// Our crates' dependencies on each other, against the table.
fn imports(metadata: &Value) -> Vec<String> {
    let ours: BTreeSet<&str> = MAY_USE.iter().map(|(name, _)| *name).chain(["tests"]).collect();
    let mut violations = Vec::new();
    for package in array(&metadata["packages"]) {
        let name = text(&package["name"]);
        let is_ours = package["source"].is_null();
        if name == "tests" || !is_ours {
            continue;
        }
        let Some((_, allowed)) = MAY_USE.iter().find(|(known, _)| *known == name) else {
            violations.push(format!("{name} is not in the table of who may use whom"));
            continue;
        };
        for dependency in array(&package["dependencies"]).iter().map(|dependency| text(&dependency["name"])) {
            if ours.contains(dependency) && !allowed.contains(&dependency) {
                violations.push(format!("{name} uses {dependency}"));
            }
        }
    }
    violations
}

/// What the pure crates reach through dependencies that are built into them (not those of tests and build scripts).
fn reached(metadata: &Value) -> Vec<String> {
    let names: BTreeMap<&str, &str> = array(&metadata["packages"])
        .iter()
        .map(|package| (text(&package["id"]), text(&package["name"])))
        .collect();
    let nodes: BTreeMap<&str, &Value> =
        array(&metadata["resolve"]["nodes"]).iter().map(|node| (text(&node["id"]), node)).collect();
    let mut violations = Vec::new();
    for pure in PURE {
        let Some((start, _)) = names.iter().find(|(_, name)| **name == pure) else {
            violations.push(format!("there is no crate {pure}"));
            continue;
        };
        let mut paths = vec![(*start, pure.to_owned())];
        let mut seen = BTreeSet::new();
        while let Some((id, path)) = paths.pop() {
            if !seen.insert(id) {
                continue;
            }
            for next in nodes.get(id).into_iter().flat_map(|node| built_in(node)) {
                let name = names.get(next).copied().unwrap_or(next);
                let longer = format!("{path} -> {name}");
                if SYSTEM.contains(&name) {
                    violations.push(longer.clone());
                }
                paths.push((next, longer));
            }
        }
    }
    violations
}

fn built_in(node: &Value) -> impl Iterator<Item = &str> {
    let normal =
        |dependency: &&Value| array(&dependency["dep_kinds"]).iter().any(|kind| kind["kind"].is_null());
    array(&node["deps"]).iter().filter(normal).map(|dependency| text(&dependency["pkg"]))
}

/// Lines of a source that use a crate of the system, with its name. Comments may mention it.
fn named(source: &str) -> Vec<(usize, &'static str)> {
    let mut found = Vec::new();
    for (index, line) in source.lines().enumerate() {
        let code = line.split("//").next().unwrap_or(line);
        let words = || code.split(|c: char| !c.is_alphanumeric() && c != '_');
        let uses = |name: &&&str| {
            words().any(|word| word == **name) && (code.contains("::") || code.contains("use "))
        };
        found.extend(SYSTEM_IN_SOURCE.iter().filter(uses).map(|name| (index + 1, *name)));
    }
    found
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            rust_files(&path, files)?;
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(())
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn package(name: &str, dependencies: &[&str]) -> Value {
        let dependencies: Vec<Value> = dependencies.iter().map(|name| json!({ "name": name })).collect();
        json!({ "id": name, "name": name, "source": null, "dependencies": dependencies })
    }

    fn node(id: &str, deps: &[(&str, Option<&str>)]) -> Value {
        let deps: Vec<Value> =
            deps.iter().map(|(name, kind)| json!({ "pkg": name, "dep_kinds": [{ "kind": kind }] })).collect();
        json!({ "id": id, "deps": deps })
    }

    #[test]
    fn the_table_holds() {
        let good =
            json!({ "packages": [package("lb-user", &["lb-core", "serde"]), package("tests", &["ofshim"])] });
        assert_eq!(imports(&good), Vec::<String>::new());
        let bad = json!({ "packages": [package("lb-core", &["openflow"]), package("stranger", &[])] });
        assert_eq!(
            imports(&bad),
            ["lb-core uses openflow", "stranger is not in the table of who may use whom"]
        );
    }

    #[test]
    fn a_system_crate_is_found_through_others_and_tests_may_use_it() {
        let packages = ["lb-core", "openflow", "toml", "libc", "proptest"].map(|name| package(name, &[]));
        let nodes = |of_core: &[(&str, Option<&str>)]| {
            json!({ "packages": packages.clone(), "resolve": { "nodes": [
                node("lb-core", of_core), node("openflow", &[]), node("toml", &[("libc", None)]),
                node("libc", &[]), node("proptest", &[("libc", None)]) ] } })
        };
        assert_eq!(reached(&nodes(&[("toml", None)])), ["lb-core -> toml -> libc"]);
        assert_eq!(reached(&nodes(&[("proptest", Some("dev"))])), Vec::<String>::new());
        assert_eq!(
            reached(&json!({ "packages": [package("lb-core", &[])] })),
            ["there is no crate openflow"]
        );
    }

    #[test]
    fn sources_are_read_without_their_comments() {
        let source = "//! Without tokio::net.\nuse tokio::time;\nlet my_tokio = 1;\nfn f(a: libc::c_int) {} // aya::\n";
        assert_eq!(named(source), [(2, "tokio"), (4, "libc")]);
    }
}
