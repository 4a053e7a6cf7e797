"""Uploading a model, to a stand-in of the hub that listens on this machine and keeps the files."""

import base64
import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from jaxembed.encoders import EncoderError
from jaxembed.encoders.hub import push_to_hub

TINY = Path(__file__).parents[1] / "goldens/encoders/tiny"


class Server(ThreadingHTTPServer):
    """Keeps the files of the commits, and which repositories are private."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Hub)
        self.files, self.private = {}, {}
        self.address = f"http://127.0.0.1:{self.server_port}"


class Hub(BaseHTTPRequestHandler):
    """Answers what an upload asks."""

    server: Server

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = self.path.partition("?")[0]
        if self.headers.get("Authorization") != "Bearer hf_right":
            return self.answer(401, {"error": "Invalid credentials"})
        if path == "/api/repos/create":
            asked = json.loads(body)
            self.server.private[f"{asked['organization']}/{asked['name']}"] = asked.get("private")
            name = f"{asked['organization']}/{asked['name']}"
            return self.answer(200, {"url": f"{self.server.address}/{name}", "name": name})
        if path == "/api/validate-yaml":
            return self.answer(200, {"errors": [], "warnings": []})
        if "/preupload/" in path:
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            return self.answer(200, {"files": files})
        if "/commit/" in path:
            name = path.removeprefix("/api/models/").partition("/commit/")[0]
            for line in body.splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    value = entry["value"]
                    self.server.files[name, value["path"]] = base64.b64decode(value["content"])
            url = f"{self.server.address}/{name}/commit/0"
            return self.answer(200, {"success": True, "commitOid": "0" * 40, "commitUrl": url})
        return self.answer(404, {"error": path})

    def answer(self, status, content):
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub():
    server = Server()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def push(hub, repository, token="hf_right", **options):
    """Uploads in a process of its own: the hub's address is read when its client is imported."""
    code = (
        "import sys, json; from jaxembed.encoders.hub import push_to_hub;"
        "print(push_to_hub(sys.argv[1], sys.argv[2], **json.loads(sys.argv[3])))"
    )
    environment = {
        "PATH": "/usr/bin:/bin",
        "HF_ENDPOINT": hub.address,
        "HF_TOKEN": token,
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    return subprocess.run(
        [sys.executable, "-c", code, str(TINY), repository, json.dumps(options)],
        env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def test_every_file_of_a_model_arrives(hub):
    result = push(hub, "me/tiny", private=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == f"{hub.address}/me/tiny"
    files = {str(f.relative_to(TINY)): f.read_bytes() for f in TINY.rglob("*") if f.is_file()}
    assert {path: data for (_, path), data in hub.files.items()} == files
    assert hub.private == {"me/tiny": True}


def test_what_the_hub_refuses_is_one_line_with_the_remedy(hub):
    result = push(hub, "me/tiny", token="hf_wrong")
    assert result.returncode == 1
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("ConnectionError")]
    assert "could not be uploaded to me/tiny (401" in line
    assert f"hf upload me/tiny {TINY}" in line
    assert not hub.files


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(EncoderError, match="holds no model to upload"):
        push_to_hub(tmp_path, "me/tiny")
