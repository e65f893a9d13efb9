//! The corpus of the fuzz target (`tests/fuzz`), replayed: core and oracle agree on every input that once was
//! interesting. `LB_CORPUS=1` adds inputs from random traffic.

use std::fs;
use std::path::Path;

use testbed::random::Random;
use testbed::replay::{recorded, replay};
use testbed::traffic::Traffic;

const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/core");

#[test]
fn the_corpus_is_replayed() {
    if std::env::var_os("LB_CORPUS").is_some_and(|v| v == "1") {
        for seed in 0..24u8 {
            let mut traffic = Traffic::new(Random::new(1000 + u64::from(seed)));
            let frames: Vec<_> = (0..40).map(|_| traffic.next_frame()).map(|(f, p)| (p, f)).collect();
            let path = Path::new(CORPUS).join(format!("traffic-{seed:02}"));
            fs::write(path, recorded(seed, &frames)).expect("the folder of the corpus");
        }
    }
    let mut inputs: Vec<_> = fs::read_dir(CORPUS)
        .expect("the folder of the corpus")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    inputs.sort();
    assert!(inputs.len() >= 20, "only {} inputs in {CORPUS}", inputs.len());
    for input in inputs {
        let data = fs::read(&input).expect("an input");
        if let Err(difference) = replay(&data) {
            panic!("{}: {difference:#}", input.display());
        }
    }
}
