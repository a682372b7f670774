"""The abstract place where networks run and are timed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

from torch import Tensor, nn

Ready = Callable[..., Sequence[Tensor]]
"""What `Runtime.prepare` returns: tensors as those of the example to those the network gives."""


class Runtime(ABC):
    """Where a network runs, and is timed: a plugin of the group `tenfold.runtimes`.

    `description` is what tables call it, in a few words. `in_process` says that all its work is
    done by this process: on one thread the time of the process counts then, and no other's does.

    >>> import copy
    >>> class Double(Runtime):
    ...     description = "PyTorch, in float64"
    ...
    ...     def prepare(self, module, example):
    ...         wide = copy.deepcopy(module).double()
    ...         return lambda *given: [y.float() for y in wide(*(x.double() for x in given))]
    ...
    ...     def open(self, path):
    ...         return torch.export.load(path).module()
    >>> runtimes.register("double", Double)
    >>> "double" in runtimes
    True
    """

    description: ClassVar[str] = ""
    in_process: ClassVar[bool] = False

    @abstractmethod
    def prepare(self, module: nn.Module, example: tuple[Tensor, ...]) -> Ready:
        """Make a network ready to be run, many times, on inputs such as `example`.

        `module` is in eval mode; it takes the tensors of `example`, as `(batch, channels, *size)`,
        and gives a tuple of tensors. It may be kept, and is not to be changed. What is returned is
        called with tensors of the same shapes and dtypes, without gradients, and gives those that
        the module gives, in order, once they are there.

        Law: it gives what the module gives, for any numbers, each time it is called.

        Raises `ValueError` for a network that it cannot run; the message says why and what to do.
        """

    def open(self, path: Path) -> Ready:
        """Make ready a file that `tenfold.export` wrote, by its suffix; it may go once it is open.

        Law: as that of `prepare`, with any batch. Raises `ValueError`, saying why, for one that it
        cannot run; here for all.
        """
        raise ValueError(f"{type(self).__name__} opens no {path.suffix} file")

    def version(self) -> str:
        """Which of its engine's it is, as `"1.23.2"`: what was chosen in another one is not used.

        Here empty, for what comes with PyTorch. Raises `ValueError`, as `prepare`, where there is
        none.
        """
        return ""

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"
