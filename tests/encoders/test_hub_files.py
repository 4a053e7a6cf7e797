"""Models of the hub without safetensors, fetched from a stand-in of the hub on this machine."""

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

TINY = Path(__file__).parents[1] / "goldens/encoders/tiny"
SHA = "1" * 40
FILES = {name: (TINY / name).read_bytes() for name in ("config.json", "tokenizer.json")}


class Hub(BaseHTTPRequestHandler):
    """Answers what a download and a listing ask about any repository."""

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = self.path.partition("?")[0]
        files = FILES | {"pytorch_model.bin": b"weights"}
        if "/revision/" in path:
            siblings = [{"rfilename": name} for name in files]
            return self.answer(json.dumps({"id": "me/old", "sha": SHA, "siblings": siblings}))
        if "/tree/" in path:
            entries = [{"type": "file", "path": name, "oid": SHA, "size": len(data)}
                       for name, data in files.items()]  # fmt: skip
            return self.answer(json.dumps(entries))
        return self.answer(files.get(path.rpartition("/")[2], b""))

    def answer(self, content):
        data = content.encode() if isinstance(content, str) else content
        self.send_response(200)
        headers = {"ETag": f'"{len(data)}"', "X-Repo-Commit": SHA, "Content-Length": len(data)}
        for name, value in headers.items():
            self.send_header(name, str(value))
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, *_):
        pass


def test_a_model_of_another_format_is_refused_with_its_file_and_the_remedy(tmp_path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    environment = {
        "PATH": "/usr/bin:/bin",
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "HF_HOME": str(tmp_path),
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    code = "import jaxembed; jaxembed.load('me/old')"
    try:
        result = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True,
            timeout=120,
        )  # fmt: skip
    finally:
        server.shutdown()
        server.server_close()
    last = result.stderr.strip().splitlines()[-1]
    assert "me/old holds no safetensors, only pytorch_model.bin; load it with its own" in last
    assert not list(tmp_path.rglob("*.bin"))
