#!/usr/bin/env python3
"""Writes events of `ninefold generate` as the Parquet file that the peers' generator would write.

    to_parquet.py EVENTS.ndjson OUT.parquet
"""
import sys

import duckdb

COLUMNS = {
    "ts": "BIGINT", "customer": "VARCHAR", "service": "VARCHAR", "route": "VARCHAR", "status": "SMALLINT",
    "latency_us": "INTEGER", "release": "VARCHAR", "cohort": "VARCHAR", "region": "VARCHAR",
}

source, out = sys.argv[1:]
duckdb.execute(f"""COPY (SELECT * FROM read_json('{source}', format='newline_delimited', columns={COLUMNS}))
    TO '{out}' (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 1000000)""")
