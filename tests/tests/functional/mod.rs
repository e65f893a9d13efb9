//! What every way to balance promises, tried on the real thing: one scenario, and a table of what a mode cannot have.

mod bed;
mod life;
mod mode;
mod selections;

pub use mode::{Mode, Rewrite};

use self::bed::{Bed, CLIENT};
use self::mode::What;

/// Builds a network in which a mode balances, and asks of it all that the mode has.
pub fn run(mode: Mode) {
    for (what, reason) in mode.without.iter().copied().flatten() {
        println!("{mode}: without {what}: {reason}");
    }
    let mut bed = Bed::new(mode);
    let standing = life::standing_entries(&mut bed);
    selections::all(&bed);
    selections::answers_come_from_the_vip(&bed);
    if mode.has(What::Ping) {
        assert!(bed.fabric.net.ping(CLIENT, bed::VIP, 2), "{}", bed.state());
    }
    if mode.has(What::Udp) {
        selections::datagrams(&bed);
    }
    if mode.has(What::Ipv6) {
        selections::six(&bed);
    }
    let mut talks = life::connections(&bed);
    if mode.has(What::Drain) {
        life::drain(&bed, &mut talks);
    }
    if mode.has(What::Dead) {
        life::death(&bed, &mut talks);
    }
    drop(talks);
    life::nothing_is_left(bed, standing);
}
