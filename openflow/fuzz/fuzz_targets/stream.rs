//! Any bytes as a stream that comes in chunks: the first byte says how large they are.
#![no_main]

use libfuzzer_sys::fuzz_target;
use openflow::Framer;

fuzz_target!(|bytes: &[u8]| {
    let Some((size, stream)) = bytes.split_first() else { return };
    let mut framer = Framer::new();
    let mut taken = 0;
    for chunk in stream.chunks(usize::from(*size).max(1)) {
        framer.push(chunk).expect("all frames are taken out each time");
        while let Some(Ok(frame)) = framer.next_frame() {
            taken += frame.bytes.len();
            let _ = frame.decode();
        }
    }
    assert!(taken <= stream.len());
});
