"""What a result is worth: metrics, calibration, intervals, floors, diagnosis; numpy in, plain dicts out."""
