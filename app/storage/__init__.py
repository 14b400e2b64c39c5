"""The repository of versions, their manifests, and the verification of files."""
