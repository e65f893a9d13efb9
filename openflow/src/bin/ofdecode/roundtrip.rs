//! Whether what was decoded encodes to the same bytes.

use std::io::{self, Write};

use openflow::{Message, Version};
use serde_json::{Map, Value};

use crate::input::Piece;
use crate::render;

/// Prints a line; whether the message either came back or could not be decoded in the first place.
pub fn print(file: &str, piece: Piece, out: &mut impl Write) -> io::Result<bool> {
    let mut line = Map::new();
    line.insert("file".to_owned(), file.into());
    if let Some(label) = piece.label {
        line.insert("name".to_owned(), label.into());
    }
    let identical = match piece.bytes {
        Ok(bytes) => check(bytes, &mut line),
        Err(error) => undecoded(&error, &mut line),
    };
    writeln!(out, "{}", Value::Object(line))?;
    Ok(identical)
}

fn check(mut bytes: Vec<u8>, line: &mut Map<String, Value>) -> bool {
    line.insert("version".to_owned(), render::version(&bytes));
    let decoded = Message::decode(&bytes);
    let original = bytes.clone();
    // From here on nothing but the values can give the bytes back.
    bytes.fill(0xa5);
    drop(bytes);
    match decoded {
        Ok((version, xid, message)) => {
            line.insert("type".to_owned(), message.name().into());
            line.insert("decoded".to_owned(), true.into());
            if !message.is_typed() {
                line.insert("raw".to_owned(), true.into());
            }
            compare(&message, version, xid, &original, line)
        }
        Err(error) => {
            line.insert("type".to_owned(), error.message.into());
            undecoded(&error.to_string(), line)
        }
    }
}

fn compare(
    message: &Message,
    version: Version,
    xid: openflow::Xid,
    original: &[u8],
    line: &mut Map<String, Value>,
) -> bool {
    let mut again = Vec::new();
    let encoded = message.encode(version, xid, &mut again);
    let identical = encoded.is_ok() && again == original;
    line.insert("identical".to_owned(), identical.into());
    match encoded {
        Err(error) => {
            line.insert("error".to_owned(), error.to_string().into());
        }
        Ok(()) if !identical => {
            let at = again.iter().zip(original).take_while(|(ours, theirs)| ours == theirs).count();
            line.insert("differs_at".to_owned(), at.into());
        }
        Ok(()) => {}
    }
    identical
}

/// What does not decode has no values that could give other bytes.
fn undecoded(error: &str, line: &mut Map<String, Value>) -> bool {
    line.insert("decoded".to_owned(), false.into());
    line.insert("identical".to_owned(), false.into());
    line.insert("error".to_owned(), error.into());
    true
}
