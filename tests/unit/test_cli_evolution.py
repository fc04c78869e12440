"""`saga schemas check` and `diff` on folders and a real git history: every verdict, and the next step where there is none."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.commands import Commands, schemas, written
from tests.optional import needs

pytestmark = needs("avro")

PLACE = {"name": "place", "by": "orders", "emits": ["Placed"], "compensated": "Cancelled"}
PAY = {"name": "pay", "by": "bank", "on": ["Placed"], "emits": ["Paid"], "fails": "Declined", "pivot": True}
NOTE = {"name": "note", "type": "string", "default": ""}


def git(folder: Path, *words: str) -> None:
    identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True)


def commit(folder: Path, message: str) -> None:
    git(folder, "add", "-A")
    git(folder, "commit", "-m", message)


def edit(file: Path, **changes: Any) -> None:
    file.write_bytes(orjson.dumps(orjson.loads(file.read_bytes()) | changes))


def fields(file: Path, *more: dict[str, Any]) -> None:
    edit(file, fields=[{"name": "order_id", "type": "string"}, *more])


@pytest.fixture
def saga(tmp_path: Path) -> Commands:
    return Commands(tmp_path)


@pytest.fixture
def contracts(tmp_path: Path) -> Path:
    """A contract folder, committed once."""
    folder = written(tmp_path / "contracts", schemas(PLACE, PAY))
    git(tmp_path, "init", "--quiet")
    commit(tmp_path, "The first contracts")
    return folder


def test_a_compatible_change_passes_both_checks(saga: Commands, contracts: Path) -> None:
    fields(contracts / "Placed.avsc", NOTE)

    checked, differing = saga("schemas", "check", "contracts"), saga("schemas", "diff", "HEAD", "contracts")

    assert (checked.code, differing.code) == (0, 0)
    assert (
        "compatible: every contract goes together with all of its committed versions (versions: 5, commits: 1)" in checked.out
    )
    assert 'Placed.note: it was added with the default ""; old and new read each other' in differing.out
    assert "compatible: old and new services understand each other, deploy them in any order\n" in differing.out


def test_what_services_without_a_registry_could_not_read_is_told(saga: Commands, contracts: Path) -> None:
    """There the id in front of an event is that of what its bytes mean, whatever is said of it besides."""
    edit(contracts / "Placed.avsc", doc="An order")
    documented = saga("schemas", "diff", "HEAD", "contracts")
    fields(contracts / "Placed.avsc", NOTE)
    noted = saga("schemas", "diff", "HEAD", "contracts")
    written(contracts, schemas(PLACE, PAY, version=2))
    fields(contracts / "Placed.avsc", NOTE)
    raised = saga("schemas", "diff", "HEAD", "contracts")

    assert (documented.code, noted.code, raised.code) == (0, 0, 0)
    assert "SAGA_REGISTRY" not in documented.out
    assert noted.out.endswith(
        "without a registry (SAGA_REGISTRY) neither reads what the other wrote of Placed: "
        "leave that as it was, or give the saga a new version in a folder of its own\n"
    )
    assert "SAGA_REGISTRY" not in raised.out


def test_a_change_that_would_misread_the_past_is_refused(saga: Commands, contracts: Path) -> None:
    fields(contracts / "Placed.avsc", {"name": "note", "type": "string"})

    checked, differing = saga("schemas", "check", "contracts"), saga("schemas", "diff", "HEAD", "contracts")

    assert (checked.code, differing.code) == (1, 1)
    assert "Placed.note: it was added with no default; events written before could not be read any more" in checked.out
    assert "(The first contracts)" in checked.out
    assert "refused: what is written already would be misread; keep the old event and make a new one" in differing.out


def test_what_needs_a_new_version_says_which_and_is_settled_by_it(saga: Commands, contracts: Path) -> None:
    written(contracts, schemas(PLACE, PAY | {"timeout": "PT1M"}))
    before = saga("schemas", "check", "contracts"), saga("schemas", "diff", "HEAD", "contracts")
    own = orjson.loads((contracts / "Checkout.avsc").read_bytes())
    edit(contracts / "Checkout.avsc", saga=own["saga"] | {"version": 2})

    after = saga("schemas", "check", "contracts"), saga("schemas", "diff", "HEAD", "contracts")

    assert [said.code for said in before] == [3, 3]
    assert all('needs a new version: set "version": 2 in the saga schema, v1 runs beside it' in said.out for said in before)
    assert [said.code for said in after] == [0, 0]
    assert "compatible: the changes need a new version, and v2 is one" in after[1].out


def test_every_version_counts_and_not_the_last_alone(saga: Commands, contracts: Path, tmp_path: Path) -> None:
    """Each step is compatible with the one before it; the last with the first is not."""
    fields(contracts / "Placed.avsc", NOTE)
    commit(tmp_path, "A note")
    fields(contracts / "Placed.avsc", {"name": "note", "type": "string"})

    said = saga("schemas", "check", "contracts", "--json")

    [conflict] = said.json["conflicts"]
    assert said.code == 1
    assert saga("schemas", "diff", "HEAD", "contracts").code == 0
    assert conflict["change"]["place"] == "Placed.note"
    assert conflict["since"]["subject"] == "The first contracts"


def test_what_was_never_released_can_be_left_out(saga: Commands, contracts: Path, tmp_path: Path) -> None:
    fields(contracts / "Placed.avsc", {"name": "note", "type": "string"})
    commit(tmp_path, "Before anybody used it")

    assert saga("schemas", "check", "contracts").code == 1
    assert saga("schemas", "check", "contracts", "--since", "HEAD").code == 0

    fields(contracts / "Placed.avsc")
    assert saga("schemas", "check", "contracts", "--since", "HEAD").code == 1


def test_a_refusal_names_the_revision_since_which_all_goes_together(saga: Commands, contracts: Path, tmp_path: Path) -> None:
    fields(contracts / "Placed.avsc", {"name": "note", "type": "string"})
    commit(tmp_path, "Before anybody used it")
    fields(contracts / "Placed.avsc", {"name": "note", "type": "string"}, NOTE | {"name": "more"})
    commit(tmp_path, "In use")

    refused = saga("schemas", "check", "contracts")
    [hint] = [line for line in refused.out.splitlines() if "--since" in line]
    taken = saga("schemas", "check", "contracts", "--since", hint.rpartition(" ")[2])

    assert (refused.code, taken.code) == (1, 0)
    assert "(Before anybody used it); if nothing older was ever in use, add: --since" in hint


def test_where_even_the_last_commit_is_at_odds_no_revision_is_named(saga: Commands, contracts: Path, tmp_path: Path) -> None:
    fields(contracts / "Placed.avsc", NOTE)
    commit(tmp_path, "In use")
    fields(contracts / "Placed.avsc", {"name": "note", "type": "long"})

    said = saga("schemas", "check", "contracts")

    assert (said.code, "--since" in said.out) == (1, False)
    assert saga("schemas", "check", "contracts", "--json").json["compatible_since"] is None


def test_a_change_of_a_nested_type_concerns_all_events_that_hold_it(saga: Commands, contracts: Path, tmp_path: Path) -> None:
    line = {"type": "record", "name": "Line", "namespace": "checkout", "fields": [{"name": "sku", "type": "string"}]}
    (contracts / "Line.avsc").write_bytes(orjson.dumps(line))
    for event in ("Placed", "Paid"):
        fields(contracts / f"{event}.avsc", {"name": "line", "type": "checkout.Line"})
    commit(tmp_path, "Lines")
    edit(contracts / "Line.avsc", fields=[{"name": "sku", "type": "long"}])

    said = saga("schemas", "check", "contracts", "--since", "HEAD", "--json")

    assert [conflict["change"]["place"] for conflict in said.json["conflicts"]] == ["Line.sku"]


def test_two_revisions_are_compared_in_the_folder_that_is_named(saga: Commands, contracts: Path, tmp_path: Path) -> None:
    fields(contracts / "Placed.avsc", NOTE)
    commit(tmp_path, "A note")

    named = saga("schemas", "diff", "HEAD~1:contracts", "HEAD:contracts", "--json")
    by_setting = saga("schemas", "diff", "HEAD~1", "HEAD", "--json", SAGA_SCHEMAS="contracts")

    assert named.json["verdict"] == "compatible"
    assert [change["place"] for change in named.json["changes"]] == ["Placed.note"]
    assert by_setting.json == named.json


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("diff", "HEAD~1", "HEAD"), "write HEAD~1:schemas/checkout"),
        (("diff", "v9", "contracts"), "Correct the revision or the folder"),
        (("diff", "registry", "contracts"), "no registry is configured; set SAGA_REGISTRY"),
        (("diff", "registry", "registry"), "both sides are the registry"),
        (("check", "nowhere"), "no saga at 'nowhere'"),
        (("check", "contracts", "--since", "v9"), "Correct the revision or the folder"),
    ],
)
def test_wrong_use_is_told_with_the_next_step(saga: Commands, contracts: Path, words: tuple[str, ...], told: str) -> None:
    said = saga("schemas", *words)

    assert said.code == 2
    assert told in said.err


def test_without_git_the_registry_is_the_way(saga: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path / "contracts", schemas(PLACE, PAY))

    outside = saga("schemas", "check", "contracts")
    monkeypatch.setenv("PATH", "")
    missing = saga("schemas", "check", "contracts")

    assert (outside.code, missing.code) == (2, 2)
    assert "is in no git work tree, so nothing is known of earlier versions" in outside.err
    assert "git is not installed" in missing.err
    assert "saga schemas plan DIR" in outside.err
    assert "saga schemas plan DIR" in missing.err


def test_a_shallow_clone_is_refused_since_its_past_is_cut_off(contracts: Path, tmp_path: Path) -> None:
    commit_again = contracts / "Placed.avsc"
    fields(commit_again, NOTE)
    commit(tmp_path, "A note")
    git(tmp_path, "clone", "--quiet", "--depth", "1", f"file://{tmp_path}", str(tmp_path / "clone"))

    said = Commands(tmp_path / "clone")("schemas", "check", "contracts")

    assert said.code == 2
    assert "run: git fetch --unshallow" in said.err


def test_what_was_never_committed_has_nothing_to_go_together_with(saga: Commands, tmp_path: Path) -> None:
    written(tmp_path / "contracts", schemas(PLACE, PAY))
    git(tmp_path, "init", "--quiet")

    said = saga("schemas", "check", "contracts")

    assert said.code == 0
    assert "the folder was never committed" in said.out


def test_what_will_hurt_later_is_told_and_what_is_wrong_fails(saga: Commands, contracts: Path) -> None:
    fields(contracts / "Placed.avsc", NOTE | {"type": {"type": "string", "logicalType": "colour"}})
    advice = saga("schemas", "check", "contracts")
    fields(contracts / "Placed.avsc", NOTE | {"default": 7})
    wrong = saga("schemas", "check", "contracts")

    assert (advice.code, wrong.code) == (0, 1)
    assert "advice: Placed.note: no library knows the logical type colour; all read a plain string" in advice.out
    assert "wrong: Placed.note: the default 7 does not fit its type" in wrong.out


def test_a_version_in_a_folder_of_its_own_is_held_to_those_in_the_folders_beside_it(
    saga: Commands, contracts: Path, tmp_path: Path
) -> None:
    """Also to what was committed before the first version moved into a folder of its own, and after that folder went."""
    (tmp_path / "contracts" / "v1").mkdir()
    git(tmp_path, "mv", *(str(file) for file in contracts.glob("*.avsc")), "contracts/v1")
    commit(tmp_path, "A folder for each version")
    written(contracts / "v2", schemas(PLACE, PAY | {"timeout": "PT1M"}, version=2))
    new = saga("schemas", "check", "contracts/v2")
    fields(contracts / "v2" / "Placed.avsc", {"name": "note", "type": "string"})
    beside = saga("schemas", "check", "contracts/v2")
    git(tmp_path, "rm", "-rq", "contracts/v1")
    commit(tmp_path, "Version 1 is drained")
    afterwards = saga("schemas", "check", "contracts/v2")

    assert (new.code, beside.code, afterwards.code) == (0, 1, 1)
    assert "Placed.note: it was added with no default" in beside.out
    assert "commits: 2" in beside.out


def test_another_saga_in_a_folder_beside_it_is_none_of_its_past(saga: Commands, contracts: Path, tmp_path: Path) -> None:
    other = written(tmp_path / "other", schemas(PLACE, PAY))
    own = orjson.loads((other / "Checkout.avsc").read_bytes())
    edit(other / "Checkout.avsc", saga=own["saga"] | {"name": "other"})
    fields(other / "Placed.avsc", {"name": "note", "type": "string"})
    commit(tmp_path, "Another saga")

    assert saga("schemas", "check", "contracts").code == 0
