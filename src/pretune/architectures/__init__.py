"""Networks of our own: plain nn.Modules that know nothing of data or tasks."""
