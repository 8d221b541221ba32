"""What is told of a run when it is over: files for people and for programs, and one line for in between."""
