"""The image browser of the report: layers, their units, the images that drive them. No torch."""
