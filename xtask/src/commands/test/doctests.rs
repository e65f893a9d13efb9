//! Whether there is any code in documentation that would run as a test; building for it is not free.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// Looks through the sources of all crates that are libraries.
pub fn exist(root: &Path) -> Result<bool> {
    let crates = fs::read_dir(root).with_context(|| format!("cannot read {}", root.display()))?;
    for folder in crates.flatten().map(|entry| entry.path().join("src")) {
        if folder.join("lib.rs").is_file() && any_in(&folder)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn any_in(folder: &Path) -> Result<bool> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        let found = if path.is_dir() {
            any_in(&path)?
        } else {
            path.extension().is_some_and(|ending| ending == "rs") && has_one(&fs::read_to_string(&path)?)
        };
        if found {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a documentation comment opens a block of Rust.
fn has_one(source: &str) -> bool {
    let mut inside = false;
    for line in source.lines().map(str::trim_start) {
        let text = line.strip_prefix("///").or_else(|| line.strip_prefix("//!")).map(str::trim);
        let Some(language) = text.and_then(|text| text.strip_prefix("```")) else {
            inside &= text.is_some();
            continue;
        };
        let runs = ["", "rust", "should_panic", "no_run", "compile_fail"].contains(&language.trim());
        if !inside && runs {
            return true;
        }
        inside = !inside;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_no_tests() {
        assert!(has_one("/// Adds.\n/// ```\n/// assert!(true);\n/// ```\nfn a() {}"));
        assert!(has_one("//! ```rust\n//! x();\n//! ```"));
        assert!(!has_one("/// ```text\n/// picture\n/// ```\nfn a() {}"), "a closing fence opens nothing");
        assert!(!has_one("let x = \"```\"; // ```"));
        assert!(has_one("//! ```text\n//! a\n//! ```\n//!\n//! ```\n//! b();\n//! ```"));
    }
}
