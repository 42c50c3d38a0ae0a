"""What lies under a path, as a table of typed rows: class folders, manifests, folders of files."""
