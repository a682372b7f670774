"""The builder: any factorization with any implementation, by name, as one layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from . import plain, source
from .arguments import (
    allocate,
    check_device,
    check_dtype,
    check_flag,
    check_generator,
    check_sizes,
    check_tensor,
)
from .attributes import ConvAttributes
from .config import ConvConfig
from .convolve import LAID_OUT, in_format, is_channels_last
from .decomposition import check_finite, with_options
from .eval_cache import EvalCache
from .factorization import Factorization
from .fit import fit, structure
from .implementation import Convolution, Implementation
from .inputs import check_input, padding_for
from .kernel import FactorizedKernel
from .layout import lay_out, surround
from .moment import Moment, check_moment
from .planning import ask, make_plan
from .registry import Choice, factorizations, implementations
from .stage import Chain
from .tuning.decision import Decision
from .tuning.layer import adopt, parse_decision, settle, tune


class FactorizedConv(ConvAttributes, nn.Module):
    """A convolution of any order whose kernel is a tensor network.

    Input `(batch, in_channels, *size)` or unbatched `(in_channels, *size)`, output likewise, as
    `nn.ConvNd`, whose positional arguments these are; of order 0 it is a linear layer, `(…, in)` to
    `(…, out)`. The kernel is drawn at random with the variance of `nn.ConvNd`'s.

    Args:
        order: the number of spatial axes; taken from `kernel_size` where that is a tuple.
        rank: `"same"` (no more parameters than the dense kernel), a float (that fraction of them,
            never more unless rank 1 already is), an int (every bond), a tuple (each bond),
            `Multiple(16, of=0.25)` (a budget, in multiples), or what a plugin's hook understands;
            in `from_conv` also `Error(0.1)` and `Energy(0.95)`. Ranks are clipped to what is exact.
        factorization: the format: an installed name (case does not matter), a class or an instance.
        implementation: the way of running it, likewise.
        transposed, output_padding: as `nn.ConvTransposeNd`.
        generator: draws the numbers; `torch.manual_seed` decides them without it.

    Raises `ValueError` or `TypeError`, naming the argument and the remedy, for a bad one, and
    `PluginError` for a plugin that is asked for and broken.

    Kossaifi et al. 2020, "Factorized higher-order CNNs", arXiv 1906.06196.

    >>> layer = FactorizedConv(16, 32, 3, padding=1, order=2, rank=0.5, factorization="tucker")
    >>> layer(torch.randn(8, 16, 20, 20)).shape
    torch.Size([8, 32, 20, 20])
    >>> layer.order, layer.rank, layer.factorization, layer.implementation
    (2, (19, 9), 'tucker', 'factorized')
    >>> layer.reset_parameters()
    """

    weight: FactorizedKernel
    bias: nn.Parameter | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] | str = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        *,
        order: int | None = None,
        rank: Any = "same",
        factorization: str | Factorization | type[Factorization] = "cp",
        implementation: str | Implementation | type[Implementation] = "factorized",
        transposed: bool = False,
        output_padding: int | Sequence[int] = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        config = ConvConfig.parse(
            in_channels=in_channels,
            out_channels=out_channels,
            kernel_size=kernel_size,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            bias=bias,
            padding_mode=padding_mode,
            order=order,
            transposed=transposed,
            output_padding=output_padding,
        )
        like = torch.empty(0, device=check_device(device), dtype=check_dtype(dtype))
        check_generator(generator)
        choice = factorizations.choose(factorization)
        network = structure(choice.plugin, config.shape, rank, config.groups, None)
        runner = implementations.choose(implementation)
        plan = make_plan(choice, network, runner, config.geometry)
        kernel = FactorizedKernel(network, allocate(network, like), choice)
        undrawn = like.new_empty(config.out_channels)
        self._assemble(config, kernel, runner, plan, undrawn if config.bias else None)
        self.reset_parameters(generator)

    @classmethod
    def from_conv(
        cls,
        conv: Any,
        *,
        rank: Any = "same",
        factorization: str | Factorization | type[Factorization] = "cp",
        implementation: str | Implementation | type[Implementation] = "factorized",
        decompose_weights: bool = True,
        decomposition_kwargs: Mapping[str, Any] | None = None,
        moment: Moment | None = None,
        generator: torch.Generator | None = None,
    ) -> FactorizedConv:
        """Replace an `nn.ConvNd`, `nn.ConvTransposeNd` or `nn.Linear`, which stays untouched.

        The new layer has the same geometry, its own copy of the bias, and the source's dtype,
        device, memory format, training mode and `requires_grad`. The kernel is decomposed, or drawn
        at random where `decompose_weights` is False. The other arguments are those of
        `FactorizedConv`; `decomposition_kwargs` are the format's own options. With the `moment` of
        the source's inputs, ranks and factors are those for the error of the output, not the
        kernel's: on trained networks, several times less of it.

        Raises `ValueError` or `TypeError`, before anything is made, for a module that is no plain
        convolution, a lazy one that has no weight yet, a kernel with NaN or infinity, or a bad
        argument.

        >>> conv = nn.Conv2d(16, 32, 3, stride=(2, 1))
        >>> FactorizedConv.from_conv(conv, rank=4, factorization="cp")
        FactorizedConv(16, 32, (3, 3), stride=(2, 1), rank=4, factorization='cp')
        """
        config = source.read_config(conv)
        weight = source.read_kernel(conv)
        check_flag("decompose_weights", decompose_weights)
        check_generator(generator)
        check_moment(moment)
        choice = factorizations.choose(factorization)
        runner = implementations.choose(implementation)
        plugin = with_options(choice.plugin, decomposition_kwargs)
        smallest = choice.plugin.network(config.shape, 1, config.groups)
        ask(choice, smallest, runner, config.geometry)  # a refusal comes before the work
        if decompose_weights:
            check_finite(weight)
            network, factors = fit(plugin, weight, rank, config.groups, generator, moment)
        else:
            network = structure(plugin, config.shape, rank, config.groups, None)
            factors = [weight.new_empty(shape) for shape in network.shapes]
        plan = make_plan(choice, network, runner, config.geometry)
        kernel = FactorizedKernel(network, factors, choice)
        if not decompose_weights:
            kernel.reset_parameters(1 / (3 * config.fan_in), generator)
        layer = cls.__new__(cls)
        bias = conv.bias
        layer._assemble(config, kernel, runner, plan, None if bias is None else bias.detach())
        source.copy_state(conv, layer)
        return layer

    @classmethod
    def from_factorization(
        cls,
        kernel: FactorizedKernel,
        *,
        implementation: str | Implementation | type[Implementation] = "factorized",
        bias: Tensor | None = None,
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] | str = 0,
        dilation: int | Sequence[int] = 1,
        padding_mode: str = "zeros",
        transposed: bool = False,
        output_padding: int | Sequence[int] = 0,
    ) -> FactorizedConv:
        """Build a layer around `kernel`, which becomes its `weight` and is not copied.

        `bias` is `(out,)` and is copied; the other arguments are those of `FactorizedConv`. Raises
        `ValueError` or `TypeError` for a bad one.

        >>> kernel = FactorizedKernel.new((32, 16, 3, 3), rank=8)
        >>> FactorizedConv.from_factorization(kernel, padding=1).weight is kernel
        True
        """
        if not isinstance(kernel, FactorizedKernel):
            raise TypeError(
                f"kernel={type(kernel).__name__} must be a FactorizedKernel: make one by "
                "FactorizedKernel.from_tensor"
            )
        out_channels, per_group, *kernel_size = kernel.shape
        if bias is not None and tuple(check_tensor("bias", bias).shape) != (out_channels,):
            raise ValueError(f"bias of shape {tuple(bias.shape)} must have ({out_channels},)")
        config = ConvConfig.parse(
            in_channels=per_group * kernel.groups,
            out_channels=out_channels,
            kernel_size=tuple(kernel_size),
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=kernel.groups,
            bias=bias is not None,
            padding_mode=padding_mode,
            order=None,
            transposed=transposed,
            output_padding=output_padding,
        )
        runner = implementations.choose(implementation)
        plan = make_plan(kernel.choice, kernel.network, runner, config.geometry)
        layer = cls.__new__(cls)
        layer._assemble(config, kernel, runner, plan, None if bias is None else bias.detach())
        return layer

    def _assemble(
        self,
        config: ConvConfig,
        kernel: FactorizedKernel,
        runner: Choice[Implementation],
        plan: Convolution,
        bias: Tensor | None,
    ) -> None:
        super().__init__()
        self.config = config
        self.weight = kernel
        self.runner = runner
        self.way = runner  # what made the plan: a decision may replace it
        self.plan = plan
        self.sides = config.sides
        self.channels_last = False
        self.candidates = tuple(runner.plugin.candidates(kernel.network, config.geometry))
        self.measures = bool(self.candidates)
        self.decision: Decision | None = None
        self.settled: object = None  # the kind of input that the decision was made for
        self.eval_cache = EvalCache()
        self.register_parameter("bias", None if bias is None else nn.Parameter(bias.clone()))

    def forward(self, x: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        """Convolve `x`; `output_size` is for transposed ones, as `nn.ConvTransposeNd` has it.

        `(batch, in_channels, *size)` to `(batch, out_channels, *size)`, or both without a batch.
        Raises `ValueError` for another shape or device, a size below the kernel's or an output size
        that cannot be, `TypeError` for another dtype or layout; of order 0 an input may be sparse.
        """
        if output_size is None and not self.training:
            way = self.eval_cache.ready(self, x)
            if way is not None:
                return way(x)
        order = self.config.order
        check_input(x, self.config, self.weight.factors[0])
        if order == 0 and x.dim() > 2:
            y = self.forward(x.flatten(0, -2))
            return y.reshape(*x.shape[:-1], y.shape[-1])
        if x.dim() == order + 1:
            wanted = output_size
            if isinstance(wanted, Sequence) and len(wanted) == order + 1:
                wanted = wanted[1:]
            return self.forward(x.unsqueeze(0), wanted).squeeze(0)
        together = self.channels_last or is_channels_last(x)
        settled = True
        if self.measures and not torch.compiler.is_compiling():
            settled = settle(self, x, together)
        asked = self.plan.memory_format if isinstance(self.plan, Chain) else None
        inside = together if asked is None else asked == "channels_last"
        before = (inside, together, self.sides, self.config.padding_mode)
        given, x = x, lay_out(x, *before)
        try:
            if output_size is not None:
                return in_format(self._run_sized(x, output_size), together)
            kept = None if self.training else self.eval_cache.kept(self, x)
            if kept is None:
                return in_format(self.plan(x, tuple(self.weight.factors), self.bias), together)
            y, way = kept.follow(x)
        except RuntimeError:
            self.config.geometry.check_size(x.shape[2:])  # asked only then: it takes its time
            raise
        result = in_format(y, together)
        if settled:
            if x is not given or result is not y:
                way = partial(surround, way, before)
            kept.remember(self, given, way)
        return result

    def train(self, mode: bool = True) -> FactorizedConv:
        """Set the training mode; what was kept for eval is forgotten. Raises as `nn.Module`'s."""
        self.eval_cache.clear()
        return super().train(mode)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> FactorizedConv:
        """As every module's; `.to(memory_format=…)` sets the layout of the output, as a dense
        weight's would."""
        if self.order in LAID_OUT:
            probe = self.weight.factors[0].new_empty((1,) + (2,) * (self.order + 1))
            self.channels_last = is_channels_last(fn(in_format(probe, self.channels_last)))
        applied: FactorizedConv = super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return applied

    @property
    def order(self) -> int:
        """The number of spatial axes."""
        return self.config.order

    @property
    def rank(self) -> int | tuple[int, ...]:
        """The realised rank; given as `rank=`, it makes a layer of the same shapes."""
        return self.weight.rank

    @property
    def factorization(self) -> str:
        """The name of the format."""
        return self.weight.factorization

    @property
    def implementation(self) -> str:
        """The name of the way it runs."""
        return self.runner.name

    def tune(self, example_input: Tensor, again: bool = False) -> Decision:
        """Choose now how this layer runs, for inputs like `example_input`, and keep the choice.

        What was measured before, in this process or another, is looked up; `again` measures anew.
        The input is `(batch, in_channels, *size)`. Returns the decision, which is `layer.decision`
        from then on. Raises `ValueError` where the implementation leaves nothing to choose, and
        `ValueError` or `TypeError` for a bad input.

        >>> layer = FactorizedConv(8, 8, 3, order=2, rank=4, implementation="auto").eval()
        >>> decision = layer.tune(torch.randn(1, 8, 10, 10))
        >>> layer.decision is decision
        True
        """
        check_input(example_input, self.config, self.weight.factors[0])
        return tune(self, example_input, again)

    def fix_plan(self, decision: Decision | Mapping[str, Any]) -> None:
        """Run so from now on, and never measure: by a decision, or by its JSON data.

        Raises `ValueError`, and changes nothing, where this layer cannot run so.

        >>> layer = FactorizedConv(8, 8, 3, order=2, rank=4, implementation="auto")
        >>> layer.fix_plan({"partition": [[0, 1, 2, 3]]})
        """
        adopt(self, parse_decision(decision))
        self.measures = False

    def macs(self, size: Sequence[int]) -> int:
        """Multiply-accumulates for one input of spatial size `size`.

        Raises `ValueError` where the implementation runs code of its own, which is not counted, and
        `ValueError` or `TypeError` for a bad size.

        >>> layer = FactorizedConv(8, 8, 3, order=2, rank=4, factorization="tucker")
        >>> layer.macs((12, 12)) == 8 * 4 * 12**2 + 4 * 4 * 9 * 10**2 + 4 * 8 * 10**2
        True
        """
        if not isinstance(self.plan, Chain):
            raise ValueError(f"implementation={self.runner.spelled} does not count its MACs")
        size = check_sizes("size", size, self.config.order)
        padded = size
        if self.config.sides is not None:
            padded = tuple(s + sum(side) for s, side in zip(size, self.config.sides, strict=True))
        if any(s < 1 for s in self.config.geometry.output_size(padded)):
            raise ValueError(f"size={size!r} is smaller than the kernel: no output is left")
        return self.plan.macs(padded)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the kernel and the bias anew, as `nn.ConvNd` has them.

        Raises `RuntimeError`, of PyTorch's, for a generator on another device.
        """
        fan_in = self.config.fan_in
        self.weight.reset_parameters(1 / (3 * fan_in), generator)
        if self.bias is not None:
            bound = fan_in**-0.5
            nn.init.uniform_(self.bias, -bound, bound, generator=generator)

    def to_conv(self) -> nn.Module:
        """The dense `nn.ConvNd`, `nn.ConvTransposeNd` or `nn.Linear` with the same output.

        Raises `ValueError` above order 3, where `torch.nn` has none.

        >>> FactorizedConv(8, 16, 3, order=2, rank=4).to_conv()
        Conv2d(8, 16, kernel_size=(3, 3), stride=(1, 1))
        """
        return plain.to_conv(self)

    def to_sequential(self) -> nn.Sequential:
        """The same stages as a chain of `torch.nn` modules, which needs no tenfold.

        Raises `ValueError` above order 3, or where the implementation runs code of its own.

        >>> chain = FactorizedConv(8, 8, 3, order=2, factorization="tucker").to_sequential()
        >>> [tuple(module.kernel_size) for module in chain]
        [(1, 1), (3, 3), (1, 1)]
        """
        return plain.to_sequential(self)

    def _run_sized(self, x: Tensor, output_size: Sequence[int]) -> Tensor:
        extra = padding_for(x, self.config, output_size)
        factors = tuple(self.weight.factors)
        if isinstance(self.plan, Chain):
            return self.plan(x, factors, self.bias, extra)
        geometry = self.config.geometry.padded(extra)
        plan = make_plan(self.weight.choice, self.weight.network, self.way, geometry)
        return plan(x, factors, self.bias)

    def __repr__(self) -> str:
        return plain.spell(self)
