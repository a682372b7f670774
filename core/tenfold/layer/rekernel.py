"""Give a layer another kernel, and the plan for it, in its place."""

from __future__ import annotations

from ..run import make_plan, ways
from .config import ConvConfig
from .forward import Forward
from .kernel import FactorizedKernel


def rekernel(layer: Forward, kernel: FactorizedKernel, config: ConvConfig | None = None) -> None:
    """Let `layer` run the kernel `kernel`, with the arguments `config` where they change.

    Raises `ValueError`, before the layer is changed, where its implementation cannot run it.
    """
    config = config or layer.config
    network = kernel.network
    plan = make_plan(kernel.choice, network, layer.runner, config.geometry)
    found = ways(network, layer.runner.plugin, config.geometry)
    layer.config, layer.weight, layer.plan, layer.way = config, kernel, plan, layer.runner
    layer.sides, layer.candidates, layer.measures = config.sides, found, bool(found)
    layer.decision = layer.settled = None
    layer.eval_cache.clear()
