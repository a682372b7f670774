"""What a user asks of a compression, validated before anything is done."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ...plugin import factorizations, implementations, runtimes

SINGULAR = {"factorization": "factorizations", "implementation": "implementations"}
ARGUMENTS = ("example_inputs", "calibration", "inputs", "score", "evaluate", "executor", "table")
Metric = Literal["parameters", "macs", "latency"]
Refine = Literal["blocks", "off"]
Objective = Literal["measured", "energy", "uniform"]


class CompressionConfig(BaseModel):
    """How small a network is to become, measured how, and by what means.

    Exactly one of `budget`, `budgets`, `max_error` and `min_score` says how small (`budget` may
    stand beside `budgets`, whose curve it then picks a network from).

    Args:
        budget: what the compressed network may have of the original's `metric`, as a fraction.
        budgets: several, for a curve of error against budget; the network is the smallest's.
        max_error: the largest relative change of the output on held-out inputs; the smallest
            network that keeps it is found.
        min_score: likewise the least that `evaluate` may give.
        metric: what is counted: `"parameters"`, `"macs"` (without ways that trade them for as much
            more to read and write) or `"latency"`, measured on this machine.
        bits: 8 where the network will be stored in eight bits, as by `export(…, int8=True)`: layers
            are then measured with rounded weights, and a budget of parameters counts four bytes
            for each that the original has, and the bytes that are stored of what comes out.
        runtime: where milliseconds are measured: `"eager"`, as the network is called, `"compile"`,
            `"onnxruntime"`, `"openvino"`, or another that is installed.
        objective: how layers are weighed against each other: by the `"measured"` change of the
            network's output when one alone is compressed, by the `"energy"` of each layer's own
            output, or not (`"uniform"`: the same fraction of every layer).
        factorizations, implementations: the names that may be used; `factorization` and
            `implementation` are the same.
        include, exclude: which layers: names with `*` and `?`, classes, or functions of a name and
            a module; all convolutions and linear layers by default.
        joint: layers to tie, given likewise: those of one pattern whose kernels have one shape
            share one network, a `JointConv` in the place of the first, where the whole comes nearer
            to the original so than with separate layers of as many parameters. It takes
            `metric="parameters"`, and no `bits`.
        multiple: ranks are multiples of it; by default 16, and less for narrow layers.
        correct: fit the layers to the original's responses, in order, in a deep network some
            neighbours at a time: the compressed ones, and dense ones that come after these.
        refine: train what the correction may change a little, six times through the calibration,
            towards what the original gives after each few layers (`"blocks"`), or do not (`"off"`);
            kept as far as that brings held-out outputs nearer.
        never_slower: measure what comes out against what went in; layers that are slower than dense
            in their place get another candidate or stay dense, within the budget.
        holdout: the fraction of the calibration that corrections are judged on.
        probes: how many calibration batches single layers' errors are measured on, at most: of a
            deep network on a part of them.
        memory: the most bytes that moments, stored responses and stored outputs take each.
        seed: of every random choice.
        progress: show a progress bar, on the standard error.

    Raises `ValueError` for a bad one: a `pydantic.ValidationError`, which `compress` puts shorter.

    >>> CompressionConfig(budget=0.25, metric="parameters").objective
    'measured'
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    budget: float | None = Field(None, gt=0, lt=1)
    budgets: tuple[float, ...] = ()
    max_error: float | None = Field(None, gt=0)
    min_score: float | None = None
    metric: Metric = "macs"
    bits: Literal[8] | None = None
    runtime: str = "eager"
    objective: Objective = "measured"
    factorizations: tuple[str, ...] = ("spatial_svd", "tucker")
    implementations: tuple[str, ...] = ("factorized",)
    include: tuple[Any, ...] = ()
    exclude: tuple[Any, ...] = ()
    joint: tuple[Any, ...] = ()
    multiple: int | None = Field(None, ge=1)
    correct: bool = True
    refine: Refine = "blocks"
    never_slower: bool = True
    holdout: float = Field(0.25, gt=0, lt=1)
    probes: int = Field(4, ge=1)
    memory: int = Field(2**30, ge=2**20)
    seed: int = Field(0, ge=0, lt=2**63)
    progress: bool = True

    @classmethod
    def parse(cls, config: CompressionConfig | None, fields: dict[str, Any]) -> CompressionConfig:
        """Join a configuration and the fields given beside it.

        Raises `ValueError`, naming the field, its value and the remedy, and `TypeError` for a
        keyword that is no field and for another kind of configuration.

        >>> config = CompressionConfig(budget=0.25)
        >>> CompressionConfig.parse(config, {"seed": 3}).seed
        3
        """
        if config is not None and not isinstance(config, cls):
            raise TypeError(
                f"config={type(config).__name__} must be a CompressionConfig: give a dict's items "
                "as keywords, compress(…, **fields)"
            )
        given = {} if config is None else config.model_dump(exclude_unset=True)
        known = [*cls.model_fields, *(ARGUMENTS if cls is CompressionConfig else ())]
        try:
            return cls(**{**given, **plural(fields)})
        except ValidationError as fault:
            said = _fault(fault, known)
            if fault.errors()[0]["type"] == "extra_forbidden" and cls is CompressionConfig:
                raise TypeError(said) from None
            raise ValueError(said) from None

    @model_validator(mode="before")
    @classmethod
    def _one_name(cls, given: Any) -> Any:
        return plural(given) if isinstance(given, dict) else given

    @field_validator("budget", "budgets", mode="before")
    @classmethod
    def _no_percentage(cls, value: Any) -> Any:
        several = value if isinstance(value, Sequence) else (value,)
        large = [one for one in several if isinstance(one, int | float) and 1 <= one < 100]
        if large:
            raise ValueError(
                "it must be above 0 and below 1, the fraction of the original that may be left, as "
                f"{large[0] / 100 if large[0] > 1 else 0.25:g}"
            )
        return value

    @field_validator(
        "factorizations", "implementations", "include", "exclude", "joint", mode="before"
    )
    @classmethod
    def _several(cls, value: Any) -> Any:
        single = isinstance(value, str) or not isinstance(value, Sequence)
        return (value,) if single else tuple(value)

    @field_validator("factorizations")
    @classmethod
    def _formats(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return _installed(names, factorizations)

    @field_validator("implementations")
    @classmethod
    def _ways(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return _installed(names, implementations)

    @field_validator("runtime")
    @classmethod
    def _runtime(cls, name: str) -> str:
        return _installed((name,), runtimes)[0]

    @field_validator("include", "exclude", "joint")
    @classmethod
    def _patterns(cls, patterns: tuple[Any, ...]) -> tuple[Any, ...]:
        for pattern in patterns:
            if not isinstance(pattern, str) and not callable(pattern):
                raise ValueError("give names with * and ?, classes, or functions (name, module)")
        return patterns

    @field_validator("budgets")
    @classmethod
    def _fractions(cls, budgets: tuple[float, ...]) -> tuple[float, ...]:
        if any(not 0 < budget < 1 for budget in budgets):
            raise ValueError("each must be above 0 and below 1")
        return tuple(sorted(set(budgets), reverse=True))

    @model_validator(mode="after")
    def _one_aim(self) -> CompressionConfig:
        budget = self.budget is not None or bool(self.budgets)
        aims = [budget, self.max_error is not None, self.min_score is not None]
        if sum(aims) != 1:
            raise ValueError(
                f"budget={self.budget!r}, budgets={self.budgets!r}, max_error={self.max_error!r}, "
                f"min_score={self.min_score!r}: give one of them, as budget=0.25"
            )
        return self

    @model_validator(mode="after")
    def _ties_save_parameters(self) -> CompressionConfig:
        if self.joint and self.metric != "parameters":
            raise ValueError(
                f"joint={self.joint!r} with metric={self.metric!r}: layers that share a network "
                "have fewer parameters, and as much to compute; give metric='parameters'"
            )
        if self.joint and self.bits is not None:
            raise ValueError(
                f"joint={self.joint!r} with bits={self.bits}: tied layers are not measured in "
                "eight bits; give one of the two"
            )
        return self


def plural(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields, each of `SINGULAR` under its one name; `ValueError` where it has both."""
    for one, several in SINGULAR.items():
        if one in fields and several in fields:
            raise ValueError(f"{one} and {several} are the same: give one of them")
    return {SINGULAR.get(name, name): value for name, value in fields.items()}


def _installed(names: tuple[str, ...], registry: Any) -> tuple[str, ...]:
    if not names:
        raise ValueError("name at least one")
    for name in names:
        registry.choose(name)
    return tuple(name.lower() for name in names)


def _fault(fault: ValidationError, known: Sequence[str]) -> str:
    """The first fault, in a line: the option, its value, and what to give instead."""
    first = fault.errors()[0]
    name = ".".join(map(str, first["loc"]))
    reason = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        near = get_close_matches(name, known, 1)
        hint = f"did you mean {near[0]!r}? The" if near else "the"
        return f"{name}= is no option: {hint} options are {', '.join(known)}"
    return f"{name}={reprlib.repr(first['input'])}: {reason}" if name else reason
