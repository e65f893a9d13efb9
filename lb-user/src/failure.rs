//! Why a command ended without success: one line and an exit status.

use std::fmt;

/// The exit status of wrong input and of a machine that lacks something.
pub const WRONG_INPUT: u8 = 2;
/// The exit status of what went wrong at work.
pub const AT_WORK: u8 = 1;

/// A command's failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// One line that names the thing, the place and the mend.
    pub message: String,
    /// The exit status.
    pub status: u8,
}

impl Failure {
    /// Wrong input, or a machine that lacks something: exit status 2.
    pub fn wrong(message: impl AsRef<str>) -> Self {
        Self { message: one_line(message.as_ref()), status: WRONG_INPUT }
    }

    /// Something went wrong at work: exit status 1.
    pub fn at_work(message: impl AsRef<str>) -> Self {
        Self { message: one_line(message.as_ref()), status: AT_WORK }
    }

    /// The same with another exit status.
    #[must_use]
    pub fn with_status(self, status: u8) -> Self {
        Self { status, ..self }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl From<anyhow::Error> for Failure {
    /// The whole chain on one line; a [`Failure`] in it keeps its status, anything else happened at work.
    fn from(error: anyhow::Error) -> Self {
        let status = error.downcast_ref::<Self>().map_or(AT_WORK, |failure| failure.status);
        Self { message: one_line(&format!("{error:#}")), status }
    }
}

/// Joins the lines of a text.
pub(crate) fn one_line(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.join(", ")
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn a_chain_of_errors_is_one_line() {
        let error = anyhow::anyhow!("first\n\n  second").context("outer");
        let failure = Failure::from(error);
        assert_eq!((failure.to_string().as_str(), failure.status), ("outer: first, second", 1));
    }

    #[test]
    fn a_failure_keeps_its_status_through_a_context() {
        let result: Result<(), Failure> = Err(Failure::wrong("no root"));
        let failure = Failure::from(result.context("lb run").unwrap_err());
        assert_eq!((failure.message.as_str(), failure.status), ("lb run: no root", 2));
        assert_eq!(failure.with_status(1).status, 1);
    }
}
