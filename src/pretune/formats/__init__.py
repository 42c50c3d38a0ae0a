"""What files are, before they are decoded: modality by name and first bytes, encoding of text."""
