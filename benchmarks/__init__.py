"""Speed claims, measured: us and named peers, interleaved, on the same files, weights and machine."""
