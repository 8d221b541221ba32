"""How often are the health rules wrong: over healthy runs, and over runs with faults put in for real?"""
