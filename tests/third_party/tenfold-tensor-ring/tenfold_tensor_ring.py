"""Tensor ring: a tensor train whose two ends are joined (Zhao et al. 2016, arXiv 1606.05535)."""

from tenfold import Factorization


class TensorRing(Factorization):
    """`K[o, i, k…] = Σ A[z, i, b0] G₀[b0, k0, b1] … B[b_N, o, z]`."""

    def factors(self, order, rank):
        middle = [(f"b{axis}", f"k{axis}", f"b{axis + 1}") for axis in range(order)]
        return [("z", "in", "b0"), *middle, (f"b{order}", "out", "z")]
