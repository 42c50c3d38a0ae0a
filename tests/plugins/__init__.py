"""Components as another package would bring them: one file each."""
