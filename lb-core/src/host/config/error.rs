//! Refusals: one line that names the place, the thing and the mend.

use core::fmt;

/// Where a refused configuration came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A file, with the line, counted from 1, that has to be changed.
    File {
        /// The name as it was given.
        name: String,
        /// The line of the mistake, from 1.
        line: usize,
    },
    /// The command line.
    Arguments,
    /// An order to a running balancer.
    Change,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { name, line } => write!(f, "{name}:{line}"),
            Self::Arguments => f.write_str("arguments"),
            Self::Change => f.write_str("change"),
        }
    }
}

/// Why a configuration was refused. Its text is one line: `lb.toml:7: unknown key "prot" in [[vip]]; ...`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{origin}: {message}")]
pub struct ConfigError {
    origin: Origin,
    message: String,
}

impl ConfigError {
    /// An error; line breaks in the message become commas.
    pub(super) fn new(origin: Origin, message: &str) -> Self {
        let lines: Vec<&str> = message.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        Self { origin, message: lines.join(", ") }
    }

    /// Where the mistake is.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// What is wrong and how to mend it, without the place.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

/// The mistakes found so far, each at a byte offset of the text; the first in the text is the one reported.
#[derive(Debug, Default)]
pub(super) struct Problems(Vec<(usize, String)>);

impl Problems {
    /// Notes a mistake at byte `offset`.
    pub(super) fn add(&mut self, offset: usize, message: impl Into<String>) {
        self.0.push((offset, message.into()));
    }

    /// The first mistake in text order, if any; of several at one place the one found first.
    pub(super) fn into_first(self) -> Option<(usize, String)> {
        self.0.into_iter().min_by_key(|(offset, _)| *offset)
    }
}

/// The line, from 1, of a byte offset.
pub(super) fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

/// `; did you mean "port"?` if a known word is close to `word`, else nothing.
pub(super) fn suggestion(word: &str, known: &[&str]) -> String {
    known
        .iter()
        .map(|candidate| (distance(word, candidate), *candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 4)
        .min()
        .map_or_else(String::new, |(_, candidate)| format!("; did you mean {candidate:?}?"))
}

/// Levenshtein distance, with an exchange of two neighbours counted as one (optimal string alignment); words beyond
/// 32 characters are infinitely far from everything.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len() > 32 || b.len() > 32 {
        return usize::MAX;
    }
    let mut rows = vec![vec![0_usize; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let differs = usize::from(a[i - 1] != b[j - 1]);
                let swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
                let plain = (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + differs);
                if swapped { plain.min(rows[i - 2][j - 2] + 1) } else { plain }
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_and_suggestions() {
        assert_eq!(distance("port", "port"), 0);
        assert_eq!(distance("prot", "port"), 1);
        assert_eq!(distance("", "abc"), 3);
        let known = ["address", "port", "protocol"];
        assert_eq!(suggestion("prot", &known), "; did you mean \"port\"?");
        assert_eq!(suggestion("protokol", &known), "; did you mean \"protocol\"?");
        assert_eq!(suggestion("zebra", &known), "");
        assert_eq!(suggestion(&"x".repeat(1000), &known), "");
    }

    #[test]
    fn the_first_in_the_text_is_reported_on_one_line() {
        let mut problems = Problems::default();
        problems.add(9, "later");
        problems.add(3, "first");
        problems.add(3, "same place");
        assert_eq!(problems.into_first(), Some((3, "first".to_owned())));
        assert_eq!((line_of("a\nb\nc", 0), line_of("a\nb\nc", 2), line_of("a\nb\nc", 99)), (1, 2, 3));
        let error = ConfigError::new(Origin::File { name: "f".into(), line: 2 }, "a\n\n  b\n");
        assert_eq!(error.to_string(), "f:2: a, b");
    }
}
