"""Images to try: real samples and synthetic nuclei."""
