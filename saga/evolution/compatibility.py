"""Whether one Avro schema reads what another wrote, as the Avro project's own checker says. The sole importer of `avro`."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

from saga.contracts.schema import Schema
from saga.errors import DefinitionError


def unreadable(reader: Schema, writer: Schema) -> list[str]:
    """Why `reader` cannot read all that `writer` may have written; empty if it can.

    Both self-contained. Logical types are not looked at, by this checker as by registries. Unlike them it lets no text read
    bytes, of which few are UTF-8. Raises DefinitionError for a schema that is no Avro, or if the checker is not installed.
    """
    try:
        from avro.compatibility import SchemaCompatibilityType
    except ImportError as error:
        raise DefinitionError(
            f"the checker of Avro schemas cannot be loaded ({error}); run: pip install 'saga-choreography[cli]'"
        ) from error
    found = _strict()().get_compatibility(_parsed(reader), _parsed(writer))
    if found.compatibility is SchemaCompatibilityType.compatible:
        return []
    kinds = sorted({kind.value.replace("_", " ") for kind in found.incompatibilities})
    return [f"{', '.join(kinds)} ({', '.join(sorted(found.messages))})"]


def incompatible(old: Schema, new: Schema) -> list[str]:
    """Why the two do not read each other: FULL compatibility of one pair."""
    return [*unreadable(new, old), *unreadable(old, new)]


@cache
def _strict() -> Any:
    from avro.compatibility import ReaderWriterCompatibilityChecker, type_mismatch

    checker: Any = ReaderWriterCompatibilityChecker  # it is not annotated

    class Strict(checker):  # type: ignore[misc]
        def calculate_compatibility(self, reader: Any, writer: Any, location: Any) -> Any:
            if (reader.type, writer.type) == ("string", "bytes"):
                return type_mismatch(reader, writer, location)
            return super().calculate_compatibility(reader, writer, location)

    return Strict


def _parsed(schema: Schema) -> Any:
    from avro.errors import AvroException
    from avro.schema import make_avsc_object

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # logical types that it does not know are the lint's business
            return make_avsc_object(schema)
    except AvroException as error:
        raise DefinitionError(f"{schema.get('name')}: this is no Avro schema: {error}. Correct it.") from error
