//! Reads captured frames: pcap (the classic format) and pcapng, Ethernet only.

/// A frame of a capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its bytes, as far as they were captured.
    pub bytes: Vec<u8>,
    /// Bytes that it had on the wire.
    pub length: u32,
    /// When it was captured, in nanoseconds since 1970; 0 where the file does not say.
    pub at_ns: u64,
}

/// Frames longer than this are taken for a damaged file.
const LONGEST: u32 = 1 << 18;
/// LINKTYPE_ETHERNET.
const ETHERNET: u16 = 1;
/// In a second.
const NANOSECONDS: u64 = 1_000_000_000;

/// An interface of a pcapng file.
#[derive(Clone, Copy, Debug)]
struct Interface {
    kind: u16,
    /// The longest captured frame; 0 for any.
    snap: u32,
    /// What a unit of time is: a power of ten, or with the upper bit a power of two (if_tsresol).
    resolution: u8,
}

impl Interface {
    /// Units of time as nanoseconds.
    fn nanoseconds(self, units: u64) -> u64 {
        let exponent = u32::from(self.resolution & 0x7f);
        let base: u128 = if self.resolution & 0x80 == 0 { 10 } else { 2 };
        let a_second = base.checked_pow(exponent).unwrap_or(u128::MAX);
        u64::try_from(u128::from(units) * u128::from(NANOSECONDS) / a_second).unwrap_or(u64::MAX)
    }
}

/// Reads all frames of a file.
///
/// # Errors
/// What is wrong with the file, and at which byte.
pub fn read(file: &[u8]) -> Result<Vec<Frame>, String> {
    match file.get(..4) {
        Some([0xd4, 0xc3, 0xb2, 0xa1] | [0x4d, 0x3c, 0xb2, 0xa1]) => {
            classic(Reader { file, at: 0, big: false }, file[0] == 0x4d)
        }
        Some([0xa1, 0xb2, 0xc3, 0xd4] | [0xa1, 0xb2, 0x3c, 0x4d]) => {
            classic(Reader { file, at: 0, big: true }, file[3] == 0x4d)
        }
        Some([0x0a, 0x0d, 0x0d, 0x0a]) => pcapng(Reader { file, at: 0, big: false }),
        _ => Err("is neither a pcap nor a pcapng file".to_owned()),
    }
}

struct Reader<'a> {
    file: &'a [u8],
    at: usize,
    big: bool,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], String> {
        let end = self.at.checked_add(length).filter(|end| *end <= self.file.len());
        let Some(end) = end else {
            return Err(format!("ends in the middle of a record, at byte {}", self.at));
        };
        let part = &self.file[self.at..end];
        self.at = end;
        Ok(part)
    }

    fn u16(&mut self) -> Result<u16, String> {
        let bytes = self.take(2)?.try_into().unwrap_or_default();
        Ok(if self.big { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    }

    fn u32(&mut self) -> Result<u32, String> {
        let bytes = self.take(4)?.try_into().unwrap_or_default();
        Ok(if self.big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    fn frame(&mut self, captured: u32, length: u32, at_ns: u64) -> Result<Frame, String> {
        if captured > LONGEST {
            return Err(format!("a frame of {captured} bytes at byte {}: the file is damaged", self.at));
        }
        Ok(Frame { bytes: self.take(captured as usize)?.to_vec(), length, at_ns })
    }
}

/// <https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap-04.html>
fn classic(mut r: Reader<'_>, has_nanoseconds: bool) -> Result<Vec<Frame>, String> {
    r.take(20)?;
    // The upper bits carry the length of the frame check sequence.
    let kind = r.u32()? as u16;
    if kind != ETHERNET {
        return Err(format!("holds frames of link type {kind}; only Ethernet (1) is understood"));
    }
    let mut frames = Vec::new();
    while r.at < r.file.len() {
        let (seconds, part) = (u64::from(r.u32()?), u64::from(r.u32()?));
        let at_ns = seconds * NANOSECONDS + part * if has_nanoseconds { 1 } else { 1000 };
        let (captured, length) = (r.u32()?, r.u32()?);
        frames.push(r.frame(captured, length, at_ns)?);
    }
    Ok(frames)
}

/// <https://www.ietf.org/archive/id/draft-ietf-opsawg-pcapng-02.html>
fn pcapng(mut r: Reader<'_>) -> Result<Vec<Frame>, String> {
    const SECTION: u32 = 0x0a0d_0d0a;
    const INTERFACE: u32 = 1;
    const SIMPLE: u32 = 3;
    const ENHANCED: u32 = 6;
    let mut frames = Vec::new();
    let mut interfaces: Vec<Interface> = Vec::new();
    while r.at < r.file.len() {
        let start = r.at;
        let kind = r.u32()?;
        if kind == SECTION {
            // The order of bytes is that of the magic number behind the length.
            r.big = r.file.get(start + 8..start + 12) == Some(&[0x1a, 0x2b, 0x3c, 0x4d]);
            interfaces.clear();
        }
        let length = r.u32()? as usize;
        if length < 12 || !length.is_multiple_of(4) {
            return Err(format!("a block of {length} bytes at byte {start}: the file is damaged"));
        }
        let ethernet = |interfaces: &[Interface], number: usize| match interfaces.get(number) {
            Some(interface) if interface.kind == ETHERNET => Ok(*interface),
            Some(Interface { kind, .. }) => {
                Err(format!("holds frames of link type {kind}; only Ethernet (1) is understood"))
            }
            None => Err(format!("a frame of an unknown interface at byte {start}")),
        };
        match kind {
            INTERFACE => {
                let kind = r.u16()?;
                r.u16()?;
                let snap = r.u32()?;
                let resolution = resolution(&mut r, start + length)?;
                interfaces.push(Interface { kind, snap, resolution });
            }
            ENHANCED => {
                let number = r.u32()? as usize;
                let interface = ethernet(&interfaces, number)?;
                let (high, low) = (u64::from(r.u32()?), u64::from(r.u32()?));
                let (captured, on_wire) = (r.u32()?, r.u32()?);
                frames.push(r.frame(captured, on_wire, interface.nanoseconds(high << 32 | low))?);
            }
            SIMPLE => {
                let Interface { snap, .. } = ethernet(&interfaces, 0)?;
                let on_wire = r.u32()?;
                let captured = if snap == 0 { on_wire } else { on_wire.min(snap) };
                frames.push(r.frame(captured, on_wire, 0)?);
            }
            _ => {}
        }
        if r.at > start + length {
            return Err(format!("a block that is longer than it says at byte {start}"));
        }
        r.at = start;
        r.take(length)?;
    }
    Ok(frames)
}

/// The unit of time among the options of an interface, which go up to the block's length at its end.
fn resolution(r: &mut Reader<'_>, end: usize) -> Result<u8, String> {
    /// if_tsresol, and what it is without it: microseconds.
    const RESOLUTION: u16 = 9;
    const MICROSECONDS: u8 = 6;
    while r.at + 8 <= end {
        let (code, length) = (r.u16()?, usize::from(r.u16()?));
        let value = r.take(length.next_multiple_of(4))?;
        match (code, value) {
            (0, _) => break,
            (RESOLUTION, [resolution, ..]) => return Ok(*resolution),
            _ => {}
        }
    }
    Ok(MICROSECONDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classic_file(kind: u32, frames: &[&[u8]]) -> Vec<u8> {
        let mut file = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0];
        file.extend(kind.to_le_bytes());
        for frame in frames {
            file.extend([3, 0, 0, 0, 7, 0, 0, 0]);
            file.extend((frame.len() as u32).to_le_bytes());
            file.extend((frame.len() as u32 + 5).to_le_bytes());
            file.extend(*frame);
        }
        file
    }

    #[test]
    fn a_classic_file_is_read_to_its_end() {
        let frames = read(&classic_file(1, &[b"abc", b""])).unwrap();
        assert_eq!(frames[0], Frame { bytes: b"abc".to_vec(), length: 8, at_ns: 3_000_007_000 });
        assert_eq!((frames.len(), frames[1].length), (2, 5));
        let mut finer = classic_file(1, &[b"abc"]);
        finer[0] = 0x4d;
        finer[1] = 0x3c;
        assert_eq!(read(&finer).unwrap()[0].at_ns, 3_000_000_007);
    }

    #[test]
    fn a_file_of_blocks_is_read_in_either_order_of_bytes() {
        for big in [false, true] {
            let word = |n: u32| if big { n.to_be_bytes() } else { n.to_le_bytes() };
            let half = |n: u16| if big { n.to_be_bytes() } else { n.to_le_bytes() };
            let block = |kind: u32, body: &[u8]| {
                let mut padded = body.to_vec();
                padded.resize(body.len().next_multiple_of(4), 0);
                let length = word(padded.len() as u32 + 12);
                [&word(kind)[..], &length, &padded, &length].concat()
            };
            let section =
                block(0x0a0d_0d0a, &[&word(0x1a2b_3c4d)[..], &half(1), &half(0), &[0xff; 8]].concat());
            // Time in 1/1024 s.
            let options =
                [&half(2)[..], &half(3), b"if0\0", &half(9), &half(1), &[0x8a, 0, 0, 0], &[0; 4]].concat();
            let interface = block(1, &[&half(1)[..], &half(0), &word(3), &options].concat());
            let unknown = block(0xbad, b"whatever");
            let enhanced =
                block(6, &[&word(0)[..], &word(0), &word(512), &word(3), &word(60), b"abc"].concat());
            let simple = block(3, &[&word(60)[..], b"xyz"].concat());
            let file = [section, interface, unknown, enhanced, simple].concat();
            let frames = read(&file).unwrap();
            let expected = [(b"abc", 500_000_000), (b"xyz", 0)];
            let expected = expected.map(|(bytes, at_ns)| Frame { bytes: bytes.to_vec(), length: 60, at_ns });
            assert_eq!(frames, expected);
        }
    }

    #[test]
    fn what_is_no_capture_is_refused_by_its_fault() {
        let cases: [(Vec<u8>, &str); 5] = [
            (Vec::new(), "neither a pcap"),
            (b"#!/bin/sh\n".to_vec(), "neither a pcap"),
            (classic_file(101, &[]), "link type 101"),
            (classic_file(1, &[b"abc"])[..41].to_vec(), "in the middle of a record, at byte 40"),
            ([&[0x0a, 0x0d, 0x0d, 0x0a][..], &[7, 0, 0, 0], &[0; 8]].concat(), "a block of 7 bytes"),
        ];
        for (file, expected) in cases {
            let error = read(&file).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        let mut long = classic_file(1, &[b"abc"]);
        long[32..36].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(read(&long).unwrap_err().contains("damaged"));
    }

    proptest::proptest! {
        #[test]
        fn nothing_makes_it_panic(mut file: Vec<u8>, magic in 0usize..3) {
            let starts: [&[u8]; 3] = [&[0xd4, 0xc3, 0xb2, 0xa1], &[0xa1, 0xb2, 0x3c, 0x4d], &[0x0a, 0x0d, 0x0d, 0x0a]];
            file.splice(0..0, starts[magic].iter().copied());
            let _ = read(&file);
        }
    }
}
