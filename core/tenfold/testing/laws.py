"""The laws by what they are of, and how often each is tried."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .example import Example
from .laws_of_formats import (
    a_moment_lowers_the_error_of_the_output,
    error_does_not_rise_with_rank,
    fresh_kernels_have_the_dense_variance,
    full_rank_is_exact,
    more_budget_is_never_worse,
    the_budget_is_kept,
    the_same_request_gives_the_same_layer,
)
from .laws_of_hooks import (
    it_decomposes_no_worse,
    it_leaves_other_requests_to_others,
    it_leaves_the_kernel_alone,
    it_leaves_the_layer_alone,
    its_choice_depends_on_the_arguments_alone,
    its_choice_is_taken,
    its_factors_follow_the_seed,
    its_ranks_are_taken,
    its_ranks_depend_on_the_arguments_alone,
)
from .laws_of_layers import (
    follows_its_parameters,
    it_survives_the_ways_layers_travel,
    leaves_as_plain_modules,
    owns_factors_and_bias_alone,
    runs_as_the_dense_convolution,
)
from .laws_of_running import (
    compiles_in_one_graph,
    exports_with_open_sizes,
    its_operators_pass_opcheck,
    runs_in_bfloat16,
    runs_in_channels_last,
    runs_under_autocast,
)
from .laws_of_runtimes import (
    it_gives_what_the_network_gives,
    it_leaves_the_network_and_its_input_alone,
    it_repeats_itself,
)

Law = Callable[[Any, Example], None]  # of what is judged, and one example

LAYER_LAWS: tuple[Law, ...] = (
    runs_as_the_dense_convolution,
    follows_its_parameters,
    owns_factors_and_bias_alone,
    it_survives_the_ways_layers_travel,
    leaves_as_plain_modules,
)
RUNNING_LAWS: tuple[Law, ...] = (  # of plans alone: a network breaks none
    runs_in_bfloat16,
    runs_under_autocast,
    runs_in_channels_last,
    compiles_in_one_graph,
    exports_with_open_sizes,
    its_operators_pass_opcheck,
)
KERNEL_LAWS: tuple[Law, ...] = (
    full_rank_is_exact,
    error_does_not_rise_with_rank,
    more_budget_is_never_worse,
    a_moment_lowers_the_error_of_the_output,
    the_budget_is_kept,
    the_same_request_gives_the_same_layer,
    fresh_kernels_have_the_dense_variance,
)
FORMAT_LAWS = (*LAYER_LAWS, *KERNEL_LAWS)
RUNNER_LAWS = (*LAYER_LAWS, *RUNNING_LAWS)
HOOK_LAWS: dict[str, tuple[Law, ...]] = {
    "tenfold_rank": (
        its_ranks_are_taken,
        it_leaves_other_requests_to_others,
        its_ranks_depend_on_the_arguments_alone,
        it_leaves_the_kernel_alone,
    ),
    "tenfold_select": (
        its_choice_is_taken,
        its_choice_depends_on_the_arguments_alone,
        it_leaves_the_layer_alone,
    ),
    "tenfold_decompose": (
        it_decomposes_no_worse,
        its_factors_follow_the_seed,
        it_leaves_the_kernel_alone,
    ),
}
RUNTIME_LAWS: tuple[Law, ...] = (
    it_gives_what_the_network_gives,
    it_repeats_itself,
    it_leaves_the_network_and_its_input_alone,
)
COSTLY: dict[Law, int] = {  # seconds each: every order once for so many examples of others
    compiles_in_one_graph: 15,
    exports_with_open_sizes: 15,
    its_operators_pass_opcheck: 15,
    more_budget_is_never_worse: 15,
    a_moment_lowers_the_error_of_the_output: 15,
    runs_in_bfloat16: 5,
    runs_under_autocast: 5,
    runs_in_channels_last: 5,
    **dict.fromkeys(RUNTIME_LAWS, 8),
}
ORDERS: dict[Law, tuple[int, ...]] = {  # where not of all
    runs_in_channels_last: (2, 3),
    leaves_as_plain_modules: (0, 1, 2, 3),
    **dict.fromkeys(RUNTIME_LAWS, (1, 2)),
}
