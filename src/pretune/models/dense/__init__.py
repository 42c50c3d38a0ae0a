"""Dense detection: which points learn which boxes, what they lose, and which of their boxes are kept."""
