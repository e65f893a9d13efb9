//! What the measuring programs share: the words between clients and servers, and waiting for many sockets.

pub mod poll;
pub mod protocol;
