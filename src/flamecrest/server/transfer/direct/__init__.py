"""Transfers of large files through the gateway itself: signed URLs and parts."""
