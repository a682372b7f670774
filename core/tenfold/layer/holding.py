"""The kernel that a layer holds, and the plan that follows from it."""

from __future__ import annotations

from ..network import KernelSum
from ..plugin import Convolution
from ..run import EvalCache, make_plan
from .forward import Forward
from .kernel import FactorizedKernel


def hold(layer: Forward, kernel: FactorizedKernel, plan: Convolution) -> None:
    """Give a layer its kernel and plan, with nothing decided and nothing kept yet."""
    several = isinstance(kernel.network, KernelSum)  # each term runs by its own plan
    geometry = layer.config.geometry
    ways = () if several else layer.runner.plugin.candidates(kernel.network, geometry)
    layer.weight = kernel
    layer.way = layer.runner
    layer.plan = plan
    layer.candidates = tuple(ways)
    layer.measures = bool(ways)
    layer.decision = None
    layer.settled = None
    layer.eval_cache = EvalCache()


def exchange(layer: Forward, kernel: FactorizedKernel) -> None:
    """Put another kernel of the same shape into a layer; a plan that was fixed is forgotten.

    Raises, before anything is changed, as the layer's implementation does for that kernel.
    """
    plan = make_plan(kernel.choice, kernel.network, layer.runner, layer.config.geometry)
    hold(layer, kernel, plan)
