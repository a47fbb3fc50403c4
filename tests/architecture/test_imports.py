"""Headrace keeps the house rules, and the checker sees each rule broken."""

from pathlib import Path

import pytest

from architecture import violations

ROOT = Path(__file__).parents[2]


def test_the_house_keeps_its_rules() -> None:
    assert violations(ROOT) == []


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A tiny tree that keeps every rule."""
    for path, text in {
        "models/__init__.py": '"""Numbers."""\n',
        "models/errors.py": "class BadInput(Exception): ...\n",
        "models/taste/__init__.py": '"""Taste."""\n',
        "models/taste/readers/__init__.py": '"""Readers."""\n',
        "models/taste/readers/rows.py": "",
        "models/taste/lists/__init__.py": '"""Lists."""\n',
        "models/taste/lists/rank.py": "import math\nimport numpy as np\nfrom models.errors import BadInput\n",
        "models/tasks/__init__.py": '"""Tasks."""\n',
        "models/tasks/tag.py": "import torch\nrng = np.random.default_rng(7)\nshuffle = random.Random(7)\n"
        "torch.load(path, weights_only=True)\n",
        "streams/__init__.py": '"""Streams."""\n',
        "streams/clock.py": "import time\n",
        "streams/settings.py": "import os\nos.environ\n"
        'class Section(BaseModel):\n    """A table."""\n'
        'class Kafka(Section):\n    """How."""\n'
        '    bootstrap: str = Field("x", description="where")\n'
        '    group: str = "g"\n    """Prefix of groups."""\n'
        'class Settings(BaseSettings):\n    """All."""\n    kafka: Kafka = Kafka()\n',
        "streams/transport/__init__.py": '"""Transport."""\n',
        "streams/transport/reader.py": "import aiokafka\nimport faust\nfrom streams.clock import Clock\n"
        "from models.taste.lists.rank import rank\n",
        "streams/observe/__init__.py": '"""Metrics."""\n',
        "streams/observe/catalogue.py": "from prometheus_client import Counter\n",
    }.items():
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    assert violations(tmp_path) == []
    return tmp_path


PLANTED = [
    ("models/tasks/tag.py", "from streams.clock import Clock", "models imports streams"),
    ("models/tasks/tag.py", "def f():\n    import aiokafka", "models imports aiokafka"),
    ("models/tasks/tag.py", "import faust", "models imports faust"),
    ("models/tasks/tag.py", "from prometheus_client import Gauge", "models imports prometheus_client"),
    ("models/tasks/tag.py", "import asyncio", "models imports asyncio"),
    ("models/tasks/tag.py", "random.shuffle(rows)", "global randomness"),
    ("models/tasks/tag.py", "from random import choice", "global randomness"),
    ("models/tasks/tag.py", "from time import monotonic", "time is imported out of place"),
    ("models/tasks/tag.py", "import pickle", "pickle is imported out of place"),
    ("models/tasks/tag.py", "np.random.seed(1)", "global randomness"),
    ("models/tasks/tag.py", "from numpy.random import shuffle", "global randomness"),
    ("models/tasks/tag.py", "os.environ['HOME']", "os.environ is read out of place"),
    ("models/tasks/tag.py", "datetime.datetime.now()", "reads the clock"),
    ("models/tasks/tag.py", "torch.load(path)", "torch.load without weights_only=True"),
    ("models/tasks/tag.py", "from .other import x", "relative import"),
    ("models/taste/lists/rank.py", "import torch", "models.taste reaches torch"),
    ("models/taste/readers/rows.py", "import models.taste.lists.rank", "in a later room of models.taste"),
    ("models/errors.py", "import torch", "models.taste reaches torch"),  # through another module
    ("models/taste/lists/rank.py", "import models.tasks.tag", "models.taste reaches torch"),
    ("streams/agents/clicks.py", "import aiokafka", "aiokafka is imported out of place"),
    ("streams/agents/clicks.py", "from prometheus_client import Gauge", "prometheus_client is imported out"),
    ("streams/agents/clicks.py", "import time", "time is imported out of place"),
    ("streams/agents/clicks.py", "import time as clock", "time is imported out of place"),
    ("streams/agents/clicks.py", "importlib.import_module('time')", "time is imported out of place"),
    ("streams/agents/clicks.py", "from os import environ", "os.environ is read out of place"),
    ("streams/agents/clicks.py", "os.getenv('X')", "os.environ is read out of place"),
    ("streams/agents/clicks.py", "datetime.now(tz=UTC)", "reads the clock"),
    ("streams/outbox.py", "from faust.streams import Stream", "faust is imported out of place"),
    ("streams/outbox.py", "from mode import Service", "mode is imported out of place"),
    ("streams/outbox.py", "class TopicManager: ...", "`TopicManager` says nothing"),
    ("streams/byte_utils.py", "", "`byte_utils` says nothing"),
    ("streams/common/rows.py", "", "`common` says nothing"),
    ("streams/clock.py", "import streams.transport.reader", "import cycle: streams.clock -> "),
    (
        "streams/clock.py",
        "def f():\n    from streams.transport import reader",
        "import cycle: streams.clock -> ",
    ),
    (
        "streams/transport/__init__.py",
        "from streams.clock import Clock",
        "holds a docstring and nothing else",
    ),
    ("streams/agents/__init__.py", "", "a package needs a docstring"),
    (
        "streams/sections/kafka.py",
        "class Reader(Section):\n    '''R.'''\n    rows: int = 3",
        "Reader.rows has no desc",
    ),
    ("models/taste/lists/rank.py", "import numba", "numba is imported out of place"),
    (
        "models/taste/lists/rank.py",
        "from models.compiled import compiled\nfrom models.errors import LIMIT\n"
        "@compiled('int64(int64)')\ndef f(n):\n    return n + LIMIT",
        "the compiled f uses LIMIT of another file",
    ),
    (
        "models/taste/lists/rank.py",
        "from models import errors\nfrom models.compiled import part\n"
        "@part\ndef g(n):\n    return n + errors.LIMIT",
        "the compiled g uses errors of another file",
    ),
    (
        "streams/settings.py",
        "class Reader(Section):\n    rows: int = Field(3, description='r')",
        "no docstring",
    ),
]


@pytest.mark.parametrize(("path", "planted", "seen"), PLANTED)
def test_a_planted_violation_is_seen(house: Path, path: str, planted: str, seen: str) -> None:
    file = house / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text((file.read_text() if file.exists() else "") + planted + "\n")

    found = violations(house)

    assert any(seen in line for line in found), found


def test_an_import_for_types_alone_is_neither_a_cycle_nor_a_need(house: Path) -> None:
    types_only = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    "
    (house / "streams/clock.py").write_text(f"{types_only}from streams.transport.reader import Reader\n")
    (house / "models/errors.py").write_text(f"{types_only}import torch\n")

    assert violations(house) == []
