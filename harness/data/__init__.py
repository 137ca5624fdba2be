"""Files of preference data: reading pairs, converting ranked datasets, finding leaks.

`read` and `pairs` turn rows with any supported columns into preference pairs, `rows` reads JSONL and Parquet, `formats`
and `convert` handle the formats of other trainers, `leaks` recognises edited evaluation prompts, `hub` downloads from
and uploads to the Hugging Face hub.

    >>> from harness.data.leaks import LeakIndex
    >>> index = LeakIndex({"my_set": [("q1", "What is the capital of Australia?")]})
    >>> index.find("Tell me: what is the capital of AUSTRALIA").overlap
    1.0
"""
