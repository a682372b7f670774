"""What most tests run over, the built-in formats and the pairs not refused; and fake packages.

Each of the processes that share the tests computes on one thread: theirs are all the cores there
are, and what tests compute is small.
"""

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tenfold import factorizations, implementations, runtimes
from tenfold.plugin.hooks import forget_plugins
from tenfold.tuning import cache

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that tests start

STRANGER = Path(__file__).parent / "third_party" / "tenfold-tensor-ring"
Install = Callable[..., None]

FORMATS = ("cp", "tucker", "tt")
PAIRS = [(name, way) for name in FORMATS for way in ("reconstructed", "factorized")]
PAIRS.append(("cp", "mobilenet"))
_numbers = count()


@pytest.fixture(params=FORMATS, scope="session")
def factorization(request: pytest.FixtureRequest) -> str:
    """The name of a format."""
    return request.param


@pytest.fixture(params=PAIRS, ids="-".join, scope="session")
def pair(request: pytest.FixtureRequest) -> dict[str, str]:
    """A format and an implementation, as the keywords that `FactorizedConv` takes."""
    return dict(zip(("factorization", "implementation"), request.param, strict=True))


@pytest.fixture(autouse=True)
def _choices_are_kept_for_one_test(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No test writes to the user's cache, and none finds what another has measured."""
    folder = tmp_path_factory.getbasetemp() / f"choices-{next(_numbers)}"
    monkeypatch.setenv("TENFOLD_CACHE", str(folder))
    cache.forget()


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install fake packages, each a real `.dist-info` and its modules, until the test ends.

    `install("acme", {group: {name: target}}, acme="the source of the module acme")`. The registries
    and the plugin manager start with nothing loaded, and forget what they load.
    """
    for registry in (factorizations, implementations, runtimes):
        monkeypatch.setattr(registry, "_loaded", {})
        monkeypatch.setattr(registry, "_registered", {})
    forget_plugins()
    monkeypatch.delenv("TENFOLD_DISABLE", raising=False)
    known = set(sys.modules)

    def install(
        distribution: str,
        entry_points: Mapping[str, Mapping[str, str]],
        version: str = "1.2.3",
        **modules: str,
    ) -> None:
        site = tmp_path / distribution
        info = site / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        metadata = f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n"
        (info / "METADATA").write_text(metadata)
        sections = [
            "\n".join([f"[{group}]", *(f"{name} = {target}" for name, target in points.items())])
            for group, points in entry_points.items()
        ]
        (info / "entry_points.txt").write_text("\n".join(sections))
        for name, source in modules.items():
            (site / f"{name}.py").write_text(source)
        monkeypatch.syspath_prepend(str(site))

    yield install
    forget_plugins()
    for name in set(sys.modules) - known:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def stranger(install: Install) -> None:
    """Install the third-party package, as its own files say, until the test ends."""
    project = tomllib.loads((STRANGER / "pyproject.toml").read_text())["project"]
    sources = {path.stem: path.read_text() for path in STRANGER.glob("*.py")}
    install(project["name"], project["entry-points"], project["version"], **sources)


class Kernels(TorchDispatchMode):
    """The spatial sizes of the weights that PyTorch convolves by."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, ...]] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if function is torch.ops.aten.convolution.default:
            self.seen.append(tuple(args[1].shape[2:]))
        return function(*args, **(kwargs or {}))


@pytest.fixture(scope="session")
def kernels() -> type[Kernels]:
    """What watches by which kernels PyTorch convolves."""
    return Kernels
