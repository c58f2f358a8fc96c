"""What a stage calls: functions, methods of objects, and other callables.

Public are `signatures` (what they take), `methods` (the stages of one object) and `working_copies`
(the object that a call works on).
"""
