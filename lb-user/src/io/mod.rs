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
//! | [`arp`] | the packet socket of the ARP prober |
//! | [`ovs`] | which bridges Open vSwitch has (ovs-vsctl) |
//! | [`facts`] | all of this looked at once, for the next two |
//! | [`sys`] | clocks, privileges, bpffs, lock file |
//! | [`doctor`] | what is wrong with this machine, and the command that mends it |
//! | [`discovery`] | which ports, hosts and backends there are: a pure function |

pub mod arp;
pub mod bpf;
pub mod discovery;
pub mod doctor;
pub mod ethtool;
pub mod facts;
pub mod link;
pub mod mac;
pub mod mininet;
pub mod netlink;
pub mod netns;
pub mod ovs;
pub mod sys;
