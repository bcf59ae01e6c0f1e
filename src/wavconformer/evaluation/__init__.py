"""How good is it: hypotheses beside references, as rates with intervals, tables and a page."""
