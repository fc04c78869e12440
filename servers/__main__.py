"""`python -m servers fetch|up|down|status`: the real servers for a person who has no Docker."""

from __future__ import annotations

import argparse
import sys

from rich.console import Console

from servers.errors import ServerFailed, ServerMissing
from servers.ladder import LADDERS
from servers.programs import Report
from servers.standing import VARIABLES, StandingSet

_VERBS = {
    "fetch": "get all that the servers need, and start nothing",
    "up": "start them on free ports and print the lines to export; what runs already is kept",
    "down": "stop them and throw their data away",
    "status": "tell which of them run; the exit code is 1 unless all do",
}


def main(arguments: list[str] | None = None) -> int:
    """Run one verb: what a shell can use goes to stdout, what a person reads to stderr."""
    epilogue = "\n".join(f"  {verb:7} {meaning}" for verb, meaning in _VERBS.items())
    parser = argparse.ArgumentParser("python -m servers", epilog=epilogue, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=list(_VERBS), metavar="VERB")
    verb: str = parser.parse_args(arguments).verb
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        with console.status("") as status:
            return _run(verb, StandingSet(), _told(console, status.update))
    except (ServerMissing, ServerFailed) as failure:
        console.print(f"{verb}: {failure}", markup=False)
        return 1


def _run(verb: str, standing: StandingSet, report: Report) -> int:
    match verb:
        case "fetch":
            for ladder in LADDERS.values():
                ladder.fetch(report)
        case "up":
            for name, server in standing.up(report).items():
                print(f"export {VARIABLES[name]}={server.address}")
        case "down":
            standing.down(report)
        case "status":
            return _status(standing)
    return 0


def _status(standing: StandingSet) -> int:
    members = standing.members()
    alive = {name for name, server in members.items() if server.alive}
    for name in VARIABLES:
        print(f"{name:9} {f'{members[name].address}  process {members[name].pid}' if name in alive else 'down'}")
    return 0 if alive == set(VARIABLES) else 1


def _told(console: Console, update: Report) -> Report:
    """On a terminal the line that says what goes on is replaced; anywhere else each is printed."""
    return update if console.is_terminal else console.print


if __name__ == "__main__":
    sys.exit(main())
