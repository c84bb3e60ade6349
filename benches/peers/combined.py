#!/usr/bin/env python3
"""Writes the events of a Parquet file of the generator as a Combined access log, in the same order.

    combined.py EVENTS.parquet OUT.log

The customer stands where a web server writes the client's address, the latency where it writes
the bytes sent; service, release, cohort and region have no place in such a line.
"""
import sys

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq


def lines(batch):
    """The batch as one Arrow array of lines: joined by columns, without a loop over events."""
    text = lambda name: batch[name].cast(pa.string())
    time = pc.strftime(batch["ts"].cast(pa.timestamp("ms")).cast(pa.timestamp("s"), safe=False), format="%d/%b/%Y:%H:%M:%S")
    route = text("route")
    request = pc.if_else(pc.match_substring(route, " "), route, pc.binary_join_element_wise("GET", route, " "))
    return pc.binary_join_element_wise(
        text("customer"), " - - [", time, ' +0000] "', request, ' HTTP/1.1" ', text("status"),
        " ", text("latency_us"), ' "-" "curl/8.14.1"\n', "")


def main():
    source, out = sys.argv[1:]
    with open(out, "wb") as f:
        for batch in pq.ParquetFile(source).iter_batches(batch_size=1_000_000):
            joined = lines(batch)
            _, offsets, data = joined.buffers()
            ends = pa.Array.from_buffers(pa.int32(), len(joined) + 1, [None, offsets])
            f.write(memoryview(data)[ends[0].as_py():ends[-1].as_py()])


if __name__ == "__main__":
    main()
