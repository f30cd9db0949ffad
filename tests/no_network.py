"""A process of its own in which every attempt to reach a network fails and is counted."""

from tests.processes import python

REFUSING = """
import socket
requests = []
def refuse(*args, **kwargs):
    requests.append(args)
    raise OSError("no network")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
"""


def run_without_network(code: str, **variables: str) -> list[str]:
    """The lines that `code` prints; it finds the attempts in the list `requests`."""
    return python(REFUSING + code, **variables).splitlines()
