"""Rewrites a table as others do: `OPTIMIZE`, and with --vacuum a `VACUUM` that keeps nothing.

Prints JSON: how many files the rewriting removed, and which files the vacuum deleted.
"""

import argparse
import json

from deltalake import DeltaTable

arguments = argparse.ArgumentParser()
arguments.add_argument("table")
arguments.add_argument("--vacuum", action="store_true")
arguments = arguments.parse_args()

table = DeltaTable(arguments.table)
if arguments.vacuum:
    deleted = table.vacuum(
        retention_hours=0, dry_run=False, enforce_retention_duration=False
    )
    print(json.dumps({"vacuumed": deleted}))
else:
    metrics = table.optimize.compact()
    print(json.dumps({"removed": metrics["numFilesRemoved"]}))
