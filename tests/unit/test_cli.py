from __future__ import annotations

import importlib.util
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import timedelta
from errno import ENOSPC
from io import BytesIO, TextIOWrapper
from pathlib import Path

import orjson
import pytest

from saga.cli import main, output
from saga.cli.app import SECTIONS
from saga.settings import Settings
from saga.span import rough
from tests.commands import SAGA, Commands

ROOT = Path(__file__).parents[2]


@pytest.fixture
def saga(tmp_path: Path) -> Commands:
    return Commands(tmp_path)


def test_the_exit_codes_are_in_the_help(saga: Commands) -> None:
    said = saga("--help")

    assert said.code == 0
    assert "1  refused, not found, or failed while it ran" in said.out
    assert "2  wrong use" in said.out


def test_every_command_is_listed_once_in_the_section_that_it_belongs_to(saga: Commands) -> None:
    listed = [name for names in SECTIONS.values() for name in names]

    said = saga("--help")

    assert set(SAGA.commands) <= set(listed)  # type: ignore[attr-defined]
    assert len(listed) == len(set(listed))
    assert [title for title in SECTIONS if f"\n{title}:\n" in said.out] == [*SECTIONS]
    assert re.search(r"^Look:\n  health .*\n  doctor ", said.out, re.MULTILINE)


def test_no_description_of_a_command_is_cut_off(saga: Commands) -> None:
    said = saga("--help").out + saga("lanes", "--help").out

    assert "..." not in said.replace("[ARGS]...", "").replace("SAGA_...", "")
    assert "  health          Tell how a participant is\n" in said


def test_every_setting_that_a_person_may_set_is_in_the_help(saga: Commands) -> None:
    said = saga("--help").out

    assert set(re.findall(r"SAGA_[A-Z_]+", said)) == {f"SAGA_{name.upper()}" for name in Settings.model_fields} - {
        "SAGA_FAILPOINTS"
    }


def test_the_version_is_told(saga: Commands) -> None:
    assert saga("--version").out.startswith("saga-choreography ")


@pytest.mark.slow
def test_a_python_that_is_named_has_the_command_as_a_module() -> None:
    said = subprocess.run([sys.executable, "-m", "saga", "--version"], cwd=ROOT, capture_output=True, text=True, check=True)

    assert said.stdout.startswith("saga-choreography ")


@pytest.mark.slow
def test_a_command_loads_no_other() -> None:
    program = "import sys; from tests.commands import SAGA; SAGA.commands['run']; print(*sorted(sys.modules))"

    loaded = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)

    groups = {name.split(".")[2] for name in loaded.stdout.split() if name.startswith("saga.cli.") and name.count(".") > 2}
    assert groups == {"running"}


@pytest.mark.slow
def test_help_loads_neither_kafka_nor_avro_nor_a_table() -> None:
    heavy = "{'confluent_kafka', 'fastavro', 'rich', 'sqlite3'} & {name.partition('.')[0] for name in sys.modules}"
    program = f"import sys; from tests.commands import SAGA; [*SAGA.commands.values()]; print(sorted({heavy}))"

    loaded = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)

    assert loaded.stdout.strip() == "[]"


def test_without_its_libraries_the_command_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("saga.cli.find_spec", lambda name: None if name == "rich" else importlib.util.find_spec(name))

    with pytest.raises(SystemExit) as ended:
        main()

    assert ended.value.code == 2
    assert "needs rich; run: pip install 'saga-choreography[cli]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "code", "kind", "message"),
    [
        (["db", "sql"], 2, "DefinitionError", "no database is configured; set SAGA_DATABASE"),
        (["show", "o-1"], 1, "SagaError", "no workflow 'o-1' in sqlite:///orders.db"),
        (["list", "--limit", "many"], 2, "UsageError", "Invalid value for '--limit'"),
        (["list", "--limits", "1"], 2, "UsageError", "No such option: --limits"),
    ],
    ids=["settings", "not found", "value", "option"],
)
def test_whoever_asked_for_json_gets_a_failure_in_it_too(
    saga: Commands, command: list[str], code: int, kind: str, message: str
) -> None:
    saga("db", "upgrade", "--database", "sqlite:///orders.db")
    settings = {} if kind == "DefinitionError" else {"SAGA_DATABASE": "sqlite:///orders.db"}

    said, without = saga(*command, "--json", **settings), saga(*command, **settings)

    assert said.code == without.code == code
    assert said.json["error"]["type"] == kind
    assert said.json["error"]["message"].startswith(message)
    assert (said.err, "") == (without.err, without.out)


def test_a_result_that_was_told_is_not_followed_by_a_second_one(capsys: pytest.CaptureFixture[str]) -> None:
    with output.answering(as_json=True):
        output.json({"refused": 1})
        output.error("1 was refused")

    said = capsys.readouterr()

    assert (orjson.loads(said.out), said.err) == ({"refused": 1}, "error: 1 was refused\n")


def test_an_error_is_one_line_and_a_traceback_only_if_wanted(saga: Commands) -> None:
    plain, debug = saga("db", "sql"), saga("--debug", "db", "sql")

    assert plain.code == debug.code == 2
    assert plain.err == "error: no database is configured; set SAGA_DATABASE, e.g. sqlite:///orders.db, or --database\n"
    assert debug.err.startswith("Traceback")
    assert debug.err.endswith(plain.err)


@pytest.mark.parametrize(
    "arguments",
    [
        ("list", "--limit", f"{2**63}"),
        ("list", "--version", f"{2**63}"),
        ("drain", "checkout", "--version", f"{2**63}"),
        ("unacknowledged", "--limit", f"{2**63}"),
        ("retry", "--parked", "--limit", f"{2**63}"),
        ("dead-letters", "show", f"checkout.events/0@{2**63}"),
        ("show", "\udcff"),
        ("dead-letters", "list", "--topic", "\udcff"),
    ],
)
def test_what_no_database_can_hold_is_wrong_use(saga: Commands, arguments: tuple[str, ...]) -> None:
    saga("db", "upgrade", SAGA_DATABASE="sqlite:///orders.db")

    assert saga(*arguments, SAGA_DATABASE="sqlite:///orders.db").code == 2


def test_a_disk_that_is_full_is_told_in_a_line(saga: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(ENOSPC, "No space left on device")

    saga("db", "upgrade", SAGA_DATABASE="sqlite:///orders.db")
    monkeypatch.setattr(output, "json", full)

    said = saga("list", "--json", SAGA_DATABASE="sqlite:///orders.db")

    assert (said.code, said.err) == (1, "error: output: No space left on device\n")


def test_upgrade_lays_the_tables_once(saga: Commands) -> None:
    first = saga("db", "upgrade", "--database", "sqlite:///a.db")
    second = saga("db", "upgrade", "--json", SAGA_DATABASE="sqlite:///a.db")

    assert first.out.splitlines()[0] == "applied 001_tables"
    assert second.json["applied"] == []
    assert second.json["database"] == "sqlite:///a.db"


def test_an_absolute_database_is_where_it_says(saga: Commands, tmp_path: Path) -> None:
    file = tmp_path / "deep" / "orders.db"
    file.parent.mkdir()

    said = saga("db", "upgrade", "--database", f"sqlite:///{file}")

    assert said.code == 0
    assert file.exists()


def test_sql_prints_what_is_missing_and_changes_nothing(saga: Commands, tmp_path: Path) -> None:
    (tmp_path / "empty.db").touch()

    said = saga("db", "sql", SAGA_DATABASE="sqlite:///empty.db")
    again = saga("db", "sql", "--json", SAGA_DATABASE="sqlite:///empty.db")

    assert "CREATE TABLE saga_outbox" in said.out
    assert again.json["version"] == 0
    assert again.json["sql"].rstrip() == said.out.rstrip()


def test_sql_of_a_database_that_is_up_to_date_is_nothing(saga: Commands) -> None:
    saga("db", "upgrade", "--database", "sqlite:///a.db")

    said = saga("db", "sql", "--database", "sqlite:///a.db")

    assert said.out == ""
    assert "nothing is missing" in said.err


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("mysql://u:pa55@db/orders", "scheme 'mysql'; expected sqlite:///relative.db"),
        ("orders.db", "with no scheme; expected sqlite:///relative.db"),
        ("sqlite://orders.db", "expected three slashes and a file"),
        ("sqlite://u:pa55@db/orders", "found 'sqlite://u:***@db/orders'; expected three slashes"),
        ("sqlite:///nowhere/orders.db", "the folder of database nowhere/orders.db does not exist; create"),
    ],
)
def test_a_database_that_cannot_be_reached_is_refused_without_its_password(saga: Commands, url: str, told: str) -> None:
    said = saga("db", "upgrade", SAGA_DATABASE=url)

    assert said.code == 2
    assert told in said.err
    assert "pa55" not in said.err


def test_a_file_that_is_no_database_fails(saga: Commands, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing but words, and many of them\n" * 100)

    said = saga("db", "upgrade", SAGA_DATABASE="sqlite:///notes.txt")

    assert said.code == 1
    assert "error: notes.txt: file is not a database" in said.err


def test_only_upgrade_makes_a_database(saga: Commands, tmp_path: Path) -> None:
    said = saga("show", "w1", SAGA_DATABASE="sqlite:///none.db")

    assert said.code == 2
    assert "there is no database none.db in" in said.err
    assert "run: saga db upgrade" in said.err
    assert not (tmp_path / "none.db").exists()


def test_a_wrong_setting_is_wrong_use(saga: Commands) -> None:
    said = saga("db", "upgrade", SAGA_DATABSE="sqlite:///a.db")

    assert said.code == 2
    assert "did you mean SAGA_DATABASE?" in said.err


def test_a_terminal_gets_a_table_that_takes_text_as_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(output, "on_terminal", lambda: True)

    output.table(["step", "status"], [["[bold]reserve[/]", "done"]], title="own steps")
    output.line("all [is] well", style="bold")

    told = capsys.readouterr().out
    assert "[bold]reserve[/]" in told
    assert "all [is] well" in told
    assert "─" in told


STATES = ["place", "reserve", "authorise", "dispatch"]
TOLD = ["0346609c-e115-5b73-809e-846fdfb93df9", *["compensated"] * 3, ""]


@pytest.mark.parametrize("command", ["upgrade", "sql"])
def test_a_database_of_a_newer_library_is_refused_by_the_upgrade_too(saga: Commands, tmp_path: Path, command: str) -> None:
    saga("db", "upgrade", "--database", "sqlite:///a.db")
    with closing(sqlite3.connect(tmp_path / "a.db")) as database, database:
        database.execute("INSERT INTO saga_migration VALUES (999, '999_tomorrow', '2026-03-01')")

    said = saga("db", command, "--database", "sqlite:///a.db")

    assert (said.code, said.out) == (2, "")
    assert "is at migration 999, this library expects migration" in said.err
    assert "upgrade the library" in said.err


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (70, [TOLD[0], "  place compensated  reserve compensated  authorise compensated"]),
        (100, ["workflow                              place        reserve      authorise", "─" * 75, "  ".join(TOLD[:4])]),
    ],
)
def test_no_word_of_a_table_is_broken_and_columns_in_which_nothing_stands_are_left_out(
    columns: int, said: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(output, "on_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", str(columns))

    output.table(["workflow", *STATES], [TOLD])

    assert [line.rstrip() for line in capsys.readouterr().out.splitlines()] == said


@pytest.mark.parametrize("columns", ["0", "1", "12"])
def test_a_terminal_without_room_loses_no_row(
    columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(output, "on_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", columns)

    output.table(["workflow", *STATES], [TOLD], title="own steps")

    told = capsys.readouterr().out
    assert "own steps" in told
    assert TOLD[0] in told
    assert told.count("compensated") == 3


def test_a_table_is_told_on_a_terminal_that_has_ascii_only(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = TextIOWrapper(BytesIO(), encoding="ascii")
    monkeypatch.setattr(output, "on_terminal", lambda: True)
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", "100")

    output.table(["workflow", "größe"], [["café", "…"]], title="Übersicht")
    output.line("café", style="bold")

    terminal.seek(0)
    told = terminal.read()
    assert r"\xdcbersicht" in told
    assert told.count(r"caf\xe9") == 2
    assert r"\u2026" in told


def test_colours_are_left_out_where_nobody_wants_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(output, "on_terminal", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    output.table(["status"], [["stuck"]])
    with_colour = capsys.readouterr().out

    monkeypatch.setenv("NO_COLOR", "1")
    output.table(["status"], [["stuck"]])

    assert "\x1b[1;31mstuck" in with_colour
    assert "\x1b[1;31m" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "0 s"), (59.9, "59 s"), (125, "2 min 5 s"), (3600, "1 h"), (90061, "1 d 1 h"), (-5, "5 s")]
)
def test_a_duration_is_told_in_its_two_largest_units(seconds: float, said: str) -> None:
    assert rough(timedelta(seconds=seconds)) == said
