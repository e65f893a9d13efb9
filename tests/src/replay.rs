//! Bytes as a sequence of frames, for the fuzz target and for the replay of its corpus.

use anyhow::Result;

use crate::bench::Bench;
use crate::namespace::PORTS;
use crate::random::Random;
use crate::traffic::{change, scenario};

/// Runs what these bytes say through the core and the oracle: one byte chooses the data plane; then for each frame one
/// byte for its port and what happens before it (time passes, a table changes), one for its length, and its bytes.
///
/// # Errors
/// The two disagree, or the ledger does not balance.
pub fn replay(data: &[u8]) -> Result<()> {
    let Some((seed, mut rest)) = data.split_first() else { return Ok(()) };
    let mut random = Random::new(u64::from(*seed));
    let mut bench = Bench::new(&scenario(&mut random), None)?;
    while let [control, length, frames @ ..] = rest {
        let (frame, left) = frames.split_at(usize::from(*length).min(frames.len()));
        rest = left;
        if control & 0x80 != 0 {
            bench.advance(u32::from(control >> 3 & 15) * 8)?;
        }
        if control & 0x70 == 0x70 {
            bench.change(|scenario| change(&mut random, scenario))?;
        }
        bench.run(frame, PORTS[usize::from(control & 7) % PORTS.len()])?;
    }
    bench.snapshot().map(drop)
}

/// Frames in the form that [`replay`] reads: port index and bytes; frames of more than 255 bytes are left out.
#[must_use]
pub fn recorded(seed: u8, frames: &[(u32, Vec<u8>)]) -> Vec<u8> {
    let mut out = vec![seed];
    for (port, frame) in frames.iter().filter(|(_, frame)| frame.len() <= 255) {
        let place = PORTS.iter().position(|p| p == port).unwrap_or(0);
        out.push(place as u8);
        out.push(frame.len() as u8);
        out.extend(frame);
    }
    out
}
