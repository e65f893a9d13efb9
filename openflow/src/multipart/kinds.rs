//! Wire types of multipart messages, and the header that requests and replies share.
//!
//! ```text
//!  1.0: type (16) | flags (16) | body          1.3: type (16) | flags (16) | pad (32) | body
//! ```

use crate::Version;
use crate::wire::Put;

pub(super) const DESC: u16 = 0;
pub(super) const FLOW: u16 = 1;
pub(super) const AGGREGATE: u16 = 2;
pub(super) const TABLE: u16 = 3;
pub(super) const PORT_STATS: u16 = 4;
pub(super) const PORT_DESC: u16 = 13;

pub(super) fn put_header(kind: u16, flags: u16, version: Version, out: &mut Vec<u8>) {
    out.put_u16(kind);
    out.put_u16(flags);
    out.zeros(if version == Version::V1_3 { 4 } else { 0 });
}
