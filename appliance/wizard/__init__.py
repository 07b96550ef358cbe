"""Setting a box up, from the claim to a test study that came back: one engine for the browser and the command line.

``steps`` decides (pure): which steps there are, what is done, what may be opened, what comes next. ``progress`` keeps
what was answered. The other modules each do one step's work, and are called by the console's pages and by
``appliance setup`` alike.
"""
