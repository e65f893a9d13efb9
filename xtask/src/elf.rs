//! Just enough of ELF64 to tell whether a BPF object is complete.

/// What an object holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Whether type information for the kernel is there (section `.BTF`).
    pub has_btf: bool,
    /// Names of the global functions in sections whose name begins with `xdp`, sorted.
    pub programs: Vec<String>,
}

const HEADER_BYTES: usize = 64;
const SECTION_BYTES: usize = 64;
const SYMBOL_BYTES: usize = 24;
const SHT_SYMTAB: u32 = 2;
const STT_FUNC: u8 = 2;
const STB_GLOBAL: u8 = 1;
const EM_BPF: u16 = 247;

struct Section<'a> {
    name: &'a str,
    kind: u32,
    link: usize,
    data: &'a [u8],
}

/// Reads a little-endian BPF object; `None` when it is not one or is cut off.
pub fn summarize(file: &[u8]) -> Option<Summary> {
    let is_elf64_little_endian = file.starts_with(b"\x7fELF\x02\x01");
    if file.len() < HEADER_BYTES || !is_elf64_little_endian || u16_at(file, 18)? != EM_BPF {
        return None;
    }
    let sections = sections(file)?;
    let mut programs = Vec::new();
    for table in sections.iter().filter(|section| section.kind == SHT_SYMTAB) {
        let names = sections.get(table.link)?.data;
        for symbol in table.data.chunks_exact(SYMBOL_BYTES) {
            let (info, section_index) = (*symbol.get(4)?, usize::from(u16_at(symbol, 6)?));
            let in_xdp = sections.get(section_index).is_some_and(|section| section.name.starts_with("xdp"));
            if info == (STB_GLOBAL << 4 | STT_FUNC) && in_xdp {
                programs.push(text_at(names, u32_at(symbol, 0)? as usize)?.to_owned());
            }
        }
    }
    programs.sort();
    Some(Summary { has_btf: sections.iter().any(|section| section.name == ".BTF"), programs })
}

fn sections(file: &[u8]) -> Option<Vec<Section<'_>>> {
    let table = usize::try_from(u64_at(file, 40)?).ok()?;
    let count = usize::from(u16_at(file, 60)?);
    let names_index = usize::from(u16_at(file, 62)?);
    let header = |index: usize| {
        let start = table.checked_add(index.checked_mul(SECTION_BYTES)?)?;
        file.get(start..start.checked_add(SECTION_BYTES)?)
    };
    let data = |header: &[u8]| {
        const SHT_NOBITS: u32 = 8;
        if u32_at(header, 4)? == SHT_NOBITS {
            return Some(&file[..0]);
        }
        let start = usize::try_from(u64_at(header, 24)?).ok()?;
        file.get(start..start.checked_add(usize::try_from(u64_at(header, 32)?).ok()?)?)
    };
    let names = data(header(names_index)?)?;
    (0..count)
        .map(|index| {
            let header = header(index)?;
            Some(Section {
                name: text_at(names, u32_at(header, 0)? as usize)?,
                kind: u32_at(header, 4)?,
                link: u32_at(header, 40)? as usize,
                data: data(header)?,
            })
        })
        .collect()
}

fn text_at(table: &[u8], start: usize) -> Option<&str> {
    let tail = table.get(start..)?;
    std::str::from_utf8(tail.split(|byte| *byte == 0).next()?).ok()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests;
