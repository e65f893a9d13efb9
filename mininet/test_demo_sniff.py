"""The counting filter, on frames written by hand."""

import unittest

from demo_sniff import REWRITTEN, VIP, VIP_ARP, Watch, classify

WATCH = Watch.of(
    vips=("10.0.1.1", "10.0.1.2"),
    backends=("10.0.0.1", "10.0.0.2"),
    services=(("tcp", 80), ("udp", 9999)),
)

MACS = "020000000101 000000000003"
CLIENT, BACKEND, VIP_ADDRESS = "0a000003", "0a000001", "0a000101"
PORT_40000, PORT_80, PORT_81, PORT_9999 = "9c40", "0050", "0051", "270f"
TCP, UDP, ICMP = "06", "11", "01"


def ipv4(
    source: str, target: str, protocol: str, rest: str, options: str = "", fragment: str = "0000"
) -> str:
    """An IPv4 header and what follows, as hex; the length is not looked at."""
    words = 5 + len(options) // 8
    fixed = f"4{words:x} 00 0028 0001 {fragment} 40 {protocol} 0000"
    return f"{fixed} {source} {target} {options} {rest}"


def frame(ethertype: str, payload: str, tags: str = "") -> bytes:
    """An Ethernet frame from hex."""
    return bytes.fromhex(MACS + tags + ethertype + payload)


def arp(sender: str, target: str) -> bytes:
    """An ARP request from hex addresses."""
    return frame("0806", f"0001080006040001 000000000003 {sender} 000000000000 {target}")


class ClassifyTest(unittest.TestCase):
    """What counts as the balancer's, and what does not."""

    def expect(self, wanted: object, data: bytes) -> None:
        """``classify`` says ``wanted``."""
        self.assertEqual(wanted, classify(data, WATCH), data.hex(" "))

    def test_the_vip_counts_in_both_directions_whatever_the_protocol(self) -> None:
        for protocol in (TCP, UDP, ICMP):
            there = ipv4(CLIENT, VIP_ADDRESS, protocol, PORT_40000 + PORT_81)
            back = ipv4(VIP_ADDRESS, CLIENT, protocol, PORT_81 + PORT_40000)
            self.expect(VIP, frame("0800", there))
            self.expect(VIP, frame("0800", back))

    def test_rewritten_packets_count_in_both_directions(self) -> None:
        for protocol, port in ((TCP, PORT_80), (UDP, PORT_9999)):
            there = ipv4(CLIENT, BACKEND, protocol, PORT_40000 + port)
            back = ipv4(BACKEND, CLIENT, protocol, port + PORT_40000)
            self.expect(REWRITTEN, frame("0800", there))
            self.expect(REWRITTEN, frame("0800", back))

    def test_other_traffic_of_a_backend_does_not_count(self) -> None:
        for protocol, source_port, target_port in (
            (TCP, PORT_40000, PORT_81),
            (UDP, PORT_40000, PORT_80),
            (TCP, PORT_40000, PORT_9999),
            (ICMP, PORT_80, PORT_80),
            (TCP, PORT_80, PORT_40000),
        ):
            rest = source_port + target_port
            self.expect(None, frame("0800", ipv4(CLIENT, BACKEND, protocol, rest)))

    def test_a_service_port_between_others_does_not_count(self) -> None:
        self.expect(None, frame("0800", ipv4(CLIENT, "0a000004", TCP, PORT_40000 + PORT_80)))

    def test_ports_are_found_behind_ip_options(self) -> None:
        options = "0101010101010101"
        rest = PORT_40000 + PORT_80
        self.expect(REWRITTEN, frame("0800", ipv4(CLIENT, BACKEND, TCP, rest, options)))
        hidden = "01010101" + PORT_40000 + PORT_80
        self.expect(None, frame("0800", ipv4(CLIENT, BACKEND, TCP, PORT_80 + PORT_81, hidden)))

    def test_a_later_fragment_has_no_ports(self) -> None:
        rest = PORT_40000 + PORT_80
        self.expect(None, frame("0800", ipv4(CLIENT, BACKEND, TCP, rest, fragment="2001")))
        self.expect(VIP, frame("0800", ipv4(CLIENT, VIP_ADDRESS, TCP, rest, fragment="2001")))
        self.expect(REWRITTEN, frame("0800", ipv4(CLIENT, BACKEND, TCP, rest, fragment="2000")))

    def test_tags_are_skipped(self) -> None:
        payload = ipv4(CLIENT, VIP_ADDRESS, TCP, PORT_40000 + PORT_80)
        for tags in ("8100000a", "88a80064 8100000a"):
            self.expect(VIP, frame("0800", payload, tags))

    def test_arp_that_names_a_vip_is_kept_apart(self) -> None:
        self.expect(VIP_ARP, arp(CLIENT, VIP_ADDRESS))
        self.expect(VIP_ARP, arp(VIP_ADDRESS, CLIENT))
        self.expect(None, arp(CLIENT, BACKEND))

    def test_what_is_cut_short_or_foreign_does_not_count(self) -> None:
        whole = frame("0800", ipv4(CLIENT, BACKEND, TCP, PORT_40000 + PORT_80))
        for length in range(len(whole)):
            self.expect(None, whole[:length])
        self.expect(None, frame("86dd", "60" + "00" * 39))
        self.expect(None, frame("8100", "000a"))
        self.expect(None, arp(CLIENT, VIP_ADDRESS)[:41])


if __name__ == "__main__":
    unittest.main()
