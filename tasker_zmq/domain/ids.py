"""Types for ids, so that one kind is never passed for another."""

from typing import NewType

TaskId = NewType("TaskId", int)
StepId = NewType("StepId", int)
NamedTaskId = NewType("NamedTaskId", int)
NamedStepId = NewType("NamedStepId", int)
BatchId = NewType("BatchId", int)
BatchUuid = NewType("BatchUuid", str)
RegistrationId = NewType("RegistrationId", int)
SessionId = NewType("SessionId", str)
CoreId = NewType("CoreId", str)
HandlerClass = NewType("HandlerClass", str)
