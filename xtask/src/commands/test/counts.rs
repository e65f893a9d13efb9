//! How many tests passed, failed and were skipped, read from what the test runners write. Pure.

use std::fmt;

/// The outcome of one or several test runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Tests that ran to a good end.
    pub passed: usize,
    /// Tests that failed.
    pub failed: usize,
    /// Tests that did not run or said that they left out what they test.
    pub skipped: usize,
    /// Why, a line each.
    pub reasons: Vec<String>,
}

impl Counts {
    /// Adds another run.
    pub fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
        self.reasons.extend(other.reasons);
    }

    /// Reads the JUnit report of nextest. A test that passed and wrote a line that begins with `skip` was skipped.
    pub fn from_junit(report: &str) -> Self {
        let mut counts = Self::default();
        for case in report.split("<testcase ").skip(1) {
            let body = case.split("</testcase>").next().unwrap_or(case);
            if body.contains("<failure") || body.contains("<error") {
                counts.failed += 1;
            } else if let Some(reason) = skip_line(&unescape(body)) {
                counts.skipped += 1;
                let name =
                    |key: &str| body.split(key).nth(1).and_then(|tail| tail.split('"').next()).unwrap_or("?");
                counts.reasons.push(format!("{} {}: {reason}", name("classname=\""), name("name=\"")));
            } else if body.contains("<skipped") {
                counts.skipped += 1;
            } else {
                counts.passed += 1;
            }
        }
        counts
    }

    /// Reads the `test result:` lines of `cargo test`, with the output of passed tests shown.
    pub fn from_libtest(output: &str) -> Self {
        let mut counts = Self::default();
        for line in output.lines() {
            if let Some(result) = line.trim().strip_prefix("test result:") {
                counts.passed += number_before(result, " passed");
                counts.failed += number_before(result, " failed");
                counts.skipped += number_before(result, " ignored");
            }
        }
        let reasons: Vec<String> = output.lines().filter_map(skip_line).collect();
        counts.skipped += reasons.len();
        counts.passed = counts.passed.saturating_sub(reasons.len());
        counts.reasons = reasons;
        counts
    }

    /// Reads what Python's unittest says with `-v`; `None` when it did not get to its end.
    pub fn from_unittest(output: &str) -> Option<Self> {
        let ran = output.lines().find_map(|line| line.strip_prefix("Ran "))?;
        let total: usize = ran.split(' ').next()?.parse().ok()?;
        let verdict =
            output.lines().rev().find(|line| line.starts_with("OK") || line.starts_with("FAILED"))?;
        let of = |key: &str| verdict.split(key).nth(1).map_or(0, leading_number);
        let failed = of("failures=") + of("errors=") + of("unexpected successes=");
        let skipped = of("skipped=");
        let reasons =
            output.lines().filter(|line| line.contains("... skipped ")).map(str::to_owned).collect();
        Some(Self { passed: total.saturating_sub(failed + skipped), failed, skipped, reasons })
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// The first line that says that something was skipped, as in `SKIPPED: needs root`.
fn skip_line(text: &str) -> Option<String> {
    let begins = |line: &&str| line.get(..4).is_some_and(|head| head.eq_ignore_ascii_case("skip"));
    // The report puts the first line of an output right behind its tag.
    text.split(['\n', '>'])
        .map(str::trim)
        .find(begins)
        .map(|line| line.split('<').next().unwrap_or(line).to_owned())
}

fn unescape(xml: &str) -> String {
    xml.replace("&lt;", "(")
        .replace("&gt;", ")")
        .replace("&quot;", "\"")
        .replace("&apos;", "'")
        .replace("&amp;", "&")
}

fn number_before(text: &str, key: &str) -> usize {
    let head = text.split(key).next().filter(|head| head.len() < text.len()).unwrap_or_default();
    let start = head.rfind(|c: char| !c.is_ascii_digit()).map_or(0, |at| at + 1);
    head[start..].parse().unwrap_or(0)
}

fn leading_number(text: &str) -> usize {
    text.split(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(passed: usize, failed: usize, skipped: usize) -> Counts {
        Counts { passed, failed, skipped, reasons: Vec::new() }
    }

    #[test]
    fn junit_tells_the_three_outcomes_apart() {
        let report = r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="nextest-run" tests="4" failures="1" errors="0">
  <testsuite name="lb" tests="4" disabled="0" errors="0" failures="1">
    <testcase name="a::one" classname="lb" timestamp="2026" time="0.003"></testcase>
    <testcase name="a::two" classname="lb" time="0.1">
      <system-out>running 1 test&gt; ok, nothing to skip here</system-out>
      <system-err></system-err>
    </testcase>
    <testcase name="a::three" classname="lb" time="0.1">
      <system-err>SKIPPED: needs root &amp; a kernel
more</system-err>
    </testcase>
    <testcase name="a::four" classname="lb" time="0.1">
      <failure type="test failure">boom</failure>
      <system-err>skip: too late</system-err>
    </testcase>
  </testsuite>
</testsuites>"#;
        let read = Counts::from_junit(report);
        assert_eq!((read.passed, read.failed, read.skipped), (2, 1, 1));
        assert_eq!(read.reasons, ["lb a::three: SKIPPED: needs root & a kernel"]);
        assert_eq!(Counts::from_junit("<testsuites></testsuites>"), Counts::default());
    }

    #[test]
    fn libtest_results_add_up() {
        let output = "running 2 tests\ntest a ... ok\n\ntest result: ok. 2 passed; 0 failed; 1 ignored; 0 measured\n\
                      test result: FAILED. 10 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out\n";
        assert_eq!(Counts::from_libtest(output), counts(12, 3, 1));
        let skipping = format!("---- b stdout ----\nskipped: no curl\n{output}");
        assert_eq!(Counts::from_libtest(&skipping).to_string(), "11 passed, 3 failed, 2 skipped");
    }

    #[test]
    fn unittest_verdicts() {
        let text = |tail: &str| format!("..F\n-----\nRan 7 tests in 0.5s\n\n{tail}\n");
        assert_eq!(Counts::from_unittest(&text("OK")), Some(counts(7, 0, 0)));
        assert_eq!(Counts::from_unittest(&text("OK (skipped=2)")), Some(counts(5, 0, 2)));
        assert_eq!(
            Counts::from_unittest(&text("FAILED (failures=1, errors=2, skipped=1)")),
            Some(counts(3, 3, 1))
        );
        assert_eq!(Counts::from_unittest("ImportError: no module"), None);
        let told = "test_x (test_demo.Config.test_x)\nReads it back. ... skipped 'needs Python 3.11'\n";
        let counts = Counts::from_unittest(&format!("{told}{}", text("OK (skipped=1)"))).unwrap();
        assert_eq!(counts.reasons, ["Reads it back. ... skipped 'needs Python 3.11'"]);
    }

    #[test]
    fn the_summary_is_one_line() {
        let mut sum = counts(1, 0, 2);
        sum.add(counts(10, 1, 0));
        assert_eq!(sum.to_string(), "11 passed, 1 failed, 2 skipped");
    }
}
