"""Problems with a stage that trains in steps, to compare rules that stop trainings early.

Public: problem (CurveProblem, CURVE_PROBLEMS). One module for each: power_laws, quadratics,
digits_network, segmentation, distillation.
"""
