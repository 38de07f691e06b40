"""Jobs for what outgrows a request, on Ray Data: resumable, and the same bytes however often they were interrupted.

The only importer of Ray beside ``services``; importing ``stn_bulk`` alone loads neither Ray nor pyarrow.
"""
