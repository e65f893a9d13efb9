//! Small programs at a host's traffic control hooks (tc-bpf(8)), made of single instructions: one that leaves a VLAN tag
//! beside the frame, as VLAN devices do, and one that takes the outer header of a tunnel off, as tunnel devices do.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::PathBuf;

use super::net::Net;
use super::shell::{must, run, unique};

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_OBJ_PIN: libc::c_long = 6;
const BPF_PROG_TYPE_SCHED_CLS: u32 = 3;

/// A program at a hook of a host's interface; it stays there until the host is gone.
struct Filter(PathBuf);

impl Filter {
    /// `direction` is `ingress` or `egress`.
    fn new(net: &Net, number: u32, interface: &str, direction: &str, code: &[[u8; 8]]) -> Self {
        let pin = PathBuf::from(format!("/sys/fs/bpf/e2e-tc-{}-{}", std::process::id(), unique()));
        if !run("mountpoint -q /sys/fs/bpf").status.success() {
            must("mount -t bpf bpf /sys/fs/bpf");
        }
        let filter = Self(pin);
        let program = load(code);
        let path = std::ffi::CString::new(filter.0.display().to_string()).unwrap();
        let [low, high] = halves(path.as_ptr() as u64);
        bpf(BPF_OBJ_PIN, &[low, high, program.as_raw_fd().cast_unsigned(), 0]);
        // Not `ip netns exec`, whose own /sys hides the pin.
        let inside = format!("nsenter --net=/run/netns/{} tc", net.ns(number));
        must(&format!("{inside} qdisc add dev {interface} clsact"));
        must(&format!(
            "{inside} filter add dev {interface} {direction} bpf direct-action object-pinned {}",
            filter.0.display()
        ));
        filter
    }
}

impl Drop for Filter {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Tags everything that a host sends, in the metadata of the socket buffer; until the host is gone.
pub struct Tagger(#[expect(dead_code, reason = "held for its end")] Filter);

impl Tagger {
    /// `bpf_skb_vlan_push(skb, htons(ETH_P_8021Q), vlan); return TC_ACT_OK;`
    pub fn new(net: &Net, number: u32, vlan: u16) -> Self {
        let code = [
            constant(2, i32::from(0x8100u16.to_be())),
            constant(3, i32::from(vlan)),
            call(helper::SKB_VLAN_PUSH),
            constant(0, 0),
            EXIT,
        ];
        Self(Filter::new(net, number, "eth0", "egress", &code))
    }
}

/// Takes IPv4 and IPv6 headers off in front of IPv4 and IPv6 packets, as they come in; until the host is gone. What a
/// backend in `ipip` mode does where the kernel has no tunnel device: see docs/modes.md.
pub struct Decapsulator(#[expect(dead_code, reason = "held for its end")] Filter);

impl Decapsulator {
    pub fn new(net: &Net, number: u32, interface: &str) -> Self {
        const ETHERNET: i32 = 14;
        const DECAP_L3_IPV4: i32 = 1 << 7;
        const DECAP_L3_IPV6: i32 = 1 << 8;
        // After the protocol byte's read: `if (byte == inner) return bpf_skb_adjust_room(skb, -outer, ROOM_MAC, flags)`.
        let unless_then_shrink = |inner: i32, outer: i32, flags: i32| {
            [
                unless_equal(1, inner, 7),
                copy(1, 6),
                constant(2, -outer),
                constant(3, helper::ADJ_ROOM_MAC),
                constant(4, flags),
                call(helper::SKB_ADJUST_ROOM),
                constant(0, 0),
                EXIT,
            ]
        };
        // `bpf_skb_load_bytes(skb, offset, &byte, 1)`, then the byte in register 1.
        let read_byte = |offset: i32| {
            [
                copy(1, 6),
                constant(2, offset),
                copy(3, 10),
                add(3, -8),
                constant(4, 1),
                call(helper::SKB_LOAD_BYTES),
                load_byte_of_stack(1, -8),
            ]
        };
        let of_family = |ethertype: u16, protocol_at: i32, outer: i32, flags: [i32; 2]| {
            let inside = [
                &read_byte(ETHERNET + protocol_at)[..],
                &unless_then_shrink(libc::IPPROTO_IPIP, outer, flags[0]),
                &unless_then_shrink(libc::IPPROTO_IPV6, outer, flags[1]),
            ]
            .concat();
            let skip = i16::try_from(inside.len()).unwrap();
            [&[unless_equal(7, i32::from(ethertype.to_be()), skip)][..], &inside].concat()
        };
        let code = [
            // `skb->protocol` in register 7, the stack's byte set: the verifier wants it read after a failed load, too.
            &[copy(6, 1), load_word(7, 1, 16), store_zero_byte_on_stack(-8)][..],
            &of_family(0x0800, 9, 20, [0, DECAP_L3_IPV6]),
            &of_family(0x86dd, 6, 40, [DECAP_L3_IPV4, 0]),
            &[constant(0, 0), EXIT],
        ]
        .concat();
        Self(Filter::new(net, number, interface, "ingress", &code))
    }
}

/// Numbers of helper functions and their flags (linux/bpf.h).
mod helper {
    pub const SKB_VLAN_PUSH: i32 = 18;
    pub const SKB_LOAD_BYTES: i32 = 26;
    pub const SKB_ADJUST_ROOM: i32 = 50;
    pub const ADJ_ROOM_MAC: i32 = 1;
}

const EXIT: [u8; 8] = [0x95, 0, 0, 0, 0, 0, 0, 0];

const fn instruction(opcode: u8, registers: u8, offset: i16, immediate: i32) -> [u8; 8] {
    let ([c, d], [e, f, g, h]) = (offset.to_ne_bytes(), immediate.to_ne_bytes());
    [opcode, registers, c, d, e, f, g, h]
}

const fn constant(register: u8, value: i32) -> [u8; 8] {
    instruction(0xb7, register, 0, value)
}

const fn add(register: u8, value: i32) -> [u8; 8] {
    instruction(0x07, register, 0, value)
}

const fn copy(to: u8, from: u8) -> [u8; 8] {
    instruction(0xbf, from << 4 | to, 0, 0)
}

const fn call(function: i32) -> [u8; 8] {
    instruction(0x85, 0, 0, function)
}

const fn unless_equal(register: u8, value: i32, skip: i16) -> [u8; 8] {
    instruction(0x55, register, skip, value)
}

const fn load_word(to: u8, from: u8, offset: i16) -> [u8; 8] {
    instruction(0x61, from << 4 | to, offset, 0)
}

const fn load_byte_of_stack(to: u8, offset: i16) -> [u8; 8] {
    instruction(0x71, 10 << 4 | to, offset, 0)
}

const fn store_zero_byte_on_stack(offset: i16) -> [u8; 8] {
    instruction(0x72, 10, offset, 0)
}

fn load(code: &[[u8; 8]]) -> OwnedFd {
    let [code_low, code_high] = halves(code.as_ptr() as u64);
    let [license_low, license_high] = halves(c"GPL".as_ptr() as u64);
    let count = u32::try_from(code.len()).unwrap();
    let words = [BPF_PROG_TYPE_SCHED_CLS, count, code_low, code_high, license_low, license_high];
    let descriptor = bpf(BPF_PROG_LOAD, &words);
    // SAFETY: the command returned a new descriptor.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

fn halves(address: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = address.to_ne_bytes();
    [u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h])]
}

fn bpf(command: libc::c_long, words: &[u32]) -> i32 {
    // SAFETY: the kernel reads the attributes from a live slice of the given length; addresses inside are those of data
    // that the caller keeps alive.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, words.as_ptr(), size_of_val(words)) };
    assert!(result >= 0, "bpf command {command}: {}", io::Error::last_os_error());
    i32::try_from(result).unwrap()
}
