"""A planned contraction is that of the dense meaning, and copies nothing that it need not."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tenfold.network import plan_contraction

MODES = "abcdef"


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sets(st.sampled_from(MODES), min_size=1), min_size=1, max_size=4), st.data())
def test_it_is_the_einsum_of_all(inputs, data):
    there = sorted(set.union(*inputs))
    sizes = {mode: data.draw(st.integers(1, 3)) for mode in there}
    given = [tuple(data.draw(st.permutations(sorted(modes)))) for modes in inputs]
    output = tuple(data.draw(st.permutations(there)))[: data.draw(st.integers(0, len(there)))]
    tensors = [torch.randn([sizes[m] for m in modes], dtype=torch.double) for modes in given]
    equation = ",".join(map("".join, given)) + "->" + "".join(output)
    found = plan_contraction(given, output, sizes)(tensors)
    torch.testing.assert_close(found, torch.einsum(equation, *tensors))


def test_a_chain_of_products_with_matrices_copies_no_tensor():
    """Each takes the first mode and puts the new one last, so that all others stay together."""
    factors = [("a", "p"), ("b", "q"), ("c", "r"), ("p", "q", "r")]
    sizes = dict(zip("abcpqr", (8, 8, 8, 4, 4, 4), strict=True))
    plan = plan_contraction(factors, ("a", "b", "c"), sizes)
    tensors = [torch.randn([sizes[mode] for mode in modes]) for modes in factors]
    with torch.profiler.profile() as profile:
        made = plan(tensors)
    assert made.is_contiguous()
    assert not {event.key for event in profile.key_averages()} & {"aten::clone", "aten::copy_"}
