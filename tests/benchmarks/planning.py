"""How long the search for the cheapest partition takes, for every format and order.

    python tests/benchmarks/planning.py

Milliseconds, the best of nine, of `factorized` and of the cheapest partition of all, where any
factors may be merged; Tucker also with a rank for every mode. 64 channels, 3 taps on each axis, a
quarter of the parameters.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.console import Console
from rich.table import Table

from tenfold import FactorizedKernel, factorizations, implementations
from tenfold.network import Geometry, cheapest_partition

ORDERS = (1, 2, 3, 4)


def best(work: Callable[[], object]) -> float:
    """Milliseconds."""
    times = []
    for _ in range(9):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return 1000 * min(times)


def main() -> None:
    table = Table(title="ms: factorized / any partition")
    for title in ("format", *(f"order {order}" for order in ORDERS)):
        table.add_column(title, justify="right")
    plugin = implementations["factorized"]()
    for name in (*factorizations.names(), "tucker, every mode"):
        row = [name]
        for order in ORDERS:
            rank = (16, 16, *(2,) * order) if "," in name else 0.25
            ones, zeros = (1,) * order, (0,) * order
            kernel = (3,) * order
            geometry = Geometry(kernel, ones, ones, ones, zeros)
            try:
                network = FactorizedKernel.new(
                    (64, 64, *kernel), rank=rank, factorization=name.partition(",")[0]
                ).network
            except ValueError:  # it has not this order
                row.append("–")
                continue
            times = [
                best(lambda: plugin.plan(network, geometry)),  # noqa: B023
                best(lambda: cheapest_partition(network, geometry, lambda group: True)),  # noqa: B023
            ]
            row.append(" / ".join(f"{one:.1f}" for one in times))
        table.add_row(*row)
    Console().print(table)


if __name__ == "__main__":
    main()
