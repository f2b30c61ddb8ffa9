"""What comes in is handed up as it came, when there is room; letters find their way or nobody."""

from contextlib import suppress

import zmq

from tasker_zmq.transport.letters import Letters
from tasker_zmq.transport.sockets import SLACK_BYTES, SocketEndpoints
from tests.transport.conftest import Serve
from tests.transport.serving import (
    LIMITS,
    RESULT_TOPICS,
    WAIT_SECONDS,
    Serving,
    eventually,
    got,
    receive,
    received,
    sockets_at,
)


def test_results_come_in_order_and_in_the_frames_that_were_sent(
    serve: Serve, transport: str
) -> None:
    serving = serve(transport)
    publisher = serving.publisher()
    sent = [[b"partial_result 1"], [b"batch_completion ", b"2"], [b"partial_result ", b"", b"\xff"]]
    for frames in sent:
        publisher.send_multipart(frames)
    assert [got(serving.notebook.heard) for _ in sent] == sent


def test_topics_that_are_no_results_are_not_read(serve: Serve) -> None:
    serving = serve()
    publisher = serving.publisher()
    for topic in (b"", b"steps ", b"partial_results ", b"partial_result", b"Partial_result "):
        publisher.send(topic + b"{}" if topic.endswith(b" ") else topic)
    publisher.send(b"partial_result last")
    assert got(serving.notebook.heard) == [b"partial_result last"]


def test_a_command_is_answered_to_whom_it_came_from(serve: Serve, transport: str) -> None:
    serving = serve(transport)
    endpoint = serving.sockets.commands_endpoint
    dealers = [serving.peer(zmq.DEALER, endpoint) for _ in range(2)]
    for number, dealer in enumerate(dealers):
        dealer.send(b"ask %d" % number)
    for _ in dealers:
        route, body = got(serving.notebook.commands)
        serving.write(route, b"answer to " + body)
    assert [receive(each) for each in dealers] == [[b"answer to ask 0"], [b"answer to ask 1"]]


def test_a_req_socket_is_answered_behind_its_empty_frame(serve: Serve) -> None:
    serving = serve()
    asker = serving.peer(zmq.REQ, serving.sockets.commands_endpoint)
    asker.send(b"ask")
    route, empty, body = got(serving.notebook.commands)
    assert (empty, body) == (b"", b"ask")
    serving.write(route, empty, b"answer")
    assert receive(asker) == [b"answer"]


def test_a_peer_that_reads_late_gets_every_letter_in_order(serve: Serve) -> None:
    serving = serve()
    dealer = serving.peer(zmq.DEALER, serving.sockets.commands_endpoint, RCVHWM=100)
    dealer.send(b"ask for much")
    route, _ = got(serving.notebook.commands)
    pad = b"x" * 500
    for number in range(5_000):
        serving.write(route, b"%d" % number + pad)
    eventually(lambda: bool(serving.loop._outgoing), "queues are full")
    other = serving.peer(zmq.DEALER, serving.sockets.commands_endpoint)
    other.send(b"ask")
    serving.write(got(serving.notebook.commands)[0], b"answer")
    assert receive(other) == [b"answer"]
    assert [receive(dealer) for _ in range(5_000)] == [[b"%d" % n + pad] for n in range(5_000)]
    eventually(lambda: not serving.loop._outgoing, "nothing is kept")


def test_what_is_kept_for_those_who_do_not_read_is_bounded(serve: Serve) -> None:
    serving = serve(at_once=False)
    serving.loop._outgoing = Letters(serving.sockets.commands, kept_max=10, bytes_max=600)
    serving.start()
    dealer = serving.peer(zmq.DEALER, serving.sockets.commands_endpoint, RCVHWM=1)
    dealer.send(b"ask for much")
    route, _ = got(serving.notebook.commands)
    kept = serving.loop._outgoing
    for _ in range(5_000):
        serving.write(route, b"x" * 500)
    eventually(lambda: kept.dropped > 0, "what finds no room is dropped")
    assert len(kept) == 1
    dealer.close()
    eventually(lambda: not kept, "nothing is kept for who is gone")


def test_a_letter_to_a_peer_that_left_or_never_was_harms_nobody(serve: Serve) -> None:
    serving = serve()
    endpoint = serving.sockets.commands_endpoint
    gone = serving.peer(zmq.DEALER, endpoint)
    gone.send(b"ask and leave")
    route, _ = got(serving.notebook.commands)
    gone.close()
    for _ in range(100):
        serving.write(route, b"too late")
        serving.write(b"nobody", b"at all")
        serving.write(b"", b"")
    here = serving.peer(zmq.DEALER, endpoint)
    here.send(b"ask")
    route, _ = got(serving.notebook.commands)
    serving.write(route, b"answer")
    assert receive(here) == [b"answer"]


def test_nothing_is_read_without_room_and_everything_afterwards(
    serve: Serve, transport: str
) -> None:
    serving = serve(transport, at_once=False)
    serving.notebook.has_room = False
    serving.start()
    publisher = serving.publisher()
    dealer = serving.peer(zmq.DEALER, serving.sockets.commands_endpoint)
    for number in range(50):
        publisher.send(b"partial_result %d" % number)
        dealer.send(b"%d" % number)
    serving.quiet_turns()
    assert serving.notebook.heard.empty()
    assert serving.notebook.commands.empty()
    serving.notebook.has_room = True
    wanted = [b"%d" % number for number in range(50)]
    results = [got(serving.notebook.heard)[0] for _ in wanted]
    assert results == [b"partial_result " + each for each in wanted]
    assert [got(serving.notebook.commands)[1] for _ in wanted] == wanted


def test_without_room_publications_and_letters_still_leave(serve: Serve) -> None:
    serving = serve(granted=(b"steps.w1 ",))
    dealer = serving.peer(zmq.DEALER, serving.sockets.commands_endpoint)
    dealer.send(b"ask")
    route, _ = got(serving.notebook.commands)
    serving.notebook.has_room = False
    peer = serving.subscribed(b"steps.w1 ")
    serving.publish(b"steps.w1 ", b"work")
    serving.write(route, b"answer")
    assert receive(peer) == [b"steps.w1 work"]
    assert receive(dealer) == [b"answer"]


def test_a_loop_without_room_pushes_back_until_the_publisher_feels_it(serve: Serve) -> None:
    """The high-water marks of both sides are all that is kept for a daemon that does not read."""
    serving = serve("inproc", at_once=False)
    serving.notebook.has_room = False
    serving.start()
    publisher = serving.peer(zmq.XPUB, serving.sockets.results_endpoint, SNDHWM=10, XPUB_NODROP=1)
    for _ in RESULT_TOPICS:
        receive(publisher)
    sent = 0
    with suppress(zmq.Again):
        for number in range(10_000):
            publisher.send(b"partial_result %d" % number, zmq.NOBLOCK)
            sent += 1
    assert 0 < sent <= 10 + LIMITS.result_queue_hwm
    serving.notebook.has_room = True
    for number in range(sent):
        assert got(serving.notebook.heard) == [b"partial_result %d" % number]


def test_a_frame_far_above_the_limit_is_cut_off_and_the_next_ones_are_read(serve: Serve) -> None:
    serving = serve("tcp")
    limit = LIMITS.result_bytes_max + SLACK_BYTES
    largest = b"partial_result " + b"x" * (limit - 15)
    publisher = serving.publisher()
    publisher.send(largest)
    assert got(serving.notebook.heard) == [largest]
    publisher.send(largest + b"x")

    def is_read_again() -> bool:
        publisher.send(b"partial_result small")
        return not serving.notebook.heard.empty()

    eventually(is_read_again, "the connection is there again")
    assert got(serving.notebook.heard) == [b"partial_result small"]


def test_workers_that_bind_are_connected_to(
    serve: Serve, zmq_context: "zmq.Context[zmq.Socket[bytes]]"
) -> None:
    binding = zmq_context.socket(zmq.XPUB)
    binding.bind("tcp://127.0.0.1:*")
    endpoints = SocketEndpoints(
        steps="inproc://steps",
        results="inproc://results",
        commands="inproc://commands",
        results_connect=(binding.getsockopt_string(zmq.LAST_ENDPOINT),),
    )
    serving = Serving(zmq_context, sockets_at(zmq_context, endpoints))
    serving.peers.append(binding)
    serving.start()
    try:
        assert {receive(binding)[0][1:] for _ in RESULT_TOPICS} == set(RESULT_TOPICS)
        binding.send(b"partial_result bound")
        assert serving.notebook.heard.get(timeout=WAIT_SECONDS) == [b"partial_result bound"]
        assert received(binding) == []
    finally:
        serving.close()
