//! What an entry of a connection writes: the difference of what is matched and what is to leave.

use openflow::{Action, MatchField, NxAction, PortNo};

use crate::core::net::FlowKey;

/// Seconds that an entry lives on after a FIN or RST, where the switch looks at them.
pub const FIN_IDLE_S: u16 = 1;
/// IP protocol numbers.
const TCP: u8 = 6;
const UDP: u8 = 17;

/// The fields that make `left` of `came`.
#[must_use]
pub fn fields(came: &FlowKey, left: &FlowKey) -> Vec<MatchField> {
    let mut fields = Vec::new();
    if let (Some(src), true) = (left.src, left.src != came.src) {
        fields.push(MatchField::EthSrc { value: src, mask: None });
    }
    if left.dst != came.dst {
        fields.push(MatchField::EthDst { value: left.dst, mask: None });
    }
    let (Some(old), Some(new)) = (came.ip, left.ip) else { return fields };
    if old.src != new.src {
        fields.push(match new.src {
            std::net::IpAddr::V4(value) => MatchField::Ipv4Src { value, mask: None },
            std::net::IpAddr::V6(value) => MatchField::Ipv6Src { value, mask: None },
        });
    }
    if old.dst != new.dst {
        fields.push(match new.dst {
            std::net::IpAddr::V4(value) => MatchField::Ipv4Dst { value, mask: None },
            std::net::IpAddr::V6(value) => MatchField::Ipv6Dst { value, mask: None },
        });
    }
    let (Some((old_src, old_dst)), Some((src, dst))) = (old.ports, new.ports) else { return fields };
    if old_src != src {
        fields.push(if new.protocol == Some(UDP) {
            MatchField::UdpSrc(src)
        } else {
            MatchField::TcpSrc(src)
        });
    }
    if old_dst != dst {
        fields.push(if new.protocol == Some(UDP) {
            MatchField::UdpDst(dst)
        } else {
            MatchField::TcpDst(dst)
        });
    }
    fields
}

/// What an entry does: it writes, lets a FIN or RST shorten its life where `watches`, and sends out of a port.
#[must_use]
pub fn actions(came: &FlowKey, left: &FlowKey, out: PortNo, watches: bool) -> Vec<Action> {
    let mut actions: Vec<Action> = fields(came, left).into_iter().map(Action::SetField).collect();
    if watches && came.ip.and_then(|ip| ip.protocol) == Some(TCP) {
        let fin = NxAction::FinTimeout { fin_idle_timeout: FIN_IDLE_S, fin_hard_timeout: 0 };
        actions.push(Action::Nicira(fin));
    }
    actions.push(Action::output(out));
    actions
}

/// Reads back what an entry of ours makes of what it matches, the port, and whether it looks at FIN and RST. `None` for
/// actions of another form.
#[must_use]
pub fn read(came: &FlowKey, actions: &[Action]) -> Option<(FlowKey, PortNo, bool)> {
    let (mut left, mut out, mut watches) = (*came, None, false);
    for action in actions {
        match action {
            Action::SetField(field) => write(&mut left, field)?,
            Action::Nicira(NxAction::FinTimeout { .. }) => watches = true,
            Action::Output { port, .. } if out.is_none() => out = Some(*port),
            _ => return None,
        }
    }
    (left != *came).then_some((left, out?, watches))
}

fn write(key: &mut FlowKey, field: &MatchField) -> Option<()> {
    let ip = key.ip.as_mut();
    match *field {
        MatchField::EthSrc { value, mask: None } => key.src = Some(value),
        MatchField::EthDst { value, mask: None } => key.dst = value,
        MatchField::Ipv4Src { value, mask: None } => ip?.src = value.into(),
        MatchField::Ipv4Dst { value, mask: None } => ip?.dst = value.into(),
        MatchField::Ipv6Src { value, mask: None } => ip?.src = value.into(),
        MatchField::Ipv6Dst { value, mask: None } => ip?.dst = value.into(),
        MatchField::TcpSrc(port) | MatchField::UdpSrc(port) | MatchField::TpSrc(port) => {
            ip?.ports.as_mut()?.0 = port;
        }
        MatchField::TcpDst(port) | MatchField::UdpDst(port) | MatchField::TpDst(port) => {
            ip?.ports.as_mut()?.1 = port;
        }
        _ => return None,
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use openflow::MacAddr;

    use super::*;
    use crate::core::net::key::IpKey;

    fn key(protocol: u8, dst: u8, address: &str, port: u16) -> FlowKey {
        let client = if address.contains(':') { "2001:db8::9" } else { "10.0.0.9" };
        let ip = IpKey {
            src: client.parse().unwrap(),
            dst: address.parse().unwrap(),
            protocol: Some(protocol),
            ports: Some((40_000, port)),
        };
        let ethertype = Some(if address.contains(':') { 0x86dd } else { 0x0800 });
        let src = Some(MacAddr([2, 0, 0, 0, 0, 9]));
        FlowKey {
            src,
            dst: MacAddr([2, 0, 0, 0, 0, dst]),
            vlan: None,
            ethertype,
            ip: Some(ip),
            by_port: true,
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        for (vip, backend) in [("10.0.1.1", "10.0.0.1"), ("2001:db8::1", "2001:db8::2")] {
            for protocol in [TCP, UDP] {
                let (came, left) = (key(protocol, 1, vip, 80), key(protocol, 2, backend, 8080));
                for (came, left) in [(came, left), (left.reversed().unwrap(), came.reversed().unwrap())] {
                    let actions = actions(&came, &left, PortNo(3), true);
                    assert_eq!(read(&came, &actions), Some((left, PortNo(3), protocol == TCP)));
                    assert_eq!(fields(&came, &left).len(), 3, "MAC, address, port");
                }
            }
        }
    }

    #[test]
    fn only_what_differs_is_written() {
        let (came, left) = (key(TCP, 1, "10.0.1.1", 80), key(TCP, 2, "10.0.1.1", 80));
        assert_eq!(fields(&came, &left), [MatchField::EthDst { value: left.dst, mask: None }]);
        assert_eq!(read(&came, &[Action::output(PortNo(1))]), None, "nothing written: not ours");
        assert_eq!(read(&came, &[Action::SetVlanVid(1), Action::output(PortNo(1))]), None);
    }
}
