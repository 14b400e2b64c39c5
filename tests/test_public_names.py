"""The public home: users import from `app` exactly the names that docs/public-names.md lists."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import app
from tests.docs.pages import BLOCKS, rows
from tests.end_to_end.process import ROOT

DOCUMENTED = [row[0].strip("`") for row in rows("docs/public-names.md", "name")]
USERS_FILES = [ROOT / "wsgi.py", *sorted((ROOT / "examples").rglob("*.py"))]
SHOWN = {str(block): block.text for block in BLOCKS if block.language == "python"}
WRITTEN = {str(path.relative_to(ROOT)): path.read_text("utf-8") for path in USERS_FILES}
NEVER_BEFORE_USE = ("flask", "gunicorn", "joblib", "msgspec", "numpy", "onnxruntime", "pandas", "sklearn")


def imports_of(source: str) -> Iterator[tuple[str, str]]:
    """Yield the module and the name of each import of this package."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] == "app":
            yield from ((node.module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names if alias.name.partition(".")[0] == "app")


def test_the_table_lists_all_names_once() -> None:
    assert sorted(DOCUMENTED) == sorted(app.__all__)
    assert len({*DOCUMENTED}) == len(DOCUMENTED)


@pytest.mark.parametrize("name", DOCUMENTED)
def test_a_name_can_be_imported_and_has_a_docstring(name: str) -> None:
    namespace: dict[str, object] = {}
    exec(f"from app import {name}", namespace)
    assert inspect.getdoc(namespace[name])
    assert name in dir(app)


def test_type_checkers_see_what_the_interpreter_imports() -> None:
    [branch] = [node for node in ast.parse(Path(app.__file__).read_text("utf-8")).body if isinstance(node, ast.If)]
    typed = {
        node.module: [alias.name for alias in node.names] for node in branch.body if isinstance(node, ast.ImportFrom)
    }
    assert typed == app._HOMES


def test_another_name_is_missing_as_in_any_module() -> None:
    with pytest.raises(AttributeError, match=r"^module 'app' has no attribute 'predict'$"):
        app.predict  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'predict' from 'app'"):
        exec("from app import predict", {})


@pytest.mark.parametrize("source", [*SHOWN.values(), *WRITTEN.values()], ids=[*SHOWN, *WRITTEN])
def test_docs_and_examples_import_public_names_alone(source: str) -> None:
    assert {(module, name) for module, name in imports_of(source)} <= {("app", name) for name in DOCUMENTED}


def test_importing_the_home_loads_nothing_else() -> None:
    loaded = modules_after("import app")
    assert [name for name in loaded if name.startswith("app.")] == []
    assert loaded.isdisjoint(NEVER_BEFORE_USE)


@pytest.mark.slow
def test_steps_and_interceptors_need_no_model_library_and_no_packing() -> None:
    loaded = modules_after("from app import Interceptor, Models, Refused, RequestRefused, create_app, factory, step")
    assert "app.factory" in loaded
    assert loaded.isdisjoint(("aiohttp", "joblib", "pandas", "sklearn"))
    assert [name for name in loaded if name.startswith("app.packing")] == []


def modules_after(statement: str) -> set[str]:
    script = f"import sys\n{statement}\nprint(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env={}, capture_output=True, text=True, check=True)
    return set(ran.stdout.split())


USES = """
from app import Interceptor, Models, PackedVersion, RequestContext, Response, create_app, pack, step

@step("scale")
def scale(outputs: dict[str, list[float]], models: Models) -> dict[str, list[float]]:
    return outputs

class Tenants(Interceptor):
    def after(self, context: RequestContext, response: Response) -> None:
        response.headers.append(("X-Rows", str(context.rows)))

app = create_app(interceptors=[Tenants()])
packed: PackedVersion = pack("model.joblib", "two", target="kind")
reveal_type(packed.version)
reveal_type(scale)
from app import predict
pack(1, 2)
"""


@pytest.mark.slow
def test_mypy_sees_the_types(tmp_path: Path) -> None:
    (tmp_path / "uses.py").write_text(USES)
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", str(tmp_path / "uses.py")]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    said = [line.partition(": ")[2] for line in ran.stdout.splitlines()]
    assert said == [
        'note: Revealed type is "int"',
        'note: Revealed type is "def (outputs: dict[str, list[float]], models: app.core.models.Models) -> '
        'dict[str, list[float]]"',
        'error: Module "app" has no attribute "predict"  [attr-defined]',
        'error: Argument 2 to "pack" has incompatible type "int"; expected "str"  [arg-type]',
    ]


@pytest.mark.slow
def test_the_decorator_and_the_module_called_factory_can_both_be_imported() -> None:
    program = (
        "from app.factory import create_app\n"
        "from app import create_app as public, factory\n"
        "from app.core import steps\n"
        "assert factory is steps.factory and public is create_app\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)
