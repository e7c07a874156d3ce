"""Bounded summaries: a few kilobytes that answer within a known error what SQL would count.

bloom         was this ever there?      no false "no", few false "yes"
count_min     how often was this there? never too low, seldom too high
hyperloglog   how many different ones?  within a few percent
thompson      whom to ask?              draws from what is known of each, so that doubt gets a turn

Each is a cache of the experiences table: two of the same form merge into one of both, a payload
that is broken or missing is counted again from SQL, and what must be exact is asked of SQL.
"""
