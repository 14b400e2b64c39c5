"""`make bench`: this service against its peers, in one paired run on this machine."""
