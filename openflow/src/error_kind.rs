//! Error types and codes (1.0: 5.4.4, 1.3: 7.4.4), one version-free name for each.

use std::fmt;

use crate::{ONF, Version};

/// Builds [`ErrorKind`] and its two tables: variant, 1.0 type and code, 1.3 type and code, name in the specification.
macro_rules! error_kinds {
    ($($variant:ident, $v10:expr, $v13:expr, $name:literal;)*) => {
        /// What an error message says went wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum ErrorKind {
            $(#[doc = concat!("`", $name, "`")] $variant,)*
            /// An error of an experimenter (1.3: 7.4.4).
            Experimenter {
                /// Which of theirs.
                exp_type: u16,
                /// Whose it is.
                experimenter: u32,
            },
            /// An error of a vendor, in the form that Nicira gave them in 1.0.
            Vendor {
                /// Whose it is.
                vendor: u32,
                /// Their type.
                kind: u16,
                /// Their code.
                code: u16,
            },
            /// A type and code that the version's table does not know.
            Unknown {
                /// Wire type.
                kind: u16,
                /// Wire code.
                code: u16,
            },
        }

        const TABLE: &[(ErrorKind, Option<(u16, u16)>, Option<(u16, u16)>, &str)] =
            &[$((ErrorKind::$variant, $v10, $v13, $name),)*];
    };
}

/// Same type and code in both versions.
const fn at(kind: u16, code: u16) -> Option<(u16, u16)> {
    Some((kind, code))
}

error_kinds! {
    HelloIncompatible, at(0, 0), at(0, 0), "OFPHFC_INCOMPATIBLE";
    HelloEperm, at(0, 1), at(0, 1), "OFPHFC_EPERM";
    BadRequestBadVersion, at(1, 0), at(1, 0), "OFPBRC_BAD_VERSION";
    BadRequestBadType, at(1, 1), at(1, 1), "OFPBRC_BAD_TYPE";
    BadRequestBadMultipart, at(1, 2), at(1, 2), "OFPBRC_BAD_MULTIPART";
    BadRequestBadExperimenter, at(1, 3), at(1, 3), "OFPBRC_BAD_EXPERIMENTER";
    BadRequestBadExpType, at(1, 4), at(1, 4), "OFPBRC_BAD_EXP_TYPE";
    BadRequestEperm, at(1, 5), at(1, 5), "OFPBRC_EPERM";
    BadRequestBadLen, at(1, 6), at(1, 6), "OFPBRC_BAD_LEN";
    BadRequestBufferEmpty, at(1, 7), at(1, 7), "OFPBRC_BUFFER_EMPTY";
    BadRequestBufferUnknown, at(1, 8), at(1, 8), "OFPBRC_BUFFER_UNKNOWN";
    BadRequestBadTableId, None, at(1, 9), "OFPBRC_BAD_TABLE_ID";
    BadRequestIsSlave, None, at(1, 10), "OFPBRC_IS_SLAVE";
    BadRequestBadPort, None, at(1, 11), "OFPBRC_BAD_PORT";
    BadRequestBadPacket, None, at(1, 12), "OFPBRC_BAD_PACKET";
    BadRequestMultipartBufferOverflow, None, at(1, 13), "OFPBRC_MULTIPART_BUFFER_OVERFLOW";
    BadActionBadType, at(2, 0), at(2, 0), "OFPBAC_BAD_TYPE";
    BadActionBadLen, at(2, 1), at(2, 1), "OFPBAC_BAD_LEN";
    BadActionBadExperimenter, at(2, 2), at(2, 2), "OFPBAC_BAD_EXPERIMENTER";
    BadActionBadExpType, at(2, 3), at(2, 3), "OFPBAC_BAD_EXP_TYPE";
    BadActionBadOutPort, at(2, 4), at(2, 4), "OFPBAC_BAD_OUT_PORT";
    BadActionBadArgument, at(2, 5), at(2, 5), "OFPBAC_BAD_ARGUMENT";
    BadActionEperm, at(2, 6), at(2, 6), "OFPBAC_EPERM";
    BadActionTooMany, at(2, 7), at(2, 7), "OFPBAC_TOO_MANY";
    BadActionBadQueue, at(2, 8), at(2, 8), "OFPBAC_BAD_QUEUE";
    BadActionBadOutGroup, None, at(2, 9), "OFPBAC_BAD_OUT_GROUP";
    BadActionMatchInconsistent, None, at(2, 10), "OFPBAC_MATCH_INCONSISTENT";
    BadActionUnsupportedOrder, None, at(2, 11), "OFPBAC_UNSUPPORTED_ORDER";
    BadActionBadTag, None, at(2, 12), "OFPBAC_BAD_TAG";
    BadActionBadSetType, None, at(2, 13), "OFPBAC_BAD_SET_TYPE";
    BadActionBadSetLen, None, at(2, 14), "OFPBAC_BAD_SET_LEN";
    BadActionBadSetArgument, None, at(2, 15), "OFPBAC_BAD_SET_ARGUMENT";
    BadInstructionUnknown, None, at(3, 0), "OFPBIC_UNKNOWN_INST";
    BadInstructionUnsupported, None, at(3, 1), "OFPBIC_UNSUP_INST";
    BadInstructionBadTableId, None, at(3, 2), "OFPBIC_BAD_TABLE_ID";
    BadInstructionUnsupportedMetadata, None, at(3, 3), "OFPBIC_UNSUP_METADATA";
    BadInstructionUnsupportedMetadataMask, None, at(3, 4), "OFPBIC_UNSUP_METADATA_MASK";
    BadInstructionBadExperimenter, None, at(3, 5), "OFPBIC_BAD_EXPERIMENTER";
    BadInstructionBadExpType, None, at(3, 6), "OFPBIC_BAD_EXP_TYPE";
    BadInstructionBadLen, None, at(3, 7), "OFPBIC_BAD_LEN";
    BadInstructionEperm, None, at(3, 8), "OFPBIC_EPERM";
    BadMatchBadType, None, at(4, 0), "OFPBMC_BAD_TYPE";
    BadMatchBadLen, None, at(4, 1), "OFPBMC_BAD_LEN";
    BadMatchBadTag, None, at(4, 2), "OFPBMC_BAD_TAG";
    BadMatchBadDlAddrMask, None, at(4, 3), "OFPBMC_BAD_DL_ADDR_MASK";
    BadMatchBadNwAddrMask, None, at(4, 4), "OFPBMC_BAD_NW_ADDR_MASK";
    BadMatchBadWildcards, None, at(4, 5), "OFPBMC_BAD_WILDCARDS";
    BadMatchBadField, None, at(4, 6), "OFPBMC_BAD_FIELD";
    BadMatchBadValue, None, at(4, 7), "OFPBMC_BAD_VALUE";
    BadMatchBadMask, None, at(4, 8), "OFPBMC_BAD_MASK";
    BadMatchBadPrereq, None, at(4, 9), "OFPBMC_BAD_PREREQ";
    BadMatchDupField, None, at(4, 10), "OFPBMC_DUP_FIELD";
    BadMatchEperm, None, at(4, 11), "OFPBMC_EPERM";
    FlowModUnknown, None, at(5, 0), "OFPFMFC_UNKNOWN";
    FlowModTableFull, at(3, 0), at(5, 1), "OFPFMFC_TABLE_FULL";
    FlowModBadTableId, None, at(5, 2), "OFPFMFC_BAD_TABLE_ID";
    FlowModOverlap, at(3, 1), at(5, 3), "OFPFMFC_OVERLAP";
    FlowModEperm, at(3, 2), at(5, 4), "OFPFMFC_EPERM";
    FlowModBadTimeout, at(3, 3), at(5, 5), "OFPFMFC_BAD_TIMEOUT";
    FlowModBadCommand, at(3, 4), at(5, 6), "OFPFMFC_BAD_COMMAND";
    FlowModBadFlags, None, at(5, 7), "OFPFMFC_BAD_FLAGS";
    FlowModUnsupported, at(3, 5), None, "OFPFMFC_UNSUPPORTED";
    GroupModGroupExists, None, at(6, 0), "OFPGMFC_GROUP_EXISTS";
    GroupModInvalidGroup, None, at(6, 1), "OFPGMFC_INVALID_GROUP";
    GroupModWeightUnsupported, None, at(6, 2), "OFPGMFC_WEIGHT_UNSUPPORTED";
    GroupModOutOfGroups, None, at(6, 3), "OFPGMFC_OUT_OF_GROUPS";
    GroupModOutOfBuckets, None, at(6, 4), "OFPGMFC_OUT_OF_BUCKETS";
    GroupModChainingUnsupported, None, at(6, 5), "OFPGMFC_CHAINING_UNSUPPORTED";
    GroupModWatchUnsupported, None, at(6, 6), "OFPGMFC_WATCH_UNSUPPORTED";
    GroupModLoop, None, at(6, 7), "OFPGMFC_LOOP";
    GroupModUnknownGroup, None, at(6, 8), "OFPGMFC_UNKNOWN_GROUP";
    GroupModChainedGroup, None, at(6, 9), "OFPGMFC_CHAINED_GROUP";
    GroupModBadType, None, at(6, 10), "OFPGMFC_BAD_TYPE";
    GroupModBadCommand, None, at(6, 11), "OFPGMFC_BAD_COMMAND";
    GroupModBadBucket, None, at(6, 12), "OFPGMFC_BAD_BUCKET";
    GroupModBadWatch, None, at(6, 13), "OFPGMFC_BAD_WATCH";
    GroupModEperm, None, at(6, 14), "OFPGMFC_EPERM";
    PortModBadPort, at(4, 0), at(7, 0), "OFPPMFC_BAD_PORT";
    PortModBadHwAddr, at(4, 1), at(7, 1), "OFPPMFC_BAD_HW_ADDR";
    PortModBadConfig, None, at(7, 2), "OFPPMFC_BAD_CONFIG";
    PortModBadAdvertise, None, at(7, 3), "OFPPMFC_BAD_ADVERTISE";
    PortModEperm, None, at(7, 4), "OFPPMFC_EPERM";
    TableModBadTable, None, at(8, 0), "OFPTMFC_BAD_TABLE";
    TableModBadConfig, None, at(8, 1), "OFPTMFC_BAD_CONFIG";
    TableModEperm, None, at(8, 2), "OFPTMFC_EPERM";
    QueueOpBadPort, at(5, 0), at(9, 0), "OFPQOFC_BAD_PORT";
    QueueOpBadQueue, at(5, 1), at(9, 1), "OFPQOFC_BAD_QUEUE";
    QueueOpEperm, at(5, 2), at(9, 2), "OFPQOFC_EPERM";
    SwitchConfigBadFlags, None, at(10, 0), "OFPSCFC_BAD_FLAGS";
    SwitchConfigBadLen, None, at(10, 1), "OFPSCFC_BAD_LEN";
    SwitchConfigEperm, None, at(10, 2), "OFPSCFC_EPERM";
    RoleRequestStale, None, at(11, 0), "OFPRRFC_STALE";
    RoleRequestUnsupported, None, at(11, 1), "OFPRRFC_UNSUP";
    RoleRequestBadRole, None, at(11, 2), "OFPRRFC_BAD_ROLE";
    MeterModUnknown, None, at(12, 0), "OFPMMFC_UNKNOWN";
    MeterModMeterExists, None, at(12, 1), "OFPMMFC_METER_EXISTS";
    MeterModInvalidMeter, None, at(12, 2), "OFPMMFC_INVALID_METER";
    MeterModUnknownMeter, None, at(12, 3), "OFPMMFC_UNKNOWN_METER";
    MeterModBadCommand, None, at(12, 4), "OFPMMFC_BAD_COMMAND";
    MeterModBadFlags, None, at(12, 5), "OFPMMFC_BAD_FLAGS";
    MeterModBadRate, None, at(12, 6), "OFPMMFC_BAD_RATE";
    MeterModBadBurst, None, at(12, 7), "OFPMMFC_BAD_BURST";
    MeterModBadBand, None, at(12, 8), "OFPMMFC_BAD_BAND";
    MeterModBadBandValue, None, at(12, 9), "OFPMMFC_BAD_BAND_VALUE";
    MeterModOutOfMeters, None, at(12, 10), "OFPMMFC_OUT_OF_METERS";
    MeterModOutOfBands, None, at(12, 11), "OFPMMFC_OUT_OF_BANDS";
    TableFeaturesBadTable, None, at(13, 0), "OFPTFFC_BAD_TABLE";
    TableFeaturesBadMetadata, None, at(13, 1), "OFPTFFC_BAD_METADATA";
    TableFeaturesBadType, None, at(13, 2), "OFPTFFC_BAD_TYPE";
    TableFeaturesBadLen, None, at(13, 3), "OFPTFFC_BAD_LEN";
    TableFeaturesBadArgument, None, at(13, 4), "OFPTFFC_BAD_ARGUMENT";
    TableFeaturesEperm, None, at(13, 5), "OFPTFFC_EPERM";
}

impl ErrorKind {
    /// The name for a wire type and code; [`ErrorKind::Unknown`] when the version has none.
    pub fn from_wire(version: Version, kind: u16, code: u16) -> Self {
        TABLE
            .iter()
            .find(|(_, v10, v13, _)| *pick(version, v10, v13) == Some((kind, code)))
            .map_or(Self::Unknown { kind, code }, |(known, ..)| *known)
    }

    /// Wire type and code, or `None` when the version cannot say this.
    pub fn to_wire(self, version: Version) -> Option<(u16, u16)> {
        match self {
            Self::Unknown { kind, code } => return Some((kind, code)),
            Self::Experimenter { exp_type, .. } => {
                return (version == Version::V1_3).then_some((EXPERIMENTER, exp_type));
            }
            Self::Vendor { .. } => return (version == Version::V1_0).then_some(NX_VENDOR),
            _ => {}
        }
        TABLE.iter().find(|(known, ..)| *known == self).and_then(|(_, v10, v13, _)| *pick(version, v10, v13))
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match TABLE.iter().find(|(known, ..)| known == self) {
            Some((.., name)) => f.write_str(name),
            None => match self {
                Self::Unknown { kind, code } => write!(f, "error type {kind} code {code}"),
                Self::Experimenter { exp_type, experimenter: ONF } => match onf_name(*exp_type) {
                    Some(name) => f.write_str(name),
                    None => write!(f, "ONF error {exp_type}"),
                },
                Self::Experimenter { exp_type, experimenter } => {
                    write!(f, "error {exp_type} of experimenter {experimenter:#x}")
                }
                Self::Vendor { vendor, kind, code } => {
                    write!(f, "error type {kind} code {code} of vendor {vendor:#x}")
                }
                other => write!(f, "{other:?}"),
            },
        }
    }
}

/// Wire type of the errors of experimenters (1.3).
pub(crate) const EXPERIMENTER: u16 = 0xffff;
/// Wire type and code of the errors of vendors, as Nicira has them in 1.0.
pub(crate) const NX_VENDOR: (u16, u16) = (0xb0c2, 0);

/// Names of the bundle errors of ONF's EXT-230.
fn onf_name(exp_type: u16) -> Option<&'static str> {
    const NAMES: [&str; 16] = [
        "OFPBFC_UNKNOWN",
        "OFPBFC_EPERM",
        "OFPBFC_BAD_ID",
        "OFPBFC_BUNDLE_EXIST",
        "OFPBFC_BUNDLE_CLOSED",
        "OFPBFC_OUT_OF_BUNDLES",
        "OFPBFC_BAD_TYPE",
        "OFPBFC_BAD_FLAGS",
        "OFPBFC_MSG_BAD_LEN",
        "OFPBFC_MSG_BAD_XID",
        "OFPBFC_MSG_UNSUP",
        "OFPBFC_MSG_CONFLICT",
        "OFPBFC_MSG_TOO_MANY",
        "OFPBFC_MSG_FAILED",
        "OFPBFC_TIMEOUT",
        "OFPBFC_BUNDLE_IN_PROGRESS",
    ];
    exp_type.checked_sub(2300).and_then(|index| NAMES.get(usize::from(index)).copied())
}

fn pick<'a, T>(version: Version, v10: &'a T, v13: &'a T) -> &'a T {
    match version {
        Version::V1_0 => v10,
        Version::V1_3 => v13,
    }
}
