//! Messages by version, direction and type, over all connections that there were.

use std::collections::BTreeMap;

use openflow::{Version, type_name};

use super::link::{Link, MessageCounts};
use super::view;

/// What connections had that are over, and how many there were.
#[derive(Debug, Default)]
pub struct Totals {
    /// Connections that switches opened.
    pub opened: u64,
    messages: BTreeMap<Version, MessageCounts>,
}

impl Totals {
    /// A connection is over.
    pub fn ended(&mut self, link: &Link) {
        self.messages.entry(link.version).or_default().add(&link.messages);
    }

    /// All messages so far, those of these connections too; types that never came are left out.
    pub fn messages<'a>(&self, live: impl Iterator<Item = &'a Link>) -> Vec<view::MessageCounter> {
        let mut all = self.messages.clone();
        for link in live {
            all.entry(link.version).or_default().add(&link.messages);
        }
        let mut rows = Vec::new();
        for (version, counts) in &all {
            for (direction, counts) in [("in", &counts.received), ("out", &counts.sent)] {
                for (kind, count) in (0u8..).zip(counts).filter(|(_, count)| **count > 0) {
                    let Some(name) = type_name(*version, kind) else { continue };
                    rows.push(view::MessageCounter {
                        openflow: version.to_string(),
                        direction,
                        kind: name.to_ascii_lowercase(),
                        count: *count,
                    });
                }
            }
        }
        rows
    }
}
