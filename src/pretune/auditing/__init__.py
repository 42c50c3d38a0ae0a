"""Evidence about a dataset before training: duplicates, leaks, confounds, look-alike classes, usable examples."""
