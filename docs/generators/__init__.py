"""What the site shows beside its own pages, made when it is built."""
