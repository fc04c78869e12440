"""`saga record`: what is written is whole, masked, and the same again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from saga import assembly
from saga.replay.entry import entry
from saga.replay.recording import RecordingSource
from saga.testing.harness import Harness
from tests.commands import Commands
from tests.histories import lived, records


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> Iterator[Harness]:
    with lived() as running:
        monkeypatch.setattr(assembly, "broker", lambda settings: running.broker)
        yield running


def ids(file: Path) -> list[str]:
    return sorted(one.workflow for one in RecordingSource(file).histories())


def test_whole_histories_are_written_as_they_were_published(fleet: Harness, contracts: Commands) -> None:
    said = contracts("record", "travel", "--schemas", "contracts", "-o", "all.avro")

    assert said.out == "all.avro: 4 histories of saga travel\n", said.err
    kept = [one for h in RecordingSource(contracts.folder / "all.avro").histories() for one in h.entries.values()]
    published = [entry(record) for record in records(fleet.broker)]
    assert {(e.id, e.record.value) for e in kept} == {(e.id, e.record.value) for e in published}


def test_some_are_chosen_by_id_or_as_a_sample_and_the_state_reads_from_the_file(fleet: Harness, contracts: Commands) -> None:
    contracts("record", "travel", "--schemas", "contracts", "-o", "one.avro", "--workflow", "poor")
    contracts("record", "travel", "--schemas", "contracts", "-o", "two.avro", "--sample", "2")
    told = contracts("state", "travel", "--schemas", "contracts", "--from", "one.avro", "--json")

    assert ids(contracts.folder / "one.avro") == ["poor"]
    assert len(ids(contracts.folder / "two.avro")) == 2
    assert told.json["statuses"] == {"compensated": 1}


@pytest.mark.parametrize(
    ("options", "settings", "said"),
    [
        ([], {}, "which saga? a registry knows many; add --saga NAME"),
        (
            ["--from", "one.avro"],
            {},
            "the registry http://127.0.0.1:1 does not answer (see that it runs there, or correct SAGA_REGISTRY)",
        ),
        ([], {"SAGA_SCHEMAS": "contracts"}, "the topics of saga 'travel' hold nothing about workflow 'nobody'"),
    ],
    ids=["neither", "a recording", "a folder"],
)
def test_what_names_the_saga_of_a_trace_beside_a_registry(
    fleet: Harness, contracts: Commands, options: list[str], settings: dict[str, str], said: str
) -> None:
    contracts("record", "travel", "--schemas", "contracts", "-o", "one.avro", "--workflow", "poor")

    told = contracts("trace", "nobody", *options, SAGA_REGISTRY="http://127.0.0.1:1", **settings)

    assert said in told.err


def test_what_is_not_whole_is_not_recorded_unasked(fleet: Harness, contracts: Commands) -> None:
    for log in fleet.broker.logs.values():
        log[:] = [record for record in log if dict(record.headers).get("ce_type") != b"travel.TripBooked"]

    said = contracts("record", "travel", "--schemas", "contracts", "-o", "torn.avro")

    assert said.code == 1
    assert "4 workflows are not whole, nothing was written; add --partial" in said.err
    assert not (contracts.folder / "torn.avro").exists()


def test_a_file_that_is_no_recording_is_refused(fleet: Harness, contracts: Commands) -> None:
    contracts("state", "travel", "--schemas", "contracts", "-o", "state.avro")
    (contracts.folder / "text.avro").write_text("hello")

    state = contracts("state", "travel", "--schemas", "contracts", "--from", "state.avro")
    text = contracts("state", "travel", "--schemas", "contracts", "--from", "text.avro")

    assert "state.avro is an Avro file, but no recording" in state.err
    assert "text.avro is no Avro object container file" in text.err


def test_a_workflow_that_is_not_there_is_refused_and_an_earlier_recording_stays(fleet: Harness, contracts: Commands) -> None:
    record = ["record", "travel", "--schemas", "contracts", "-o", "one.avro"]
    contracts(*record, "--workflow", "poor")

    alone = contracts(*record, "--workflow", "por")
    beside = contracts(*record, "--workflow", "smooth", "--workflow", "por")
    sampled = contracts(*record, "--workflow", "smooth", "--workflow", "poor", "--sample", "1", "-o", "sample.avro")

    assert (alone.code, beside.code) == (1, 1)
    assert "the topics of saga 'travel' hold nothing about por; check the id" in alone.err
    assert "the topics of saga 'travel' hold nothing about por; check the id" in beside.err
    assert sampled.code == 0, sampled.err
    assert ids(contracts.folder / "one.avro") == ["poor"]
