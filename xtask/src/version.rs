//! Versions as tools print them.

use std::fmt;

/// A release number; what a tool leaves out is zero, what follows a `-` or `+` is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// The part before the first dot.
    pub major: u32,
    /// The part after the first dot.
    pub minor: u32,
    /// The part after the second dot.
    pub patch: u32,
}

impl Version {
    /// Reads the first word of `text` that begins with a digit and holds a dot (`bpf-linker 0.13.0`, `v7.1.0`,
    /// `1.97.0-nightly (b3f..)`), or a lone number.
    pub fn find_in(text: &str) -> Option<Self> {
        let words = || {
            text.split(|c: char| c.is_whitespace() || c == ',' || c == '(').map(|w| w.trim_start_matches('v'))
        };
        words().find_map(Self::parse)
    }

    fn parse(word: &str) -> Option<Self> {
        let number_part = word.split(['-', '+', '~']).next()?;
        let mut parts = number_part.split('.').map(|part| part.parse::<u32>().ok());
        let major = parts.next()??;
        let mut rest = || parts.next().map_or(Some(0), |part| part);
        Some(Self { major, minor: rest()?, patch: rest()? })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// What `rustc -vV` says of a compiler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RustcInfo {
    /// The release line as printed, such as `1.97.0-nightly`.
    pub release: String,
    /// The LLVM that the compiler emits bitcode with.
    pub llvm: Version,
    /// Commit hash and host, so that two builds of one release are told apart.
    pub identity: String,
}

impl RustcInfo {
    /// Parses the whole output of `rustc -vV`; `None` when a line is missing.
    pub fn parse(output: &str) -> Option<Self> {
        let line = |key: &str| output.lines().find_map(|l| l.strip_prefix(key)).map(str::trim);
        Some(Self {
            release: line("release:")?.to_owned(),
            llvm: Version::find_in(line("LLVM version:")?)?,
            identity: format!("{} {} {}", line("release:")?, line("commit-hash:")?, line("host:")?),
        })
    }

    /// Whether unstable flags work without `RUSTC_BOOTSTRAP`.
    pub fn is_nightly(&self) -> bool {
        self.release.ends_with("-nightly") || self.release.ends_with("-dev")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_as_tools_print_them() {
        let v = |major, minor, patch| Some(Version { major, minor, patch });
        assert_eq!(Version::find_in("bpf-linker 0.13.0"), v(0, 13, 0));
        assert_eq!(Version::find_in("bpftool v7.1.0\nusing libbpf v1.1"), v(7, 1, 0));
        assert_eq!(Version::find_in("1.97.0-nightly (b3f1e2 2026-05-19)"), v(1, 97, 0));
        assert_eq!(Version::find_in("ovs-vsctl (Open vSwitch) 3.1.0"), v(3, 1, 0));
        assert_eq!(Version::find_in("22.1.8"), v(22, 1, 8));
        assert_eq!(Version::find_in("LLVM 23"), v(23, 0, 0));
        assert_eq!(Version::find_in("no number here"), None);
    }

    #[test]
    fn rustc_verbose_output() {
        let text = "rustc 1.96.0 (ac68faa20 2026-05-25) (built from a source tarball)\nbinary: rustc\n\
                    commit-hash: ac68faa20c58\ncommit-date: 2026-05-25\nhost: x86_64-unknown-linux-gnu\n\
                    release: 1.96.0\nLLVM version: 22.1.8\n";
        let info = RustcInfo::parse(text).unwrap();
        assert_eq!(info.release, "1.96.0");
        assert_eq!(info.llvm.major, 22);
        assert!(!info.is_nightly());
        assert!(info.identity.contains("ac68faa20c58"));
        assert_eq!(RustcInfo::parse("rustc 1.96.0\n"), None);
        assert!(
            RustcInfo::parse(&text.replace("1.96.0\nLLVM", "1.97.0-nightly\nLLVM")).unwrap().is_nightly()
        );
    }
}
