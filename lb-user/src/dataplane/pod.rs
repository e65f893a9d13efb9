//! The core's table types as values of BPF maps.

use aya::Pod;
use lb_core::table::{
    AffinityValue, BackendRecord, BackendSlot, ClientKey, ConnKey, ConnValue, GlobalCounter, PortList,
    PortRecord, SelectTable, ServiceKey, ServiceRecord, Settings, SnatValue, TestInputs, TrafficCounter,
    VipRecord, VipSlot, VipTarget,
};
use lb_core::watch::{CaptureRecord, EventRecord, WatchState};

use crate::io::bpf::Plain;

/// A table type as aya wants it.
#[repr(transparent)]
#[derive(Clone, Copy, Debug)]
pub struct Raw<T>(pub T);

macro_rules! pod {
    ($($t:ty),+ $(,)?) => {
        $(
            // SAFETY: repr(C) over integers and integer arrays; the size asserts beside its definition leave
            // no room for padding, and every bit pattern is valid.
            unsafe impl Pod for Raw<$t> {}
            // SAFETY: as above.
            unsafe impl Plain for $t {}
        )+
    };
}

pod!(
    AffinityValue,
    ClientKey,
    SnatValue,
    BackendRecord,
    BackendSlot,
    ConnKey,
    ConnValue,
    GlobalCounter,
    PortList,
    PortRecord,
    SelectTable,
    ServiceKey,
    ServiceRecord,
    Settings,
    TestInputs,
    TrafficCounter,
    VipRecord,
    WatchState,
    CaptureRecord,
    EventRecord,
    VipSlot,
    VipTarget,
);
