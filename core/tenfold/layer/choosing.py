"""How a layer runs, chosen ahead or given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..tuning import Decision
from .forward import Forward
from .inputs import check_input
from .tuned import adopt, parse_decision, tune


class Choosing(Forward):
    """The methods of a `FactorizedConv`, and of one of a `JointConv`, that settle how it runs.

    >>> issubclass(FactorizedConv, Choosing)
    True
    """

    def tune(
        self, example_input: Tensor, again: bool = False, *, runtime: str = "eager"
    ) -> Decision:
        """Choose now how this layer runs, for inputs like `example_input`, and keep the choice.

        What was measured before, in this process or another, is looked up; `again` measures anew.
        `runtime` is where times count, by its name, as `"onnxruntime"` for what will be exported.
        The input is `(batch, in_channels, *size)`. Returns the decision, which is `layer.decision`
        from then on. Raises `ValueError` where the implementation leaves nothing to choose or the
        runtime cannot run the layer, and `ValueError` or `TypeError` for a bad input.

        >>> layer = FactorizedConv(8, 8, 3, order=2, rank=4, implementation="auto").eval()
        >>> decision = layer.tune(torch.randn(1, 8, 10, 10))
        >>> layer.decision is decision
        True
        """
        check_input(example_input, self.config, self.weight.factors[0])
        return tune(self, example_input, again, runtime)

    def fix_plan(self, decision: Decision | Mapping[str, Any]) -> None:
        """Run so from now on, and never measure: by a decision, or by its JSON data.

        Raises `ValueError`, and changes nothing, where this layer cannot run so.

        >>> layer = FactorizedConv(8, 8, 3, order=2, rank=4, implementation="auto")
        >>> layer.fix_plan({"partition": [[0, 1, 2, 3]]})
        """
        adopt(self, parse_decision(decision))
        self.measures = False
