//! The corpus of the fuzz targets, replayed; and messages changed at random, in the little time that a test has.
//!
//! `fuzz/corpus/message` holds the bytes of the samples, one file each; `fuzz/regressions` holds inputs that once made
//! trouble. `UPDATE_CORPUS=1 cargo test -p openflow corpus` writes the former anew.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::common::{check_any, encode};
use crate::samples;
use openflow::{Framer, Message, Version};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(name)
}

/// Files of a folder by name.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let file = |path: PathBuf| {
        let name = path.file_name().expect("a file").to_string_lossy().into_owned();
        (name, fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
    };
    entries.map(|entry| file(entry.expect("folder entry").path())).collect()
}

fn sample_bytes() -> BTreeMap<String, Vec<u8>> {
    let bytes = |sample: samples::Sample| (sample.name, encode(&sample.message, sample.version, 0x77));
    samples::all().into_iter().map(bytes).collect()
}

#[test]
fn corpus_is_that_of_the_samples() {
    let (folder, expected) = (folder("corpus/message"), sample_bytes());
    if std::env::var_os("UPDATE_CORPUS").is_some() {
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("corpus folder");
        for (name, bytes) in &expected {
            fs::write(folder.join(name), bytes).expect("corpus file");
        }
    }
    let found = files(&folder);
    let differing: Vec<&String> =
        expected.keys().chain(found.keys()).filter(|name| expected.get(*name) != found.get(*name)).collect();
    assert!(differing.is_empty(), "run UPDATE_CORPUS=1 cargo test -p openflow corpus: {differing:?}");
}

#[test]
fn corpus_and_regressions_replayed() {
    for name in ["corpus/message", "regressions"] {
        for (file, bytes) in files(&folder(name)) {
            say_on_panic(&file, || replay(&bytes));
        }
    }
}

/// What the fuzz targets do with an input.
fn replay(bytes: &[u8]) {
    check_any(bytes);
    let _ =
        Message::decode_hello(bytes).map(|(_, _, hello)| hello.negotiate(4, &[Version::V1_0, Version::V1_3]));
    let mut framer = Framer::new();
    for chunk in bytes.chunks(7) {
        framer.push(chunk).expect("all frames are taken out each time");
        while let Some(Ok(frame)) = framer.next_frame() {
            check_any(&frame.bytes);
        }
    }
}

fn say_on_panic(name: &str, run: impl FnOnce() + std::panic::UnwindSafe) {
    if let Err(panic) = std::panic::catch_unwind(run) {
        eprintln!("input: {name}");
        std::panic::resume_unwind(panic);
    }
}

/// Small numbers from a seed (xorshift64), the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).expect("31 bits") % below.max(1)
    }

    fn byte(&mut self) -> u8 {
        const EDGES: [u8; 8] = [0, 1, 4, 8, 16, 0x7f, 0x80, 0xff];
        let any = u8::try_from(self.next(256)).expect("a byte");
        if self.next(2) == 0 { EDGES[self.next(EDGES.len())] } else { any }
    }
}

/// Each sample changed in a thousand ways: bytes, 16-bit lengths, pieces left out, doubled, or taken from other samples.
#[test]
fn samples_changed_at_random() {
    let seed = std::env::var("FUZZ_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(0x5eed_0001);
    let rounds = std::env::var("FUZZ_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1000);
    let samples: Vec<Vec<u8>> = sample_bytes().into_values().collect();
    let mut random = Random(seed);
    for sample in &samples {
        for _ in 0..rounds {
            let mut bytes = sample.clone();
            for _ in 0..=random.next(3) {
                change(&mut bytes, &samples, &mut random);
            }
            bytes.truncate(usize::from(u16::MAX));
            // Most changes keep the header right, so that they get behind it.
            if random.next(8) != 0 && bytes.len() >= 8 {
                let length = u16::try_from(bytes.len()).expect("a message has 16 bits of length");
                bytes[2..4].copy_from_slice(&length.to_be_bytes());
            }
            check_any(&bytes);
        }
    }
}

fn change(bytes: &mut Vec<u8>, samples: &[Vec<u8>], random: &mut Random) {
    let at = random.next(bytes.len());
    match random.next(6) {
        0 | 1 if !bytes.is_empty() => bytes[at] = random.byte(),
        2 if at + 1 < bytes.len() => {
            // Lengths and types are small numbers of 16 bits at even places.
            bytes[at & !1] = 0;
            bytes[at | 1] = random.byte();
        }
        3 => {
            let count = random.next(bytes.len() - at);
            bytes.drain(at..at + count);
        }
        4 => {
            let count = random.next(bytes.len() - at);
            let piece = bytes[at..at + count].to_vec();
            bytes.splice(at..at, piece);
        }
        _ => {
            let other = &samples[random.next(samples.len())];
            let from = random.next(other.len());
            let count = random.next(other.len() - from);
            bytes.splice(at..at, other[from..from + count].iter().copied());
        }
    }
}
