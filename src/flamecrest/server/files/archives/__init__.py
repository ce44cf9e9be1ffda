"""Many files in one stream: the Bulk port and its adapter over a remote tar and SFTP."""
