"""Language modelling: texts, tokens, and windows of them."""
