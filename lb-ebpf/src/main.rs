//! The XDP programs of the load balancer.
//!
//! `lb_balance` and the programs of its stages, which it tail-calls, run `lb-core` on every frame of the ports it is attached to; `lb_pass` does nothing, and
//! stands on the other end of a veth pair because frames sent or redirected into a veth vanish unless its
//! peer has a program. What happens to a packet is not decided here: this crate lends the core its packet
//! ([`packet::XdpPacket`]) and its tables ([`maps::BpfTables`]).
#![no_std]
#![no_main]
// Inline assembly for BPF: the atomic addition of the round-robin ticket.
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

mod maps;
mod packet;
mod watch;

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_TX};
use aya_ebpf::bindings::xdp_md;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use lb_core::decide::{
    process, process_answer, process_control, process_deep, process_lend, process_open, process_reply,
    stage_missing,
};
use lb_core::{Egress, Outcome, Reason};

use crate::maps::{BpfTables, DEVICES, STAGES};
use crate::packet::XdpPacket;
use crate::watch::Lease;

/// Defines an XDP program. Not by aya's attribute, which makes a function within a function: the compiler leaves large
/// ones apart, and a tail call from there has half the stack.
macro_rules! program {
    ($(#[doc = $doc:literal])+ $name:ident, $process:ident, $careful:literal, $first:literal) => {
        $(#[doc = $doc])+
        #[unsafe(no_mangle)]
        #[unsafe(link_section = "xdp.frags")]
        pub fn $name(ctx: *mut xdp_md) -> u32 {
            let ctx = XdpContext::new(ctx);
            let Some(watched) = Lease::of_packets() else { return XDP_PASS };
            if $first && watched.is_wanted() {
                watch::came_in(&ctx);
            }
            let end = $process(&mut XdpPacket::<$careful>::new(&ctx), &BpfTables::<$careful>);
            carry_out(&ctx, end, &watched)
        }
    };
}

program! {
    /// The balancer.
    lb_balance, process, false, true
}
program! {
    /// Its stage for packets of clients without an established entry.
    lb_open, process_open, true, false
}
program! {
    /// Its stage for packets of clients to VIPs with full NAT without an established entry.
    lb_lend, process_lend, true, false
}
program! {
    /// Its stage for packets of backends without an established entry.
    lb_reply, process_reply, true, false
}
program! {
    /// Its stage for what is not plain: VLAN tags, options, fragments, extension headers.
    lb_deep, process_deep, true, false
}
program! {
    /// Its stage for ICMP, neighbour discovery, and ARP in a VIP's name.
    lb_control, process_control, true, false
}
program! {
    /// Its stage for resets and ICMP errors of its own.
    lb_answer, process_answer, true, false
}

/// The verdict, or the next stage.
#[inline(always)]
fn carry_out(ctx: &XdpContext, (outcome, reason): (Outcome, Reason), watched: &Lease) -> u32 {
    let action = match outcome {
        Outcome::Pass | Outcome::Forward(Egress::Switch) => XDP_PASS,
        Outcome::Drop => XDP_DROP,
        Outcome::Forward(Egress::Transmit) => XDP_TX,
        // A port that has just gone from the device map: the switch carries the rewritten packet.
        Outcome::Forward(Egress::Redirect(slot)) => {
            DEVICES.redirect(slot as u32, XDP_PASS as u64).unwrap_or_else(|action| action)
        }
        Outcome::Next(stage) => {
            // SAFETY: nothing of this program needs to be dropped; where the stage is missing, it goes on here.
            unsafe { STAGES.tail_call(ctx, stage as u32) };
            stage_missing(&BpfTables::<false>);
            XDP_DROP
        }
    };
    #[cfg(feature = "log")]
    log(ctx, &XdpPacket::<true>::new(ctx), reason);
    if watched.is_wanted() {
        watch::ended(ctx, reason);
    }
    action
}

/// For the peers of veth ports.
#[xdp(frags)]
pub fn lb_pass(_ctx: XdpContext) -> u32 {
    XDP_PASS
}

#[cfg(feature = "log")]
#[inline(always)]
fn log(ctx: &XdpContext, packet: &XdpPacket<'_, true>, reason: lb_core::Reason) {
    use lb_core::Packet;
    // The addresses as they leave: of IPv4, of sender and target in ARP; zeros of all else, VLAN tags included.
    let address = |ip, arp| match packet.read::<u16>(12).map(u16::from_be) {
        Some(0x0800) => packet.read::<u32>(ip).map_or(0, u32::from_be),
        Some(0x0806) => packet.read::<u32>(arp).map_or(0, u32::from_be),
        _ => 0,
    };
    aya_log_ebpf::info!(
        ctx,
        "interface {} {}: {:i} -> {:i}, {} bytes",
        packet.ingress_ifindex(),
        reason.name(),
        address(26, 28),
        address(30, 38),
        packet.length()
    );
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The version of the tables that the programs work on; who loads the object onto others' tables refuses another one.
#[unsafe(link_section = "lb_schema")]
#[unsafe(no_mangle)]
static LB_SCHEMA: u32 = lb_core::table::SCHEMA_VERSION;

/// Helpers of the kernel ask for it; the sources are MIT or Apache-2.0 otherwise.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
