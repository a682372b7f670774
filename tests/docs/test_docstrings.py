"""Every public name is documented: what it takes and gives, its errors, its source, an example.

The names are those that the reference lists, and what classes among them define in public.
`test_documentation.py` runs the examples.
"""

from __future__ import annotations

import ast
import doctest
import inspect
import re
import textwrap
import types
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import pytest
from tests.public import public_names

import tenfold
from tenfold import factorizations, implementations

PUBLIC = public_names()
CLASSES = {name: one for name, one in PUBLIC.items() if inspect.isclass(one) and not get_args(one)}
FUNCTIONS = {name: one for name, one in PUBLIC.items() if isinstance(one, types.FunctionType)}
PUBLIC["tenfold.factorizations"] = CLASSES["tenfold.factorizations"] = type(factorizations)
OF_TORCH = {"forward", "train"}  # overridden: what they are is said there too


def members(cls: type) -> Iterator[tuple[str, Any]]:
    """What a class defines itself in public, unwrapped."""
    for name, value in vars(cls).items():
        if isinstance(value, classmethod | staticmethod):
            value = value.__func__
        elif isinstance(value, property):
            value = value.fget
        elif not isinstance(value, types.FunctionType):
            value = getattr(value, "func", None)  # a cached property
        ours = getattr(value, "__module__", "").startswith("tenfold")
        if ours and not name.startswith("_"):
            yield name, value


METHODS = {
    f"{owner}.{name}": member for owner, cls in CLASSES.items() for name, member in members(cls)
}
CALLABLES = {**FUNCTIONS, **METHODS}


def documentation(one: Any) -> str:
    return inspect.cleandoc(one.__doc__ or "")


def taken(one: Callable[..., Any]) -> list[str]:
    return [name for name in inspect.signature(one).parameters if name not in ("self", "cls")]


def examples(one: Any) -> str:
    found = doctest.DocTestParser().get_examples(documentation(one))
    return "".join(example.source for example in found if doctest.SKIP not in example.options)


@pytest.mark.parametrize("name", [*CLASSES, *CALLABLES])
def test_it_says_what_it_is_in_a_first_sentence(name):
    first = documentation({**CLASSES, **CALLABLES}[name]).split("\n\n")[0]
    assert re.match(r"[A-Z`(‖\[].{9,}[.:]", first, re.DOTALL)


@pytest.mark.parametrize("name", [*CLASSES, *FUNCTIONS])
def test_it_has_an_example(name):
    shown = examples(PUBLIC[name])
    if name in CLASSES:
        shown += "".join(examples(member) for _, member in members(PUBLIC[name]))
    assert re.search(rf"\b{name.rpartition('.')[2]}\b", shown)


@pytest.mark.parametrize(
    "name", [name for name in METHODS if METHODS[name].__name__ not in OF_TORCH]
)
def test_an_example_of_its_class_uses_it(name):
    owner, _, method = name.rpartition(".")
    cls = PUBLIC[owner]
    shown = examples(cls) + "".join(examples(member) for _, member in members(cls))
    assert re.search(rf"\.{method}\b|def {method}\(", shown)


@pytest.mark.parametrize("name", [name for name, one in CALLABLES.items() if taken(one)])
def test_it_says_what_it_raises(name):
    said = documentation(CALLABLES[name])
    assert re.search(r"\b(Raises|raises|raised)\b|its errors are", said)


@pytest.mark.parametrize("name", [*CLASSES, *CALLABLES])
def test_it_names_each_error_that_its_own_lines_raise(name):
    one = {**CLASSES, **CALLABLES}[name]
    if isinstance(one, type):
        one, said = one.__dict__.get("__post_init__"), documentation(one)
        if one is None:
            return
    else:
        said = documentation(one)
    for node in ast.walk(parsed(one)):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            assert f"`{ast.unparse(node.exc.func)}`" in said


def parsed(one: Callable[..., Any]) -> ast.AST:
    """The syntax tree of a function's own lines; of nothing where Hypothesis wrote them."""
    try:
        return ast.parse(textwrap.dedent(inspect.getsource(one)))
    except OSError:
        return ast.parse("")


def with_tensors() -> Iterator[str]:
    for name, one in CALLABLES.items():
        notes = [str(note) for key, note in one.__annotations__.items()]
        if any(re.search(r"\bTensor\b", note) for note in notes):
            yield name


@pytest.mark.parametrize("name", list(with_tensors()))
def test_it_says_the_shapes_of_tensors(name):
    said = documentation(CALLABLES[name])
    assert re.search(r"`\([^`]*[,…][^`]*\)`|same shape|scalar", said)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_it_speaks_of_each_argument(name):
    one = FUNCTIONS[name]
    said = documentation(one)
    assert [p for p in taken(one) if not re.search(rf"\b{p}\b", said)] == []


@pytest.mark.parametrize("name", [name for name, one in CLASSES.items() if is_dataclass(one)])
def test_it_speaks_of_each_field(name):
    said = documentation(PUBLIC[name])
    own = [one.name for one in fields(PUBLIC[name])]
    assert [field for field in own if not re.search(rf"\b{field}\b", said)] == []


SOURCE = r"arXiv \d{4}\.\d{4,5}|doi:10\.\d{4}|arXiv\s+\d{4}\.\d{4,5}"
# What is only our own arrangement, and what PyTorch documents.
OURS = {
    *(
        "balanced",
        "count_sweep",
        "is_budget",
        "load",
        "lower",
        "parameter_groups",
        "relative_error",
        "roles",
        "save",
        "to_onnx",
        "to_plain",
        "tune",
    ),
    *("partition_macs", "conformance", "fractions", "kernel_shapes", "kernels", "requests"),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_published_method_has_its_source(name):
    cites = re.search(SOURCE, documentation(FUNCTIONS[name])) is not None
    assert cites == (name.rpartition(".")[2] not in OURS)


BUILT_IN = [
    *((factorizations, name) for name in factorizations.names()),
    *((implementations, name) for name in implementations.names()),
]
WITHOUT_SOURCE = {"auto", "onnxruntime", "reconstructed", "tensor_ring"}


@pytest.mark.parametrize(("registry", "name"), BUILT_IN)
def test_a_built_in_plugin_has_its_source(registry, name):
    if registry[name].__module__.startswith("tenfold_plugins"):
        cites = re.search(SOURCE, documentation(registry[name])) is not None
        assert cites == (name not in WITHOUT_SOURCE)


def values() -> set[str]:
    """The public names that are neither classes nor functions."""
    return {name for name in PUBLIC if name not in CLASSES and name not in FUNCTIONS}


@pytest.mark.parametrize("name", sorted({*values(), "tenfold.factorizations"}))
def test_a_value_has_a_string_after_it(name):
    name = name.rpartition(".")[2]
    said = [
        after.value.value
        for file in Path(tenfold.__file__).parent.rglob("*.py")
        for before, after in pairwise(ast.parse(file.read_text()).body)
        if isinstance(before, ast.Assign | ast.AnnAssign) and isinstance(after, ast.Expr)
        if ast.unparse(before).startswith((f"{name} ", f"{name}:"))
    ]
    assert [len(text) > 20 for text in said] == [True]
