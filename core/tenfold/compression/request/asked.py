"""The arguments of a compression that are no options, checked before anything is done."""

from __future__ import annotations

from concurrent.futures import Executor
from typing import Any

import torch
from torch import nn
from torch.fx import GraphModule

from .config import CompressionConfig

REPLICAS = ("DistributedDataParallel", "FullyShardedDataParallel")  # whose import takes its time


def check_asked(
    model: nn.Module, config: CompressionConfig, score: Any, evaluate: Any, executor: Any
) -> None:
    """Refuse, with `TypeError` or `ValueError`, what is no network, score or executor."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"model={type(model).__name__} must be an nn.Module")
    if isinstance(model, torch.jit.ScriptModule):
        raise TypeError("model is scripted: give the one that it was made from")
    if isinstance(model, GraphModule) and _is_exported(model):
        raise TypeError("model is exported, and has no layers any more: give what it was made from")
    for name, module in model.named_modules():
        if hasattr(module, "_orig_mod"):
            there = f"model.{name}" if name else "model"
            inner = "put its _orig_mod in its place" if name else "give model._orig_mod"
            raise TypeError(f"{there} is compiled: {inner}, and compile what comes of it")
    if any(type(module).__name__ in REPLICAS for module in model.modules()):
        raise TypeError(
            "model is spread over processes, which know the parameters that it had: give "
            "model.module, and wrap what comes of it"
        )
    for name, value in (("score", score), ("evaluate", evaluate)):
        if value is not None and not callable(value):
            raise TypeError(f"{name}={value!r} must be a function of a model that gives a number")
    if config.min_score is not None and evaluate is None:
        raise ValueError(f"min_score={config.min_score} needs evaluate=, which gives the score")
    if executor is not None and not isinstance(executor, Executor):
        raise TypeError(
            f"executor={type(executor).__name__} must be a concurrent.futures.Executor: of a Dask "
            "client, client.get_executor()"
        )


def _is_exported(model: GraphModule) -> bool:
    """Whether it calls PyTorch's operators with weights of its own, and no layer has one."""
    if any(isinstance(one, nn.modules.conv._ConvNd | nn.Linear) for one in model.modules()):
        return False
    called = [one for one in model.graph.nodes if isinstance(one.target, torch._ops.OpOverload)]
    return any(given.op == "get_attr" for one in called for given in one.all_input_nodes)
