//! Any bytes as a data plane, frames, and the clock: no panic, a ledger that balances, and the oracle agrees.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Err(difference) = testbed::replay::replay(data) {
        panic!("{difference:#}");
    }
});
