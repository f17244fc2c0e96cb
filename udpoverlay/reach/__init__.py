"""Whether and how an inner address is reached: echo requests, sizes, hops, what was lost where."""
