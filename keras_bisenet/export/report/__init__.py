"""What an export reports: JSON, an HTML page, pictures."""
