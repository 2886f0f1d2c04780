"""Images with exact masks, composed from real artwork, to probe features with."""
