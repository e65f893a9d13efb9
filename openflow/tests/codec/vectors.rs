//! Messages that other projects wrote, as JSON lines in the folder that OPENFLOW_VECTORS names: each object has
//! `name` and `hex`, one whole message. What the codec takes apart must encode to the same bytes.

use std::path::Path;

use crate::common::{check_truncations, encode, hex, say, to_hex};
use openflow::Message;

/// Messages that do not come back byte for byte, or do not decode, and why.
const EXCEPTIONS: &[(&str, &str)] = &[];

/// Messages that are not taken apart whole, and why.
const KEPT_RAW: &[(&str, &str)] = &[
    ("4-16-ofp_experimenter", "its experimenter, 98765432, is nobody"),
    ("4-61-ofp_experimenter_request", "its experimenter, 0xdeadbeaf, is nobody"),
    ("4-62-ofp_experimenter_reply", "its experimenter, 0xdeadbeaf, is nobody"),
];

#[test]
fn foreign_messages_come_back_byte_for_byte() {
    let Some(folder) = std::env::var_os("OPENFLOW_VECTORS") else {
        say(
            "SKIPPED: OPENFLOW_VECTORS names no folder with recorded messages (*.jsonl); nothing was checked",
        );
        return;
    };
    let mut failures = Vec::new();
    let (mut total, mut raw) = (0, 0);
    for (name, bytes) in read_vectors(Path::new(&folder)) {
        total += 1;
        let exception = EXCEPTIONS.iter().find(|(known, _)| *known == name);
        match (round_trip(&bytes), exception) {
            (Ok(true), None) | (Err(_), Some(_)) => {}
            (Ok(false), None) if KEPT_RAW.iter().any(|(known, _)| *known == name) => raw += 1,
            (Ok(false), None) => failures.push(format!("{name}: is not taken apart")),
            (Err(problem), None) => failures.push(format!("{name}: {problem}")),
            (Ok(_), Some((_, reason))) => {
                failures.push(format!("{name}: is no exception any more ({reason})"));
            }
        }
        check_truncations(&bytes);
    }
    say(&format!("{total} messages, {raw} of them kept raw, {} exceptions", EXCEPTIONS.len()));
    assert!(failures.is_empty(), "{} of {total}:\n{}", failures.len(), failures.join("\n"));
    assert!(total > 0, "no message in {}", folder.display());
}

fn read_vectors(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries
        .map(|entry| entry.expect("folder entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
        .collect();
    files.sort();
    let mut vectors = Vec::new();
    for file in files {
        let text =
            std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let object: serde_json::Value =
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            let field =
                |key: &str| object[key].as_str().unwrap_or_else(|| panic!("no {key} in {line}")).to_owned();
            vectors.push((field("name"), hex(&field("hex"))));
        }
    }
    vectors
}

/// Whether the message was taken apart, if it came back byte for byte.
fn round_trip(bytes: &[u8]) -> Result<bool, String> {
    let (version, xid, message) = Message::decode(bytes).map_err(|error| error.to_string())?;
    let again = encode(&message, version, xid.0);
    if again == bytes {
        return Ok(message.is_typed());
    }
    Err(format!("{message:?}\n   came {}\n   went {}", to_hex(bytes), to_hex(&again)))
}
