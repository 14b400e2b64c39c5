"""A Gunicorn worker made for serving: reads on the loop, quick answers inline, the rest in threads behind a gate.

One thread (the loop) owns every socket and never waits for anything but its poller; a pool of threads runs what is not
quick, and never touches a socket. The life of a connection, each state with its deadline and what the deadline does:

    accepted
      |
      v
    IDLE ------ first byte -----> HEAD ------ whole head -----> BODY ------ whole body ----+
     ^  silent_s at first, then    |  head_s: 408                |  body_grace_s + size /  |
     |  keepalive: closed          |  malformed: 400, 414, 431   |  body_floor: 408        |
     |                             |  (as Gunicorn says)         |  too long: 413          |
     |                             |                             |  ended early: 400       |
     |                             +------- no body -------------|-----------------+       |
     |                                                           |                 v       v
     |         +----- quick(environ): run at the turn's end ---- | --------------- WAITING
     |         |                                                 |                   |  queued: queue_max_wait_s: 503
     |         v                                                 |                   |  running: request_timeout_s, or
     +---- ANSWERING <---- run by a thread, behind the gate ---- | ------------------+  less by X-Request-Timeout: 504
     keep      |  answer_grace_s + size / answer_floor: cut      |
               |                                                 |
               +--- close, or any refusal of a broken request ---+
               v
           LINGERING   linger_s after the last byte: what is still sent is thrown away, so that the answer can be read
               |
               v
            CLOSED     also from everywhere when the client resets; a request that is queued then is dropped

A worker ends in the phases of `lifecycle`: it tells its application (`draining()`, `environ["retort.draining"]`), takes
what the kernel has accepted, closes its listeners, answers everything with `Connection: close`, and is gone before
`drain_timeout_s`. A thread that is still running `stuck_grace_s` after its deadline has its stack written to the log,
and ends its worker in the same way.

The modules: `worker` (Gunicorn's side), `loop` (epoll, accepting, deadlines), `connection` (the states above),
`parsing` (heads), `bodies`, `desk` (admits, runs), `deadlines`, `quick`, `refusals`, `gate` (who may run), `dispatch`
(threads), `spare` (threads that come and go), `answers` (heads and problems), `outbox`, `journal` (access log and
hooks), `lifecycle`, `limits`, `stats`; and `master`, for Gunicorn's other side.

What an application may offer, as attributes: `quick(environ) -> bool` (a pure function: whether the request takes so
little that the loop can run it), `lane(environ)` and `together(environs)` (requests of one lane other than None: those
that are quick and were read in one turn, or that wait while a group of the lane runs, are one call, `[(body, headers)
of a 200, or None, ...]`, and what is None is called alone), `waits(environ) -> bool` (it waits for others than this
process: such requests have places of their own, each with a thread while it lasts, and take none from those that
compute), `draining()`, and `observe(snapshot)`, told every second, and at the end, what `Stats` says. One of these that
raises is a line in the log and nothing else: hence `except Exception` around each. What it finds in the environ:
`retort.server` (`Stats`), `retort.draining`, and in a thread `retort.deadline_s` (monotonic) and `retort.queued_s`.
"""

from app.server.limits import Limits
from app.server.worker import RetortWorker

__all__ = ["Limits", "RetortWorker"]
