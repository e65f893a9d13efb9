"""What each mode of the comparison sets up, and how its pool is changed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Callable, Mapping

from bench_net import CLIENT
from compare_names import OFSHIM_MODES
from compare_scene import BACKENDS, POOL, SERVICES, SPARE, Scene
from demo_net import VIP

Action = Callable[[Scene], None]


def nothing(_scene: Scene) -> None:
    """No step of this kind."""


def no_revival(_scene: Scene, _role: str) -> None:
    """It is found by itself."""


@dataclass(frozen=True)
class Mode:
    """A way to balance."""

    name: str
    label: str
    control: Action
    """Adds the controller, before the network is built."""
    prepare: Action
    """Makes the pool answer to the VIP, when the network runs."""
    grow: Action = nothing
    """Takes the spare backend into the pool."""
    shrink: Action = nothing
    """Takes it out again: no new connections, it serves those it has."""
    revive: Callable[[Scene, str], None] = no_revival
    """What a backend does when it is back from the dead."""
    openflow: str = "1.3"
    dead_limit_s: float = 30.0
    """How long to wait until a dead backend gets no new connection."""
    without: Mapping[str, str] = field(default_factory=dict)
    """Figures that it cannot have, with the reason."""


ALL_BACKENDS = (*POOL, SPARE)
NO_CONTROLLER = "no controller"
NO_BALANCER = "no process of its own balances"
NO_UDP = "balances TCP only"
NO_CONTROLLER_FIGURES = {
    "packet_ins": NO_CONTROLLER,
    "cpu_controller": NO_CONTROLLER,
    "memory_controller": NO_CONTROLLER,
}
NO_BALANCER_FIGURES = {
    "cpu_balancer": NO_BALANCER,
    "memory_balancer": NO_BALANCER,
    "memory_kernel": NO_BALANCER,
}
STEERING_PRIORITY = 65000
CHURN_FIGURES = ("churn_flows", "broken_before", "broken_scale_out", "broken_scale_in")


def pool_arguments() -> tuple[str, ...]:
    """``--ip`` and ``--servers``, as POX takes them."""
    servers = ",".join(BACKENDS[role] for role in ALL_BACKENDS)
    return (f"--ip={VIP}", f"--servers={servers}")


# No balancer, and the switch alone


def forward_plainly(scene: Scene) -> None:
    """The switch forwards by learned MACs."""
    scene.network.set_flows([])


def use_static_entries(scene: Scene) -> None:
    """The switch balances by entries that never change by themselves."""
    scene.network.set_flows(scene.network.nat_entries(POOL, SERVICES))
    scene.network.know_vip(True)


def static_entries_for(*roles: str) -> Action:
    """Other entries: the ports of clients are dealt out anew."""
    return lambda scene: scene.network.replace_flows(scene.network.nat_entries(roles, SERVICES))


# A pool that is given once, of which those who answer count


def keep_spare_silent(scene: Scene) -> None:
    """The spare backend is known, and answers no ARP yet."""
    scene.silence(SPARE, True)


def let_spare_answer(scene: Scene) -> None:
    """Whoever answers ARP is in the pool."""
    scene.silence(SPARE, False)


def share_address(scene: Scene) -> None:
    """The hosts of the pool have the VIP as an address of theirs."""
    for role in POOL:
        give_address(scene, role)


def give_address(scene: Scene, role: str) -> None:
    """A host gets the shared address, and says so."""
    device = scene.network.interface(role).name
    scene.network.run(role, ["ip", "address", "add", f"{VIP}/8", "dev", device])
    say_shared_address(scene, role)


def say_shared_address(scene: Scene, role: str) -> None:
    """A host asks for the client from the shared address: nobody asks for it."""
    client = scene.network.node(CLIENT).IP()
    scene.network.try_run(role, ["ping", "-c", "1", "-W", "1", "-I", VIP, client])


# The controller balances


def openflow_control(name: str) -> Action:
    """ofshim balances, by the file that ``lb`` would take."""

    def control(scene: Scene) -> None:
        config = scene.write_config("", "nat", ALL_BACKENDS)
        scene.control_by_ofshim(*OFSHIM_MODES[name], "--config", str(config))

    return control


def openflow_mode(name: str, label: str) -> Mode:
    """A mode of ``--lb openflow``."""
    return Mode(
        name,
        label,
        control=openflow_control(name),
        prepare=keep_spare_silent,
        grow=let_spare_answer,
        shrink=keep_spare_silent,
        without=NO_BALANCER_FIGURES,
    )


def nox_mode(name: str, label: str, dead_limit_s: float) -> Mode:
    """A form of NOX's balancer: hosts that share the VIP's address."""
    no_way_out = "nobody can be taken out: a host leaves when it falls silent for long"
    return Mode(
        name,
        label,
        control=lambda scene: scene.control_by_ofshim(*OFSHIM_MODES[name]),
        prepare=share_address,
        grow=lambda scene: give_address(scene, SPARE),
        revive=say_shared_address,
        openflow="1.0",
        dead_limit_s=dead_limit_s,
        without={"udp": NO_UDP, "broken_scale_in": no_way_out, **NO_BALANCER_FIGURES},
    )


# XDP


def route_by_macs(scene: Scene) -> None:
    """ofshim forwards by entries that match MACs: none for each connection."""
    scene.control_by_ofshim("--match", "macs")


def learn_macs(scene: Scene) -> None:
    """The same from a learning switch, which leads no answers back by itself."""
    scene.control_by_ofshim("--forwarding", "learning")


def lead_answers_back(scene: Scene) -> None:
    """The backends' answers go to the balancer by entries that do not change."""
    for entry in scene.network.steering_entries(SERVICES, STEERING_PRIORITY):
        scene.network.add_flow(entry)


def xdp_mode(
    name: str, label: str, placement: str, mode: str, control: Action, also: Action = nothing
) -> Mode:
    """``lb`` balances, ofshim forwards all else."""

    def prepare(scene: Scene) -> None:
        scene.balance(placement, mode)
        also(scene)

    return Mode(
        name,
        label,
        control=control,
        prepare=prepare,
        grow=lambda scene: scene.reload(placement, mode, ALL_BACKENDS),
        shrink=lambda scene: scene.reload(placement, mode, POOL),
    )


def pox_mode(name: str, label: str, control: Action) -> Mode:
    """POX's balancer, or what stands for it."""
    return Mode(
        name,
        label,
        control=control,
        prepare=keep_spare_silent,
        grow=let_spare_answer,
        shrink=keep_spare_silent,
        openflow="1.0",
        without={"udp": NO_UDP, **NO_BALANCER_FIGURES},
    )


NO_POOL = {metric: "no balancer, so no pool" for metric in ("dead_backend", *CHURN_FIGURES)}

ALL = (
    Mode(
        "direct",
        "direct, no balancer",
        control=nothing,
        prepare=forward_plainly,
        without={**NO_CONTROLLER_FIGURES, **NO_BALANCER_FIGURES, **NO_POOL},
    ),
    Mode(
        "ovs-nat",
        "static entries of the switch",
        control=nothing,
        prepare=use_static_entries,
        grow=static_entries_for(*ALL_BACKENDS),
        shrink=static_entries_for(*POOL),
        without={
            "dead_backend": "nobody looks whether a backend is alive",
            **NO_CONTROLLER_FIGURES,
            **NO_BALANCER_FIGURES,
        },
    ),
    pox_mode(
        "pox",
        "ofshim --lb pox",
        lambda scene: scene.control_by_ofshim(*OFSHIM_MODES["pox"], *pool_arguments()),
    ),
    nox_mode("nox-packets", "ofshim --lb nox-packets", dead_limit_s=10.0),
    # It forgets whoever was silent for 90 s.
    nox_mode("nox", "ofshim --lb nox", dead_limit_s=120.0),
    openflow_mode("reactive", "ofshim, reactive entries"),
    openflow_mode("group", "ofshim, select group"),
    openflow_mode("learn", "ofshim, learn action"),
    xdp_mode("inline", "XDP inline, nat", "inline", "nat", route_by_macs),
    xdp_mode(
        "onearm-nat", "XDP one-armed, nat", "onearm", "nat", learn_macs, lead_answers_back
    ),
    xdp_mode("onearm-dsr", "XDP one-armed, dsr", "onearm", "dsr", route_by_macs),
    pox_mode(
        "pox-original",
        "POX itself",
        lambda scene: scene.control_by_pox("misc.ip_loadbalancer", *pool_arguments()),
    ),
)
"""The modes in the order of ``compare_names.MODES``."""

BY_NAME = {mode.name: mode for mode in ALL}
