"""Image data sets in the formats that their authors publish, and what the suite makes of them."""
