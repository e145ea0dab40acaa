"""What a test of a fault came to, as a line of JSON, for scripts/reliability.py.

A test that does something bad to a run and checks what is left says so:

    @pytest.mark.fault("kill -9 at a random moment", holds="weights equal to the last bit")
    def test_...(record_property):
        ...
        record_property("tried", 5)                        # where one test tries it more than once
        record_property("measured", "at most 2 updates made again")

With the environment variable TF_HUGEBATCH_FAULTS=FILE a line is appended to FILE for each such test that runs: what was
lost is nothing when it passes, and what its failure says when it fails. Without the variable nothing is written.
"""

import datetime
import json
import os

MARK = "fault"
VARIABLE = "TF_HUGEBATCH_FAULTS"


def record(item, call, report):
    """Appends the outcome of pytest's `item`; `report` is of the phase `call`. A skipped test tried nothing."""
    mark, path = item.get_closest_marker(MARK), os.environ.get(VARIABLE)
    # The outcome is that of the test itself, or of a set-up or tidying-up that failed.
    if mark is None or not path or report.skipped or (report.passed and report.when != "call"):
        return
    said = dict(item.user_properties)
    row = {
        "fault": mark.args[0], "holds": mark.kwargs["holds"], "tried": said.get("tried", 1), "measured": said.get("measured"),
        "lost": _last_line(call) if report.failed else None, "seconds": round(report.duration, 1), "test": item.nodeid,
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
    }
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def _last_line(call):
    return f"{call.excinfo.typename}: {call.excinfo.value}".strip().splitlines()[0]
