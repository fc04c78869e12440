"""The schema registry (Confluent-compatible REST API): where ids of schemas come from, and sagas for those without the folder.

The sole importer of the registry client. What was asked once is kept on disk, so a service that has run before starts while
the registry is down.
"""

from __future__ import annotations

import logging
import os
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlsplit

import orjson

from saga.contracts.registry_tls import explained
from saga.contracts.schema import Schema, fingerprint
from saga.errors import DecodeError, DefinitionError, RegistryUnavailable, SchemaNotFound
from saga.forking import tell_of_forks

if TYPE_CHECKING:
    from confluent_kafka.schema_registry import SchemaRegistryClient

log = logging.getLogger("saga.registry")
Answer = TypeVar("Answer")

COMPATIBILITY = "FULL_TRANSITIVE"
"""Of events: replay reads every old version, and old and new services read each other."""

_NOT_FOUND = 404
_THEIRS = range(40400, 40500)
"""How a registry itself says that it has no such thing; others at its address, such as a gateway, know no more than 404."""

_NOT_ALLOWED = frozenset({401, 403})


class Registry:
    """Inert until first used; safe to use from any thread.

    `url` is the root of the compatible API (Apicurio: `http://host:8080/apis/ccompat/v7`), `cache` a folder for what was
    learnt of it (None: this process only), `timeout` in seconds, `client` more settings of confluent-kafka's client.
    Every method raises RegistryUnavailable where the registry does not answer and the cache does not know.
    """

    def __init__(
        self, url: str, *, cache: str | Path | None = None, timeout: float = 5.0, client: Mapping[str, Any] | None = None
    ) -> None:
        try:
            netloc = urlsplit(url).netloc
        except ValueError as error:
            raise DefinitionError(f"the registry's address is none: {error}; expected http://host:port/path") from error
        if not url.startswith(("http://", "https://")):
            raise DefinitionError(
                f"found registry {url!r}; expected an address that begins with http:// or https://. Correct SAGA_REGISTRY"
            )
        if "@" in netloc:
            raise DefinitionError(
                "the registry's address holds a user or password, which would be shown in errors and in the cache's name; set "
                "SAGA_REGISTRY_USER=user:password instead"
            )
        self.url, self._timeout, self._settings = url.rstrip("/"), timeout, dict(client or {})
        self._folder = Path(cache) / quote(self.url, safe="") if cache else None
        self._known: dict[str, Any] = {}
        self._lock = Lock()
        tell_of_forks(self)

    def begin_anew(self) -> None:
        """In a forked process: what comes over the first one's connections is for that one, and so is a farewell."""
        self._lock = Lock()
        if self.__dict__.pop("_client", None) is not None:
            self._closing.detach()

    def id_of(self, subject: str, schema: Schema) -> int:
        """The id under which this very schema is registered; raises SchemaNotFound if it is not."""
        return self._remembered(f"{subject}.{fingerprint(schema):08x}.id", lambda: self._look_up(subject, schema))

    def schema_of(self, id: int) -> Schema:
        """The schema with this id; raises SchemaNotFound if there is none, DecodeError for one that is not Avro."""

        def ask() -> Schema:
            with self._asking(f"schema {id}"):
                answer = self._client.get_schema(id)
                text, kind = _text(answer.schema_str), answer.schema_type
            return _parsed(f"schema {id} of {self.url}", text, kind)

        return self._remembered(f"{id}.avsc", ask)

    def register(self, subject: str, schema: Schema, *, compatibility: str = COMPATIBILITY) -> int:
        """Register the schema under the subject, whose versions must stay compatible; answers its id.

        Raises DefinitionError if it is not compatible with what is registered.
        """
        if self.incompatible(subject, schema):
            raise DefinitionError(
                f"{subject}: the schema is not {compatibility} compatible with the registered versions; "
                f"give every new field a default and remove only fields that have one, or make a new event"
            )
        with self._asking(subject):
            id = _id(self._client.register_schema(subject, _avro(schema)))
            self._client.set_compatibility(subject, compatibility)
        return id

    def incompatible(self, subject: str, schema: Schema) -> bool:
        """Whether the subject has versions with which this schema is not compatible."""
        try:
            with self._asking(subject):
                return not self._client.test_compatibility_all_versions(subject, _avro(schema))
        except SchemaNotFound:
            return False

    def registered(self, subject: str, schema: Schema) -> bool:
        """Whether this very schema is registered; asks the registry itself."""
        try:
            self._look_up(subject, schema)
        except SchemaNotFound:
            return False
        return True

    def known(self, subject: str) -> bool:
        """Whether the subject has any version."""
        try:
            with self._asking(subject):
                return bool(self._client.get_versions(subject))
        except SchemaNotFound:
            return False

    def latest(self, subject: str) -> Schema:
        """The newest version of a subject, the last one known while the registry is away.

        Raises SchemaNotFound, DecodeError for one that is not Avro.
        """

        def ask() -> Schema:
            with self._asking(subject):
                answer = self._client.get_latest_version(subject).schema
                text, kind = _text(answer.schema_str), answer.schema_type
            return _parsed(subject, text, kind)

        return self._asked_first(f"{subject}.avsc", ask)

    def subjects(self, ending: str) -> list[str]:
        """The subjects whose names end so, those last known while the registry is away."""

        def ask() -> list[str]:
            with self._asking("subjects"):
                return sorted(name for name in self._client.get_subjects() if name.endswith(ending))

        return self._asked_first(f"subjects{ending}.json", ask)

    @cached_property
    def _client(self) -> SchemaRegistryClient:
        from confluent_kafka.schema_registry import SchemaRegistryClient

        settings = {"url": self.url, "timeout": self._timeout, "max.retries": 2, "retries.wait.ms": 100, **self._settings}
        client = SchemaRegistryClient(settings)
        self._closing = weakref.finalize(self, client.close)
        return client

    def _look_up(self, subject: str, schema: Schema) -> int:
        with self._asking(subject, missing="; run: saga schemas register"):
            return _id(self._client.lookup_schema(subject, _avro(schema)).schema_id)

    @contextmanager
    def _asking(self, what: str, *, missing: str = "") -> Iterator[None]:
        from confluent_kafka.schema_registry import SchemaRegistryError

        try:
            yield
        except SchemaRegistryError as error:
            if error.http_status_code == _NOT_FOUND and error.error_code in _THEIRS:
                raise SchemaNotFound(f"the registry {self.url} does not know {what}{missing}") from error
            if error.http_status_code == _NOT_FOUND:
                raise RegistryUnavailable(
                    f"at {self.url} no registry answers, but something else (404); see that it runs there, or correct "
                    f"SAGA_REGISTRY, which may need a path as in http://host:8080/apis/ccompat/v7"
                ) from error
            if error.http_status_code in _NOT_ALLOWED:
                raise RegistryUnavailable(
                    f"the registry {self.url} does not let us in ({error.http_status_code}); "
                    f"set SAGA_REGISTRY_USER, SAGA_REGISTRY_TOKEN or a client certificate"
                ) from error
            raise RegistryUnavailable(f"the registry {self.url} failed at {what}: {error}") from error
        except Exception as error:
            if isinstance(error, OSError | RuntimeError | ValueError) or _is_of_the_client(error):
                said = explained(error) or f"does not answer (see that it runs there, or correct SAGA_REGISTRY): {error}"
            else:  # its client trips over answers of another form, such as null from a gateway, or keeps them for good
                self._client.clear_caches()  # type: ignore[no-untyped-call]
                said = (
                    f"answered about {what} with what no registry says ({type(error).__name__}: {error}); see what runs there, "
                    f"or correct SAGA_REGISTRY"
                )
            raise RegistryUnavailable(f"the registry {self.url} {said}") from error

    def _remembered(self, name: str, ask: Callable[[], Answer]) -> Answer:
        with self._lock:
            if name not in self._known:
                self._known[name] = self._read(name)
            if self._known[name] is None:
                self._known[name] = ask()
                self._write(name, self._known[name])
            answer: Answer = self._known[name]
            return answer

    def _asked_first(self, name: str, ask: Callable[[], Answer]) -> Answer:
        """What may change at the registry: the cache answers only while it is away."""
        try:
            answer = ask()
        except RegistryUnavailable:
            known: Answer | None = self._read(name)
            if known is None:
                raise
            return known
        self._write(name, answer)
        return answer

    def _read(self, name: str) -> Any:
        if self._folder is None:
            return None
        try:
            return orjson.loads((self._folder / name).read_bytes())
        except (OSError, orjson.JSONDecodeError):
            return None

    def _write(self, name: str, answer: Any) -> None:
        """Replaced whole, so that a process that dies here leaves no half file; the answer counts where no file can be kept."""
        if self._folder is None:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            half = self._folder / f"{name}.{os.getpid()}"
            half.write_bytes(orjson.dumps(answer))
            half.replace(self._folder / name)
        except OSError as error:
            log.warning("%s of the registry %s is not kept for when it is away: %s", name, self.url, error)


def _id(found: object) -> int:
    """What an event's first bytes have room for; raises TypeError for anything else."""
    if type(found) is not int or not 0 <= found < 2**31:
        raise TypeError(f"found id {found!r}; expected a whole number from 0 that fits in 31 bits")
    return found


def _text(found: object) -> str:
    if not isinstance(found, str):
        raise TypeError(f"found schema {found!r}; expected a text")
    return found


def _parsed(what: str, text: str, kind: str | None) -> Schema:
    try:
        found: Schema = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise DecodeError(f"{what} is of type {kind}; expected AVRO") from error
    return found


def _is_of_the_client(error: Exception) -> bool:
    return type(error).__module__.partition(".")[0].startswith(("httpx", "httpcore"))


def _avro(schema: Schema) -> Any:
    from confluent_kafka.schema_registry import Schema as Registered

    return Registered(orjson.dumps(schema).decode(), "AVRO")
