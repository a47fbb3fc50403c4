"""Settings: which source wins, every mistake at once, nothing misspelt is ignored, secrets are not shown."""

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from streams.errors import UserMistake
from streams.settings import Settings, kafka_lib, load


@pytest.fixture(autouse=True)
def clean_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable of the machine, no file in the working folder."""
    for name in [name for name in os.environ if name.upper().startswith("HEADRACE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def toml(text: str, name: str = "other.toml") -> Path:
    path = Path(name)
    path.write_text(text)
    return path.resolve()


def mistakes(file: Path | None = None, overrides: dict[str, object] | None = None) -> list[str]:
    with pytest.raises(UserMistake) as caught:
        load(file, overrides)
    return sorted(line.removeprefix("  - ") for line in str(caught.value).splitlines()[1:])


def test_defaults_alone_are_valid() -> None:
    settings = load()
    assert settings == Settings()
    assert settings.kafka.bootstrap == "127.0.0.1:9092"
    assert settings.observe.host == "127.0.0.1"


def test_each_source_wins_over_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    file = toml("[kafka]\nbootstrap = 'file:1'\ngroup = 'file'\nclient_id = 'file'\n")
    monkeypatch.setenv("HEADRACE_KAFKA__GROUP", "environment")
    monkeypatch.setenv("HEADRACE_KAFKA__CLIENT_ID", "environment")

    kafka = load(file, {"kafka": {"client_id": "command line"}}).kafka

    assert kafka.topic_prefix == ""  # the default
    assert kafka.bootstrap == "file:1"
    assert kafka.group == "environment"
    assert kafka.client_id == "command line"


def test_the_file_is_the_named_one_else_the_variables_else_the_working_folders(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    toml("log_level = 'debug'\n", "headrace.toml")
    assert load().log_level == "debug"
    monkeypatch.setenv("HEADRACE_CONFIG", str(toml("log_level = 'warning'\n", "variable.toml")))
    assert load().log_level == "warning"
    assert load(toml("log_level = 'error'\n")).log_level == "error"


def test_a_named_file_that_is_missing_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserMistake, match=r"nothing\.toml does not exist"):
        load(Path("nothing.toml"))
    monkeypatch.setenv("HEADRACE_CONFIG", "elsewhere.toml")
    with pytest.raises(UserMistake, match=r"elsewhere\.toml does not exist"):
        load()


def test_every_mistake_of_every_source_is_listed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    file = toml("[taste]\ndim = 65\nsize = 3\n[nope]\nx = 1\n")
    monkeypatch.setenv("HEADRACE_KAFKA__SESSION_TIMEOUT_S", "soon")
    monkeypatch.setenv("HEADRACE_OBSERVE_PORT", "8780")  # one underscore too few
    monkeypatch.setenv("HEADRACE_MEDIA__TASKS", "sentiment")

    found = mistakes(file, {"worker": {"drain_s": 99.0}})

    assert found == [
        "environment variable HEADRACE_OBSERVE_PORT: no such setting",
        "kafka.session_timeout_s: Input should be a valid number, unable to parse string as a number"
        " (given: 'soon')",
        "media.tasks: Input should be a valid dictionary (given: 'sentiment')",
        "nope: no such setting",
        "taste.dim: dim must be a multiple of 64 (given: 65)",
        "taste.size: no such setting",
        "worker: drain_s must be less than grace_s",
    ]


@pytest.mark.parametrize("name", ["HEADRACE_NOPE", "HEADRACE_NOPE__X", "headrace_nope"])
def test_an_unknown_variable_stops_the_start(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "1")
    assert mistakes() == [f"environment variable {name}: no such setting"]


def test_an_unknown_variable_in_a_known_section_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_KAFKA__BOOTSTRP", "x:1")
    assert mistakes() == ["kafka.bootstrp: no such setting"]


@pytest.mark.parametrize("text", [b"[kafka\n", b"\xff\xfe=1"])
def test_a_file_that_is_not_toml_is_named(text: bytes) -> None:
    path = Path("broken.toml")
    path.write_bytes(text)
    (mistake,) = mistakes(path)
    assert mistake.startswith("broken.toml: ")


@pytest.mark.parametrize(
    "spelt", ["clicks,audio", " clicks , audio ", '["clicks", "audio"]'], ids=["commas", "spaces", "json"]
)
def test_a_list_in_the_environment_has_commas_or_is_json(monkeypatch: pytest.MonkeyPatch, spelt: str) -> None:
    monkeypatch.setenv("HEADRACE_WORKER__AGENTS", spelt)
    monkeypatch.setenv("HEADRACE_TASTE__HALF_LIVES_S", "60,3600")
    settings = load()
    assert settings.worker.agents == ("clicks", "audio")
    assert settings.taste.half_lives_s == (60.0, 3600.0)


def test_a_tasks_block_comes_from_a_file_or_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    file = toml("[media.tasks.sentiment]\nfolder = '/models/a'\n[media.tasks.sentiment.options]\ntop = 3\n")
    monkeypatch.setenv("HEADRACE_MEDIA__TASKS__SENTIMENT__FOLDER", "/models/b")
    task = load(file).media.tasks["sentiment"]
    assert task.folder == Path("/models/b") and task.options == {"top": 3}


def test_paths_start_at_home_also_by_default() -> None:
    settings = load(toml("[kafka]\nssl_cafile = '~/ca.pem'\n"))
    assert settings.media.cache == Path.home() / ".cache" / "headrace"
    assert settings.kafka.ssl_cafile == Path.home() / "ca.pem"


@pytest.mark.parametrize(
    ("heartbeat_s", "session_s", "good"), [(3.0, 9.0, True), (3.1, 9.0, False), (1.0, 2.9, False)]
)
def test_a_heartbeat_is_at_most_a_third_of_the_session(
    heartbeat_s: float, session_s: float, good: bool
) -> None:
    given: dict[str, object] = {"heartbeat_interval_s": heartbeat_s, "session_timeout_s": session_s}
    if good:
        assert load(overrides={"kafka": given}).kafka.heartbeat_interval_s == heartbeat_s
    else:
        assert mistakes(overrides={"kafka": given}) == [
            "kafka: heartbeat_interval_s must be at most a third of session_timeout_s"
        ]


def test_the_longest_wait_is_no_shorter_than_the_first_and_attempts_are_bounded() -> None:
    given: dict[str, object] = {"retry_backoff_s": 5, "retry_backoff_max_s": 4.9}
    assert mistakes(overrides={"media": given}) == [
        "media: retry_backoff_max_s must be at least retry_backoff_s"
    ]
    for attempts in (0, 101):
        (mistake,) = mistakes(overrides={"media": {"retry_attempts": attempts}})
        assert mistake.startswith("media.retry_attempts: ")
    (mistake,) = mistakes(overrides={"kafka": {"max_message_bytes": 1023}})
    assert mistake.startswith("kafka.max_message_bytes: ")


@pytest.mark.parametrize("value", ["inf", "nan", "0.0", "-1.0"])
def test_a_duration_is_positive_and_finite(value: str) -> None:
    (mistake,) = mistakes(toml(f"[worker]\ngrace_s = {value}\n"))
    assert mistake.startswith("worker.grace_s: ")


def test_a_secret_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_KAFKA__SASL_PASSWORD", "hunter2")
    settings = load()
    assert settings.kafka.sasl_password is not None
    assert settings.kafka.sasl_password.get_secret_value() == "hunter2"
    assert "hunter2" not in repr(settings) + str(settings) + settings.model_dump_json()


@pytest.mark.parametrize(
    "text",
    [
        "[kafka]\nsasl_password = ['hunter2']\n",
        "[kafka]\nsasl_passwd = 'hunter2'\n",
        "[kafka]\nsasl_password = 'hunter2'\nheartbeat_interval_s = 9\n",
        "[[kafka]]\nsasl_password = 'hunter2'\n",
        "kafka = 'hunter2'\n",
    ],
)
def test_a_secret_is_not_repeated_in_a_mistake(text: str) -> None:
    assert not [line for line in mistakes(toml(text)) if "hunter2" in line]


def test_settings_are_frozen() -> None:
    settings = load()
    with pytest.raises(ValidationError):
        settings.kafka.group = "other"  # type: ignore[misc]
    with pytest.raises(ValidationError):
        settings.log_level = "debug"  # type: ignore[misc]


def test_kafkas_jars_are_named_by_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    assert kafka_lib() is None
    monkeypatch.setenv("HEADRACE_KAFKA_LIB", "lib")
    assert kafka_lib() == Path("lib").resolve()
    load()  # and is no unknown variable


@pytest.mark.parametrize(
    ("setting", "given", "words"),
    [
        ("click", "nan", "a weight lies between"),
        ("click", "inf", "a weight lies between"),
        ("share", 256, "a weight lies between"),
        ("click", -1, "its weight is 0 or more"),
        ("hide", 1, "its weight is 0 or less"),
        ("undo", -1, "no such setting"),
    ],
)
def test_weights_are_finite_bounded_and_of_their_kinds_sign(setting: str, given: object, words: str) -> None:
    (mistake,) = mistakes(overrides={"taste": {"weights": {setting: given}}})
    assert mistake.startswith("taste.weights") and setting in mistake and words in mistake


@pytest.mark.parametrize(
    ("setting", "given"),
    [
        ("diversity", "more"),
        ("theta", 1.0),
        ("candidates", 0),
        ("explore_below", float("inf")),
        ("explore_place", 0),
        ("ctr0", 0),
        ("budget_s", 0),
        ("taste", float("nan")),
        ("profile", "maybe"),
        ("author_most", -1),
        ("author_decay", 0),
        ("author_floor", 1.5),
        ("max_age_s", -1),
        ("calibration", 2),
        ("max_age", 60),  # there is no such setting: it has a unit
    ],
)
def test_a_list_is_told_nothing_that_makes_no_sense(setting: str, given: object) -> None:
    (mistake,) = mistakes(overrides={"taste": {"list": {setting: given}}})
    assert mistake.startswith(f"taste.list.{setting}")


def test_chances_are_traded_only_where_they_are_learnt() -> None:
    (mistake,) = mistakes(overrides={"taste": {"list": {"diversity": "expected"}}})
    assert mistake.startswith("taste.list") and "blend = true" in mistake
    for learnt in ("blend", "order"):
        assert load(
            overrides={"taste": {"list": {"diversity": "expected", learnt: True}}}
        ).taste.list.order is (learnt == "order")


ARMS = "[[experiments.e.arms]]\nname = 'control'\n"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("", "experiments.e: an experiment has two arms or more"),
        (ARMS, "experiments.e: arm control: there is another one of this name"),
        (
            "[[experiments.e.arms]]\nname = 'b'\nweight = 0",
            "experiments.e: arm b: its weight must be above 0",
        ),
        (
            "[[experiments.e.arms]]\nname = 'b'\nweight = nan",
            "experiments.e: arm b: its weight must be above 0",
        ),
        (
            "[[experiments.e.arms]]\nname = 'b'\nlist = {thetta = 1}",
            "experiments.e: arm b: list.thetta: no such setting",
        ),
        (
            "[[experiments.e.arms]]\nname = 'b'\nlist = {theta = 2.0}",
            "experiments.e: arm b: list.theta: Input should be less than 1",
        ),
        (
            "[[experiments.e.arms]]\nname = 'b'\nlist = {profile = 'off'}",
            "experiments.e: arm b: profile is for all readers alike",
        ),
        ("[[experiments.e.arms]]\nname = 'B c'", "experiments.e.arms.1.name: String should match"),
        (
            "[[experiments.e.arms]]\nname = 'b'\n[experiments.e]\nshare = 0",
            "experiments.e.share: Input should",
        ),
    ],
)
def test_an_experiment_that_makes_no_sense_is_one_line(more: str, words: str) -> None:
    if "[experiments.e]" in more:
        more = more.replace("[experiments.e]\nshare = 0", "")
        file = toml("[experiments.e]\nshare = 0\n" + ARMS + more)
    else:
        file = toml(ARMS + more)
    (line,) = mistakes(file)
    assert line.startswith(words)


def test_lists_of_three_arms_are_not_interleaved() -> None:
    arms = "".join(f"[[experiments.e.arms]]\nname = '{name}'\n" for name in "abc")
    (line,) = mistakes(toml("[experiments.e]\nshow = 'interleaved'\n" + arms))
    assert line == "experiments.e: two lists are interleaved, so there are two arms"
    assert [arm.name for arm in load(toml(arms)).experiments["e"].arms] == ["a", "b", "c"]
