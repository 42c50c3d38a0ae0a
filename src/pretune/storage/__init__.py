"""Bytes decoded once and kept: stores, the cache, ingestion, what results depend on."""
