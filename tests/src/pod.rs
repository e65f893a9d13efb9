//! Table types as aya takes them.

/// A table type as plain bytes.
#[repr(transparent)]
#[derive(Clone, Copy, Debug)]
pub struct Raw<T: Copy>(pub T);

// SAFETY: transparent over one of lb-core's table types or an integer: repr(C), whole integers and byte arrays,
// no padding (sizes are asserted there), and every bit pattern is valid.
unsafe impl<T: Copy + 'static> aya::Pod for Raw<T> {}
