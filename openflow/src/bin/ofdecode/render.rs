//! Messages as text and as JSON.

use std::io::{self, Write};

use openflow::Message;
use serde_json::{Map, Value, json};

use crate::input::Piece;

/// Prints a message; whether it decodes.
pub fn print(file: &str, piece: &Piece, json: bool, out: &mut impl Write) -> io::Result<bool> {
    let bytes = match &piece.bytes {
        Ok(bytes) => bytes,
        Err(error) => {
            failed(file, piece, Value::Null, error, json, out)?;
            return Ok(false);
        }
    };
    match Message::decode(bytes) {
        Ok((protocol, xid, message)) => {
            let value = serde_json::to_value(&message).map_err(io::Error::other)?;
            if json {
                let mut line = head(file, piece);
                line.insert("version".to_owned(), version(bytes));
                line.insert("type".to_owned(), message.name().into());
                line.insert("xid".to_owned(), xid.0.into());
                line.insert("bytes".to_owned(), bytes.len().into());
                line.insert("message".to_owned(), value);
                writeln!(out, "{}", Value::Object(line))?;
            } else {
                let label = piece.label.iter().map(|label| format!(" [{label}]")).collect::<String>();
                writeln!(
                    out,
                    "{} OpenFlow {protocol} xid {xid} {} bytes{label}",
                    message.name(),
                    bytes.len()
                )?;
                write_content(&value, out)?;
            }
            Ok(true)
        }
        Err(error) => {
            failed(file, piece, version(bytes), &error.to_string(), json, out)?;
            Ok(false)
        }
    }
}

/// The version in a header: as OpenFlow numbers it, or the byte of another one.
pub fn version(bytes: &[u8]) -> Value {
    match bytes.first().map(|byte| (openflow::Version::from_wire(*byte), *byte)) {
        Some((Some(version), _)) => version.to_string().into(),
        Some((None, byte)) => json!(byte),
        None => Value::Null,
    }
}

fn head(file: &str, piece: &Piece) -> Map<String, Value> {
    let mut line = Map::new();
    line.insert("file".to_owned(), file.into());
    if let Some(label) = &piece.label {
        line.insert("name".to_owned(), label.as_str().into());
    }
    line
}

fn failed(
    file: &str,
    piece: &Piece,
    version: Value,
    error: &str,
    json: bool,
    out: &mut impl Write,
) -> io::Result<()> {
    if json {
        let mut line = head(file, piece);
        line.insert("version".to_owned(), version);
        line.insert("error".to_owned(), error.into());
        return writeln!(out, "{}", Value::Object(line));
    }
    let label = piece.label.iter().map(|label| format!(" [{label}]")).collect::<String>();
    writeln!(out, "{file}{label}: {error}")
}

/// A message's content, without the name of its type, which the first line has.
fn write_content(message: &Value, out: &mut impl Write) -> io::Result<()> {
    match message {
        Value::Object(map) => map.values().try_for_each(|content| write_value(content, 1, out)),
        _ => Ok(()),
    }
}

/// Values as an indented list: a line for each member, those of numbers and texts behind their names.
fn write_value(value: &Value, depth: usize, out: &mut impl Write) -> io::Result<()> {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(map) => map.iter().try_for_each(|(name, value)| match value {
            Value::Null => Ok(()),
            Value::Object(inner) if inner.is_empty() => writeln!(out, "{indent}{name}"),
            Value::Array(list) if list.is_empty() => writeln!(out, "{indent}{name}: none"),
            Value::Object(_) | Value::Array(_) if inline(value).is_none() => {
                writeln!(out, "{indent}{name}:")?;
                write_value(value, depth + 1, out)
            }
            value => writeln!(out, "{indent}{name}: {}", inline(value).unwrap_or_default()),
        }),
        Value::Array(list) => list.iter().try_for_each(|value| match inline(value) {
            Some(text) => writeln!(out, "{indent}- {text}"),
            None => {
                writeln!(out, "{indent}-")?;
                write_value(value, depth + 1, out)
            }
        }),
        value => writeln!(out, "{indent}{}", inline(value).unwrap_or_default()),
    }
}

/// What fits behind a name: a number, a text, a list of those, or a value with its mask.
fn inline(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Null => Some("none".to_owned()),
        Value::Array(list) => {
            let is_plain = |value: &Value| !value.is_object() && !value.is_array();
            if !list.iter().all(is_plain) {
                return None;
            }
            Some(list.iter().filter_map(inline).collect::<Vec<_>>().join(" "))
        }
        Value::Object(map) => match (map.len(), map.get("value"), map.get("mask")) {
            (2, Some(value), Some(Value::Null)) => inline(value),
            (2, Some(value), Some(mask)) => Some(format!("{}/{}", inline(value)?, inline(mask)?)),
            (1, ..) => {
                let (name, value) = map.iter().next()?;
                let text = inline(value).filter(|_| !value.is_array())?;
                Some(format!("{name}: {text}"))
            }
            _ => None,
        },
    }
}
