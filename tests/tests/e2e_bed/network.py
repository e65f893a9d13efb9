"""A Mininet with the project's classes, until standard input ends.

Arguments: inline or onearm, a tag for all names, the balancer's socket, a
folder. Prints one line of JSON when it stands: the switch's name, and the
process id of each host's shell.
"""

import json
import pathlib
import sys
from functools import partial

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3] / "mininet"))

from lb_mininet import LbSwitch, OfshimController, OneArmTopo, SeedTopo, own_vip  # noqa: E402
from mininet.net import Mininet  # noqa: E402


def main() -> None:
    """Build, tell, wait, tear down."""
    placement, tag, lb_socket, folder, port = sys.argv[1:]
    onearm = placement == "onearm"
    controller = partial(
        OfshimController,
        port=int(port),
        lb_socket=lb_socket,
        run_dir=f"{folder}/ofshim",
        log_file=f"{folder}/ofshim.log",
    )
    net = Mininet(
        topo=(OneArmTopo if onearm else SeedTopo)(k=3, tag=tag),
        switch=partial(LbSwitch, fix_offloads=onearm),
        controller=None,
        waitConnected=True,
    )
    net.addController(f"c{tag}", controller)
    try:
        net.start()
        if onearm:
            for number in (1, 2):
                own_vip(net[f"h{number}{tag}"], "10.0.1.1")
        pids = {host.name: host.pid for host in net.hosts}
        print(json.dumps({"switch": net.switches[0].name, "hosts": pids}), flush=True)
        sys.stdin.read()
    finally:
        net.stop()


main()
