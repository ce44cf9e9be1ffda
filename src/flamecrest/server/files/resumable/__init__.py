"""Resumable uploads: the Uploads port and its adapter over SFTP."""
