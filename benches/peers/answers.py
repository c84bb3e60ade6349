#!/usr/bin/env python3
"""The answers of Ninefold's API in DuckDB, from the same table: what one customer's questions cost.

    answers.py windows TABLE [--runs N]   all eleven windows of a customer, from a sorted table in memory
    answers.py month TABLE [--runs N]     a customer's month, from the table's Parquet files
    answers.py report TABLE OUT.csv       the month of every customer, from the table's Parquet files

TABLE is the folder `rollups`. Its files are those that its log names, and every query filters
`grain`, as its format page asks for. Customers are drawn at random, the same ones for all. Prints
one line of JSON with p50 and p99 in milliseconds, or the seconds of the report, and sums to check.
"""
import argparse
import json
import random
import time

import duckdb
from deltalake import DeltaTable

WINDOWS_MINUTES = [2, 5, 30, 60, 120, 360, 1440, 3 * 1440, 7 * 1440, 28 * 1440, 30 * 1440]
TARGET = 0.998


def relation(table):
    files = [uri.removeprefix("file://") for uri in DeltaTable(table).file_uris()]
    files = [path for path in files if "grain=series/" in path]
    return f"(SELECT * FROM read_parquet({files!r}, hive_partitioning=true) WHERE grain = 'series')"


def timed(db, customers, runs, sql, parameters):
    took_ms, checksum = [], 0
    for run in range(runs + 5):
        customer = random.choice(customers)
        start = time.perf_counter()
        rows = db.execute(sql, parameters(customer)).fetchall()
        took_ms.append((time.perf_counter() - start) * 1e3)
        checksum += rows[0][0] if rows else 0
    took_ms = sorted(took_ms[5:])
    return {"p50_ms": took_ms[len(took_ms) // 2], "p99_ms": took_ms[int(len(took_ms) * 0.99)], "runs": runs, "check": checksum}


def windows(db, source, runs):
    db.execute(f"""CREATE TABLE minutes AS
        SELECT customer, service, epoch(minute)::BIGINT // 60 AS minute, sum(valid)::BIGINT AS valid, sum(bad)::BIGINT AS bad
        FROM {source} GROUP BY ALL ORDER BY ALL""")
    customers = [row[0] for row in db.execute("SELECT DISTINCT customer FROM minutes ORDER BY 1").fetchall()]
    newest = db.execute("SELECT max(minute) FROM minutes").fetchone()[0]
    sums = ", ".join(f"sum({what}) FILTER (minute > {newest - length})" for length in reversed(WINDOWS_MINUTES) for what in ("valid", "bad"))
    sql = f"SELECT {sums}, service FROM minutes WHERE customer = ? AND minute > {newest - WINDOWS_MINUTES[-1]} GROUP BY service ORDER BY service"
    return timed(db, customers, runs, sql, lambda customer: [customer])


def month(db, source, runs):
    customers = [row[0] for row in db.execute(f"SELECT DISTINCT customer FROM {source} ORDER BY 1").fetchall()]
    sql = f"""SELECT sum(valid), sum(bad), sum(excluded), 1 - sum(bad) / sum(valid), count(DISTINCT minute)
        FROM {source} WHERE customer = ?"""
    return timed(db, customers, runs, sql, lambda customer: [customer])


def report(db, source, out):
    """The columns of our monthly report that SQL gives at once: the peer's job is the smaller one."""
    start = time.perf_counter()
    db.execute(f"""COPY (
        WITH by_minute AS (SELECT customer, minute, sum(valid) AS valid, sum(bad) AS bad, sum(excluded) AS excluded
                           FROM {source} GROUP BY customer, minute)
        SELECT customer, sum(valid) AS valid, sum(bad) AS bad, sum(excluded) AS excluded,
               1 - sum(bad) / sum(valid) AS availability, sum(bad) <= sum(valid) * {1 - TARGET} AS met,
               sum(bad) / (sum(valid) * {1 - TARGET}) AS budget_consumed,
               count(*) FILTER (valid >= 1 AND bad = valid) AS down_minutes
        FROM by_minute GROUP BY customer ORDER BY customer) TO '{out}' (FORMAT csv)""")
    seconds = time.perf_counter() - start
    check = db.execute(f"SELECT sum(valid), sum(bad), count(*) FROM '{out}'").fetchone()
    return {"wall_s": seconds, "check": [int(value) for value in check]}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("question", choices=["windows", "month", "report"])
    p.add_argument("table")
    p.add_argument("out", nargs="?")
    p.add_argument("--runs", type=int, default=500)
    p.add_argument("--threads", type=int, default=2)
    a = p.parse_args()
    random.seed(1)
    db = duckdb.connect(config={"threads": a.threads})
    source = relation(a.table)
    if a.question == "report":
        answer = report(db, source, a.out)
    else:
        answer = {"windows": windows, "month": month}[a.question](db, source, a.runs)
    print(json.dumps({"engine": "duckdb", "version": duckdb.__version__, "question": a.question, **answer}))


if __name__ == "__main__":
    main()
