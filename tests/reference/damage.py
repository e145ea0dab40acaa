"""Hypothesis strategies for what a reader may find: whole files that were changed, and bytes that never were a file."""

import copy
import json

from hypothesis import settings as examples
from hypothesis import strategies as st

_PLACE = st.floats(0, 1)
_ANY_BYTES = st.binary(max_size=200)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from([10**400, -0.0, "nan"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3), max_leaves=6)


def few(count):
    """Settings of hypothesis for so many examples, the same ones each time."""
    return examples(max_examples=count, deadline=None, derandomize=True, database=None)


@st.composite
def changed(draw, whole):
    """The bytes of a file after one to three changes: some bytes replaced, taken out, put in or repeated; or cut."""
    content = bytearray(whole)
    for _ in range(draw(st.integers(1, 3))):
        first = int(draw(_PLACE) * len(content))
        last = first + draw(st.sampled_from([1, 2, 8, 64]))
        match draw(st.sampled_from(["replace", "remove", "insert", "repeat", "cut"])):
            case "replace":
                content[first:last] = draw(st.binary(min_size=len(content[first:last]), max_size=len(content[first:last])))
            case "remove":
                del content[first:last]
            case "insert":
                content[first:first] = draw(_ANY_BYTES)
            case "repeat":
                content[first:first] = content[first:last]
            case "cut":
                del content[first:]
    return bytes(content)


def damaged(whole):
    """`changed(whole)`, or bytes that have nothing to do with it."""
    return changed(whole) | _ANY_BYTES


@st.composite
def changed_json(draw, value):
    """A plain value with one to three of its parts, or all of it, replaced by any other, taken out, or given another name."""
    value = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, 3))):
        holder, key = {"": value}, ""
        while isinstance(holder[key], (dict, list)) and holder[key] and draw(st.integers(0, 3)):
            holder = holder[key]
            key = draw(st.sampled_from(sorted(holder))) if isinstance(holder, dict) else draw(st.integers(0, len(holder) - 1))
        match draw(st.sampled_from(["replace", "replace", "remove", "rename"])):
            case "remove" if key != "":
                del holder[key]
            case "rename" if isinstance(holder, dict) and key != "":
                holder[draw(st.text(max_size=5))] = holder.pop(key)
            case _:
                holder[key] = draw(JSON)
                value = holder[key] if key == "" else value
    return value


def damaged_json(value):
    """Bytes of a JSON file that held `value`: other values in it, or other bytes."""
    return changed_json(value).map(lambda value: json.dumps(value).encode()) | damaged(json.dumps(value, indent=1).encode())
