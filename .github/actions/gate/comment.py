"""Keeps one comment on a pull request: found by a hidden mark, edited on the next push.

Only the standard library, and nothing of the checkout: it holds the token. What fails is a warning, since the job's
summary says the same. Environment: GITHUB_API_URL, GITHUB_REPOSITORY, GITHUB_EVENT_PATH, GATE_TOKEN, GATE_NAME,
GATE_COMMENT (a file), GATE_COMMENT_AUTHOR.
"""

import json
import os
import re
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

LARGEST = 60_000
"""Characters; GitHub takes 65,536."""
MOST_PAGES = 50
SECONDS = 30


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """The token goes to the API's host and nowhere else."""

    def redirect_request(self, *_: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirects)


def call(method: str, path: str, body: dict[str, str] | None = None) -> Any:
    """GitHub's reply. Raises OSError (HTTPError among them) and ValueError."""
    api = os.environ.get("GITHUB_API_URL", "https://api.github.com").rstrip("/")
    headers = {
        "Authorization": f"Bearer {os.environ['GATE_TOKEN']}",
        "Accept": "application/vnd.github+json",
        "Content-Type": "application/json",
        "User-Agent": "harness-gate",
    }
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{api}{path}", data, headers, method=method)
    with _OPENER.open(request, timeout=SECONDS) as reply:
        return json.load(reply)


def existing(repository: str, number: int, mark: str, author: str) -> int | None:
    """The id of our comment. Anyone may write the mark, so the author counts too."""
    for page in range(1, MOST_PAGES + 1):
        comments = call("GET", f"/repos/{repository}/issues/{number}/comments?per_page=100&page={page}")
        for comment in comments:
            if comment["user"]["login"] == author and (comment["body"] or "").startswith(mark):
                return int(comment["id"])
        if len(comments) < 100:
            break
    return None


def main() -> None:
    event = json.loads(Path(os.environ["GITHUB_EVENT_PATH"]).read_text(encoding="utf-8"))
    if not event.get("pull_request"):
        return
    number, repository = int(event["pull_request"]["number"]), os.environ["GITHUB_REPOSITORY"]
    name = os.environ["GATE_NAME"]
    if not re.fullmatch(r"[\w./-]+", repository) or not re.fullmatch(r"[\w.-]+", name):
        raise ValueError("expected a name of letters, digits, '.', '_' and '-'")
    mark = f"<!-- harness gate: {name} -->"
    text = Path(os.environ["GATE_COMMENT"]).read_text(encoding="utf-8").replace("@", "@\u200b")  # mentions nobody
    if len(text) > LARGEST:
        text = text[:LARGEST] + "\n\n… (cut; the job's summary has all)\n"
    body = {"body": f"{mark}\n{text}"}
    found = existing(repository, number, mark, os.environ["GATE_COMMENT_AUTHOR"])
    if found is None:
        call("POST", f"/repos/{repository}/issues/{number}/comments", body)
    else:
        call("PATCH", f"/repos/{repository}/issues/comments/{found}", body)


if __name__ == "__main__":
    try:
        main()
    except urllib.error.HTTPError as error:
        advice = "; a pull request of a fork has a token that only reads" if error.code == 403 else ""
        print(f"::warning::the comment was not written (HTTP {error.code}){advice}; see the job's summary")
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"::warning::the comment was not written ({type(error).__name__}); see the job's summary")
    sys.exit(0)
