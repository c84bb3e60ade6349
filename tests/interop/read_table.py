#!/usr/bin/env python3
"""Reads a Ninefold table with other people's Delta Lake readers and prints sums as JSON.

    read_table.py DIR [--minutes] [--reader deltalake|polars|duckdb]...

DIR is the table itself (DATA/rollups). One object per reader, all of which must agree:

    {"deltalake": {"version": 3,
                   "grains": {"series": {"rows": 9, "valid": 120, ..., "latency_max_us": 7}},
                   "minutes": [["acme", "api", "2026-11-01T00:00:00Z", 10, 1, 0, 9, 2, 1234, 900]]},
     "polars": {...}, "duckdb": {...}}

`grains`: per grain its rows, the sum of each whole number (of `latency_max_us` the greatest,
0 where none) and, as `latency_bytes`, how many bytes its histograms have. `minutes`, with
--minutes: the grain `series` summed by customer, service and minute, in that order: valid, bad,
excluded, timed, slow, latency_sum_us, and the greatest latency_max_us. Needs deltalake and pyarrow; polars and duckdb are
reported as {"skipped": why} where they are not installed.
"""

import argparse
import json
import sys

INTS = [
    "valid", "bad", "excluded", "timed", "slow", "latency_sum_us", "latency_max_us",
    "status", "offset", "first", "next", "read", "counted", "dead", "duplicate",
    "holes", "invalid_latency",
]
# DataFusion, which is inside of deltalake, has no length of bytes.
HEX_SIZE = "length(encode(latency, 'hex')) / 2"
MEASURES = ["valid", "bad", "excluded", "timed", "slow", "latency_sum_us", "latency_max_us"]


def is_maximum(name):
    """Whether rows of one key have a greatest value rather than a sum."""
    return name == "latency_max_us"


def aggregate_sql(table, latency_size):
    ints = ", ".join(
        f'coalesce({"max" if is_maximum(name) else "sum"}("{name}"), 0) as "{name}"'
        for name in INTS
    )
    length = f"coalesce(sum({latency_size}), 0) as latency_bytes"
    return f"select grain, count(*) as rows, {ints}, {length} from {table} group by grain"


def minutes_sql(table, minute="minute"):
    sums = ", ".join(
        f'cast({"max" if is_maximum(name) else "sum"}("{name}") as bigint) as "{name}"'
        for name in MEASURES
    )
    return (
        f"select customer, service, {minute} as minute, {sums} from {table} "
        "where grain = 'series' group by customer, service, minute"
    )


def grains_of(rows):
    """{grain: sums} of dictionaries that have the grain beside the sums."""
    return {
        row["grain"]: {name: int(value) for name, value in row.items() if name != "grain"}
        for row in rows
    }


def minutes_of(rows):
    rows = [
        [row["customer"], row["service"], row["minute"].strftime("%Y-%m-%dT%H:%M:%SZ")]
        + [int(row[name]) for name in MEASURES]
        for row in rows
    ]
    # Python orders text by code point, which is the order of its UTF-8 bytes.
    return sorted(rows)


def read_deltalake(directory, minutes):
    from deltalake import DeltaTable, QueryBuilder

    table = DeltaTable(directory)
    query = QueryBuilder().register("rollups", table)

    def rows(sql):
        import pyarrow

        return pyarrow.table(query.execute(sql).read_all()).to_pylist()

    found = {"version": table.version(), "grains": grains_of(rows(aggregate_sql("rollups", HEX_SIZE)))}
    if minutes:
        found["minutes"] = minutes_of(rows(minutes_sql("rollups")))
    return found


def read_polars(directory, minutes):
    import polars

    table = polars.scan_delta(directory)
    def total(name):
        column = polars.col(name)
        return column.max() if is_maximum(name) else column.sum()

    sums = [total(name).fill_null(0) for name in INTS]
    length = polars.col("latency").bin.size("b").sum().fill_null(0).alias("latency_bytes")
    grains = table.group_by("grain").agg(polars.len().alias("rows"), *sums, length)
    found = {"grains": grains_of(grains.collect().to_dicts())}
    if minutes:
        key = ["customer", "service", "minute"]
        series = table.filter(polars.col("grain") == "series")
        found["minutes"] = minutes_of(
            series.group_by(key).agg(*map(total, MEASURES)).collect().to_dicts()
        )
    return found


def read_duckdb(directory, minutes):
    import duckdb
    from deltalake import DeltaTable

    connection = duckdb.connect()
    connection.execute("set timezone = 'UTC'")
    try:
        connection.execute("load delta")
        source, name = "delta_scan(?)", directory
    except duckdb.Error:
        # Without the extension: the files that the log names, and no others.
        name = DeltaTable(directory).file_uris()
        source = "read_parquet(?, hive_partitioning = true, union_by_name = true)"
        if not name:
            return {"grains": {}, **({"minutes": []} if minutes else {})}

    def rows(sql):
        result = connection.execute(sql, [name])
        names = [column[0] for column in result.description]
        return [dict(zip(names, row)) for row in result.fetchall()]

    # A union of files has the columns of those grains only that have a file.
    described = connection.execute(f"describe select * from {source}", [name]).fetchall()
    present = {row[0] for row in described}
    absent = [f'null::bigint as "{column}"' for column in INTS if column not in present]
    absent += ["null::blob as latency"] if "latency" not in present else []
    table = f"(select {', '.join(['*', *absent])} from {source})"
    found = {"grains": grains_of(rows(aggregate_sql(table, "octet_length(latency)")))}
    if minutes:
        found["minutes"] = minutes_of(rows(minutes_sql(table, "minute::timestamp")))
    return found


READERS = {"deltalake": read_deltalake, "polars": read_polars, "duckdb": read_duckdb}


def main():
    parser = argparse.ArgumentParser(description="sums of a Ninefold table by other readers")
    parser.add_argument("directory")
    parser.add_argument("--minutes", action="store_true")
    parser.add_argument("--reader", action="append", choices=sorted(READERS))
    arguments = parser.parse_args()
    found = {}
    for name in arguments.reader or READERS:
        try:
            found[name] = READERS[name](arguments.directory, arguments.minutes)
        except ImportError as error:
            found[name] = {"skipped": str(error)}
    json.dump(found, sys.stdout)
    print()


if __name__ == "__main__":
    main()
