"""What keeps a training from being recorded and judged: versions, trackers, devices, disk, arguments."""
