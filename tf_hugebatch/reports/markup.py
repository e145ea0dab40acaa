"""HTML out of what run folders say: every text escaped, every address relative and quoted, numbers only if they are."""

import html
import math
import os
import urllib.parse

from ..runs import is_number_or_null


def text(value):
    """Escaped; empty for nothing."""
    return "" if value is None else html.escape(str(value))


def breaking(path):
    """A path, escaped, that goes to the next line between its folders where it is long."""
    return text(path).replace("/", "/<wbr>")


def link(path, folder, *file):
    """Address, seen from `folder`, of a run's folder or of a file in it."""
    relative = os.path.relpath(os.path.join(path, *file), os.fspath(folder)).replace(os.sep, "/")
    return html.escape(urllib.parse.quote(os.fsencode(relative)) + ("" if file else "/"))


def class_of(name):
    """The attribute; nothing for no name."""
    return f' class="{name}"' if name else ""


def number(value):
    """The value where it is a finite number, else None."""
    return value if value is not None and is_number_or_null(value) and math.isfinite(value) else None
