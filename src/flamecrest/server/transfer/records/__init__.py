"""Records of transfers of every method, in files of the user's on the cluster."""
