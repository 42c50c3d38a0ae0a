"""Text corpora as streams of documents and tokens."""
