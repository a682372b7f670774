"""Names that are not here: present, so that programs import them, and refused when used."""

from __future__ import annotations

from typing import Any


class Refused(type):
    """A name whose use says what to use instead."""

    remedy: str

    def __call__(cls, *given: Any, **named: Any) -> Any:
        raise TypeError(f"{cls.__name__} is not in tenfold: {cls.remedy}")

    def __getattr__(cls, name: str) -> Any:
        raise AttributeError(f"{cls.__name__}.{name} is not in tenfold: {cls.remedy}")


def refused(name: str, remedy: str) -> Any:
    """Such a name."""
    return Refused(name, (), {"remedy": remedy, "__doc__": f"Refused: {remedy}."})


BY_HAND = "build the layer once, by FactorizedConv.from_factorization, and call it"

remove_tensor_lasso = refused("remove_tensor_lasso", "call the lasso's own remove(module)")
TensorDropout = refused("TensorDropout", "call tensor_dropout(module, p)")
convolve = refused("convolve", "torch.nn.functional.conv1d, conv2d or conv3d")
general_conv1d = refused("general_conv1d", "torch.nn.functional.conv1d")
tucker_conv = refused("tucker_conv", BY_HAND)
cp_conv = refused("cp_conv", BY_HAND)
cp_conv_mobilenet = refused("cp_conv_mobilenet", BY_HAND)
tt_conv = refused("tt_conv", BY_HAND)
