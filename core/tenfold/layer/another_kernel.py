"""Give a layer another kernel, and the plan for it, in its place."""

from __future__ import annotations

from ..network import KernelSum
from ..run import make_plan
from .config import ConvConfig
from .forward import Forward
from .joint import JointConv
from .kernel import FactorizedKernel


def rekernel(
    layer: Forward | JointConv, kernel: FactorizedKernel, config: ConvConfig | None = None
) -> None:
    """Let `layer` run the kernel `kernel`, with the arguments `config` where they change.

    Raises `ValueError`, before the layer is changed, where its implementation cannot run it.
    """
    if isinstance(layer, JointConv):
        return layer._rebuild(kernel, [member.config for member in layer])
    config = config or layer.config
    network = kernel.network
    plan = make_plan(kernel.choice, network, layer.runner, config.geometry)
    several = isinstance(network, KernelSum)
    ways = () if several else layer.runner.plugin.candidates(network, config.geometry)
    layer.config, layer.weight, layer.plan, layer.way = config, kernel, plan, layer.runner
    layer.sides, layer.candidates, layer.measures = config.sides, tuple(ways), bool(ways)
    layer.decision = layer.settled = None
    layer.eval_cache.clear()
