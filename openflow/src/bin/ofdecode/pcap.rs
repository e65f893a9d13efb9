//! Captures: pcap and pcapng, of both byte orders.

use anyhow::{Result, bail};

use crate::segments;

/// One captured packet.
pub struct Packet<'a> {
    /// `LINKTYPE_*` of its interface.
    pub link_type: u32,
    /// The frame, or its beginning.
    pub data: &'a [u8],
    /// When it was captured: units since 1970.
    ticks: u64,
    /// Units a second.
    ticks_per_s: u64,
}

impl Packet<'_> {
    /// Time in seconds since 1970.
    pub fn time(&self) -> String {
        let (seconds, rest) = (self.ticks / self.ticks_per_s, self.ticks % self.ticks_per_s);
        let micros = u128::from(rest) * 1_000_000 / u128::from(self.ticks_per_s);
        format!("{seconds}.{micros:06}")
    }
}

const MAGIC_MICROS: u32 = 0xa1b2_c3d4;
const MAGIC_NANOS: u32 = 0xa1b2_3c4d;
const MAGIC_PCAPNG: u32 = 0x0a0d_0d0a;
const BYTE_ORDER: u32 = 0x1a2b_3c4d;
const INTERFACE: u32 = 1;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;
const OPTION_TSRESOL: u16 = 9;
const MICROS: u64 = 1_000_000;
const NANOS: u64 = 1_000_000_000;

/// Whether the bytes begin as a capture does.
pub fn is_capture(bytes: &[u8]) -> bool {
    let Some(first) = bytes.first_chunk::<4>() else { return false };
    let (big, little) = (u32::from_be_bytes(*first), u32::from_le_bytes(*first));
    [MAGIC_MICROS, MAGIC_NANOS, MAGIC_PCAPNG].iter().any(|magic| big == *magic || little == *magic)
}

/// The packets of a capture; each is an error when the capture is cut off or its packets cannot be read.
pub fn packets(bytes: &[u8]) -> Result<Vec<Result<Packet<'_>>>> {
    let Some(first) = bytes.first_chunk::<4>() else { bail!("it is too short for a capture") };
    if u32::from_be_bytes(*first) == MAGIC_PCAPNG { pcapng(bytes) } else { classic(bytes) }
}

/// Numbers in the byte order of the capture.
#[derive(Clone, Copy)]
struct Order {
    is_big: bool,
}

impl Order {
    fn u16(self, bytes: &[u8], at: usize) -> Option<u16> {
        let bytes = *bytes.get(at..)?.first_chunk::<2>()?;
        Some(if self.is_big { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    }

    fn u32(self, bytes: &[u8], at: usize) -> Option<u32> {
        let bytes = *bytes.get(at..)?.first_chunk::<4>()?;
        Some(if self.is_big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }
}

fn check_link(link_type: u32) -> Result<()> {
    if segments::knows(link_type) {
        return Ok(());
    }
    bail!("its link type is {link_type}; Ethernet, Linux cooked, raw IP and loopback can be read")
}

fn classic(bytes: &[u8]) -> Result<Vec<Result<Packet<'_>>>> {
    let of = |is_big: bool| Order { is_big }.u32(bytes, 0);
    let is_magic = |magic: Option<u32>| matches!(magic, Some(MAGIC_MICROS | MAGIC_NANOS));
    let order = Order { is_big: is_magic(of(true)) };
    let magic = order.u32(bytes, 0);
    let Some(link_type) = order.u32(bytes, 20).filter(|_| is_magic(magic)) else {
        bail!("it does not begin as a capture does");
    };
    let link_type = link_type & 0x0fff_ffff;
    check_link(link_type)?;
    let ticks_per_s = if magic == Some(MAGIC_NANOS) { NANOS } else { MICROS };
    let mut packets = Vec::new();
    let mut rest = bytes.get(24..).unwrap_or_default();
    while !rest.is_empty() {
        let record = classic_record(order, rest);
        let Some((seconds, fraction, data, after)) = record else {
            packets.push(Err(anyhow::anyhow!("the capture is cut off in its last packet")));
            break;
        };
        let ticks = u64::from(seconds) * ticks_per_s + u64::from(fraction);
        packets.push(Ok(Packet { link_type, data, ticks, ticks_per_s }));
        rest = after;
    }
    Ok(packets)
}

fn classic_record(order: Order, rest: &[u8]) -> Option<(u32, u32, &[u8], &[u8])> {
    let length = usize::try_from(order.u32(rest, 8)?).ok()?;
    let (data, after) = rest.get(16..)?.split_at_checked(length)?;
    Some((order.u32(rest, 0)?, order.u32(rest, 4)?, data, after))
}

/// An interface of a pcapng capture.
struct Interface {
    link_type: u32,
    ticks_per_s: u64,
}

fn pcapng(bytes: &[u8]) -> Result<Vec<Result<Packet<'_>>>> {
    let mut packets = Vec::new();
    let mut interfaces: Vec<Interface> = Vec::new();
    let mut order = Order { is_big: false };
    let mut rest = bytes;
    while !rest.is_empty() {
        if rest.starts_with(&MAGIC_PCAPNG.to_be_bytes()) {
            let is_big = Order { is_big: true }.u32(rest, 8) == Some(BYTE_ORDER);
            order = Order { is_big };
            interfaces.clear();
        }
        let Some((kind, body, after)) = block(order, rest) else {
            packets.push(Err(anyhow::anyhow!("the capture is cut off in its last block")));
            break;
        };
        match kind {
            INTERFACE => interfaces.push(interface(order, body)?),
            ENHANCED_PACKET => packets.extend(enhanced(order, body, &interfaces).map(Ok)),
            SIMPLE_PACKET => packets.extend(simple(order, body, &interfaces).map(Ok)),
            _ => {}
        }
        rest = after;
    }
    Ok(packets)
}

/// Type and content of a block: its length stands in front of and behind the content.
fn block(order: Order, rest: &[u8]) -> Option<(u32, &[u8], &[u8])> {
    let length = usize::try_from(order.u32(rest, 4)?).ok().filter(|length| *length >= 12)?;
    let (whole, after) = rest.split_at_checked(length)?;
    Some((order.u32(rest, 0)?, whole.get(8..length - 4)?, after))
}

fn interface(order: Order, body: &[u8]) -> Result<Interface> {
    let link_type = u32::from(order.u16(body, 0).unwrap_or_default());
    check_link(link_type)?;
    let mut interface = Interface { link_type, ticks_per_s: MICROS };
    let mut options = body.get(8..).unwrap_or_default();
    while let (Some(code), Some(length)) = (order.u16(options, 0), order.u16(options, 2)) {
        let length = usize::from(length);
        if code == OPTION_TSRESOL
            && let Some(byte) = options.get(4)
        {
            interface.ticks_per_s = resolution(*byte);
        }
        options = options.get(4 + length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(interface)
}

/// Units a second: a power of 10, or of 2 with the highest bit.
fn resolution(byte: u8) -> u64 {
    let base: u64 = if byte & 0x80 == 0 { 10 } else { 2 };
    base.checked_pow(u32::from(byte & 0x7f)).unwrap_or(MICROS)
}

fn enhanced<'a>(order: Order, body: &'a [u8], interfaces: &[Interface]) -> Option<Packet<'a>> {
    let interface = interfaces.get(usize::try_from(order.u32(body, 0)?).ok()?)?;
    let ticks = u64::from(order.u32(body, 4)?) << 32 | u64::from(order.u32(body, 8)?);
    let length = usize::try_from(order.u32(body, 12)?).ok()?;
    let data = body.get(20..)?.get(..length)?;
    Some(Packet { link_type: interface.link_type, data, ticks, ticks_per_s: interface.ticks_per_s })
}

fn simple<'a>(order: Order, body: &'a [u8], interfaces: &[Interface]) -> Option<Packet<'a>> {
    let length = usize::try_from(order.u32(body, 0)?).ok()?;
    let data = body.get(4..)?;
    let data = data.get(..length.min(data.len()))?;
    Some(Packet { link_type: interfaces.first()?.link_type, data, ticks: 0, ticks_per_s: MICROS })
}
