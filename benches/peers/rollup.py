#!/usr/bin/env python3
"""The batch job in another engine: read request events, roll them up, judge windows, write Parquet.

    rollup.py ENGINE INPUT OUTPUT [--by customer|service] [--quantiles native|none] [--threads N]

ENGINE is duckdb, chdb (ClickHouse in process), polars or datafusion; INPUT is NDJSON, Parquet
or a Combined access log, by the end of its name (`.ndjson`, `.parquet`, `.log`). Two files are
written into OUTPUT: `minutes.parquet`, a row per customer (and service, unless `--by customer`)
and minute with `valid`, `bad` and the quantiles p50, p95, p99 of its latency; and
`customers.parquet`, a row per customer (and service) with totals, availability, budget left and
the worst burn rates of 5m and 1h, taken at each minute with traffic.

A Combined log holds no latency and no service: neither is made up. Each engine splits its lines
in the way that was fastest of those tried (`split`, regular expression, fixed separators).

Prints one line of JSON: wall and CPU seconds, peak memory, and sums of the result to check it by.
"""
import argparse
import json
import os
import resource
import time

TARGET = 0.998
QUANTILES = (0.5, 0.95, 0.99)
WINDOWS_MINUTES = {"burn_5m": 5, "burn_1h": 60}
TIME_FORMAT = "%d/%b/%Y:%H:%M:%S %z"


class Job:
    """What is asked for, and the SQL that all engines but one share."""

    def __init__(self, arguments):
        self.input = os.path.abspath(arguments.input)
        self.threads = arguments.threads
        self.format = self.input.rsplit(".", 1)[1]
        self.is_log = self.format == "log"
        self.keys = ["customer"] if arguments.by == "customer" or self.is_log else ["customer", "service"]
        self.has_quantiles = arguments.quantiles == "native" and not self.is_log
        os.makedirs(arguments.output, exist_ok=True)
        self.minutes = os.path.join(os.path.abspath(arguments.output), "minutes.parquet")
        self.customers = os.path.join(os.path.abspath(arguments.output), "customers.parquet")
        for path in (self.minutes, self.customers):
            if os.path.exists(path):
                os.remove(path)

    @property
    def key(self):
        return ", ".join(self.keys)

    def customers_sql(self, relation, real="DOUBLE"):
        """Totals and worst windows of each series, from the rows by minute."""
        rate = lambda name: f"CAST(sum(e) OVER {name} AS {real}) / sum(n) OVER {name}"
        over = lambda minutes: (f"(PARTITION BY {self.key} ORDER BY minute "
                                f"RANGE BETWEEN {minutes - 1} PRECEDING AND CURRENT ROW)")
        windows = ", ".join(f"{name} AS {over(minutes)}" for name, minutes in WINDOWS_MINUTES.items())
        rates = ", ".join(f"{rate(name)} AS rate_{name}" for name in WINDOWS_MINUTES)
        worst = ", ".join(f"max(rate_{name}) / {1 - TARGET} AS worst_{name}" for name in WINDOWS_MINUTES)
        return f"""
            SELECT {self.key}, sum(n) AS valid, sum(e) AS bad,
                   1 - CAST(sum(e) AS {real}) / sum(n) AS availability,
                   1 - sum(e) / (sum(n) * {1 - TARGET}) AS budget_left, {worst}
            FROM (SELECT {self.key}, n, e, {rates}
                  FROM (SELECT {self.key}, minute, valid AS n, bad AS e FROM {relation}) AS rows
                  WINDOW {windows}) AS rated
            GROUP BY {self.key}"""


def duckdb(job):
    import duckdb

    db = duckdb.connect(config={"threads": job.threads, "preserve_insertion_order": False})
    if job.format == "ndjson":
        columns = {"ts": "BIGINT", "customer": "VARCHAR", "service": "VARCHAR", "status": "SMALLINT", "latency_us": "INTEGER"}
        read = [name for name in columns if name in [*job.keys, "ts", "status"] or job.has_quantiles and name == "latency_us"]
        source = f"read_json('{job.input}', format='newline_delimited', columns={ {name: columns[name] for name in read} })"
    elif job.is_log:
        # A log line is a row of a file that is separated by blanks and quoted.
        names = {f"c{n}": "VARCHAR" for n in range(10)}
        lines = f"read_csv('{job.input}', delim=' ', quote='\"', header=false, columns={names})"
        source = f"""(SELECT c0 AS customer, c6::SMALLINT AS status,
            epoch_ms(strptime(c3[2:], '%d/%b/%Y:%H:%M:%S')) AS ts FROM {lines})"""
    else:
        source = f"read_parquet('{job.input}')"
    quantiles = f", approx_quantile(latency_us, {list(QUANTILES)}) AS latency" if job.has_quantiles else ""
    db.execute(f"""CREATE TEMP TABLE minutes AS
        SELECT {job.key}, (ts // 60000)::INTEGER AS minute, count(*) AS valid,
               count(*) FILTER (status >= 500) AS bad {quantiles}
        FROM {source} GROUP BY {job.key}, minute""")
    db.execute(f"COPY minutes TO '{job.minutes}' (FORMAT parquet, COMPRESSION zstd)")
    db.execute(f"COPY ({job.customers_sql('minutes')}) TO '{job.customers}' (FORMAT parquet, COMPRESSION zstd)")
    return duckdb.__version__


def chdb(job):
    from chdb import session

    db = session.Session()
    db.query(f"SET max_threads = {job.threads}, input_format_parallel_parsing = 1, "
             "output_format_parquet_compression_method = 'zstd'")
    columns = "ts Int64, customer String, service String, status UInt16, latency_us UInt32"
    if job.is_log:
        # By hand from both ends: a regular expression of the whole line took four times as long.
        lines = f"file('{job.input}', LineAsString, 'line String')"
        source = f"""(SELECT substring(line, 1, position(line, ' ') - 1) AS customer,
            toUInt16OrZero(substring(line, position(line, '" ') + 2, 3)) AS status,
            toInt64(parseDateTime(substring(line, position(line, '[') + 1, 20), '%d/%b/%Y:%H:%i:%s', 'UTC')) * 1000 AS ts
            FROM {lines})"""
    else:
        source = f"file('{job.input}', {'Parquet' if job.format == 'parquet' else 'JSONEachRow'}, '{columns}')"
    levels = ", ".join(map(str, QUANTILES))
    quantiles = f", quantilesDD(0.01, {levels})(latency_us) AS latency" if job.has_quantiles else ""
    db.query("CREATE DATABASE job ENGINE = Atomic")
    db.query(f"""CREATE TABLE job.minutes ENGINE = Memory AS
        SELECT {job.key}, toUInt32(intDiv(ts, 60000)) AS minute, count() AS valid,
               countIf(status >= 500) AS bad {quantiles}
        FROM {source} GROUP BY {job.key}, minute""")
    db.query(f"INSERT INTO FUNCTION file('{job.minutes}', Parquet) SELECT * FROM job.minutes")
    db.query(f"INSERT INTO FUNCTION file('{job.customers}', Parquet) {job.customers_sql('job.minutes', 'Float64')}")
    return str(db.query("SELECT version()", "TabSeparated")).strip()


def polars(job):
    os.environ["POLARS_MAX_THREADS"] = str(job.threads)
    import polars as pl

    if job.format == "ndjson":
        schema = {"ts": pl.Int64, "customer": pl.String, "service": pl.String, "status": pl.Int64, "latency_us": pl.Int64}
        events = pl.scan_ndjson(job.input, schema=schema)
    elif job.is_log:
        line = pl.col("line").str
        parts = line.splitn(" ", 5).struct
        events = (
            pl.scan_csv(job.input, has_header=False, separator="\x01", quote_char=None, new_columns=["line"])
            .select(parts.field("field_0").alias("customer"),
                    parts.field("field_3").str.slice(1).str.to_datetime("%d/%b/%Y:%H:%M:%S", time_unit="ms").dt.epoch("ms").alias("ts"),
                    parts.field("field_4").str.split_exact('"', 2).struct.field("field_2").str.slice(1, 3).cast(pl.Int64).alias("status")))
    else:
        events = pl.scan_parquet(job.input)
    # It has no approximate quantile; the exact one is its native choice.
    quantiles = [pl.col("latency_us").quantile(q).alias(f"p{q * 100:.0f}") for q in QUANTILES]
    minutes = (
        events.with_columns((pl.col("ts") // 60000).alias("minute"))
        .group_by(*job.keys, "minute")
        .agg(pl.len().alias("valid"), (pl.col("status") >= 500).sum().alias("bad"), *(quantiles if job.has_quantiles else []))
        .collect(engine="streaming"))
    minutes.write_parquet(job.minutes, compression="zstd")

    def rate(window_minutes):
        over = lambda name: pl.col(name).cast(pl.Int64).rolling_sum_by("minute", f"{window_minutes}i").over(job.keys)
        return over("bad") / over("valid")

    rates = [rate(length).alias(name) for name, length in WINDOWS_MINUTES.items()]
    (minutes.lazy().select(*job.keys, "minute", "valid", "bad").sort(*job.keys, "minute").with_columns(*rates)
     .group_by(job.keys)
     .agg(pl.col("valid").sum(), pl.col("bad").sum(),
          *((pl.col(name).max() / (1 - TARGET)).alias(f"worst_{name}") for name in WINDOWS_MINUTES))
     .with_columns((1 - pl.col("bad") / pl.col("valid")).alias("availability"),
                   (1 - pl.col("bad") / (pl.col("valid") * (1 - TARGET))).alias("budget_left"))
     .collect().write_parquet(job.customers, compression="zstd"))
    return pl.__version__


def datafusion(job):
    import datafusion
    import pyarrow as pa

    db = datafusion.SessionContext(datafusion.SessionConfig().with_target_partitions(job.threads))
    if job.format == "ndjson":
        types = {"ts": pa.int64(), "customer": pa.string(), "service": pa.string(), "status": pa.int16(), "latency_us": pa.int32()}
        db.register_json("events", job.input, schema=pa.schema(list(types.items())), file_extension=".ndjson")
    elif job.is_log:
        names = pa.schema([(f"c{n}", pa.string()) for n in range(10)])
        db.register_csv("lines", job.input, schema=names, has_header=False, delimiter=" ", file_extension=".log")
        db.sql("""CREATE VIEW events AS SELECT c0 AS customer, CAST(c6 AS SMALLINT) AS status,
            to_timestamp_millis(substr(c3, 2), '%d/%b/%Y:%H:%M:%S')::BIGINT AS ts FROM lines""")
    else:
        db.register_parquet("events", job.input)
    quantiles = "".join(f", approx_percentile_cont(latency_us, {q}) AS p{q * 100:.0f}" for q in QUANTILES)
    minutes = db.sql(f"""SELECT {job.key}, ts / 60000 AS minute, count(*) AS valid,
            count(*) FILTER (WHERE status >= 500) AS bad {quantiles if job.has_quantiles else ''}
        FROM events GROUP BY {job.key}, ts / 60000""").cache()
    db.register_view("minutes", minutes)
    minutes.write_parquet(job.minutes, compression="zstd")
    db.sql(job.customers_sql("minutes")).write_parquet(job.customers, compression="zstd")
    return datafusion.__version__


ENGINES = {"duckdb": duckdb, "chdb": chdb, "polars": polars, "datafusion": datafusion}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("engine", choices=ENGINES)
    p.add_argument("input")
    p.add_argument("output", help="a folder; made where it is missing")
    p.add_argument("--by", choices=["customer", "service"], default="service")
    p.add_argument("--quantiles", choices=["native", "none"], default="native")
    p.add_argument("--threads", type=int, default=os.cpu_count())
    arguments = p.parse_args()
    job = Job(arguments)
    start = time.perf_counter()
    version = ENGINES[arguments.engine](job)
    wall_s = time.perf_counter() - start
    usage = resource.getrusage(resource.RUSAGE_SELF)

    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    # DataFusion makes a folder of it where it is large.
    series = pq.read_table(job.customers)
    total = lambda name: pc.sum(series[name]).as_py()
    print(json.dumps({
        "engine": arguments.engine, "version": version, "by": "+".join(job.keys), "quantiles": job.has_quantiles,
        "wall_s": round(wall_s, 3), "cpu_s": round(usage.ru_utime + usage.ru_stime, 2), "peak_mib": usage.ru_maxrss // 1024,
        "events": int(total("valid")), "bad": int(total("bad")), "customers": pc.count_distinct(series["customer"].cast(pa.string())).as_py(),
        "check_burn_1h": round(total("worst_burn_1h"), 2)}))


if __name__ == "__main__":
    main()
