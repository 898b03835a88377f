"""What pages and figures are made of: HTML blocks, styles, pictures, words. No torch."""
