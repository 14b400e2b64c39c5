"""The Gunicorn worker: reads requests on one loop, answers short ones there and runs the others in threads.

One thread (the loop) owns every socket and waits only for its poller. The threads of a pool run all requests that are
not inline; they never touch a socket. The worker knows its application only through `contract`. While requests are
served, the loop calls only `admit`, `refuse`, and `respond` for inline requests.

The states of a connection, each with its deadline and the effect of the deadline:

    accepted
      |
      v
    IDLE ------ first byte -----> HEAD ------ whole head -----> BODY ------ whole body ----+
     ^  silent_s at first, then    |  head_s: 408                |  body_grace_s + size /  |
     |  keepalive: closed          |  malformed: 400, 414, 431   |  body_floor: 408        |
     |                             |  (as Gunicorn decides)      |  too long: 413          |
     |                             |                             |  ended early: 400       |
     |                             +------- no body -------------|-----------------+       |
     |                                                           |                 v       v
     |         +---- runs_inline: respond() at the turn's end -- | --------------- WAITING (admitted)
     |         |                                                 |                   |  queued: queue_max_wait_s: 503
     |         v                                                 |                   |  running: request_timeout_s, or
     +---- ANSWERING <--- run by a thread, after the queue ----- | ------------------+  less by X-Request-Timeout: 504
     keep      |  answer_grace_s + size / answer_floor: cut      |
               |                                                 |
               +--- close, or any refusal of a broken request ---+
               v
           LINGERING   linger_s after the last byte: further bytes of the client are discarded, so that it can read
               |       the answer
               v
            CLOSED     also from every state when the client resets; its request is dropped if it is still queued

A worker stops in the phases of `lifecycle`. It tells its application (`draining()`). If the whole server ends, it lets
no new connection begin. It accepts the connections in the kernel's queue, closes its listeners, answers everything with
`Connection: close`, and ends before `drain_timeout_s`. If a thread makes no progress for `stuck_grace_s` after its
deadline, the worker logs its stack and stops.

From the socket to the application: `worker` (Gunicorn's side), `loop` (epoll, accepting, deadlines), `connection` (the
states above), `parsing` (heads), `bodies`, `dispatcher` (admits requests, runs inline ones, sends answers), `answers`,
`refusals`, `threaded` (queued and running requests), `fairness`, `pool` (threads and coroutines),
`request_hooks` (Gunicorn's hooks and access log), `lifecycle`, `limits`, `contract`.
`other_workers` serves an application under Gunicorn's own workers.
"""

from app.server.limits import Limits
from app.server.worker import RetortWorker

__all__ = ["Limits", "RetortWorker"]
