"""The Files port over SSH: SFTP where it can do the work, commands on the cluster otherwise."""
