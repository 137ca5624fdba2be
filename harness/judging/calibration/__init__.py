"""How good a judge's verdicts are, measured against recorded verdicts of an official judge.

`sample` draws recorded pairs, `measure` has them judged in both orders, `figures` compares, `record` stores the result
under the judge's identity, where boards find it.

    from harness.judging.calibration.record import calibration_of

    calibration_of(judge.identity(), "weighted_alpaca_eval_gpt4_turbo")   # None: uncalibrated
"""
