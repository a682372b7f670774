"""Who imports whom: plugins only when asked for, core no plugin, plugins only public names."""

import ast
import json
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest
from tests.public import LISTED

import tenfold

ROOT = Path(__file__).parent.parent.parent
CORE = sorted((ROOT / "core").rglob("*.py"))
PLUGINS = sorted((ROOT / "plugins").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
UNWANTED = {"tensorly", "matplotlib", "hypothesis", "pytest", "onnx", "onnxruntime", "openvino"}
ENTRY_POINTS = [
    point
    for point in distribution("tenfold").entry_points
    if point.group.startswith("tenfold.") or point.group == "console_scripts"
]
BEHIND_ENTRY_POINTS = {
    point.module for point in ENTRY_POINTS if point.module.startswith("tenfold_plugins.")
}


def modules_after(code):
    """The modules that a fresh process has imported after `code`."""
    shown = f"{code}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", shown], capture_output=True, check=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def imported(path):
    """What a file imports, as absolute `(module, name)`; the name is None for `import module`."""
    package = module_name(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(alias.name, None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            found += [(module, alias.name) for alias in node.names]
    return found


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts[1:]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def plugin_files(path):
    """The files of `tenfold_plugins` that a file imports."""
    files = {module_name(path) for path in PLUGINS}
    named = {
        f"{module}.{name}" if f"{module}.{name}" in files else module
        for module, name in imported(path)
    }
    return named & files


class TestFreshProcesses:
    @pytest.mark.parametrize(
        "code", ["import tenfold", "import tenfold.commands.app", "import tenfold.plugin.hooks"]
    )
    def test_importing_tenfold_imports_no_plugin_and_nothing_heavy(self, code):
        tops = {module.split(".")[0] for module in modules_after(code)}
        assert "torch" in tops
        assert tops & {"tenfold_plugins", "tenfold_tensor_ring", *UNWANTED} == set()

    def test_listing_the_names_imports_no_plugin(self):
        code = "import tenfold; assert 'cp' in tenfold.factorizations.names()"
        assert not any(module.startswith("tenfold_") for module in modules_after(code))

    @pytest.mark.parametrize(
        ("code", "wanted"),
        [
            ("tenfold.factorizations['tt']", {"tt"}),
            ("tenfold.implementations['mobilenet']", {"mobilenet"}),
            ("tenfold.FactorizedConv(4, 4, 3, order=2)", {"cp", "factorized"}),
        ],
    )
    def test_asking_for_a_name_imports_that_plugin_only(self, code, wanted):
        modules = modules_after(f"import tenfold; {code}")
        names = {module for module in modules if module.startswith("tenfold_")}
        assert names & BEHIND_ENTRY_POINTS == {f"tenfold_plugins.{name}" for name in wanted}
        assert {name.split(".")[0] for name in names} == {"tenfold_plugins"}
        assert {module.split(".")[0] for module in modules} & UNWANTED == set()


class TestLayers:
    def test_core_imports_no_plugin(self):
        found = {(path.name, module) for path in CORE for module, _ in imported(path)}
        assert {one for one in found if one[1].startswith("tenfold_")} == set()

    @pytest.mark.parametrize("path", PLUGINS, ids=module_name)
    def test_a_plugin_imports_only_public_names_of_core(self, path):
        ours = [one for one in imported(path) if one[0].split(".")[0] == "tenfold"]
        private = [one for one in ours if f"{one[0]}.{one[1]}" not in LISTED]
        assert private == []

    @pytest.mark.parametrize("path", PLUGINS, ids=module_name)
    def test_a_plugin_imports_no_other_plugin(self, path):
        assert plugin_files(path) & BEHIND_ENTRY_POINTS == set()

    def test_nothing_imports_a_source_root_as_a_package(self):
        found = {
            (path.name, one) for path in (*CORE, *PLUGINS, *TESTS) for one, _ in imported(path)
        }
        assert {one for one in found if one[1].split(".")[0] in ("core", "plugins")} == set()

    def test_these_tests_see_what_they_look_for(self):
        assert ("tenfold.algebra", "chain_svd") in imported(ROOT / "plugins/tenfold_plugins/tt.py")
        assert ("tenfold.layer", "FactorizedConv") in imported(
            ROOT / "core/tenfold/demo/formats.py"
        )


class TestEntryPoints:
    def test_there_are_plugins_of_both_kinds_and_a_command(self):
        groups = {point.group for point in ENTRY_POINTS}
        assert groups >= {"tenfold.factorizations", "tenfold.implementations", "console_scripts"}

    @pytest.mark.parametrize("point", ENTRY_POINTS, ids=lambda point: point.name)
    def test_an_entry_point_is_lower_case_and_loads(self, point):
        assert point.name == point.name.lower()
        loaded = point.load()
        assert point.group == "tenfold.hooks" or callable(loaded)

    def test_every_plugin_file_is_a_plugin_or_a_part_of_one(self):
        parts = {part for path in PLUGINS for part in plugin_files(path)}
        files = {module_name(path) for path in PLUGINS} - {"tenfold_plugins"}
        assert sorted([*parts, *BEHIND_ENTRY_POINTS]) == sorted(files)

    def test_every_public_name_exists(self):
        assert len(set(tenfold.__all__)) == len(tenfold.__all__)
        assert all(hasattr(tenfold, name) for name in tenfold.__all__)
