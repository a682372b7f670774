"""What one run of a law drew, for the words in which it fails."""

from __future__ import annotations

from typing import Any, TypeVar

from hypothesis import strategies as st

T = TypeVar("T")


class Example:
    """Draws from strategies, and remembers what under which name."""

    def __init__(self, data: st.DataObject) -> None:
        self._data = data
        self.drawn: dict[str, Any] = {}

    def draw(self, what: str, strategy: st.SearchStrategy[T]) -> T:
        """Draw one value, and call it `what`."""
        value = self._data.draw(strategy, label=what)
        self.drawn[what] = value
        return value

    def __str__(self) -> str:
        return "; ".join(f"{what} = {value!r}" for what, value in self.drawn.items())
