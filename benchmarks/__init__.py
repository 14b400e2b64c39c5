"""`make bench`: compare this service with its peers in one paired run on this machine."""
