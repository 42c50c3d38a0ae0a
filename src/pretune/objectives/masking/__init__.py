"""Learners of the masked objective: one file per modality."""
