"""How good a judge's verdicts are, measured against recorded verdicts of an official judge.

`sample` draws recorded pairs, `measure` has them judged in both orders, `figures` compares within each system and
`siblings` between them, `equivalent` predicts official win rates, `record` stores the result under the judge's
identity, where boards find it, `table` prints it.

    from harness.judging.calibration.record import calibration_of

    calibration_of(judge.identity(), "weighted_alpaca_eval_gpt4_turbo")   # None: uncalibrated
"""
