"""Routes of transfers, and of the signed URLs that they hand out."""
