//! A VLAN tag beside the frame instead of in it, as VLAN devices leave it: pushed by a program on a host's egress.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::PathBuf;

use super::net::Net;
use super::shell::{must, run, unique};

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_OBJ_PIN: libc::c_long = 6;
const BPF_PROG_TYPE_SCHED_CLS: u32 = 3;
const BPF_SKB_VLAN_PUSH: u8 = 18;

/// Tags everything that a host sends, in the metadata of the socket buffer; until the host is gone.
pub struct Tagger(PathBuf);

impl Tagger {
    pub fn new(net: &Net, number: u32, vlan: u16) -> Self {
        let pin = PathBuf::from(format!("/sys/fs/bpf/e2e-tag-{}-{}", std::process::id(), unique()));
        if !run("mountpoint -q /sys/fs/bpf").status.success() {
            must("mount -t bpf bpf /sys/fs/bpf");
        }
        let tagger = Self(pin);
        let program = load(vlan);
        let path = std::ffi::CString::new(tagger.0.display().to_string()).unwrap();
        let [low, high] = halves(path.as_ptr() as u64);
        bpf(BPF_OBJ_PIN, &[low, high, program.as_raw_fd().cast_unsigned(), 0]);
        // Not `ip netns exec`, whose own /sys hides the pin.
        let inside = format!("nsenter --net=/run/netns/{} tc", net.ns(number));
        must(&format!("{inside} qdisc add dev eth0 clsact"));
        must(&format!(
            "{inside} filter add dev eth0 egress bpf direct-action object-pinned {}",
            tagger.0.display()
        ));
        tagger
    }
}

impl Drop for Tagger {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// `bpf_skb_vlan_push(skb, htons(ETH_P_8021Q), vlan); return TC_ACT_OK;`
fn load(vlan: u16) -> OwnedFd {
    let immediate = |opcode: u8, register: u8, value: i32| {
        let [a, b, c, d] = value.to_ne_bytes();
        [opcode, register, 0, 0, a, b, c, d]
    };
    let code: [[u8; 8]; 5] = [
        immediate(0xb7, 2, i32::from(0x8100u16.to_be())),
        immediate(0xb7, 3, i32::from(vlan)),
        immediate(0x85, 0, i32::from(BPF_SKB_VLAN_PUSH)),
        immediate(0xb7, 0, 0),
        immediate(0x95, 0, 0),
    ];
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
