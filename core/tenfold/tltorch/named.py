"""A class of TensorLy-Torch's that here is a name for the tensors of one format."""

from __future__ import annotations

from typing import Any


class Name(type):
    """What names of tensors are made by: `format`, of any where it is empty, and `complex`."""

    format: str
    complex: bool

    def __new__(
        cls,
        name: str,
        bases: tuple[type, ...],
        body: dict[str, Any],
        format: str = "",  # noqa: A002
        complex: bool = False,  # noqa: A002
    ) -> Any:
        return super().__new__(cls, name, bases, {**body, "format": format, "complex": complex})

    def __init__(cls, name: str, bases: tuple[type, ...], body: dict[str, Any], **_: Any) -> None:
        super().__init__(name, bases, body)

    def __call__(cls, *parts: Any) -> Any:
        raise TypeError(
            f"{cls.__name__}(…) took ready factors: draw one by {cls.__name__}.new(shape, rank), "
            f"decompose one by {cls.__name__}.from_tensor"
        )
