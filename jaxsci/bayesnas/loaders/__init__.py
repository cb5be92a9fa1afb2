"""Reading labelled images and tables, with checks that say what is wrong with a file."""
