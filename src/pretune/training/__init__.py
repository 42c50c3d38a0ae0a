"""The loop and what it needs; knows Learners and Batches only, never what a datum is."""
