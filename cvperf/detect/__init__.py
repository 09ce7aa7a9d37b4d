"""What ``cvperf detect`` does: detectors by name on pictures, folders and videos."""
