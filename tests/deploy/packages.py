"""The chart repository, scripts, the Dockerfile."""

import functools
import hashlib
import http.server
import os
import pathlib
import re
import shutil
import tarfile
import tempfile
import threading

import yaml

from render import CHART, ROOT, Skipped, documents, helm, run, template

DAEMONSET = ROOT / "daemonset"


def check_a_packaged_chart_installs_from_its_repository():
    with tempfile.TemporaryDirectory() as directory:
        directory = pathlib.Path(directory)
        repository = directory / "repository"
        repository.mkdir()
        # An older version is there already and has to stay.
        older = directory / "older"
        shutil.copytree(DAEMONSET, older)
        chart = older / "chart/Chart.yaml"
        chart.write_text(re.sub(r"^version: .*", "version: 0.0.1", chart.read_text(), flags=re.M))
        run(older / "package", repository)
        run(DAEMONSET / "package", repository)
        version = yaml.safe_load((CHART / "Chart.yaml").read_text())["version"]
        entries = yaml.safe_load((repository / "index.yaml").read_text())["entries"]["pre-oom-killer"]
        assert [e["version"] for e in entries] == [version, "0.0.1"]
        for entry in entries:
            [url] = entry["urls"]
            package = repository / url
            assert hashlib.sha256(package.read_bytes()).hexdigest() == entry["digest"]
        packaged = {n.removeprefix("pre-oom-killer/") for n in tarfile.open(repository / entries[0]["urls"][0]).getnames()}
        there = {str(f.relative_to(CHART)) for f in CHART.rglob("*") if f.is_file()}
        assert packaged == there, packaged ^ there

        class Quiet(http.server.SimpleHTTPRequestHandler):
            log_message = lambda *_: None

        handler = functools.partial(Quiet, directory=repository)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            env = os.environ | {f"HELM_{d}_HOME": f"{directory}/{d}" for d in ("CACHE", "CONFIG", "DATA")}
            helm("repo", "add", "p", f"http://127.0.0.1:{server.server_port}", env=env)
            text = helm("template", "pre-oom-killer", "p/pre-oom-killer", "--namespace", "pre-oom-killer", "--kube-version", "1.32", env=env)
        finally:
            server.shutdown()
        assert documents(text) == template({})
        run(DAEMONSET / "package", directory / "with-url", "https://example.com/charts")
        index = yaml.safe_load((directory / "with-url/index.yaml").read_text())
        assert index["entries"]["pre-oom-killer"][0]["urls"][0].startswith("https://example.com/charts/")


def check_scripts():
    scripts = [f for d in (DAEMONSET, ROOT / "tests/deploy") for f in d.iterdir() if f.is_file() and f.read_bytes()[:2] == b"#!"]
    assert len(scripts) >= 4
    shell = [f for f in scripts if b"sh" in f.read_bytes().splitlines()[0]]
    run("shellcheck", *shell)


def check_dockerfile():
    dockerfile = ROOT / "Dockerfile"
    if dockerfile.exists():
        run("hadolint", dockerfile)
    else:
        raise Skipped("there is no Dockerfile")
