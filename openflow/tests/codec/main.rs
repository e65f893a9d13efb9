//! Tests of the codec through its public interface, one module for each message family.

mod actions;
mod common;
mod corpus;
mod errors;
mod everything;
mod flows;
mod framer;
mod hostile;
mod matches;
mod multipart;
mod ofctl;
mod packets;
mod ports;
mod random;
mod samples;
mod session;
mod vectors;
