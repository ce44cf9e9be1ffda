"""The files of a cluster: ports, their values, and adapters over SSH."""
