//! The rim: everything that talks to the kernel or to other programs, and nothing that decides.
//!
//! | module | what it wraps |
//! |---|---|
//! | [`netns`] | network namespaces: opening, identity, running code inside one |
//! | [`mininet`] | the processes that Mininet started |
//! | [`link`] | what is known about an interface; which qdiscs shape |
//! | [`netlink`] | links, addresses, neighbours, qdiscs and link events (rtnetlink) |
//! | [`ethtool`] | checksum and VLAN offloads (SIOCETHTOOL) |
//! | [`bpf`] | batches, taking entries out, and memory of BPF maps (bpf(2)) |
//! | [`clock`] | the time of the data plane's stamps |
//! | [`packet`] | packet sockets: whole frames with the kernel's time of them |
//! | [`filter`] | what the prober's packet sockets let through |
//! | [`arp`], [`ndp`] | the messages of the prober's questions after neighbours |
//! | [`ovs`] | which bridges Open vSwitch has (ovs-vsctl) |
//! | [`facts`] | all of this looked at once, for the next two |
//! | [`sys`] | clocks, privileges, bpffs, lock file |
//! | [`doctor`] | what is wrong with this machine, and the command that mends it |
//! | [`discovery`] | which ports, hosts and backends there are: a pure function |

pub mod arp;
pub mod bpf;
pub mod clock;
pub mod devices;
pub mod discovery;
pub mod doctor;
pub mod ethtool;
pub mod facts;
pub mod filter;
pub mod link;
pub mod mac;
pub mod mininet;
pub mod ndp;
pub mod netlink;
pub mod netns;
pub mod ovs;
pub mod packet;
pub mod pidfd;
pub mod sys;
