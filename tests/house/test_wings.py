"""Imports run one way between wings, through their fronts, and what a folder must not touch it does not touch.

A wing is a folder of modules, or the modules that stand in compiler/, runtime/ or attnc/ themselves. WINGS says for
each the wings that it may import from (``depends_on``). What another wing needs is taken from the wing's own
``__init__``, whose ``__all__`` is its public surface; no import reaches deeper.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import lru_cache
from importlib import import_module
from inspect import ismodule
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("compiler", "runtime", "attnc")
PACKAGES = ("compiler", "runtime")  # their own files are empty but for a line that says what they are
LINKED = ("compiler", "runtime", "templates", "patterns")

WINGS: dict[str, tuple[str, ...]] = {
    wing: tuple(depends_on.split())
    for wing, depends_on in {
        "compiler.diagnostics": "",
        "compiler.ir": "compiler.diagnostics",
        "compiler.syntax": "compiler.diagnostics compiler.ir",
        "compiler.formatter": "compiler.diagnostics compiler.syntax",
        "compiler.checker": "compiler.diagnostics compiler.ir compiler.syntax",
        "compiler.modules": "compiler.checker compiler.diagnostics compiler.ir compiler.syntax",
        "compiler.oracle": "compiler.diagnostics compiler.ir",
        "compiler.plan": "compiler.ir",
        "compiler.analysis": "compiler.ir compiler.oracle compiler.plan",
        "compiler.arrange": "compiler.analysis compiler.ir compiler.oracle compiler.plan",
        "compiler.schedule": "compiler.analysis compiler.ir compiler.oracle compiler.plan",
        "compiler.codegen": "compiler.diagnostics compiler.ir compiler.plan",
        "compiler.codegen.cpp": "compiler.codegen compiler.ir compiler.plan",
        "compiler.codegen.triton": "compiler.codegen compiler.ir compiler.plan",
        "compiler.codegen.planner": "compiler.codegen compiler.codegen.triton compiler.ir compiler.plan",
        "compiler.proofs": "compiler.ir compiler.plan",
        "compiler.verify": (
            "compiler.analysis compiler.diagnostics compiler.ir compiler.modules compiler.oracle "
            "compiler.plan compiler.proofs compiler.schedule"
        ),
        "runtime.base": "compiler.codegen compiler.ir compiler.plan",
        "runtime.registration": "",
        "runtime.call": (
            "compiler.checker compiler.diagnostics compiler.ir compiler.oracle compiler.plan compiler.verify "
            "runtime.base"
        ),
        "runtime.eager": (
            "compiler.diagnostics compiler.ir compiler.oracle compiler.plan compiler.schedule "
            "compiler.verify runtime.base runtime.call"
        ),
        "runtime.cpp": (
            "compiler compiler.codegen compiler.codegen.cpp compiler.ir compiler.plan compiler.schedule runtime.base"
        ),
        "runtime.triton": (
            "compiler compiler.codegen compiler.codegen.planner compiler.codegen.triton compiler.ir compiler.plan "
            "compiler.schedule runtime.base"
        ),
        "attnc.inspection": (
            "attnc compiler compiler.checker compiler.diagnostics compiler.ir compiler.modules "
            "compiler.oracle compiler.plan compiler.verify runtime runtime.base runtime.cpp"
        ),
        "attnc.measuring": "attnc attnc.inspection compiler.ir compiler.plan runtime runtime.base runtime.cpp",
        "attnc.pictures": (
            "attnc.inspection compiler compiler.analysis compiler.ir compiler.oracle compiler.plan "
            "compiler.schedule compiler.verify"
        ),
        "attnc.testing": (
            "attnc attnc.inspection attnc.measuring compiler.diagnostics compiler.ir compiler.modules compiler.plan "
            "compiler.verify runtime.base"
        ),
        "attnc.cli": (
            "attnc attnc.inspection attnc.integrations.transformers.audit attnc.measuring attnc.pictures compiler "
            "compiler.checker compiler.diagnostics compiler.formatter compiler.ir compiler.modules compiler.plan "
            "compiler.syntax runtime runtime.base"
        ),
        "attnc.integrations.transformers": (
            "attnc attnc.integrations.transformers.caches attnc.integrations.transformers.swaps"
        ),
        "attnc.integrations.transformers.audit": (
            "attnc attnc.integrations.transformers.swaps attnc.testing compiler.ir compiler.verify"
        ),
        "attnc.integrations.transformers.caches": "attnc compiler.analysis compiler.ir",
        "attnc.integrations.transformers.swaps": "attnc attnc.integrations.transformers.caches compiler.ir",
        "compiler": (
            "compiler.analysis compiler.arrange compiler.codegen compiler.ir compiler.modules compiler.oracle "
            "compiler.plan compiler.schedule compiler.syntax compiler.verify"
        ),
        "runtime": (
            "compiler compiler.analysis compiler.arrange compiler.codegen.cpp compiler.codegen.triton "
            "compiler.diagnostics compiler.ir compiler.oracle compiler.plan compiler.schedule compiler.verify "
            "runtime.base runtime.call runtime.cpp runtime.eager runtime.registration runtime.triton"
        ),
        "attnc": (
            "compiler compiler.analysis compiler.checker compiler.codegen compiler.diagnostics compiler.ir "
            "compiler.modules compiler.oracle compiler.plan compiler.proofs compiler.schedule compiler.verify runtime "
            "attnc.packing runtime.base runtime.call runtime.eager"
        ),
        "attnc.packing": "compiler.analysis compiler.ir runtime.base runtime.call",
    }.items()
}
PUBLIC = {
    "attnc.measuring": ("Contestant", "Times", "in_turn", "passes_in_turn", "ratio"),
    "attnc.integrations.transformers": (
        "Options",
        "PatternCache",
        "PatternCacheLayer",
        "PatternMask",
        "TEXTS",
        "Undo",
        "forget_warnings",
        "options",
        "set_options",
        "use",
    ),
    "attnc.integrations.transformers.audit": (
        "AppliedMask",
        "DeclaredMask",
        "Difference",
        "Finding",
        "Scenario",
        "declared",
        "of_attention",
        "read_masks",
        "scenarios",
    ),
    "attnc.integrations.transformers.caches": (
        "HeldKeys",
        "PatternCache",
        "PatternCacheLayer",
        "Run",
        "attend",
        "held_keys",
    ),
    "attnc.testing": (
        "SHAPES",
        "Shape",
        "applied_mask",
        "assert_mask",
        "assert_matches_reference",
        "assert_support",
        "patterns",
        "shapes",
        "tables",
    ),
}
MOST_MODULES = 12  # in a folder, beside `__init__`
EVERYWHERE = "attnc.lazy"  # how a package shows names late: it imports nothing of the house

# Beside the standard library. What another line of this table allows, the folder's own modules may still not need.
THIRD_PARTY = {
    "compiler": {"numpy", "lark", "jinja2", "islpy"},
    "runtime": {"numpy", "torch", "triton", "platformdirs"},
    "attnc": {"numpy", "torch", "click", "rich", "PIL", "transformers", "pytest", "hypothesis"},
}
# Of the top-level folders, which may be imported from which.
FOLDERS_BELOW = {
    "compiler": {"compiler", "templates", "patterns", "lazy"},
    "runtime": {"compiler", "runtime", "templates", "lazy"},
    "attnc": {"attnc", "compiler", "runtime", "templates", "patterns"},
}
BANNED_CALLS = {"eval", "exec", "__import__", "compile"}
BANNED_ATTRIBUTES = {"from_string", "system", "popen"}
BANNED_MODULES = {"pickle", "marshal", "shelve", "dill", "cloudpickle"}
WRITING_CALLS = {
    "write_text", "write_bytes", "mkdir", "makedirs", "unlink", "rmdir", "rename", "replace_file", "touch",
    "symlink_to", "hardlink_to", "chmod", "rmtree", "mkstemp", "mkdtemp",
}  # fmt: skip


@lru_cache(maxsize=1)
def modules() -> dict[str, Path]:
    """Every module of the house, by its name without the package: ``compiler.ir.expressions``, ``runtime.op``."""
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


@lru_cache(maxsize=1)
def parsed() -> list[tuple[str, Path, ast.Module]]:
    return [(name, path, ast.parse(path.read_text(encoding="utf-8"))) for name, path in modules().items()]


def graph() -> dict[str, set[str]]:
    """For each module the modules that it imports. A package counts only where something is taken from itself."""
    known = modules()
    edges = {}
    for name, path, tree in parsed():
        found = {target for imported, _ in imports(tree, path) if (target := ours(imported, known))}
        # A module takes its siblings through its own package: that is no import of the package.
        edges[name] = {target for target in found if target not in PACKAGES and not f"{name}.".startswith(f"{target}.")}
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


def wing_of(name: str) -> str:
    """The wing that holds a module: the longest of their names that begins its own."""
    return max((wing for wing in WINGS if name == wing or name.startswith(f"{wing}.")), key=len, default="")


def is_deep(name: str, wing: str) -> bool:
    """Whether an import reaches past the front of a wing. Modules that stand in a top-level folder are its front."""
    return name.count(".") > wing.count(".") + (wing in FOLDERS)


def crossings() -> Iterator[tuple[str, str, str, str]]:
    """Each import from one wing to another: the module, where, the package or module named, and what is taken of it."""
    known = modules()
    for name, path, tree in parsed():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.level:
                here = package(path)
                full = ".".join([*here[: len(here) - node.level + 1], *([node.module] if node.module else [])])
                short = ours(full, known) or full
                for alias in node.names:
                    target = f"{short}.{alias.name}" if f"{short}.{alias.name}" in known else short
                    if short == "attnc" and alias.name in LINKED:
                        continue
                    if target in known and target != EVERYWHERE and wing_of(target) != wing_of(name):
                        yield name, f"{path.relative_to(ROOT)}:{node.lineno}", short, alias.name


def test_every_wing_is_there_and_holds_few_modules() -> None:
    sizes: dict[str, int] = dict.fromkeys(WINGS, 0)
    for name, path in modules().items():
        assert path.name == "__init__.py" or wing_of(name) == name.rpartition(".")[0], f"{name} stands in no wing"
        sizes[wing_of(name)] += path.name != "__init__.py"
    assert all(sizes.values()), "a wing without a module"
    assert {wing: size for wing, size in sizes.items() if size > MOST_MODULES} == {}


def test_wings_depend_one_way() -> None:
    assert cycle({wing: set(below) for wing, below in WINGS.items()}) == []


def test_a_wing_imports_from_what_it_depends_on() -> None:
    used: dict[str, set[str]] = {wing: set() for wing in WINGS}
    for name, _, target, taken in crossings():
        used[wing_of(name)].add(wing_of(f"{target}.{taken}"))
    assert {wing: sorted(below) for wing, below in used.items()} == {w: sorted(below) for w, below in WINGS.items()}


def test_no_import_reaches_past_the_front_of_a_wing() -> None:
    deep = [f"{where} imports {t}" for _, where, t, _ in crossings() if is_deep(t, wing_of(t))]
    assert deep == []
    assert is_deep("compiler.ir.expressions", "compiler.ir")
    assert is_deep("compiler.ir.expressions", "compiler")
    assert not is_deep("compiler.ir", "compiler.ir")
    assert not is_deep("runtime.op", "runtime")


def surface(wing: str) -> tuple[str, ...]:
    """What the ``__all__`` of a wing names."""
    tree = ast.parse(modules()[wing].read_text(encoding="utf-8"))
    found = [
        node.value for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    ]
    return tuple(ast.literal_eval(found[0])) if found else ()


@pytest.mark.parametrize("wing", [wing for wing in WINGS if wing not in FOLDERS])
def test_a_front_shows_what_others_take(wing: str) -> None:
    taken = {name for _, _, target, name in crossings() if target == wing}
    assert taken <= set(surface(wing))
    assert set(surface(wing)) - taken <= set(PUBLIC.get(wing, ())), "shown, and taken by nobody"
    # Else what a package's name means would hang on what was imported before.
    mine = {name.removeprefix(f"{wing}.") for name in modules() if name.startswith(f"{wing}.")}
    package = import_module(f"attnc.{wing.removeprefix('attnc.')}")
    for name in surface(wing):
        assert name not in mine or ismodule(getattr(package, name)), f"{name} is a module of {wing}, and another thing"


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
    assert users == ["compiler.codegen.source"]


def test_no_kernel_is_made_by_searching_in_text() -> None:
    """Names are chosen where an expression is lowered: nothing finds or changes them in the text afterwards."""
    users = [name for name, path, tree in parsed() if any(target == "re" for target, _ in imports(tree, path))]
    assert users
    assert [name for name in users if wing_of(name).startswith("compiler.codegen")] == []


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
