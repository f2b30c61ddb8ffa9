"""Questions about what is stored, one module per noun: plain values out, nothing moved."""
