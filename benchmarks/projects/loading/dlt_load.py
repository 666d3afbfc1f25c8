"""A file into DuckDB by dlt: Arrow batches where pyarrow reads the format, dlt's own reader for NDJSON.

Run as: dlt_load.py DATABASE FILE
"""

import gzip
import sys
from collections.abc import Iterator
from pathlib import Path

import dlt
import pyarrow.csv
import pyarrow.parquet
from dlt.sources.filesystem import filesystem, read_jsonl

database, path = sys.argv[1], Path(sys.argv[2])


@dlt.resource(name="flights", write_disposition="replace")
def arrow() -> Iterator[pyarrow.RecordBatch]:
    if path.suffix == ".parquet":
        yield from pyarrow.parquet.ParquetFile(path).iter_batches()
        return
    convert = pyarrow.csv.ConvertOptions(null_values=["", "NA"], strings_can_be_null=True)
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        yield from pyarrow.csv.open_csv(
            file, read_options=pyarrow.csv.ReadOptions(block_size=16 << 20), convert_options=convert
        )


pipeline = dlt.pipeline("flights", destination=dlt.destinations.duckdb(database), dataset_name="raw")
if path.suffix == ".ndjson":
    files = filesystem(bucket_url=path.parent.as_uri(), file_glob=path.name) | read_jsonl()
    pipeline.run(files.with_name("flights"), write_disposition="replace")
else:
    pipeline.run(arrow(), loader_file_format="parquet")
