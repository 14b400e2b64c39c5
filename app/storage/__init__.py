"""Files: the repository of versions, their manifests, and the check that a file is the one that was packed."""
