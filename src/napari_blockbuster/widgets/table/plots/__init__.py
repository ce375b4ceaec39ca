"""Plots of the table of objects, and the numbers behind them."""
