"""The catalogue: every event that is logged, by its name; fields carry the rest."""

import logging
from enum import StrEnum


class Event(StrEnum):
    """Names are stable: machines match on them."""

    DAEMON_STARTING = "daemon_starting"
    DAEMON_READY = "daemon_ready"
    DAEMON_DRAINING = "daemon_draining"
    DAEMON_STOPPED = "daemon_stopped"
    DATABASE_AWAY = "database_away"
    DATABASE_BACK = "database_back"
    TICK_FAILED = "tick_failed"
    MESSAGE_POISONOUS = "message_poisonous"
    WORKER_REGISTERED = "worker_registered"
    SESSION_DEAF = "session_deaf"
    SELECTION_FAILED = "selection_failed_least_loaded_instead"
    SESSION_GONE = "session_gone"
    SUBSCRIPTION_REFUSED = "subscription_refused"
    LEGACY_WORKER_SEEN = "legacy_worker_seen"
    INBOX_FULL = "inbox_full"
    PUBLICATION_POSTPONED = "publication_postponed"
    CORE_LOST = "core_lost"
    BATCHES_TAKEN_OVER = "batches_taken_over"
    SUBMISSION_REFUSED = "submission_refused"
    AUDIT_NOT_WRITTEN = "audit_not_written"
    DECIDED_BY_A_PERSON = "decided_by_a_person"

    WORKER_STARTING = "worker_starting"
    WORKER_STOPPING = "worker_stopping"
    WORKER_STOPPED = "worker_stopped"
    DAEMON_AWAY = "daemon_away_still_trying"
    CORE_FOUND = "core_found"
    CORE_LET_GO = "core_let_go"
    CORE_NOT_REACHABLE = "core_not_reachable"
    BATCHES_BROUGHT = "batches_brought_to_another_core"
    REGISTRATION_REFUSED = "registration_refused_still_trying"
    SESSION_UNKNOWN = "session_unknown_to_the_daemon"
    QUESTION_REFUSED = "question_refused"
    COMMAND_NOT_UNDERSTOOD = "command_not_understood"
    COMMAND_NOT_EXPECTED = "command_not_expected"
    HANDLER_MISSING = "handler_missing"
    WORKFLOW_WARNING = "workflow_warning"
    WORKFLOW_REFUSED = "workflow_refused"
    BATCH_NOT_UNDERSTOOD = "batch_not_understood"
    BATCH_KNOWN_ALREADY = "batch_known_already"
    RESULT_NOT_TAKEN = "result_not_taken"
    OUTBOX_NOT_WRITABLE = "outbox_not_writable_no_new_work"
    OUTBOX_WRITABLE_AGAIN = "outbox_writable_again"
    START_REFUSED = "start_refused_steps_dropped"
    STEPS_CANCELLED = "steps_cancelled"
    STEP_COMPLETED = "step_completed"
    STEP_FAILED = "step_failed"
    STEP_CANCELLED_AT_TIMEOUT = "step_cancelled_at_timeout"
    STEP_THREAD_ABANDONED = "step_thread_abandoned"
    LATE_RESULT_DISCARDED = "late_result_discarded"
    HANDLER_PROCESS_CRASHED = "handler_process_crashed"
    HANDLER_PROCESS_DID_NOT_START = "handler_process_did_not_start"
    HANDLER_PROCESS_KILLED_AT_TIMEOUT = "handler_process_killed_at_timeout"


def log(logger: logging.Logger, level: int, event: Event, **fields: object) -> None:
    """One record: the event's name as its message, everything else as fields."""
    if logger.isEnabledFor(level):
        logger.log(level, event.value, extra={"fields": fields})
