"""The index of a split's shards: read where it is, made with a progress bar where it is not."""

import concurrent.futures
import os
import sys
import time

import rich.console
import rich.progress

from tf_hugebatch.data.tfrecord import index_path, index_shard, read_index, write_index
from tf_hugebatch.settings import Refusal

_SECONDS_BETWEEN_LINES = 30  # where there is no terminal to draw a bar on


def indexed(folder, split, shard_paths, label_key):
    """The ShardIndex of each shard, from the index beside them or by reading all of them once.

    Raises:
        Refusal: a damaged index or shard, or one of another data set; all of the shards that have a problem are named.
    """
    shards = read_index(folder, split, shard_paths)
    if shards is not None:
        return shards
    shards, problems, said = [], [], time.monotonic()
    console = rich.console.Console(stderr=True)
    bar = rich.progress.Progress(*rich.progress.Progress.get_default_columns(), rich.progress.TimeElapsedColumn(),
                                 console=console, disable=not console.is_terminal)
    with bar, concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as workers:
        task = bar.add_task(f"indexing {len(shard_paths)} {split} shards (once)", total=len(shard_paths))
        for shard in workers.map(lambda path: _index_or_problems(path, label_key), shard_paths):
            shards.append(shard) if not isinstance(shard, Refusal) else problems.extend(shard.problems)
            bar.advance(task)
            if not console.is_terminal and time.monotonic() - said > _SECONDS_BETWEEN_LINES:
                said = time.monotonic()
                done = bar.tasks[task].completed
                print(f"indexing {split} shards (once): {done:,.0f} of {len(shard_paths):,}", file=sys.stderr, flush=True)
    if problems:
        raise Refusal(problems)
    try:
        write_index(folder, split, shards)
        print(f"index of {sum(len(shard.labels) for shard in shards):,} records: {index_path(folder, split)}",
              file=sys.stderr)
    except OSError as error:
        print(f"the index is kept in memory for this run only: {error}", file=sys.stderr)
    return shards


def _index_or_problems(path, label_key):
    try:
        return index_shard(path, label_key)
    except Refusal as refusal:
        return refusal
