"""`saga doctor`: looks at everything a participant needs, and says for each finding how to mend it. Changes nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import typer

from saga import assembly
from saga.cli import arguments, output
from saga.contracts.saga import Saga
from saga.contracts.topics import fact_topics, saga_topics
from saga.count import many
from saga.engine.retention import refuse_to_forget
from saga.errors import SagaError
from saga.evolution.plan import subjects
from saga.observe.serving import place
from saga.observe.webhook import Webhook
from saga.participant.gates import unknown_gates
from saga.settings import Settings
from saga.span import rough
from saga.store.archive import Search
from saga.store.dead_letter import DeadLetter, LetterSearch, LetterState
from saga.store.lane import require_author

Made = TypeVar("Made")

PATIENCE = 5.0
MOST_LETTERS = 1000
MOST_OPEN = 1000
_OLDEST = (3, 11)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at; `fix` says what to do where the level is not `ok`."""

    subject: str
    level: Literal["ok", "warn", "fail"]
    text: str
    fix: str | None = None


def doctor(
    target: Annotated[str | None, typer.Argument(metavar="MODULE:PARTICIPANT", help="Also look at this participant.")] = None,
    schemas: Annotated[
        Path | None, typer.Option("--schemas", metavar="DIR", help="Contract folder, where no participant is named.")
    ] = None,
    database: arguments.DatabaseUrl = None,
    broker: arguments.BrokerServers = None,
    as_json: output.AsJson = False,
) -> None:
    """Look at Python, settings, contracts, registry, database, broker and topics; exits 1 if something fails."""
    examination = _Examination(target)
    findings = examination.run(lambda: Settings.load(database=database, broker=broker, schemas=schemas))
    failed = any(finding.level == "fail" for finding in findings)
    if as_json:
        output.json({"healthy": not failed, "findings": findings})
    else:
        _tell(findings)
    if failed:
        raise typer.Exit(1)


def _tell(findings: Sequence[Finding]) -> None:
    output.table(["", "what", "found"], [[f.level, f.subject, f.text] for f in findings])
    for finding in findings:
        if finding.fix:
            output.line(f"{finding.level} {finding.subject}: {finding.fix}")


class _Examination:
    """One visit: what was found so far, and the saga once it is known, in all versions that are to run."""

    def __init__(self, target: str | None) -> None:
        self.target = target
        self.sagas: list[Saga] = []
        self.recorded: int | None = None
        self.name: str | None = None

    @property
    def saga(self) -> Saga | None:
        """The latest version."""
        return self.sagas[-1] if self.sagas else None

    def run(self, load: Callable[[], Settings]) -> list[Finding]:
        """Everything that can be looked at; what hangs on a thing that failed is left out."""
        findings = [self._python()]
        fix = "correct the environment or .env"
        settings, finding = _tried("settings", "the environment and .env make sense", load, fix=fix)
        findings.append(finding)
        if settings is not None:
            looks = (
                self._failpoints,
                self._contracts,
                self._gates,
                self._registry,
                self._webhook,
                self._health,
                self._database,
                self._broker,
            )
            for look in looks:
                findings += look(settings)
        return findings

    def _python(self) -> Finding:
        found = sys.version.split()[0]
        if sys.version_info < _OLDEST:
            return Finding("python", "fail", f"found {found}", "install Python 3.11 or later")
        return Finding("python", "ok", found)

    def _failpoints(self, settings: Settings) -> Iterator[Finding]:
        if settings.failpoints:
            yield Finding("failpoints", "warn", f"armed: {settings.failpoints}", "unset SAGA_FAILPOINTS outside of tests")

    def _contracts(self, settings: Settings) -> Iterator[Finding]:
        if self.target is not None:
            yield from self._participant(self.target)
        elif (folder := settings.schemas) is not None:
            fix = "correct the folder, SAGA_SCHEMAS or --schemas"
            saga, finding = _tried("contracts", str(folder), lambda: Saga.load(folder), fix=fix)
            if saga is None:
                yield finding
            else:
                self.sagas = [saga]
        else:
            yield Finding("contracts", "warn", "no saga was named", "name MODULE:PARTICIPANT, or --schemas DIR")
        for each in self.sagas:
            events = sum(not name.startswith("saga.") for name in each.types)
            size = f"{many(len(each.steps), 'step')}, {many(events, 'type')}"
            yield Finding("contracts", "ok", f"saga {each.name} v{each.version}: {size}")

    def _gates(self, settings: Settings) -> Iterator[Finding]:
        if settings.gates and self.sagas:
            text = unknown_gates(settings.gates, self.sagas)
            fix = "correct SAGA_GATES, or deploy the release that has it"
            yield Finding("gates", "warn", text, fix) if text else Finding("gates", "ok", f"open: {', '.join(settings.gates)}")

    def _participant(self, target: str) -> Iterator[Finding]:
        fix = "correct the service's module, or the name"
        participant, finding = _tried("participant", target, lambda: arguments.participant(target), fix=fix)
        if participant is not None:
            self.sagas, self.name = [*participant.versions], participant.name
            text = f"{participant.name}: every step has its handler"
            _, finding = _tried("participant", text, participant.check, fix="declare what is missing in the service's module")
        yield finding

    def _registry(self, settings: Settings) -> Iterator[Finding]:
        if settings.registry is None:
            text, fix = "not configured: contracts come from the folder", "set SAGA_REGISTRY, or unset the others"
            yield _tried("registry", text, lambda: assembly.registry(settings), fix=fix)[1]
            return
        shown = settings.registry.rpartition("@")[2]  # before it a password may stand, with which the address is refused
        fix = f"see that a schema registry runs at {shown}, or correct SAGA_REGISTRY"
        missing, finding = _tried("registry", f"{settings.registry} answers", lambda: self._unregistered(settings), fix=fix)
        yield finding
        if missing:
            fix = "see what registering them would do: saga schemas plan DIR; then run: saga schemas register DIR"
            yield Finding("schemas", "fail", f"not registered: {', '.join(missing)}", fix)
        elif missing is not None and self.saga is not None:
            versions = ", ".join(f"v{each.version}" for each in self.sagas)
            yield Finding("schemas", "ok", f"every schema of saga {self.saga.name} {versions} is registered")

    def _unregistered(self, settings: Settings) -> list[str]:
        """Subjects of any version under which the registry itself does not have our schema; without a saga it is only asked."""
        registry = assembly.registry(settings)
        assert registry is not None
        if self.saga is None:
            registry.known("saga.doctor")
            return []
        wanted = (one for each in self.sagas for one in subjects(each))
        return list(dict.fromkeys(subject for subject, schema in wanted if not registry.registered(subject, schema)))

    def _webhook(self, settings: Settings) -> Iterator[Finding]:
        if (url := settings.webhook) is not None:
            text, fix = "workflows that wait for an operator are posted", "give the whole address, https://host/path"
            yield _tried("webhook", text, lambda: Webhook(url.get_secret_value()), fix=fix)[1]

    def _health(self, settings: Settings) -> Iterator[Finding]:
        if (address := settings.health) is not None:
            fix = "correct SAGA_HEALTH"
            yield _tried("health", f"answered on {address} by saga run", lambda: place(address, "health"), fix=fix)[1]

    def _database(self, settings: Settings) -> Iterator[Finding]:
        if settings.database is None:
            yield Finding("database", "warn", "none is configured", "set SAGA_DATABASE, e.g. sqlite:///orders.db")
            return
        fix = "correct SAGA_DATABASE; a new SQLite file is made by saga db upgrade, a PostgreSQL database by createdb"
        versions, finding = _tried("database", "it answers", lambda: self._versions(settings), fix=fix)
        yield finding
        if versions is None:
            return
        yield from self._names(settings)
        found, latest = versions
        text = f"at migration {found}, this library expects {latest}"
        if found != latest:
            yield Finding("tables", "fail", text, "run: saga db upgrade" if found < latest else "upgrade the library")
            return
        yield Finding("tables", "ok", text)
        if (saga := self.saga) is not None:
            yield from self._recorded(settings, saga.name)
        if saga is not None and self.name is not None:
            yield from self._unknown(settings, saga.name)
        yield from self._dead_letters(settings)

    def _recorded(self, settings: Settings, saga: str) -> Iterator[Finding]:
        """Whose database it is, by its own record; nothing is said where all is well."""
        fix = "stop whoever keeps a transaction open"
        record, finding = _tried("record", "", lambda: self._record(settings, saga), fix=fix)
        if record is None:
            yield finding
            return
        author, self.recorded = record
        if (name := self.name) is not None:
            fix = "name this participant's own database"
            _, finding = _tried("record", "", lambda: require_author(author, name), fix=fix)
            if finding.level == "fail":
                yield finding

    def _unknown(self, settings: Settings, saga: str) -> Iterator[Finding]:
        """Versions that have gone from the participant too early, or came with a release that was taken back."""
        fix = "stop whoever keeps a transaction open"
        left, finding = _tried("versions", "", lambda: self._left(settings, saga), fix=fix)
        if left is None:
            yield finding
        for version, count in (left or {}).items():
            workflows = "workflow is open, which waits" if count == 1 else "workflows are open, which wait"
            text = f"{saga} v{version}: {count} {workflows} for a release that knows it"
            fix = f"deploy one that knows it until this is empty: saga drain {saga} --version {version}"
            yield Finding("versions", "warn", text, fix)

    def _left(self, settings: Settings, saga: str) -> dict[int, int]:
        """How many workflows are open of each version that is not to run: the longest open tell of older ones."""
        store = assembly.store(settings)
        try:
            listed = store.search(Search(saga=saga, idle_since=datetime.now(UTC)), MOST_OPEN) + store.search(
                Search(saga=saga), 1
            )
            unknown = {one.workflow.version for one in listed} - {each.version for each in self.sagas}
            return {version: count for version in sorted(unknown) if (count := store.left(saga, version).open)}
        finally:
            store.close()

    def _names(self, settings: Settings) -> Iterator[Finding]:
        if names := assembly.second_names(settings):
            text = f"the file is also called {', '.join(names)}: a swap was killed, or somebody has linked it"
            fix = f"open it by no other name, and remove them, with which no data goes: rm {' '.join(names)}"
            yield Finding("names", "warn", text, fix)

    def _versions(self, settings: Settings) -> tuple[int, int]:
        tables = assembly.tables(settings)
        return tables.version(), tables.latest()

    def _dead_letters(self, settings: Settings) -> Iterator[Finding]:
        """Those on which nobody has decided, but for those that wait for a deployment and say so."""
        fix = "stop whoever keeps a transaction open"
        found, finding = _tried("dead letters", "none", lambda: self._waiting(settings), fix=fix)
        if not found:
            yield finding
            return
        count = many(len(found), "or more record" if len(found) == MOST_LETTERS else "record")
        yield Finding("dead letters", "warn", f"{count} could not be taken in", "see: saga dead-letters list")

    def _waiting(self, settings: Settings) -> list[DeadLetter]:
        store = assembly.store(settings)
        try:
            with store.unit() as unit:
                return unit.letters(LetterSearch(state=LetterState.WAITING), MOST_LETTERS)
        finally:
            store.close()

    def _record(self, settings: Settings, saga: str) -> tuple[str | None, int | None]:
        store = assembly.store(settings)
        try:
            with store.unit() as unit:
                return unit.author(saga), unit.partitions(saga)
        finally:
            store.close()

    def _broker(self, settings: Settings) -> Iterator[Finding]:
        if settings.broker is None:
            yield Finding("broker", "warn", "none is configured", "set SAGA_BROKER=host:port")
            return
        if settings.kafka:  # asking is a consumer's business, so what concerns the producer would be found by the worker
            text, fix = "librdkafka accepts the settings", "correct SAGA_KAFKA"
            yield _tried("client", text, lambda: assembly.broker(settings).producer(), fix=fix)[1]
        # Any question shows whether a broker answers; without a saga it is about a topic that nobody has.
        topics = saga_topics(self.saga.name) if self.saga else ("saga.doctor",)
        found, finding = _tried(
            "broker",
            f"{settings.broker} answers",
            lambda: assembly.broker(settings, timeout=PATIENCE).partitions(topics),
            fix=f"see that Kafka runs at {settings.broker}, or correct SAGA_BROKER",
        )
        yield finding
        if found is not None and self.saga is not None:
            yield self._topics(found)
            if None not in found.values():
                yield from self._pruning(settings, self.saga.name)

    def _pruning(self, settings: Settings, saga: str) -> Iterator[Finding]:
        """What a worker asks before it begins, so that it is not found out by one that ends."""
        if (keep := settings.keep_workflows) is not None:
            broker = assembly.broker(settings, timeout=PATIENCE)
            yield _tried(
                "pruning",
                f"workflows that ended more than {rough(keep)} ago are deleted",
                lambda: refuse_to_forget(keep, self.sagas, broker.kept(fact_topics(saga))),
                fix="correct SAGA_KEEP_WORKFLOWS, or the topics' retention",
            )[1]

    def _topics(self, found: dict[str, int | None]) -> Finding:
        counts = ", ".join(f"{topic}: {'missing' if count is None else count}" for topic, count in found.items())
        distinct = set(found.values())
        if None in distinct:
            return Finding("topics", "fail", counts, f"run: saga topics apply DIR --partitions {self.recorded or 'N'}")
        if len(distinct) > 1:
            fix = "a lane is one partition number of each topic: re-create them with one count; see: saga topics plan"
            return Finding("topics", "fail", counts, fix)
        if self.recorded is not None and distinct != {self.recorded}:
            text = f"{counts}, but the database recorded {self.recorded} partitions"
            fix = f"re-create the topics with {self.recorded} partitions, or drain the saga and start with a new database"
            return Finding("topics", "fail", text, fix)
        record = "as the database recorded" if self.recorded else "the database has recorded none yet"
        return Finding("topics", "ok", f"{counts} partitions, {record}")


def _tried(subject: str, text: str, make: Callable[[], Made], *, fix: str) -> tuple[Made | None, Finding]:
    """What was made and that it could be, or why not."""
    try:
        return make(), Finding(subject, "ok", text)
    except SagaError as error:
        return None, Finding(subject, "fail", str(error), fix)
