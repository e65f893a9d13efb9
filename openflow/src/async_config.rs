//! Which asynchronous messages a controller gets (1.3: 7.3.10; Nicira's SET_ASYNC_CONFIG in 1.0).

use crate::wire::layout;

/// SET_ASYNC and GET_ASYNC_REPLY: bit `r` of a mask lets messages with reason `r` through.
///
/// Index 0 of each pair holds while the controller is master or equal, index 1 while it is slave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct AsyncConfig {
    /// Bits are the reasons of a packet-in.
    pub packet_in_mask: [u32; 2],
    /// Bits are the reasons of a port-status.
    pub port_status_mask: [u32; 2],
    /// Bits are the reasons of a flow-removed.
    pub flow_removed_mask: [u32; 2],
}

layout! { AsyncConfig: packet_in_mask, port_status_mask, flow_removed_mask }
