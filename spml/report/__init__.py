"""A run, or several side by side, as one self-contained HTML page.

`run_folder` reads what a run has written, `pictures` and `prototypes` look at its images and its embedding, `charts`
draws, `page` puts it together. What a run does not have is left out of its page.
"""
