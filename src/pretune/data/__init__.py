"""From stored examples to batches: splits, views, batching, loading; knows no model."""
