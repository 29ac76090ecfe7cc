"""Exported programs and compiled packages run in a process that has imported attnc and torch, and never saw the text.

One process exports, another loads; between them there are files, and what the first one computed at another length.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.runtime.operator.test_op import needs_compiler

TEXT = """
pattern near(g: tokens, doc: int[token]) = (abs(q - k) <= 9 and doc[q] == doc[k]) or k in g
attention sloped(slope: float[head]) { mask = k <= q  score = s - slope[head] * (q - k) }
pattern causal = k <= q and q - k < 30
"""
EXPORT = f"""
import sys, torch, attnc

module = attnc.loads({TEXT!r})
near, sloped, causal = module.near(), module.sloped(), module.causal()


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.slope = torch.nn.Parameter(torch.tensor([0.5, 0.25]))

    def forward(self, q, k, v, doc, g):
        first = near(q, k, v, doc=doc, g=g)
        return torch.relu(causal(first, k, v)) + sloped(q, k, v, slope=self.slope)


def inputs(n):
    torch.manual_seed(n)
    q, k, v = (torch.randn(2, 2, n, 8) for _ in range(3))
    return q, k, v, torch.arange(n) // 21, torch.tensor([3, 5])


n = torch.export.Dim("n", min=2, max=4096)
sizes = {{2: n}}, {{2: n}}, {{2: n}}, {{0: n}}, None
program = torch.export.export(Net(), inputs(40), dynamic_shapes=sizes)
if sys.argv[1] == "package":
    torch._inductor.aoti_compile_and_package(program, package_path="net.pt2")
else:
    torch.export.save(program, "net.pt2")
with torch.no_grad():
    torch.save([(inputs(n), Net()(*inputs(n))) for n in (40, 77, 200)], "cases.pt")
"""
LOAD = {
    "program": "net = torch.export.load('net.pt2').module()",
    "package": "net = torch._inductor.aoti_load_package('net.pt2')",
}
RUN = """
{imports}
{load}
assert "attnc.compiler.modules" not in sys.modules, "nothing was bound before the call"
with torch.no_grad():
    for inputs, expected in torch.load("cases.pt"):
        torch.testing.assert_close(net(*inputs), expected)
assert attnc.launches()["cpp.forward"] == 9, attnc.launches()
"""
IMPORTS = ("import sys, attnc, torch", "import sys, torch, attnc")


UNQUOTED = pytest.mark.skipif(
    " " in torch.__file__, reason="torch's own command that links a package does not quote where torch lies"
)


def python(code: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TORCHINDUCTOR_CACHE_DIR": str(folder / "c")}
    for name in ("ATTNC_BACKEND", "ATTNC_INTERPRET"):
        environment.pop(name, None)
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=500,
    )  # fmt: skip


def succeeds(code: str, folder: Path, *arguments: str) -> None:
    ran = python(code, folder, *arguments)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.long
@needs_compiler
@pytest.mark.parametrize("kind", ["program", pytest.param("package", marks=UNQUOTED)])
def test_it_runs_where_nothing_was_bound(kind: str, tmp_path: Path) -> None:
    succeeds(EXPORT, tmp_path, kind)
    for imports in IMPORTS:
        succeeds(RUN.format(imports=imports, load=LOAD[kind]), tmp_path)
    if kind == "program":
        _check_damage(tmp_path)


def _check_damage(folder: Path) -> None:
    """What a program says whose attention is damaged, or is of another version."""
    for old, new, fault in (("k;q;", "k;z;", "attention: is damaged"), ("attnc:1:", "attnc:2:", "has the form '2'")):
        code = f"""
import attnc, torch
program = torch.export.load("net.pt2")
for node in program.graph.nodes:
    node.args = tuple(x.replace({old!r}, {new!r}) if isinstance(x, str) else x for x in node.args)
program.graph_module.recompile()
inputs, _ = torch.load("cases.pt")[0]
program.module()(*inputs)
"""
        ran = python(code, folder)
        assert ran.returncode != 0
        assert fault in ran.stderr.splitlines()[-1], ran.stderr


@needs_compiler
def test_the_operator_alone_is_enough(tmp_path: Path) -> None:
    """What packages call, forward and backward, without the time that it takes to compile one."""
    import attnc

    attend = attnc.loads("pattern causal = k <= q").causal()
    line = json.dumps(attend._name)
    code = f"""
import attnc, torch
q, k, v = torch.randn(3, 1, 2, 9, 8)
rest = "", None, None, 0, None, 0, None, None, 0.0, {line}
out, lse = torch.ops.attnc.forward.default(q, k, v, [], *rest)
expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
torch.testing.assert_close(out, expected)
q.requires_grad_()
out, lse = torch.ops.attnc.forward.default(q, k, v, [], *rest)
found, = torch.autograd.grad(out.sum(), q)
wanted, = torch.autograd.grad(torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True).sum(), q)
torch.testing.assert_close(found, wanted)
"""
    succeeds(code, tmp_path)


# When the operators are registered

REGISTERED = "assert torch.ops.attnc.forward.default, torch.ops.attnc.backward.default"
LIGHT = "assert not {'torch._dynamo', 'triton', 'attnc.runtime.op'} & {*sys.modules}"
NO_HOOK = "assert not [f for f in sys.meta_path if type(f).__module__ == 'attnc.lazy'], sys.meta_path"


@pytest.mark.parametrize(
    "imports",
    [
        *IMPORTS,
        "import sys, attnc, torch.nn.functional, torch",
        "import sys, attnc, importlib.util; importlib.util.find_spec('torch'); import torch",
        "import sys, attnc, threading; t = [threading.Thread(target=__import__, args=('torch',)) for _ in range(4)]; "
        "[x.start() for x in t]; [x.join() for x in t]; import torch",
    ],
)
def test_registered_once_both_are_imported(imports: str, tmp_path: Path) -> None:
    succeeds("; ".join((imports, REGISTERED, LIGHT, NO_HOOK)), tmp_path)


def test_torch_is_found_as_it_would_be_and_its_loader_is_its_own(tmp_path: Path) -> None:
    code = """
import attnc, torch, importlib.machinery, inspect
assert type(torch.__spec__.loader) is importlib.machinery.SourceFileLoader
assert "exec_module" not in vars(torch.__spec__.loader)
assert torch.__spec__.origin == torch.__file__ and inspect.getsource(torch.nn)
"""
    succeeds(code, tmp_path)


def test_a_torch_that_cannot_be_imported_is_tried_again(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text(
        "import os\nif os.environ.get('broken'): raise OSError('broken')\n"
    )
    (tmp_path / "after.py").write_text("import sys\nsys.modules['package'].seen = True\n")
    code = """
import os, sys
sys.path.insert(0, ".")
from attnc.lazy import once_imported
once_imported("package", "after")
os.environ["broken"] = "1"
for _ in range(2):
    try:
        import package
    except OSError:
        pass
assert "after" not in sys.modules
os.environ["broken"] = ""
import package
assert package.seen
"""
    succeeds(code, tmp_path)


def test_a_torch_that_is_not_there_is_missed_as_usual(tmp_path: Path) -> None:
    code = """
from attnc.lazy import once_imported
once_imported("no_such_package", "attnc.lazy")
try:
    import no_such_package
except ModuleNotFoundError as error:
    assert str(error) == "No module named 'no_such_package'"
else:
    raise AssertionError
"""
    succeeds(code, tmp_path)


def test_torch_is_imported_though_what_comes_after_it_fails(tmp_path: Path) -> None:
    (tmp_path / "package.py").write_text("")
    (tmp_path / "after.py").write_text("raise RuntimeError\n")
    code = "import sys; sys.path.insert(0, '.'); from attnc.lazy import once_imported; "
    succeeds(f"{code}once_imported('package', 'after'); import package", tmp_path)


def test_schemas_are_those_of_the_functions_that_run() -> None:
    from inspect import signature

    from attnc.runtime.op import fake_forward, run_backward, run_forward

    for schema, function in (
        (torch.ops.attnc.forward.default._schema, run_forward),
        (torch.ops.attnc.backward.default._schema, run_backward),
    ):
        assert [argument.name for argument in schema.arguments] == list(signature(function).parameters)
    assert len(signature(fake_forward).parameters) == len(torch.ops.attnc.forward.default._schema.arguments)
