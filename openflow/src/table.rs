//! TABLE_MOD (1.3: 7.3.3).

use crate::TableId;
use crate::wire::layout;

/// TABLE_MOD: configures a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct TableMod {
    /// The table, or [`TableId::ALL`].
    pub table_id: TableId,
    /// `OFPTC_*` bits; 1.3 defines none, and calls bits 0 and 1 deprecated.
    pub config: u32,
}

layout! { TableMod: table_id + 3, config }
