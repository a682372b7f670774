"""What the outputs of a network's layers are worth: to its own output, or to what is next."""

from __future__ import annotations

from ..request import CompressionConfig
from ..running import Progress
from ..survey import Subject
from .importance import Importance, importances, scaling


def weighed(subject: Subject, config: CompressionConfig, progress: Progress) -> Importance:
    """By the gradients of the network's output, and the normalisations after the layers."""
    found = Importance()
    if config.objective == "measured":
        batches = progress.over(subject.fitted, "importance")
        found = importances(subject.model, subject.layers, batches, config.seed, config.memory)
    for layer in subject.layers:
        if layer.follower is not None:
            follower = subject.model.get_submodule(layer.follower)
            found.gains[layer.name] = scaling(follower, layer.config.groups)
    return found
