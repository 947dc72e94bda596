"""The fleet: Celery carries the wake-ups, datagen's engine does the work.

    python -m workers generate | cpu | beat | api

app.py     Celery and its settings         tasks.py      step and tick, a few lines each
waker.py   sends wake-ups, never waits     process.py    what one worker process holds and does
duties.py  what a tick does                caretaker.py  the thread that keeps a worker honest
"""
