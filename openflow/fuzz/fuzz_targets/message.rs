//! Any bytes as one message: an error that can be answered, or a value that encodes again and means the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use openflow::{Message, Version};

fuzz_target!(|bytes: &[u8]| {
    let _ = Message::decode_hello(bytes);
    match Message::decode(bytes) {
        Ok((version, xid, message)) => {
            let mut again = Vec::new();
            message.encode(version, xid, &mut again).expect("what was said can be said again");
            assert_eq!(again.len(), bytes.len());
            assert_eq!(Message::decode(&again), Ok((version, xid, message)));
        }
        Err(error) => {
            let version = bytes.first().and_then(|byte| Version::from_wire(*byte)).unwrap_or(Version::V1_0);
            assert!(error.error_kind().to_wire(version).is_some(), "{error}");
        }
    }
});
