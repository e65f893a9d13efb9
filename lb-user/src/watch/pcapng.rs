//! Writes captured frames with comments: pcapng, which Wireshark shows beside each packet.
//!
//! <https://www.ietf.org/archive/id/draft-ietf-opsawg-pcapng-02.html>

use std::io::{self, Write};

use lb_core::watch::SNAP_BYTES;

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const PACKET: u32 = 6;

const OPT_COMMENT: u16 = 1;
/// Of the section.
const SHB_USERAPPL: u16 = 4;
/// Of an interface.
const IF_NAME: u16 = 2;
const IF_TSRESOL: u16 = 9;
/// Of a packet.
const EPB_FLAGS: u16 = 2;

/// Which way a packet goes, the low bits of its flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// In.
    In = 1,
    /// Out.
    Out = 2,
}

/// A packet as it is written.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// Number of the interface, in the order of [`Writer::new`].
    pub interface: u32,
    /// When, in nanoseconds since 1970.
    pub time_ns: u64,
    /// Its bytes, as far as they are known.
    pub bytes: &'a [u8],
    /// Bytes that it has altogether.
    pub length: u32,
    /// Which way it goes.
    pub direction: Direction,
    /// What is to be said about it.
    pub comment: &'a str,
}

/// Writes a file.
#[derive(Debug)]
pub struct Writer<W: Write> {
    out: W,
}

impl<W: Write> Writer<W> {
    /// Begins a file with these interfaces.
    ///
    /// # Errors
    /// Of `out`.
    pub fn new(mut out: W, interfaces: &[String]) -> io::Result<Self> {
        let mut body = Vec::new();
        body.extend(0x1a2b_3c4d_u32.to_ne_bytes());
        body.extend(1u16.to_ne_bytes());
        body.extend(0u16.to_ne_bytes());
        body.extend((-1i64).to_ne_bytes());
        option(&mut body, SHB_USERAPPL, concat!("lb ", env!("CARGO_PKG_VERSION")).as_bytes());
        end(&mut body);
        block(&mut out, SECTION, &body)?;
        for name in interfaces {
            let mut body = Vec::new();
            body.extend(1u16.to_ne_bytes());
            body.extend(0u16.to_ne_bytes());
            body.extend((SNAP_BYTES as u32).to_ne_bytes());
            option(&mut body, IF_NAME, name.as_bytes());
            // Times are powers of ten: nanoseconds.
            option(&mut body, IF_TSRESOL, &[9]);
            end(&mut body);
            block(&mut out, INTERFACE, &body)?;
        }
        Ok(Self { out })
    }

    /// Writes a packet.
    ///
    /// # Errors
    /// Of the file.
    pub fn packet(&mut self, packet: &Packet<'_>) -> io::Result<()> {
        let mut body = Vec::new();
        body.extend(packet.interface.to_ne_bytes());
        body.extend(((packet.time_ns >> 32) as u32).to_ne_bytes());
        body.extend((packet.time_ns as u32).to_ne_bytes());
        body.extend((packet.bytes.len() as u32).to_ne_bytes());
        body.extend(packet.length.to_ne_bytes());
        body.extend(packet.bytes);
        pad(&mut body);
        option(&mut body, OPT_COMMENT, packet.comment.as_bytes());
        option(&mut body, EPB_FLAGS, &(packet.direction as u32).to_ne_bytes());
        end(&mut body);
        block(&mut self.out, PACKET, &body)
    }

    /// Brings everything to the file.
    ///
    /// # Errors
    /// Of the file.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn pad(body: &mut Vec<u8>) {
    body.resize(body.len().next_multiple_of(4), 0);
}

fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    body.extend(code.to_ne_bytes());
    body.extend((value.len() as u16).to_ne_bytes());
    body.extend(value);
    pad(body);
}

fn end(body: &mut Vec<u8>) {
    body.extend([0; 4]);
}

fn block(out: &mut impl Write, kind: u32, body: &[u8]) -> io::Result<()> {
    let length = (body.len() as u32 + 12).to_ne_bytes();
    out.write_all(&kind.to_ne_bytes())?;
    out.write_all(&length)?;
    out.write_all(body)?;
    out.write_all(&length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pcap;

    #[test]
    fn what_is_written_is_read_back() {
        let mut file = Vec::new();
        let mut writer = Writer::new(&mut file, &["a".into(), "s1-eth1".into()]).unwrap();
        for (interface, bytes) in [(0u32, &b"abc"[..]), (1, b"0123456789ab")] {
            let packet = Packet {
                interface,
                time_ns: 1_700_000_000_000_000_001,
                bytes,
                length: 60,
                direction: Direction::In,
                comment: "not_ours: passed",
            };
            writer.packet(&packet).unwrap();
        }
        writer.flush().unwrap();
        let frames = pcap::read(&file).unwrap();
        let expected = [&b"abc"[..], b"0123456789ab"];
        assert_eq!(frames.iter().map(|frame| &frame.bytes[..]).collect::<Vec<_>>(), expected);
        assert!(frames.iter().all(|frame| frame.length == 60));
        assert_eq!(file.windows(16).filter(|part| part == b"not_ours: passed").count(), 2);
        assert!(file.windows(7).any(|part| part == b"s1-eth1"));
        assert!(file.len().is_multiple_of(4));
    }
}
