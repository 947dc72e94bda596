"""The fleet: Celery carries the wake-ups, datagen's engine does the work.

    python -m workers generate | train | cpu | beat | api | migrate

app.py     Celery and its settings         tasks.py      step, train and tick
waker.py   sends wake-ups, never waits     process.py    what one worker process holds and does
duties.py  what a tick does                caretaker.py  the thread that keeps a worker honest
broker.py  the transport, mended           asgi.py       the API, with Celery behind it
run.py     one worker, until SIGTERM       beat.py       ticks
"""
