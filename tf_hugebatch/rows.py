"""What the tables of `registry.py` are made of: rows of plain data, resolved on first use."""

from __future__ import annotations

import dataclasses
import importlib
import types
from collections.abc import Mapping


class UnknownName(ValueError):
    """A name that is not in its table; the message gives the name, close matches and every name there is."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of a table.

    name: what users write. target: 'module:attribute'. arguments: constructor arguments that make this row
    what it is, not open to users. flags: settings that this row takes. settings: this row's value for each of
    them (its level in the priority of settings), and for settings that follow from choosing it. source: where
    it comes from. facts: what others need to know without importing the target.
    """

    name: str
    target: str
    arguments: Mapping = dataclasses.field(default_factory=dict)
    flags: tuple[str, ...] = ()
    settings: Mapping = dataclasses.field(default_factory=dict)
    source: str = ""
    facts: Mapping = dataclasses.field(default_factory=dict)

    def resolve(self) -> object:
        """Imports the module and returns the class or function that the row names."""
        return imported(self.target)


def imported(target: str) -> object:
    """What 'module:attribute' names."""
    module, attribute = target.split(":")
    return getattr(importlib.import_module(module), attribute)


def table(*rows: Row) -> Mapping[str, Row]:
    """{name: row}, in this order, read-only."""
    return types.MappingProxyType({row.name: row for row in rows})
