"""What a finished run is for: predict, evaluate, report."""
