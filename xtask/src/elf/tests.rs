use super::*;

/// Builds an object with the given sections after the null one: (name, type, link, data).
fn object(machine: u16, sections: &[(&str, u32, u32, Vec<u8>)]) -> Vec<u8> {
    let mut names = vec![0u8];
    let mut file = vec![0u8; HEADER_BYTES];
    let mut headers = vec![0u8; SECTION_BYTES];
    let all = sections.iter().cloned().chain([(".shstrtab", 3, 0, Vec::new())]);
    let count = sections.len() + 1;
    for (index, (name, kind, link, data)) in all.enumerate() {
        let name_at = names.len() as u32;
        names.extend(name.bytes().chain([0]));
        let data = if index + 1 == count { names.clone() } else { data };
        let mut header = [0u8; SECTION_BYTES];
        header[0..4].copy_from_slice(&name_at.to_le_bytes());
        header[4..8].copy_from_slice(&kind.to_le_bytes());
        header[24..32].copy_from_slice(&(file.len() as u64).to_le_bytes());
        header[32..40].copy_from_slice(&(data.len() as u64).to_le_bytes());
        header[40..44].copy_from_slice(&link.to_le_bytes());
        headers.extend(header);
        file.extend(data);
    }
    let table = file.len() as u64;
    file.extend(headers);
    file[..6].copy_from_slice(b"\x7fELF\x02\x01");
    file[18..20].copy_from_slice(&machine.to_le_bytes());
    file[40..48].copy_from_slice(&table.to_le_bytes());
    file[60..62].copy_from_slice(&(count as u16 + 1).to_le_bytes());
    file[62..64].copy_from_slice(&(count as u16).to_le_bytes());
    file
}

fn symbol(name_at: u32, info: u8, section: u16) -> Vec<u8> {
    let mut bytes = name_at.to_le_bytes().to_vec();
    bytes.extend([info, 0]);
    bytes.extend(section.to_le_bytes());
    bytes.extend([0; 16]);
    bytes
}

fn sample() -> Vec<u8> {
    let symbols = [symbol(1, 0x12, 1), symbol(4, 0x12, 2), symbol(7, 0x02, 1), symbol(7, 0x11, 1)].concat();
    object(
        EM_BPF,
        &[
            ("xdp.frags", 1, 0, vec![0; 8]),
            (".text", 1, 0, vec![0; 8]),
            (".symtab", SHT_SYMTAB, 4, symbols),
            (".strtab", 3, 0, b"\0lb\0fn\0no\0".to_vec()),
            (".BTF", 1, 0, vec![1, 2]),
        ],
    )
}

#[test]
fn global_functions_of_xdp_sections_are_the_programs() {
    let summary = summarize(&sample()).unwrap();
    assert_eq!(summary, Summary { has_btf: true, programs: vec!["lb".into()] });
}

#[test]
fn an_object_without_type_information_is_told_apart() {
    let summary = summarize(&object(EM_BPF, &[("xdp", 1, 0, Vec::new())])).unwrap();
    assert_eq!(summary, Summary { has_btf: false, programs: Vec::new() });
}

#[test]
fn another_machine_is_refused() {
    assert_eq!(summarize(&object(62, &[])), None);
}

#[test]
fn a_cut_object_is_refused_and_never_panics() {
    let whole = sample();
    for length in 0..whole.len() {
        assert_eq!(summarize(&whole[..length]), None, "cut at {length}");
    }
}
