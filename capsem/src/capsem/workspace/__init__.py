"""What a machine's workspace is and how it differs from the directory it was copied from. Pure values."""
