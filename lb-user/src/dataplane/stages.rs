//! The programs of the stages, and the array through which the balancer calls them.
//!
//! Every loaded version has an array of its own. The kernel empties an array when nobody in user space holds it any more:
//! so it is pinned, under a name that no other version has, before a link runs its programs; and unpinned when every link
//! runs a newer one. A daemon that is killed in between leaves both, and the next one tidies up.

use std::fs;

use anyhow::{Context, Result};
use aya::Ebpf;
use aya::maps::ProgramArray;
use aya::programs::Xdp;
use lb_core::Stage;

use super::{DataPlane, Pins};

/// The array's name in the object, and the first part of its pins' names.
const ARRAY: &str = "STAGES";

/// Loads the programs, fills their array and pins it.
pub(super) fn load(ebpf: &mut Ebpf, pins: &Pins) -> Result<()> {
    fill(ebpf)?;
    let id = array_id(ebpf)?;
    let pin = pins.program(&format!("{ARRAY}-{id}"));
    let map = ebpf.map_mut(ARRAY).context("the XDP object has no map STAGES")?;
    map.pin(&pin).with_context(|| format!("cannot pin {}", pin.display()))
}

/// Loads the programs and fills their array.
pub(super) fn fill(ebpf: &mut Ebpf) -> Result<()> {
    let mut programs = Vec::new();
    for stage in Stage::ALL {
        let name = stage.program();
        let program: &mut Xdp = ebpf
            .program_mut(name)
            .with_context(|| {
                format!("the XDP object has no program {name}: build it with `cargo xtask build-ebpf`")
            })?
            .try_into()
            .with_context(|| format!("{name} is not an XDP program"))?;
        program.load().with_context(|| format!("the kernel refuses the program {name}"))?;
        let fd = program.fd().with_context(|| format!("program {name}"))?;
        programs.push((stage as u32, fd.try_clone().with_context(|| format!("program {name}"))?));
    }
    let map = ebpf.map_mut(ARRAY).context("the XDP object has no map STAGES")?;
    let mut array = ProgramArray::try_from(map).context("map STAGES")?;
    for (index, program) in &programs {
        array.set(*index, program, 0).context("cannot fill the array of stages")?;
    }
    Ok(())
}

fn array_id(ebpf: &Ebpf) -> Result<u32> {
    let Some(aya::maps::Map::ProgramArray(data)) = ebpf.map(ARRAY) else {
        anyhow::bail!("the XDP object has no program array STAGES");
    };
    Ok(data.info().context("map STAGES")?.id())
}

impl DataPlane {
    /// Unpins the arrays of other versions: to be called once every link runs this one.
    ///
    /// # Errors
    /// A pin cannot be removed.
    pub fn forget_other_stages(&self) -> Result<()> {
        let own = self.pins.program(&format!("{ARRAY}-{}", array_id(&self.ebpf)?));
        let first = format!("{ARRAY}-");
        for path in self.pins.program_paths().context("cannot read the programs' pins")? {
            let is_array = path.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with(&first));
            if is_array && path != own {
                fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
            }
        }
        Ok(())
    }
}
