"""What truncations of one decomposition make of a sketch of what a layer sees.

No kernel is made: the factors that the input has are multiplied by the sketch once, at the largest
ranks, and each truncation takes the leading part of what comes of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from torch import Tensor

from ...network import GROUP, KernelNetwork, plan_contraction
from .truncation import leading_part

SEEN = "seen"  # the columns of the sketch


class Sketched:
    """A decomposition, of which a `sketch` `(groups, in * k…, columns)` is seen.

    `network` has the largest ranks, and `factors` are its own.
    """

    def __init__(self, network: KernelNetwork, factors: Sequence[Tensor], sketch: Tensor) -> None:
        bonds, self.groups = set(network.bonds), len(sketch)
        inputs = (*network.ins, *network.spatial)
        group = (GROUP,) if GROUP in network.sizes else ()
        self.sizes = {**network.sizes, SEEN: sketch.shape[-1]}
        self.output = (*network.leaving, SEEN)
        given = sketch.reshape(*(self.sizes[mode] for mode in (*group, *inputs)), -1)
        often = Counter(mode for names in network.factors for mode in names)
        absorbed = [
            names
            for names in network.factors
            if len(bonds & set(names)) == 1
            and not set(network.outs) & set(names)
            and all(often[mode] == 1 for mode in names if mode in inputs)
        ]
        taken = {mode for names in absorbed for mode in names if mode in inputs}
        kept = [mode for names in absorbed for mode in names if mode in bonds]
        modes = (*group, *(m for m in inputs if m not in taken), *kept, SEEN)
        pairs = list(zip(network.factors, factors, strict=True))
        inner = [factor.to(sketch) for names, factor in pairs if names in absorbed]
        product = plan_contraction([(*group, *inputs, SEEN), *absorbed], modes, self.sizes)
        self.names = [modes, *(names for names in network.factors if names not in absorbed)]
        outer = [factor.to(sketch) for names, factor in pairs if names not in absorbed]
        self.factors = [product([given, *inner]), *outer]

    def rows(self, network: KernelNetwork) -> Tensor:
        """What the kernel of the leading part, of a `network`, gives: `(groups, out, columns)`."""
        sizes = {**self.sizes, **network.sizes}
        parts = [
            leading_part(names, factor, network)
            for names, factor in zip(self.names, self.factors, strict=True)
        ]
        found = plan_contraction(self.names, self.output, sizes)(parts)
        return found.reshape(self.groups, -1, self.sizes[SEEN])
