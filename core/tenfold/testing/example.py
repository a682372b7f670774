"""What one run of a law drew, for the words in which it fails."""

from __future__ import annotations

from typing import Any, TypeVar

from hypothesis import strategies as st

T = TypeVar("T")


class Example:
    """Draws from strategies, and remembers what under which name.

    `tally` goes from one example of a law to the next: how many were taken, and how many refused
    while none was.
    """

    def __init__(self, data: st.DataObject, tally: list[int]) -> None:
        self._data = data
        self._tally = tally
        self.drawn: dict[str, Any] = {}

    def draw(self, what: str, strategy: st.SearchStrategy[T]) -> T:
        """Draw one value, and call it `what`."""
        value = self._data.draw(strategy, label=what)
        self.drawn[what] = value
        return value

    def count(self, taken: bool) -> None:
        """Keep count of what is taken and what is refused."""
        self._tally[0] += taken
        self._tally[1] += not taken

    @property
    def refusals(self) -> int:
        """How many were refused, while none was taken."""
        taken, refused = self._tally
        return 0 if taken else refused

    def __str__(self) -> str:
        return "; ".join(f"{what} = {value!r}" for what, value in self.drawn.items())
