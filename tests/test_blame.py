"""An error from a stranger's plugin stays what it is, and says which distribution it is from."""

import sys
import traceback

import pytest
from torch import nn

from tenfold import Factorization, FactorizedConv, FactorizedKernel

FORMATS, WAYS = "tenfold.factorizations", "tenfold.implementations"
FAULTY = """
from tenfold import Factorization, Implementation

class Faulty(Factorization):
    def factors(self, order, rank):
        if order == 1:
            raise LookupError("no table")
        return [("out", "r"), ("r", "in", *(f"k{axis}" for axis in range(order)))]

    def ranks(self, shape, rank, kernel=None):
        if rank == 3:
            raise ValueError("rank=3 is unlucky: ask for 4")
        return super().ranks(shape, rank, kernel)

    def decompose(self, kernel, network, generator=None):
        return {}["factors"]

class Stuck(Implementation):
    def plan(self, network, geometry):
        raise OSError("no kernel was built")
"""
SAYS = "This is from the plugin acme-tools 0.7: {} = acme:{}"
CALLS = {
    "factors": (lambda: made((3,)), LookupError, SAYS.format("faulty", "Faulty")),
    "ranks": (lambda: made((3, 3), rank=3), ValueError, SAYS.format("faulty", "Faulty")),
    "a kernel": (
        lambda: FactorizedKernel.new((8, 4, 3), factorization="faulty"),
        LookupError,
        SAYS.format("faulty", "Faulty"),
    ),
    "decompose": (
        lambda: FactorizedConv.from_conv(nn.Conv2d(4, 8, 3), factorization="faulty", rank=2),
        KeyError,
        SAYS.format("faulty", "Faulty"),
    ),
    "plan": (
        lambda: FactorizedConv(4, 8, (3, 3), implementation="stuck"),
        OSError,
        SAYS.format("stuck", "Stuck"),
    ),
}


def made(kernel_size, **arguments):
    return FactorizedConv(4, 8, kernel_size, factorization="faulty", **arguments)


def raised(call, error):
    with pytest.raises(error) as found:
        call()
    assert type(found.value) is error
    return found.value


@pytest.fixture
def _faulty(install):
    points = {FORMATS: {"faulty": "acme:Faulty"}, WAYS: {"stuck": "acme:Stuck"}}
    install("acme-tools", points, "0.7", acme=FAULTY)


@pytest.mark.usefixtures("_faulty")
@pytest.mark.parametrize("name", CALLS)
def test_it_names_the_distribution_the_version_and_the_target_once(name):
    call, error, says = CALLS[name]
    fault = raised(call, error)
    if sys.version_info >= (3, 11):  # where Python has notes
        assert "".join(traceback.format_exception(fault)).count(says) == 1


def test_our_own_refusals_and_a_class_of_the_user_s_get_no_note():
    class Own(Factorization):
        def factors(self, order, rank):
            raise LookupError("mine")

    own = raised(lambda: FactorizedConv(4, 8, (3, 3), factorization=Own), LookupError)
    ours = raised(lambda: FactorizedConv(4, 8, (3, 3), rank=(1, 2, 3)), ValueError)
    assert [getattr(fault, "__notes__", []) for fault in (own, ours)] == [[], []]
