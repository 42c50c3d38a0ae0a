"""Files of records: delimited text, JSON, Parquet and Arrow."""
