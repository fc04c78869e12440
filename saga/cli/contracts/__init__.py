"""Commands about contracts, most of which need nothing but the folder."""
