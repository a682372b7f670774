"""The kernel that a layer holds, and the plan that follows from it."""

from __future__ import annotations

from ..plugin import Convolution
from ..run import EvalCache, make_plan, ways
from .forward import Forward
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


def exchange(layer: Forward, kernel: FactorizedKernel) -> None:
    """Put another kernel of the same shape into a layer; a plan that was fixed is forgotten.

    Raises, before anything is changed, as the layer's implementation does for that kernel.
    """
    plan = make_plan(kernel.choice, kernel.network, layer.runner, layer.config.geometry)
    hold(layer, kernel, plan)
