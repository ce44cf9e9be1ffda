"""Transfers of large files through an S3 object store: presigned URLs for clients, movers for the cluster's side."""
