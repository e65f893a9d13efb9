//! Objects that are not as they should be, made from the one that is.

use object::{Object as _, ObjectSection as _, ObjectSymbol as _};

/// Bytes of a symbol's record (ELF-64).
const SYMBOL_BYTES: usize = 24;

fn section(bytes: &[u8], name: &str) -> std::ops::Range<usize> {
    let file = object::File::parse(bytes).unwrap();
    let section = file.sections().find(|section| section.name() == Ok(name)).unwrap();
    let (offset, length) = section.file_range().unwrap();
    usize::try_from(offset).unwrap()..usize::try_from(offset + length).unwrap()
}

/// The balancer's name stands for the program that does nothing: it loads, passes everything, and counts nothing.
pub fn that_counts_nothing(bytes: &[u8]) -> Vec<u8> {
    let file = object::File::parse(bytes).unwrap();
    let index = |name: &str| file.symbols().find(|symbol| symbol.name() == Ok(name)).unwrap().index().0;
    let table = section(bytes, ".symtab");
    // Where it is and how long; the name, in the first four bytes, stays.
    let place = |name| {
        let start = table.start + index(name) * SYMBOL_BYTES;
        start + 4..start + SYMBOL_BYTES
    };
    let mut changed = bytes.to_vec();
    changed[place("lb_balance")].copy_from_slice(&bytes[place("lb_pass")]);
    changed
}

/// The object for tables of another schema.
pub fn of_schema(bytes: &[u8], schema: u32) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    changed[section(bytes, "lb_schema")].copy_from_slice(&schema.to_le_bytes());
    changed
}

/// An object that the verifier refuses: the balancer's first instruction is none.
pub fn that_is_refused(bytes: &[u8]) -> Vec<u8> {
    let file = object::File::parse(bytes).unwrap();
    let balancer = file.symbols().find(|symbol| symbol.name() == Ok("lb_balance")).unwrap();
    let code = file.section_by_index(balancer.section_index().unwrap()).unwrap().file_range().unwrap();
    let at = usize::try_from(code.0 + balancer.address()).unwrap();
    let mut changed = bytes.to_vec();
    changed[at] = 0xff;
    changed
}
