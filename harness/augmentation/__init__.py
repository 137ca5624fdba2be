"""The parts of the ranked dataset: new prompts, samples, scores, and measures of variety.

`shots` picks the seed prompts that a generator is shown, `filters` drops unusable new prompts, `pool` stores samples
one by one, `scorer` scores them, `admission` tests the reward model first. `diversity`, `perplexity` and `card`
describe the result.

    >>> from harness.augmentation.diversity import distinct
    >>> distinct(["a b c", "a b d"], n=1)   # distinct words over all words
    0.6666666666666666
"""
