"""Language alignment on emoji drawings: questions about real artwork, and answers."""
