"""Load tests: open and closed loops of HTTP requests, from several processes.

    from ferserve.loadtest.payloads import sample_face
    from ferserve.loadtest.plan import OpenLoop, Plan
    from ferserve.loadtest.processes import run
    from ferserve.loadtest.statistics import summarize

    plan = Plan("http://127.0.0.1:8000/v1/emotion", OpenLoop(rate=50), (sample_face(),))
    summary = summarize(run(plan), slo=0.1)

Imports nothing itself, so that the command line can name its command without httpx and NumPy.
"""
