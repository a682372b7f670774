"""The kernel that a layer holds, and the plan that follows from it."""

from __future__ import annotations

from ..plugin import Convolution
from ..run import EvalCache, make_plan, ways
from .config import ConvConfig
from .forward import Forward
from .joint import JointConv
from .kernel import FactorizedKernel


def hold(layer: Forward, kernel: FactorizedKernel, plan: Convolution) -> None:
    """Give a layer its kernel and plan, with nothing decided and nothing kept yet."""
    layer.weight = kernel
    layer.way = layer.runner
    layer.plan = plan
    layer.candidates = ways(kernel.network, layer.runner.plugin, layer.config.geometry)
    layer.measures = bool(layer.candidates)
    layer.decision = None
    layer.settled = None
    layer.eval_cache = EvalCache()


def exchange(
    layer: Forward | JointConv, kernel: FactorizedKernel, config: ConvConfig | None = None
) -> None:
    """Put another kernel into a layer, with the arguments `config` where they change; a plan that
    was fixed is forgotten.

    Raises, before anything is changed, as the layer's implementation does for that kernel.
    """
    if isinstance(layer, JointConv):
        return layer._rebuild(kernel, [member.config for member in layer])
    config = config or layer.config
    plan = make_plan(kernel.choice, kernel.network, layer.runner, config.geometry)
    layer.config, layer.sides = config, config.sides
    hold(layer, kernel, plan)
