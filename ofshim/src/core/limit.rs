//! Log lines that repeat: the first at once, then one in every interval, which says how many were left out.

use std::collections::BTreeMap;
use std::time::Duration;

/// From one line about a thing to the next.
const INTERVAL: Duration = Duration::from_secs(10);
/// The most things that are remembered; beyond it the memory starts anew.
const MAX_KEYS: usize = 1024;

/// Remembers what was said when.
#[derive(Debug)]
pub struct Limiter<K> {
    said: BTreeMap<K, Said>,
}

#[derive(Debug)]
struct Said {
    at: Duration,
    /// Lines since then.
    lines: u32,
    left_out: u64,
}

impl<K> Default for Limiter<K> {
    fn default() -> Self {
        Self { said: BTreeMap::new() }
    }
}

impl<K: Ord> Limiter<K> {
    /// Whether something about `key` may be said now; with how many occurrences were left out since it last was.
    pub fn allow(&mut self, key: K, now: Duration) -> Option<u64> {
        self.allow_some(1, key, now)
    }

    /// The same, for so many lines in an interval.
    pub fn allow_some(&mut self, lines: u32, key: K, now: Duration) -> Option<u64> {
        if self.said.len() >= MAX_KEYS && !self.said.contains_key(&key) {
            self.said.clear();
        }
        match self.said.get_mut(&key) {
            Some(said) if now < said.at + INTERVAL && said.lines < lines => {
                said.lines += 1;
                Some(0)
            }
            Some(said) if now < said.at + INTERVAL => {
                said.left_out += 1;
                None
            }
            Some(said) => {
                let left_out = said.left_out;
                *said = Said { at: now, lines: 1, left_out: 0 };
                Some(left_out)
            }
            None => {
                self.said.insert(key, Said { at: now, lines: 1, left_out: 0 });
                Some(0)
            }
        }
    }
}

/// ` (and 3 more since the last such line)`, or nothing.
#[must_use]
pub fn more(left_out: u64) -> String {
    match left_out {
        0 => String::new(),
        count => format!(" (and {count} more since the last such line)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_an_interval() {
        let mut limiter = Limiter::default();
        let at = Duration::from_secs;
        assert_eq!(limiter.allow("a", at(0)), Some(0));
        assert_eq!(limiter.allow("a", at(1)), None);
        assert_eq!(limiter.allow("b", at(1)), Some(0));
        assert_eq!(limiter.allow("a", at(9)), None);
        assert_eq!(limiter.allow("a", at(10)), Some(2));
        assert_eq!(limiter.allow("a", at(20)), Some(0));
        assert_eq!(more(2), " (and 2 more since the last such line)");
    }

    #[test]
    fn some_lines_an_interval() {
        let mut limiter = Limiter::default();
        let at = Duration::from_secs;
        let mut allow = |seconds| limiter.allow_some(2, "a", at(seconds));
        assert_eq!([allow(0), allow(1), allow(2), allow(3)], [Some(0), Some(0), None, None]);
        assert_eq!([allow(10), allow(11), allow(12)], [Some(2), Some(0), None]);
    }

    #[test]
    fn forgets_rather_than_grows() {
        let mut limiter = Limiter::default();
        for key in 0..MAX_KEYS * 3 {
            assert_eq!(limiter.allow(key, Duration::ZERO), Some(0));
            assert!(limiter.said.len() <= MAX_KEYS);
        }
    }
}
