"""Routes of `/filesystem`: from the wire to the Files, Uploads and Archives ports and back."""
