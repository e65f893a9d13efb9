//! What the three sides have in common.

use std::collections::BTreeMap;
use std::fmt;

use crate::counters::{Connection, Counters};

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It goes on to the switch.
    Pass,
    /// It ends.
    Drop,
    /// It leaves by the interface it came in on.
    Transmit,
    /// It leaves by the port with this slot.
    Redirect(u16),
}

/// What a side did with a frame.
#[derive(Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Where it goes.
    pub action: Action,
    /// Name of the reason.
    pub reason: &'static str,
    /// Its bytes afterwards. Of a dropped frame nobody sees them: they are compared nevertheless.
    pub bytes: Vec<u8>,
}

impl fmt::Debug for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {} ", self.action, self.reason)?;
        write!(f, "{}", hex(&self.bytes))
    }
}

/// Bytes as hexadecimal digits; of a long frame the headers.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    const SHOWN: usize = 200;
    let digits: String = bytes.iter().take(SHOWN).map(|byte| format!("{byte:02x}")).collect();
    if bytes.len() > SHOWN { format!("{digits}... ({} bytes)", bytes.len()) } else { digits }
}

/// Counters and connections at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// All counters.
    pub counters: Counters,
    /// All connections, sorted.
    pub connections: Vec<Connection>,
    /// Live connections by backend, zeros left out.
    pub loads: BTreeMap<u16, i64>,
}
