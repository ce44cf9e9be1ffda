"""Programs of the cluster that file operations run: how they are called and how their output is parsed. No I/O."""
