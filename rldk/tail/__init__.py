"""A run as it is being written: found, followed, summed up and shown."""
