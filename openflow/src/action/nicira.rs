//! Nicira's actions, which Open vSwitch has in every version (ovs-actions(7)).
//!
//! ```text
//!  type = 0xffff (16) | len (16) | vendor = 0x2320 (32) | subtype (16) | as the subtype says | zeros to 8 bytes
//! ```

use super::conntrack::{ConnTrack, Nat};
use super::learn::{Learn, Learn2};
use super::property::{Controller2, Encap};
use super::sample::Sample4;
use super::select::{Bundle, BundleLoad};
use super::{Action, MoveBits};
use crate::fields::oxm;
use crate::wire::{Put, Reader, Wire, pad8, port16};
use crate::{
    DecodeError, EncodeError, ErrorKind, FieldId, GroupId, MatchField, NICIRA, PortNo, Problem, Subfield,
    TableId, Version, action,
};

/// Builds [`NxAction`], its reader and its writer from one list: subtype, variant, fields in the order of the wire,
/// name of ovs-actions(7). `lead` bytes of padding come first; `as` names a module with `read` and `put`.
macro_rules! nx_actions {
    (
        fixed { $(
            $(#[$doc:meta])* $code:literal = $variant:ident $(lead $lead:literal)? {
                $($(#[$fdoc:meta])* $field:ident: $type:ty $(as $how:ident)? $(=> $pad:literal)?),* $(,)?
            } $name:literal;
        )* }
        bare { $($(#[$bdoc:meta])* $bcode:literal = $bare:ident $bname:literal;)* }
        own { $($(#[$odoc:meta])* $ocode:literal = $own:ident($otype:ty) $oname:literal;)* }
    ) => {
        /// An action of Nicira's.
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
        pub enum NxAction {
            $($(#[$doc])* $variant { $($(#[$fdoc])* $field: $type),* },)*
            $($(#[$bdoc])* $bare,)*
            $($(#[$odoc])* $own($otype),)*
        }

        impl NxAction {
            /// Name of the action, as in ovs-actions(7).
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$variant { .. } => $name,)*
                    $(Self::$bare => $bname,)*
                    $(Self::$own(_) => $oname,)*
                }
            }

            /// Number of the action among Nicira's.
            pub fn subtype(&self) -> u16 {
                match self {
                    $(Self::$variant { .. } => $code,)*
                    $(Self::$bare => $bcode,)*
                    $(Self::$own(_) => $ocode,)*
                }
            }

            /// Reads what follows the subtype; `None` when there is no such subtype.
            fn read(subtype: u16, body: &mut Reader<'_>) -> Result<Option<Self>, DecodeError> {
                Ok(Some(match subtype {
                    $($code => {
                        $(body.pad($lead)?;)?
                        $(
                            let $field = nx_actions!(@read body $field $($how)?);
                            $(body.pad($pad)?;)?
                        )*
                        Self::$variant { $($field),* }
                    })*
                    $($bcode => Self::$bare,)*
                    $($ocode => Self::$own(<$otype as Wire>::read(body, $oname)?),)*
                    _ => return Ok(None),
                }))
            }

            /// Writes what follows the subtype.
            fn put(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
                match self {
                    $(Self::$variant { $($field),* } => {
                        $(out.zeros($lead);)?
                        $(
                            nx_actions!(@put $field version out $($how)?);
                            $(out.zeros($pad);)?
                        )*
                    })*
                    $(Self::$bare => {})*
                    $(Self::$own(value) => value.put(version, out)?,)*
                }
                Ok(())
            }
        }
    };
    (@read $body:ident $field:ident) => { Wire::read($body, stringify!($field))? };
    (@read $body:ident $field:ident $how:ident) => { $how::read($body, stringify!($field))? };
    (@put $field:ident $version:ident $out:ident) => { Wire::put($field, $version, $out)? };
    (@put $field:ident $version:ident $out:ident $how:ident) => { $how::put($field, $version, $out)? };
}

nx_actions! {
    fixed {
        /// Look the packet up again, as if it came from another port.
        1 = Resubmit {
            /// That port; [`PortNo::IN_PORT`] for no other.
            in_port: PortNo as port16,
        } "resubmit";
        /// Set the tunnel id, 32 bits.
        2 = SetTunnel lead 2 {
            /// The id.
            tun_id: u32,
        } "set_tunnel";
        /// Choose the queue for a later output, where the version has no action for it.
        4 = SetQueue lead 2 {
            /// The queue.
            queue_id: u32,
        } "set_queue";
        /// Write bits of a field.
        7 = RegLoad {
            /// Where to, 64 bits at most.
            dst: Subfield as packed,
            /// The bits, right-justified.
            value: u64,
        } "load";
        /// Do nothing: bytes for whoever reads the flow entry.
        8 = Note {
            /// The bytes; zeros fill them up to 6, 14, 22 ... on the wire.
            #[cfg_attr(feature = "serde", serde(serialize_with = "crate::shown::hex"))]
            note: Vec<u8> as rest,
        } "note";
        /// Set the tunnel id, 64 bits.
        9 = SetTunnel64 lead 6 {
            /// The id.
            tun_id: u64,
        } "set_tunnel64";
        /// Hash fields of the packet and write the number of the chosen link into a field.
        10 = Multipath {
            /// Which fields are hashed (`NX_HASH_FIELDS_*`): 0 Ethernet source, 1 symmetric layers 2 to 4, 2 symmetric
            /// layers 3 and 4, 3 those with UDP, 4 IP source, 5 IP destination, 6 symmetric layer 3.
            fields: u16,
            /// Base value of the hash.
            basis: u16 => 2,
            /// How a link is chosen (`NX_MP_ALG_*`): 0 modulo, 1 hash threshold, 2 highest random weight, 3 iterated.
            algorithm: u16,
            /// Number of links, minus 1.
            max_link: u16,
            /// Argument of the iterated algorithm.
            arg: u32 => 2,
            /// Where the number goes.
            dst: Subfield as packed,
        } "multipath";
        /// Look the packet up again in a table, as if it came from another port.
        14 = ResubmitTable {
            /// That port; [`PortNo::IN_PORT`] for no other.
            in_port: PortNo as port16,
            /// The table; [`TableId::ALL`] for the current one.
            table: TableId,
        } "resubmit";
        /// Send it out of the port that a field names.
        15 = OutputReg {
            /// The field.
            src: Subfield as packed,
            /// Bytes of the packet that the controller gets, when the port is the controller.
            max_len: u16,
        } "output";
        /// Change the entry's timeouts when a TCP packet with FIN or RST passes.
        19 = FinTimeout {
            /// New idle timeout in seconds; 0 leaves it.
            fin_idle_timeout: u16,
            /// New hard timeout in seconds; 0 leaves it.
            fin_hard_timeout: u16,
        } "fin_timeout";
        /// Send it to one of the controllers.
        20 = Controller {
            /// Bytes of the packet.
            max_len: u16,
            /// Which controller, as [`crate::NiciraMsg::SetControllerId`] named it.
            controller_id: u16,
            /// Reason of the packet-in.
            reason: u8,
        } "controller";
        /// Count the TTL down; tell these controllers when it runs out.
        21 = DecTtlCntIds {
            /// The controllers.
            controller_ids: Vec<u16> as counted_ids,
        } "dec_ttl";
        /// Write bits of the metadata, where the version has no instruction for it.
        22 = WriteMetadata lead 6 {
            /// The bits.
            metadata: u64,
            /// Which of them are written.
            mask: u64,
        } "write_metadata";
        /// Add an MPLS entry of this Ethernet type (1.0).
        23 = PushMpls {
            /// Its Ethernet type.
            ethertype: u16,
        } "push_mpls";
        /// Take the outermost MPLS entry off (1.0).
        24 = PopMpls {
            /// Ethernet type of what follows.
            ethertype: u16,
        } "pop_mpls";
        /// Write the MPLS TTL (1.0).
        25 = SetMplsTtl {
            /// The TTL.
            ttl: u8,
        } "set_mpls_ttl";
        /// Put bits of a field on the stack.
        27 = StackPush {
            /// The bits.
            src: Subfield as stack,
        } "push";
        /// Take bits of a field from the stack.
        28 = StackPop {
            /// The bits.
            dst: Subfield as stack,
        } "pop";
        /// Sample packets for IPFIX.
        29 = Sample {
            /// How many, of 65535.
            probability: u16,
            /// The set of collectors.
            collector_set_id: u32,
            /// Observation domain.
            obs_domain_id: u32,
            /// Observation point.
            obs_point_id: u32,
        } "sample";
        /// Write the MPLS label (1.0).
        30 = SetMplsLabel lead 2 {
            /// The label, 20 bits.
            label: u32,
        } "set_mpls_label";
        /// Write the MPLS traffic class (1.0).
        31 = SetMplsTc {
            /// The class, 3 bits.
            tc: u8,
        } "set_mpls_tc";
        /// Send it out of the port that a field names; the field may be an experimenter's.
        32 = OutputReg2 {
            /// The field.
            src: OutputField,
        } "output";
        /// Write a field, under a mask if it has one.
        33 = RegLoad2 {
            /// Field, value and mask.
            field: MatchField as oxm_field,
        } "set_field";
        /// Be one of the dimensions of a conjunctive match.
        34 = Conjunction {
            /// Which dimension, from 0 on.
            clause: u8,
            /// How many there are.
            n_clauses: u8,
            /// The conjunction.
            id: u32,
        } "conjunction";
        /// Sample packets for IPFIX, with the port they are counted for.
        38 = Sample2 {
            /// How many, of 65535.
            probability: u16,
            /// The set of collectors.
            collector_set_id: u32,
            /// Observation domain.
            obs_domain_id: u32,
            /// Observation point.
            obs_point_id: u32,
            /// The port.
            sampling_port: PortNo as port16,
        } "sample";
        /// Send its beginning out.
        39 = OutputTrunc {
            /// Where to.
            port: PortNo as port16,
            /// Bytes of the packet.
            max_len: u32,
        } "output";
        /// Go on with a group (1.0).
        40 = Group lead 2 {
            /// The group.
            group_id: GroupId,
        } "group";
        /// Sample packets for IPFIX, with port and direction.
        41 = Sample3 {
            /// How many, of 65535.
            probability: u16,
            /// The set of collectors.
            collector_set_id: u32,
            /// Observation domain.
            obs_domain_id: u32,
            /// Observation point.
            obs_point_id: u32,
            /// The port.
            sampling_port: PortNo as port16,
            /// 0 as the switch likes, 1 ingress, 2 egress.
            direction: u8,
        } "sample";
        /// Do this with a copy of the packet.
        42 = Clone lead 6 {
            /// What.
            actions: Vec<Action> as nested,
        } "clone";
        /// As [`NxAction::ResubmitTable`], with addresses and ports of the connection's original direction.
        44 = ResubmitTableCt {
            /// That port; [`PortNo::IN_PORT`] for no other.
            in_port: PortNo as port16,
            /// The table; [`TableId::ALL`] for the current one.
            table: TableId,
        } "resubmit";
        /// Take the outermost header off.
        47 = Decap lead 2 {
            /// Packet type of what follows; 0x0000fffe lets the switch find out.
            new_packet_type: u32,
        } "decap";
        /// Write into a bit of a field whether the packet is longer than this.
        49 = CheckPktLarger {
            /// Bytes.
            packet_bytes: u16,
            /// The bit.
            dst: Subfield as one_bit,
        } "check_pkt_larger";
        /// Delete a field, of the options of a tunnel.
        50 = DeleteField {
            /// The field.
            field: FieldId as long_24,
        } "delete_field";
    }
    bare {
        /// Undo [`NxAction::SetQueue`].
        5 = PopQueue "pop_queue";
        /// Do no more actions.
        17 = Exit "exit";
        /// Count the IP TTL down (1.0).
        18 = DecTtl "dec_ttl";
        /// Count the MPLS TTL down (1.0).
        26 = DecMplsTtl "dec_mpls_ttl";
        /// Forget what the connection tracker said of the packet.
        43 = CtClear "ct_clear";
        /// Count the TTL of a network service header down.
        48 = DecNshTtl "dec_nsh_ttl";
    }
    own {
        /// Copy bits from field to field.
        6 = RegMove(MoveBits) "move";
        /// Send it out of one of several ports, chosen by a hash.
        12 = Bundle(Box<Bundle>) "bundle";
        /// Write one of several ports, chosen by a hash, into a field.
        13 = BundleLoad(Box<BundleLoad>) "bundle_load";
        /// Add a flow entry made from this packet.
        16 = Learn(Box<Learn>) "learn";
        /// Pass through the connection tracker.
        35 = Ct(Box<ConnTrack>) "ct";
        /// Translate addresses and ports: only among the actions of [`NxAction::Ct`].
        36 = Nat(Box<Nat>) "nat";
        /// Send it to a controller, with more to say than [`NxAction::Controller`] has room for.
        37 = Controller2(Controller2) "controller";
        /// As [`NxAction::Learn`], with a limit.
        45 = Learn2(Box<Learn2>) "learn";
        /// Put a header around the packet.
        46 = Encap(Encap) "encap";
        /// Sample packets for IPFIX, with domain and point from fields.
        51 = Sample4(Box<Sample4>) "sample";
    }
}

/// Where [`NxAction::OutputReg2`] finds the port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct OutputField {
    /// The bits that hold the port number.
    pub src: Subfield,
    /// Bytes of the packet that the controller gets, when the port is the controller.
    pub max_len: u16,
}

/// Type, length, vendor and subtype.
const HEADER_BYTES: usize = 10;

/// Reads what follows the vendor of an action of Nicira's; an unknown subtype is kept as it came.
pub(super) fn decode(body: &mut Reader<'_>) -> Result<Action, DecodeError> {
    let whole = body.clone();
    let subtype = body.u16("nx_action.subtype")?;
    let available = body.remaining();
    let Some(action) = NxAction::read(subtype, body)? else {
        *body = whole;
        return Ok(Action::Experimenter { experimenter: NICIRA, body: body.rest().to_vec() });
    };
    let used = available - body.remaining();
    body.pad(pad8(HEADER_BYTES + used))?;
    Ok(Action::Nicira(action))
}

/// Writes what follows type and length of an action of Nicira's.
pub(super) fn encode(action: &NxAction, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let start = out.len() - action::HEADER_BYTES;
    out.put_u32(NICIRA);
    out.put_u16(action.subtype());
    action.put(version, out)?;
    out.zeros(pad8(out.len() - start));
    Ok(())
}

/// An error about an argument of an action.
pub(super) fn bad_argument(body: &Reader<'_>, field: &'static str, size: usize, value: u64) -> DecodeError {
    let at = body.offset().saturating_sub(size);
    body.error(field, at, Problem::BadValue(value), ErrorKind::BadActionBadArgument)
}

/// Bits of a field: offset and size in 16 bits, then 4 bytes of field.
pub(super) mod packed {
    use super::{DecodeError, EncodeError, Reader, Subfield, Version};

    pub(crate) fn read(body: &mut Reader<'_>, field: &'static str) -> Result<Subfield, DecodeError> {
        Subfield::read_packed(body, field)
    }

    pub(crate) fn put(bits: &Subfield, _: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        bits.put_packed(out)
    }
}

/// Bits of a field: offset, then field, then size.
mod stack {
    use super::{DecodeError, EncodeError, FieldId, Put, Reader, Subfield, Version};

    pub(crate) fn read(body: &mut Reader<'_>, name: &'static str) -> Result<Subfield, DecodeError> {
        let offset_bits = body.u16(name)?;
        let field = FieldId::read_long(body, name)?;
        Ok(Subfield { field, offset_bits, n_bits: body.u16(name)? })
    }

    pub(crate) fn put(bits: &Subfield, _: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.put_u16(bits.offset_bits);
        bits.field.put_long(out)?;
        out.put_u16(bits.n_bits);
        Ok(())
    }
}

/// One bit of a field: offset, then field.
mod one_bit {
    use super::{DecodeError, EncodeError, FieldId, Put, Reader, Subfield, Version};

    pub(crate) fn read(body: &mut Reader<'_>, name: &'static str) -> Result<Subfield, DecodeError> {
        let offset_bits = body.u16(name)?;
        Ok(FieldId::read_long(body, name)?.bits(offset_bits, 1))
    }

    pub(crate) fn put(bits: &Subfield, _: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        if bits.n_bits != 1 {
            return Err(EncodeError::invalid("action check_pkt_larger", "its result is one bit"));
        }
        out.put_u16(bits.offset_bits);
        bits.field.put_long(out)
    }
}

/// A field in an action of always 24 bytes.
mod long_24 {
    use super::{DecodeError, EncodeError, FieldId, HEADER_BYTES, Put, Reader, Version};

    pub(crate) fn read(body: &mut Reader<'_>, name: &'static str) -> Result<FieldId, DecodeError> {
        let field = FieldId::read_long(body, name)?;
        body.pad(24 - HEADER_BYTES - field.long_bytes())?;
        Ok(field)
    }

    pub(crate) fn put(field: &FieldId, _: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        field.put_long(out)?;
        out.zeros(24 - HEADER_BYTES - field.long_bytes());
        Ok(())
    }
}

/// A field with its value.
mod oxm_field {
    use super::{DecodeError, EncodeError, MatchField, Reader, Version, oxm};

    pub(crate) fn read(body: &mut Reader<'_>, _: &'static str) -> Result<MatchField, DecodeError> {
        oxm::decode_field(body)
    }

    pub(crate) fn put(field: &MatchField, _: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        oxm::encode_field(field, out)
    }
}

/// All bytes that are left.
mod rest {
    use super::{DecodeError, EncodeError, Reader, Version};

    pub(crate) fn read(body: &mut Reader<'_>, _: &'static str) -> Result<Vec<u8>, DecodeError> {
        Ok(body.rest().to_vec())
    }

    pub(crate) fn put(bytes: &[u8], _: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.extend_from_slice(bytes);
        Ok(())
    }
}

/// A count, four bytes of padding, and as many controllers.
mod counted_ids {
    use super::{DecodeError, EncodeError, Put, Reader, Version};

    pub(crate) fn read(body: &mut Reader<'_>, name: &'static str) -> Result<Vec<u16>, DecodeError> {
        let count = usize::from(body.u16(name)?);
        body.pad(4)?;
        let mut ids = body.sub(count * 2, name)?;
        crate::wire::read_all(&mut ids, |ids| ids.u16(name))
    }

    pub(crate) fn put(ids: &[u16], _: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let too_many = |_| EncodeError::invalid("action dec_ttl", "65535 controllers are the most");
        out.put_u16(u16::try_from(ids.len()).map_err(too_many)?);
        out.zeros(4);
        ids.iter().for_each(|id| out.put_u16(*id));
        Ok(())
    }
}

/// Actions up to the end, one level deeper.
mod nested {
    use super::{Action, DecodeError, EncodeError, Reader, Version, action};

    pub(crate) fn read(body: &mut Reader<'_>, name: &'static str) -> Result<Vec<Action>, DecodeError> {
        action::decode_list(body.sub(body.remaining(), name)?.nested(name)?)
    }

    pub(crate) fn put(actions: &[Action], version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        action::encode_list(actions, version, out)
    }
}

impl Wire for OutputField {
    fn read(body: &mut Reader<'_>, name: &'static str) -> Result<Self, DecodeError> {
        let (packed, max_len) = (body.u16(name)?, body.u16("max_len")?);
        Ok(Self { src: Subfield::unpacked(FieldId::read_long(body, name)?, packed), max_len })
    }

    fn put(&self, _: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.put_u16(self.src.packed()?);
        out.put_u16(self.max_len);
        self.src.field.put_long(out)
    }
}

impl<T: Wire> Wire for Box<T> {
    fn read(reader: &mut Reader<'_>, field: &'static str) -> Result<Self, DecodeError> {
        T::read(reader, field).map(Self::new)
    }

    fn put(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        T::put(self, version, out)
    }
}
