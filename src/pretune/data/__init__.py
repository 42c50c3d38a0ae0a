"""From disk to batches; knows no model."""
