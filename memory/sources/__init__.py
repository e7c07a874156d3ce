"""What is remembered from elsewhere: conversations and documents, with citations.

conversation   a transcript with speakers and times, one record a turn
    turns      what every format is read into
    locomo     LoCoMo's own JSON
    chats      messages as chats export them, JSON and JSON Lines
    transcripts, subtitles   plain text and Markdown, WebVTT and SRT
documents      Markdown, plain text and PDF, one record a passage
    markdown, pdf   a file's blocks and pages
    chunks     blocks into passages
    revised    what changes in the store when a document did
reading        files, their size and their encoding;  moments   times as people write them
"""
