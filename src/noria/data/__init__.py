"""Source and expectations -> DatasetVersion: rows read, judged, set aside, split and versioned."""
