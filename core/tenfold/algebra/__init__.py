"""Linear algebra for networks: SVDs, spectra of bonds, least squares over factors, whitening.

Takes tensors and networks, imports `network` alone. Used by formats, to decompose, and by `solve`.
"""

from .acceleration import Descent, accelerate, count_sweep, counting_sweeps
from .als import alternating_least_squares, balance
from .gauge import least_norm
from .nearby import Part, energy, fit_network, fit_to_sum
from .rounding import is_tree, round_tree, spectra
from .second_moment import SecondMoment
from .spectrum import bond_matrix, by_group, in_real, tails, work_dtype
from .spread import Spread, few_directions
from .svd import chain_svd, gram, leading_basis, signs, truncated_svd
from .symmetric import add_square, mirrored, symmetric_product
from .threads import on_one_thread
from .weighted import affordable, weighted_least_squares
from .whitening import RIDGE, Whitening, square_root, whiten

__all__ = [
    "RIDGE",
    "Descent",
    "Part",
    "SecondMoment",
    "Spread",
    "Whitening",
    "accelerate",
    "add_square",
    "affordable",
    "alternating_least_squares",
    "balance",
    "bond_matrix",
    "by_group",
    "chain_svd",
    "count_sweep",
    "counting_sweeps",
    "energy",
    "few_directions",
    "fit_network",
    "fit_to_sum",
    "gram",
    "in_real",
    "is_tree",
    "leading_basis",
    "least_norm",
    "mirrored",
    "on_one_thread",
    "round_tree",
    "signs",
    "spectra",
    "square_root",
    "symmetric_product",
    "tails",
    "truncated_svd",
    "weighted_least_squares",
    "whiten",
    "work_dtype",
]
