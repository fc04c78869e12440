"""A saga with its contracts: the definition read from Avro schemas, and those schemas by name."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, cast

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StrictInt, ValidationError
from pydantic_core import PydanticCustomError

from saga.contracts.acknowledged import RECORD as ACKNOWLEDGED
from saga.contracts.form import malformed, repeated, unknown
from saga.contracts.registry import Registry
from saga.contracts.schema import NAMED, Schema, full_name, hazards, inline, outline
from saga.contracts.topics import acks_topic, compensations_topic, events_topic, subject
from saga.errors import DecodeError, DefinitionError, SchemaNotFound
from saga.protocol.definition import Compensated, Definition, Step, Undo

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_Model = TypeVar("_Model", bound=BaseModel)


def _text_of_span(value: Any) -> Any:
    """A number is refused, since each reader of the schema may take it for another unit; so is what pydantic alone reads."""
    if isinstance(value, str) and value.lstrip("+-").startswith("P"):
        return value
    raise PydanticCustomError("time_delta_parsing", "Input should be an ISO 8601 duration")


_Span = Annotated[timedelta, BeforeValidator(_text_of_span), Field(gt=timedelta(0), le=timedelta(days=36_500))]
_Version = Annotated[StrictInt, Field(ge=1, lt=2**31)]
_Owner = Annotated[str, Field(min_length=1)]
_TopicName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9._-]{1,200}$")]

_CONTROL = frozenset(
    f"saga.{name}"
    for name in (
        "Acknowledged",
        "AbortRequested",
        "OperatorActed",
        "Refused",
        "StepCompensated",
        "StepFailed",
        "StepSkipped",
        "StepStuck",
    )
)


class _SagaAttributes(BaseModel):
    """The custom attribute `saga` of a saga schema."""

    model_config = ConfigDict(extra="forbid")
    name: _TopicName
    version: _Version
    deadline: _Span | None = None
    deadline_doc: str | None = None
    unwind: _Span | None = None
    owner: str


class _StepAttributes(BaseModel):
    """The custom attribute `step` of a field of a saga schema."""

    model_config = ConfigDict(extra="forbid")
    by: _Owner
    on: list[str] | list[list[str]] = []
    emits: list[str]
    fails: str | None = None
    compensated: str | None = None
    pivot: StrictBool = False
    external: StrictBool = False
    timeout: _Span | None = None
    timeout_doc: str | None = None
    on_error: Literal["park", "fail"] = "park"
    on_stuck: Literal["wait", "continue"] = "wait"
    gate: Annotated[str | None, Field(pattern=r"^!?[a-z][a-z0-9_-]*$")] = None
    acknowledged: StrictBool = True


@dataclass(frozen=True, eq=False, kw_only=True)
class Saga(Definition):
    """A definition together with the Avro schemas of its events.

    `types` maps full names to schemas as written, the framework's control records included; `contract` gives one
    self-contained. `own` is the saga's own schema as written, `registry` where it was found, if in one. Load a saga from a
    folder with `Saga.load`, from a registry with `Saga.from_registry`, or build it from schemas with `Saga.of`.
    """

    namespace: str = ""
    types: Mapping[str, Schema] = field(default_factory=dict)
    own: Schema = field(default_factory=dict)
    registry: Registry | None = None

    @classmethod
    def load(cls, folder: str | Path) -> Saga:
        """Read every `.avsc` of a folder: one record with the attribute `saga`, and the events and types that it names.

        Raises DefinitionError that names the file, what was found there, what was expected and what to do.
        """
        path = Path(folder)
        files = sorted(path.glob("*.avsc")) if path.is_dir() else []
        if not files:
            found = "no .avsc file in it" if path.is_dir() else "a file" if path.exists() else "no such folder"
            raise DefinitionError(
                f"no saga at {str(folder)!r}: found {found}, "
                f"expected a folder of .avsc files, one of them with the attribute 'saga'. Check the path."
            )
        return cls._assemble({str(file): _parse(file.read_bytes(), str(file)) for file in files}, None)

    @classmethod
    def from_registry(cls, registry: Registry, name: str, *, version: int) -> Saga:
        """The saga as registered: its schema under the subject `<full name>-v<version>`, its events inside.

        Asks at once. Raises DefinitionError if no such saga is registered, RegistryUnavailable without registry and cache.
        """
        for found in registry.subjects(f"-v{version}"):
            if (schema := registered(registry, found, name)) is not None:
                types = {full: type_ for full, type_ in outline(schema).items() if not full.startswith("saga.")}
                return cls._assemble({f"{registry.url} {full}": type_ for full, type_ in types.items()}, registry)
        raise DefinitionError(
            f"{registry.url} has no saga {name!r} of version {version}; register it: saga schemas register DIR"
        )

    @classmethod
    def of(cls, *schemas: Schema) -> Saga:
        """Build a saga from schemas given as Python dictionaries, the saga schema among them."""
        return cls._assemble({full_name(schema, ""): schema for schema in schemas}, None)

    @classmethod
    def _assemble(cls, sources: Mapping[str, Schema], registry: Registry | None) -> Saga:
        sagas = {source: schema for source, schema in sources.items() if "saga" in schema}
        if len(sagas) != 1:
            raise DefinitionError(
                f"found {len(sagas)} saga schemas among {', '.join(sources)}; expected exactly one record with the "
                f"attribute 'saga' ({', '.join(sagas) or 'none has it'})"
            )
        [(source, schema)] = sagas.items()
        _refuse_malformed(sources)
        types = _index({s: t for s, t in sources.items() if s != source}) | control_schemas()
        _refuse_hazards(types)
        return _Reader(source, schema, types, registry).saga(cls)

    def full_name(self, name: str) -> str | None:
        """The full name of an event written without its namespace; None if the saga has none of that name."""
        return _full_name(name, self.namespace, self.types)

    def event(self, name: str) -> str:
        """As `full_name`; DefinitionError if the saga has none of that name."""
        if (found := self.full_name(name)) is not None:
            return found
        known = ", ".join(sorted(n.removeprefix(f"{self.namespace}.") for n in self.types if not n.startswith("saga.")))
        raise DefinitionError(f"saga {self.name!r} has no event {name!r}; its contracts are {known}")

    def contract(self, name: str) -> Schema:
        """The self-contained schema of a type, every other type inlined at its first use."""
        return self._contracts[name]

    def subject(self, name: str) -> str:
        """Where the registry keeps a type: under the topic on which it travels."""
        topic = acks_topic if name == ACKNOWLEDGED else events_topic if name in self.emitter else compensations_topic
        return subject(topic(self.name), name)

    @property
    def published(self) -> tuple[str, ...]:
        """The full names of all types that travel as a record of their own: the saga's events and the control records."""
        events = {event for step in self.steps for event in (*step.outcomes, step.compensated) if isinstance(event, str)}
        return (*sorted(events), *sorted(name for name in self.types if name in _CONTROL))

    @property
    def state(self) -> tuple[str, Schema]:
        """Subject and schema under which the saga itself is registered: self-contained, its first field `workflow`."""
        described = {"name": "workflow", "type": "saga.Workflow", "doc": "Owned by the framework."}
        fields = [described, *(f for f in self.own["fields"] if f["name"] != "workflow")]
        schema = inline({**self.own, "fields": fields}, self.types)
        return f"{full_name(self.own, '')}-v{self.version}", schema

    @cached_property
    def _contracts(self) -> Mapping[str, Schema]:
        return {name: inline(schema, self.types) for name, schema in self.types.items()}


class _Reader:
    """Turns one saga schema into a Saga; every refusal names the source and the field."""

    def __init__(self, source: str, schema: Schema, types: Mapping[str, Schema], registry: Registry | None) -> None:
        self.source, self.schema, self.types, self.registry = source, schema, types, registry
        self.namespace = str(schema.get("namespace", ""))

    def saga(self, kind: type[Saga]) -> Saga:
        attributes = self._validated(_SagaAttributes, self.schema["saga"], "saga")
        try:
            return kind(
                name=attributes.name,
                version=attributes.version,
                owner=attributes.owner,
                deadline=attributes.deadline,
                unwind=attributes.unwind,
                steps=tuple(self._step(f) for f in self.schema.get("fields", []) if f["name"] != "workflow"),
                namespace=self.namespace,
                types=self.types,
                own=self.schema,
                registry=self.registry,
            )
        except DefinitionError as error:
            if self.source in str(error):
                raise
            raise DefinitionError(f"{self.source}: {error}") from error

    def _step(self, field_: Mapping[str, Any]) -> Step:
        name = field_["name"]
        if "step" not in field_:
            raise self._wrong(name, "no attribute 'step'", "each field of a saga schema describes one step")
        given = self._validated(_StepAttributes, field_["step"], name)
        joins = [given.on] if given.on and isinstance(given.on[0], str) else given.on
        step = Step(
            name=name,
            by=given.by,
            on=tuple(self._join(name, join) for join in joins),
            emits=tuple(self._event(name, event) for event in given.emits),
            fails=self._event(name, given.fails) if given.fails else None,
            compensated=self._compensated(name, given),
            pivot=given.pivot,
            external=given.external,
            timeout=given.timeout,
            on_error=given.on_error,
            on_stuck=given.on_stuck,
            gate=given.gate,
            acknowledged=given.acknowledged,
        )
        self._check_union(name, field_.get("type"), step)
        if field_.get("default", "none") is not None:
            found = f"default {field_['default']!r}" if "default" in field_ else "no default"
            raise self._wrong(name, found, '"default": null, which the field is until the step is done')
        return step

    def _join(self, step: str, names: Any) -> frozenset[str]:
        events = {self._event(step, name): name for name in names}
        if len(events) < len(names):
            raise self._wrong(step, f"on: {names!r}, an event twice", f"each event once: {[*events.values()]!r}")
        return frozenset(events)

    def _compensated(self, step: str, given: _StepAttributes) -> Compensated:
        if given.compensated is not None:
            return self._event(step, given.compensated)
        return Undo.NOTHING if "compensated" in given.model_fields_set else None

    def _check_union(self, step: str, union: Any, declared: Step) -> None:
        """The type of the field must be null and exactly the step's events: it is the state of a finished workflow."""
        events = [*declared.outcomes, *([declared.compensated] if isinstance(declared.compensated, str) else [])]
        named = isinstance(union, list) and all(isinstance(branch, str) for branch in union)
        found = [self._event(step, n) for n in union if n != "null"] if named else []
        if set(found) != set(events) or len(set(found)) < len(found) or not named or union[0] != "null":
            raise self._wrong(step, f"type {union!r}", f"a union of null and the step's events: {['null', *events]!r}")

    def _event(self, step: str, name: str) -> str:
        if (found := _full_name(name, self.namespace, self.types)) is not None:
            return found
        known = ", ".join(sorted(n for n in self.types if not n.startswith("saga.")))
        raise self._wrong(step, f"event {name!r}, for which there is no .avsc", f"one of {known}")

    def _validated(self, model: type[_Model], given: Any, where: str) -> _Model:
        try:
            return model.model_validate(given)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"]) or where
            expected = f"{_wanted(model, first)} (see docs, 'The saga schema')"
            found = given.get(place, first["input"]) if isinstance(given, dict) else first["input"]
            raise self._wrong(
                where, f"no {place}" if first["type"] == "missing" else f"{place}: {found!r}", expected
            ) from error

    def _wrong(self, where: str, found: str, expected: str) -> DefinitionError:
        return DefinitionError(f"{self.source}: {where}: found {found}; expected {expected}")


def _wanted(model: type[BaseModel], error: ErrorDetails) -> str:
    """What pydantic says of it, as far as that tells what to write."""
    match error["type"]:
        case "extra_forbidden":
            return f"one of the attributes {', '.join(model.model_fields)}"
        case "greater_than" | "less_than_equal":
            return "a duration longer than none and of no more than 100 years"
        case "string_too_short":
            return "the name of a participant"
        case "string_pattern_mismatch" if error["loc"] == ("name",):
            return "letters, digits, '.', '_' and '-', up to 200, since the names of its topics begin with it"
        case kind if kind.startswith("time_delta"):
            return "an ISO 8601 duration such as PT90S, PT5M or P1D, as text"
        case "greater_than_equal" | "less_than":
            return f"an integer from 1 to {2**31 - 1}"
        case "missing":
            return f"the attribute {error['loc'][-1]!r}"
    return error["msg"].removeprefix("Input should be ")


@dataclass(frozen=True, slots=True)
class ControlRecords:
    """The framework's own records as saga `name` publishes them, for those who have no contracts of the saga at hand."""

    name: str
    registry: Registry | None = None

    @property
    def published(self) -> tuple[str, ...]:
        """Their full names."""
        return tuple(sorted(_CONTROL))

    def contract(self, name: str) -> Schema:
        """The self-contained schema of one of them."""
        return inline(control_schemas()[name], {})

    def subject(self, name: str) -> str:
        """Where the registry keeps it."""
        return subject(compensations_topic(self.name), name)


def registered(registry: Registry, subject: str, name: str) -> Schema | None:
    """The newest schema of a subject if it is a saga of this name; None for what others keep in the registry."""
    try:
        schema: Any = registry.latest(subject)
    except (DecodeError, SchemaNotFound):
        return None
    match schema:
        case {"saga": {"name": found}} if found == name:
            return cast("Schema", schema)
    return None


def control_schemas() -> dict[str, Schema]:
    """The framework's own records, by full name: what participants tell each other besides domain events."""
    folder = resources.files("saga.contracts") / "control"
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".avsc")), key=lambda f: f.name)
    return _index({f.name: _parse(f.read_bytes(), f.name) for f in files})


def _refuse_malformed(sources: Mapping[str, Schema]) -> None:
    for source, schema in sources.items():
        for wrong in malformed(schema):
            raise DefinitionError(f"{source}: {wrong}")
        if not isinstance(schema["type"], str) or schema["type"] not in NAMED:
            raise DefinitionError(f"{source}: found {schema['type']!r}; expected a type of its own: a record, enum or fixed")


def _refuse_hazards(types: Mapping[str, Schema]) -> None:
    for name, schema in types.items():
        whole = inline(schema, types)
        for missing in unknown(whole):
            raise DefinitionError(f"type {name}: found {missing!r}, for which there is no .avsc; add it, or correct the name")
        for hazard in hazards(whole):
            raise DefinitionError(
                f"{hazard}: a record of a few bytes could then end the process of whoever decodes it. "
                f"Expected types of bounded depth and items of at least one byte; flatten it, or give the items a field."
            )


def _parse(content: bytes, source: str) -> Schema:
    try:
        schema = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise DefinitionError(f"{source}: not JSON: {error}. An .avsc file holds one Avro schema as JSON.") from error
    if twice := repeated(content):
        raise DefinitionError(
            f"{source}: found the key {twice[0]} more than once; expected it once, as the last would count alone"
        )
    if not isinstance(schema, dict) or "name" not in schema:
        raise DefinitionError(f"{source}: found {type(schema).__name__} without a name; expected a named Avro type")
    return schema


def _index(sources: Mapping[str, Schema]) -> dict[str, Schema]:
    types: dict[str, Schema] = {}
    for source, schema in sources.items():
        name = full_name(schema, "")
        if name in types:
            raise DefinitionError(f"{source}: type {name!r} is defined in two files; keep one of them")
        types[name] = schema
    return types


def _full_name(name: str, namespace: str, types: Container[str]) -> str | None:
    return next((full for full in (name, f"{namespace}.{name}") if full in types), None)
