"""Declare, wire, check, plan and turn: the one room that knows the order of the others."""
