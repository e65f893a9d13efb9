//! Inputs: what a file holds, cut into messages.

use std::fs;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::{Format, pcap, segments, stream};

/// One file, or the digits of one option.
pub struct Source {
    /// Its name.
    pub name: String,
    /// Its messages.
    pub pieces: Vec<Piece>,
}

/// One message, or bytes that are none.
pub struct Piece {
    /// What the input says of it: a name, or time and direction in a capture.
    pub label: Option<String>,
    /// The bytes, or why there are none.
    pub bytes: Result<Vec<u8>, String>,
}

impl Piece {
    fn plain(bytes: Vec<u8>) -> Self {
        Self { label: None, bytes: Ok(bytes) }
    }
}

impl Source {
    /// Reads digits of the command line.
    pub fn of_hex(digits: &str) -> Result<Self> {
        Ok(Self { name: "--hex".to_owned(), pieces: of_text(digits).context("--hex")? })
    }

    /// Reads a file, or standard input for `-`.
    pub fn of_file(path: &Path, format: Format, ports: &[u16]) -> Result<Self> {
        let name =
            if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() };
        let bytes = read(path).with_context(|| format!("cannot read {name}"))?;
        let format = if format == Format::Auto { guess(&bytes) } else { format };
        let pieces = match format {
            Format::Pcap => of_capture(&bytes, ports),
            Format::Hex => match std::str::from_utf8(&bytes) {
                Ok(text) => of_text(text),
                Err(_) => bail!("{name} holds other bytes than text; try --format binary"),
            },
            Format::Binary | Format::Auto => Ok(of_binary(&bytes)),
        };
        Ok(Self { pieces: pieces.with_context(|| name.clone())?, name })
    }
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    if path == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::stdin().lock().read_to_end(&mut bytes)?;
        return Ok(bytes);
    }
    fs::read(path)
}

/// A capture by its first bytes; text if all of it is printable; messages otherwise.
fn guess(bytes: &[u8]) -> Format {
    let is_text = |byte: &u8| byte.is_ascii_graphic() || byte.is_ascii_whitespace();
    if pcap::is_capture(bytes) {
        Format::Pcap
    } else if bytes.iter().all(is_text) {
        Format::Hex
    } else {
        Format::Binary
    }
}

/// Messages one behind the other.
fn of_binary(bytes: &[u8]) -> Vec<Piece> {
    let (messages, rest) = stream::cut(bytes);
    let mut pieces: Vec<Piece> = messages.iter().map(|message| Piece::plain(message.to_vec())).collect();
    if !rest.is_empty() || pieces.is_empty() {
        pieces.push(Piece::plain(rest.to_vec()));
    }
    pieces
}

/// Lines of hex digits, or of JSON with the digits in `hex`.
fn of_text(text: &str) -> Result<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut joined = Vec::new();
    let mut whole_lines = true;
    for (number, line) in (1..).zip(text.lines()) {
        let place = || format!("line {number}");
        if line.trim_start().starts_with('{') {
            pieces.push(of_json(line).with_context(place)?);
            continue;
        }
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let bytes = digits(line).with_context(place)?;
        whole_lines &= stream::cut(&bytes).1.is_empty();
        joined.push(bytes);
    }
    // A message over several lines leaves none of them whole.
    let parts = if whole_lines { joined } else { vec![joined.concat()] };
    pieces.extend(parts.into_iter().filter(|bytes| !bytes.is_empty()).flat_map(|bytes| of_binary(&bytes)));
    if pieces.is_empty() {
        bail!("there is no message in it");
    }
    Ok(pieces)
}

fn of_json(line: &str) -> Result<Piece> {
    let object: serde_json::Value = serde_json::from_str(line).context("this is no JSON")?;
    let Some(hex) = object.get("hex").and_then(serde_json::Value::as_str) else {
        bail!("the JSON object has no text member \"hex\"");
    };
    let label = object.get("name").and_then(serde_json::Value::as_str).map(str::to_owned);
    Ok(Piece { label, bytes: Ok(digits(hex)?) })
}

/// Bytes of hex digits; blanks, colons, commas and 0x between them are left out.
fn digits(text: &str) -> Result<Vec<u8>> {
    let text = text.replace("0x", " ");
    let mut nibbles = Vec::new();
    for c in text.chars().filter(|c| !c.is_whitespace() && !matches!(c, ':' | ',')) {
        match c.to_digit(16).map(u8::try_from) {
            Some(Ok(nibble)) => nibbles.push(nibble),
            _ => bail!("{c:?} is no hex digit"),
        }
    }
    if nibbles.len() % 2 != 0 {
        bail!("there is an odd number of hex digits ({})", nibbles.len());
    }
    Ok(nibbles.chunks_exact(2).map(|pair| pair.iter().fold(0, |byte, nibble| byte << 4 | nibble)).collect())
}

/// Messages of the TCP connections in a capture, in the order in which they were complete.
fn of_capture(bytes: &[u8], ports: &[u16]) -> Result<Vec<Piece>> {
    let mut streams = stream::Streams::default();
    let mut pieces = Vec::new();
    for packet in pcap::packets(bytes)? {
        let packet = packet?;
        let Some(segment) = segments::parse(packet.link_type, packet.data) else { continue };
        if !ports.contains(&segment.from.port()) && !ports.contains(&segment.to.port()) {
            continue;
        }
        let label = format!("{} {} > {}", packet.time(), segment.from, segment.to);
        for message in streams.take(&segment) {
            pieces.push(Piece { label: Some(label.clone()), bytes: message });
        }
    }
    Ok(pieces)
}
