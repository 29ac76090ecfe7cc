"""Imports run one way, and what a folder must not touch it does not touch.

LAYERS is the order of the house, first to last: a module imports from its own layer or from earlier ones, and no two
modules import each other, directly or round a corner. A new module is put into the table where it belongs.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("compiler", "runtime", "attnc")
PACKAGES = ("compiler", "runtime")  # their own files are empty but for a line that says what they are
LINKED = ("compiler", "runtime", "templates", "patterns")

LAYERS: dict[str, tuple[str, ...]] = {
    "what everything speaks of": (
        "compiler", "compiler.catalogue", "compiler.visible", "compiler.diagnostics", "compiler.limits", "compiler.ir",
        "compiler.extent", "compiler.plan",
        "compiler.source",
    ),
    "expressions": ("compiler.fold", "compiler.derive", "compiler.describe", "compiler.structure"),
    "text to tree": (
        "compiler.scan", "compiler.tree", "compiler.reports", "compiler.collector", "compiler.parser_tables",
        "compiler.automaton", "compiler.hints", "compiler.misfit", "compiler.grow", "compiler.parse",
    ),
    "text to text": ("compiler.pretty", "compiler.layout", "compiler.format"),
    "tree to module": (
        "compiler.advice", "compiler.trial", "compiler.signature", "compiler.types", "compiler.values",
        "compiler.scope", "compiler.context", "compiler.operators", "compiler.sets", "compiler.arguments",
        "compiler.shipped", "compiler.names", "compiler.entries", "compiler.expressions", "compiler.attentions",
        "compiler.owners", "compiler.models", "compiler.check", "compiler.fill", "compiler.fill_tests",
        "compiler.imports", "compiler.module",
    ),
    "the oracle": (
        "compiler.membership", "compiler.outside", "compiler.dense", "compiler.contents", "compiler.evaluate",
        "compiler.samples",
    ),
    "program and schedule": (
        "compiler.normalise", "compiler.settle", "compiler.candidates", "compiler.assemble", "compiler.cost",
        "compiler.groups", "compiler.arrange", "compiler.forms", "compiler.lookup", "compiler.lookup_members",
        "compiler.magnitudes",
        "compiler.classify",
        "compiler.orders", "compiler.boxes", "compiler.descend", "compiler.runs", "compiler.template", "compiler.halo",
        "compiler.listing", "compiler.search", "compiler.ways", "compiler.schedule", "compiler.reach",
        "compiler.integers", "compiler.ranges", "compiler.execute", "compiler.visits", "compiler.counts",
        "compiler.describe_stages", "compiler.pairs", "compiler.uses", "compiler.claims",
    ),
    "kernels": (
        "compiler.render", "compiler.emit", "compiler.emit_cpp", "compiler.cpp_stages", "compiler.render_cpp",
        "compiler.emit_triton",
        "compiler.triton_variant", "compiler.triton_sites", "compiler.triton_orders", "compiler.triton_body",
        "compiler.triton_kernels", "compiler.triton_signature", "compiler.render_triton", "compiler.triton_steps",
    ),
    "the way through": ("compiler.stages", "compiler.driver"),
    "settings, launches and what is kept": (
        "runtime", "runtime.settings", "runtime.launch", "runtime.launches", "runtime.dropout", "runtime.identity",
        "runtime.cache", "runtime.built", "runtime.command", "runtime.elf", "runtime.loads", "runtime.scratch",
        "runtime.build", "runtime.triton_modules",
    ),
    "one call": (
        "runtime.faults", "runtime.host", "runtime.arguments", "runtime.tables", "runtime.comparisons", "runtime.call",
    ),
    "executors": (
        "runtime.arrays", "runtime.products", "runtime.merge", "runtime.levels", "runtime.reference",
        "runtime.blocked",
        "runtime.cpu_arguments", "runtime.cpu", "runtime.gpu_arguments", "runtime.gpu", "runtime.aot",
        "runtime.executors",
    ),
    "the operator": ("runtime.verify", "runtime.planning", "runtime.batching", "runtime.derivatives", "runtime.op"),
    "the face": ("attnc.facts", "attnc.call_plan", "attnc.source", "attnc.attention", "attnc"),
    "the command line": (
        "attnc.inspection.stage_at_work", "attnc.inspection.errors", "attnc.cli.terminal", "attnc.cli.explain", "attnc.pictures.picture", "attnc.pictures.tile_walks", "attnc.pictures.sample",
        "attnc.inspection.example_inputs", "attnc.inspection.subject", "attnc.inspection.picture_size", "attnc.pictures.tiled", "attnc.cli.show", "attnc.pictures.export",
        "attnc.inspection.side_by_side", "attnc.inspection.attn_files", "attnc.inspection.stdin",
        "attnc.inspection.claims", "attnc.cli.progress", "attnc.inspection.measurement", "attnc.cli.fmt", "attnc.cli.check", "attnc.pictures.grid",
        "attnc.pictures.model_overview", "attnc.cli.status", "attnc.cli.completion", "attnc.cli.main",
        "attnc.testing.pytest_plugin",
    ),
    "for tests": ("attnc.testing.call_shapes", "attnc.testing.mask_assertions", "attnc.testing.agreement", "attnc.testing.strategies", "attnc.testing.assertions"),
}  # fmt: skip

# Beside the standard library. What another line of this table allows, the folder's own modules may still not need.
THIRD_PARTY = {
    "compiler": {"numpy", "lark", "jinja2", "islpy"},
    "runtime": {"numpy", "torch", "triton", "platformdirs"},
    "attnc": {"numpy", "torch", "click", "rich", "PIL", "transformers", "pytest", "hypothesis"},
}
# Of the top-level folders, which may be imported from which.
FOLDERS_BELOW = {
    "compiler": {"compiler", "templates", "patterns"},
    "runtime": {"compiler", "runtime", "templates"},
    "attnc": {"attnc", "compiler", "runtime", "templates", "patterns"},
}
BANNED_CALLS = {"eval", "exec", "__import__", "compile"}
BANNED_ATTRIBUTES = {"from_string", "system", "popen"}
BANNED_MODULES = {"pickle", "marshal", "shelve", "dill", "cloudpickle"}
WRITING_CALLS = {
    "write_text", "write_bytes", "mkdir", "makedirs", "unlink", "rmdir", "rename", "replace_file", "touch",
    "symlink_to", "hardlink_to", "chmod", "rmtree", "mkstemp", "mkdtemp",
}  # fmt: skip


def modules() -> dict[str, Path]:
    """Every module of the house, by its name without the package: ``compiler.ir.expression``, ``runtime.op``, ``attnc.cli.main``."""
    found = {}
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(part for part in parts if part != "__init__")] = path
    # Some Pythons follow attnc's links: each folder is read once, by its own name.
    return {name: path for name, path in found.items() if not name.startswith(tuple(f"attnc.{f}" for f in LINKED))}


def package(path: Path) -> tuple[str, ...]:
    """The package that a module's relative imports count from; compiler/ and runtime/ are folders of attnc."""
    parts = path.relative_to(ROOT).parts[:-1]
    return parts if parts[0] == "attnc" else ("attnc", *parts)


def imports(tree: ast.AST, path: Path) -> Iterator[tuple[str, int]]:
    """Everything that a module imports, at any depth, by absolute name: ``attnc.compiler.ir``, ``numpy.typing``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            here = package(path)
            base = here[: len(here) - node.level + 1] if node.level else ()
            name = ".".join([*base, *([node.module] if node.module else [])])
            if not (name == "attnc" and all(alias.name in LINKED for alias in node.names)):  # through it, not from it
                yield name, node.lineno
            yield from ((f"{name}.{alias.name}", node.lineno) for alias in node.names)


def ours(name: str, known: dict[str, Path]) -> str | None:
    """The house's own name of an imported module, or None for what is no module of the house."""
    if name.startswith("attnc."):
        short = name.removeprefix("attnc.")
        return short if short in known else name if name in known else None
    return name if name in known else None


def parsed() -> list[tuple[str, Path, ast.Module]]:
    return [(name, path, ast.parse(path.read_text(encoding="utf-8"))) for name, path in modules().items()]


def graph() -> dict[str, set[str]]:
    """For each module the modules that it imports. A package counts only where something is taken from itself."""
    known = modules()
    edges = {}
    for name, path, tree in parsed():
        found = {target for imported, _ in imports(tree, path) if (target := ours(imported, known))}
        edges[name] = {target for target in found - {name} if target not in PACKAGES}
    return edges


def cycle(edges: dict[str, set[str]]) -> list[str]:
    """One way round from a module to itself, or nothing."""
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        for target in sorted(edges.get(name, ())):
            if found := visit(target, [*path, name]):
                return found
        done.add(name)
        return []

    return next((found for name in sorted(edges) if (found := visit(name, []))), [])


def test_no_module_imports_its_importer() -> None:
    assert cycle(graph()) == []


def test_a_cycle_would_be_found() -> None:
    assert cycle({"a": {"b"}, "b": {"c"}, "c": {"a"}}) == ["a", "b", "c", "a"]
    assert cycle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_every_module_has_its_place() -> None:
    placed = [name for layer in LAYERS.values() for name in layer]
    assert sorted(placed) == sorted(modules())
    assert len(placed) == len(set(placed))


def test_imports_point_to_earlier_layers() -> None:
    rank = {name: number for number, layer in enumerate(LAYERS.values()) for name in layer}
    wrong = [
        f"{name} imports {target}, which comes later"
        for name, targets in graph().items()
        for target in targets
        if rank[target] > rank[name]
    ]
    assert wrong == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_imports_only_what_it_may(folder: str) -> None:
    wrong = []
    for name, path, tree in parsed():
        if name.split(".")[0] != folder:
            continue
        for target, line in imports(tree, path):
            top, *rest = target.split(".")
            if top == "attnc":
                allowed = not rest or rest[0] in FOLDERS_BELOW[folder] or folder == "attnc"
            else:
                allowed = top in sys.stdlib_module_names or top in THIRD_PARTY[folder]
            if not allowed:
                wrong.append(f"{path.relative_to(ROOT)}:{line} imports {target}")
    assert wrong == []


def test_inside_the_package_imports_are_relative() -> None:
    wrong = []
    for _, path, tree in parsed():
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            wrong += [
                f"{path.relative_to(ROOT)}:{node.lineno} imports {name}"
                for name in names
                if name.split(".")[0] in ("attnc", "compiler", "runtime", "templates", "patterns")
            ]
    assert wrong == []


def test_one_module_imports_jinja2() -> None:
    users = [name for name, path, tree in parsed() if any(t.split(".")[0] == "jinja2" for t, _ in imports(tree, path))]
    assert users == ["compiler.render"]


def called(node: ast.AST) -> tuple[str, bool]:
    """What a call calls, and whether as an attribute of something."""
    if isinstance(node, ast.Call):
        if isinstance(node.func, ast.Name):
            return node.func.id, False
        if isinstance(node.func, ast.Attribute):
            return node.func.attr, True
    return "", False


def writes(tree: ast.AST) -> list[int]:
    """Lines that write a file or read the environment."""
    lines = []
    for node in ast.walk(tree):
        name, attribute = called(node)
        opens = name == "open" and isinstance(node, ast.Call)
        mode = [a.value for a in node.args if isinstance(a, ast.Constant)] if opens else []
        if opens and any(isinstance(m, str) and set(m) & set("wax+") and len(m) <= 3 for m in mode):
            lines.append(node.lineno)
        if name in WRITING_CALLS and attribute:
            lines.append(node.lineno)
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv", "putenv"):
            lines.append(node.lineno)
    return lines


def test_the_compiler_writes_nothing_and_asks_no_environment() -> None:
    assert [(name, writes(tree)) for name, _, tree in parsed() if name.startswith("compiler") and writes(tree)] == []


def dangers(tree: ast.AST) -> list[str]:
    """Ways to run text as code, or to load data that can."""
    found = []
    for node in ast.walk(tree):
        name, attribute = called(node)
        if (name in BANNED_CALLS and not attribute) or (name in BANNED_ATTRIBUTES and attribute):
            found.append(f"{node.lineno}: {name}()")
        if isinstance(node, ast.keyword) and node.arg == "shell":
            found.append(f"{node.value.lineno}: shell=")
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            found += [f"{node.lineno}: {n}" for n in names if n.split(".")[0] in BANNED_MODULES]
    return found


def test_nothing_runs_text_as_code() -> None:
    paths = [*modules().values(), *(ROOT / "examples").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]
    wrong = [
        f"{path.relative_to(ROOT)}:{danger}"
        for path in paths
        for danger in dangers(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert wrong == []


@pytest.mark.parametrize(
    "text",
    [
        "eval('1')", "exec(code)", "import pickle", "from pickle import loads", "run(line, shell=True)",
        "environment.from_string(text)", "os.system('ls')", "__import__(name)",
    ],
)  # fmt: skip
def test_each_danger_would_be_found(text: str) -> None:
    assert dangers(ast.parse(text))
    assert not dangers(ast.parse("model.eval(); re.compile('x'); torch.compile(f); subprocess.run(['ls'])"))


@pytest.mark.parametrize("text", ["path.write_text('x')", "open(p, 'w')", "os.environ['X']", "os.getenv('X')"])
def test_each_write_would_be_found(text: str) -> None:
    assert writes(ast.parse(text))
    assert not writes(ast.parse("open(p); path.read_text(); open(p, 'rb')"))
