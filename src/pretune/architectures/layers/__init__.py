"""What several networks of our own are built of: attention, convolutions, encoder layers, memories of earlier steps."""
