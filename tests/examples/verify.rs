//! Loads the object and prints what the verifier says of each program.

use anyhow::Result;
use aya::EbpfLoader;
use aya::programs::Xdp;

fn main() -> Result<()> {
    let bytes = std::fs::read(testbed::program::object_path())?;
    let mut ebpf = EbpfLoader::new().load(&bytes)?;
    let names: Vec<String> = ebpf.programs().map(|(name, _)| name.to_owned()).collect();
    for name in names {
        let program: &mut Xdp = ebpf.program_mut(&name).expect("a program of the object").try_into()?;
        match program.load() {
            Ok(()) => {
                let info = program.info()?;
                println!(
                    "{name}: {} verified instructions, {} translated bytes, {} JIT bytes",
                    info.verified_instruction_count().unwrap_or(0),
                    info.size_translated().unwrap_or(0),
                    info.size_jitted()
                );
            }
            Err(error) => {
                let text = format!("{error:?}");
                let lines: Vec<&str> = text.split("\\n").flat_map(str::lines).collect();
                println!("{name}: refused\n{}", lines[lines.len().saturating_sub(14)..].join("\n"));
            }
        }
    }
    Ok(())
}
