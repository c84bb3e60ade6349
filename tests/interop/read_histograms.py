#!/usr/bin/env python3
"""Decodes a Ninefold table's histograms with another implementation and prints quantiles as JSON.

    read_histograms.py DIR < ASKS

DIR is the table itself (DATA/rollups). ASKS is a JSON list of [customer, service, first minute,
last minute], both ends included, minutes since the epoch. For each one object, in the same order:

    {"count": 812, "p50_us": 1207, "p90_us": 3503, "p95_us": 4511, "p99_us": 9023}

The histograms of the rows are merged by the Python package `hdrhistogram`; a quantile is the
highest value of the slot that holds element ceil(q * count) in order, `null` where count is 0.
Needs deltalake, pyarrow and hdrhistogram.
"""

import json
import math
import sys
import zlib

import pyarrow
from deltalake import DeltaTable, QueryBuilder
from hdrh.histogram import HdrHistogram

QUANTILES = {"p50_us": 0.5, "p90_us": 0.9, "p95_us": 0.95, "p99_us": 0.99}


def decode(raw):
    # The package reads the compressed form only, without its outer header.
    return HdrHistogram.decode(zlib.compress(raw, 1), b64_wrap=False)


def quantiles(histograms):
    merged = HdrHistogram(1, 3_600_000_000, 2)
    for histogram in histograms:
        merged.add(histogram)
    count = merged.get_total_count()
    found = {"count": count, **dict.fromkeys(QUANTILES)}
    for name, quantile in QUANTILES.items():
        rank, seen = math.ceil(quantile * count), 0
        for index in range(merged.counts_len):
            seen += merged.get_count_at_index(index)
            if count and seen >= rank:
                value = merged.get_value_from_index(index)
                found[name] = merged.get_highest_equivalent_value(value)
                break
    return found


def main():
    asks = json.load(sys.stdin)
    query = QueryBuilder().register("rollups", DeltaTable(sys.argv[1]))
    sql = (
        "select customer, service, minute, latency from rollups "
        "where grain = 'series' and latency is not null"
    )
    rows = {}
    for row in pyarrow.table(query.execute(sql).read_all()).to_pylist():
        key = (row["customer"], row["service"])
        minute = int(row["minute"].timestamp()) // 60
        rows.setdefault(key, []).append((minute, row["latency"]))
    answers = []
    for customer, service, first, last in asks:
        of_series = rows.get((customer, service), [])
        chosen = [raw for minute, raw in of_series if first <= minute <= last and raw]
        answers.append(quantiles(map(decode, chosen)))
    json.dump(answers, sys.stdout)
    print()


if __name__ == "__main__":
    main()
