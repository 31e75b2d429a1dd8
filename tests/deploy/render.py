"""Renders the chart and the kustomizations, and validates what comes out."""

import functools
import json
import pathlib
import subprocess

import jsonschema
import yaml
from kubernetes_validate import utils as kubernetes

ROOT = pathlib.Path(__file__).parents[2]
CHART = ROOT / "daemonset/chart"
OUT = ROOT / "target/deploy"
VERSIONS = ["1.30", "1.32", "1.36", "1.37"]
IMPERSONATED = "impersonate-on:associated-node:"


class Skipped(Exception):
    """There is nothing to check."""


def run(*command, **options):
    """Runs a command; its output is that of an error, too."""
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, **options)
    if done.returncode:
        raise AssertionError(f"{' '.join(map(str, command))}:\n{done.stdout}{done.stderr}")
    return done.stdout


def helm(*arguments, values=None, **options):
    """The one place where Helm is called."""
    if values is not None:
        arguments += ("--values", "-")
        options["input"] = json.dumps(values)
    return run("helm", *arguments, **options)


def template(values, version="1.32", namespace="pre-oom-killer", release="pre-oom-killer"):
    """The chart's documents."""
    return documents(template_text(json.dumps(values), version, namespace, release))


@functools.cache  # many checks ask for the same; each gets documents of its own
def template_text(values, version, namespace, release):
    return helm("template", release, CHART, "--namespace", namespace, "--kube-version", version, values=json.loads(values))


def kustomize(directory):
    return documents(run("kubectl", "kustomize", directory))


def fails(function, *words):
    """The message with which it fails."""
    try:
        function()
    except Exception as error:  # whatever it is: its words are looked at
        for word in words:
            assert word in str(error), f"'{word}' is not in: {error}"
        return str(error)
    raise AssertionError(f"it passed; expected a failure with {words}")


def documents(text):
    # libyaml's loader, which is many times quicker than the one in Python.
    return [document for document in yaml.load_all(text, Loader=yaml.CSafeLoader) if document]


def write(name, docs):
    """For the Rust tests, and to look at."""
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / name).write_text(yaml.safe_dump_all(docs))


def find(docs, kind, suffix=""):
    """The only one of its kind (and with that end of its name)."""
    [one] = [d for d in docs if d["kind"] == kind and d["metadata"]["name"].endswith(suffix)]
    return one


def kinds(docs):
    return {d["kind"] for d in docs}


MONITORING = json.loads((ROOT / "tests/deploy/monitoring.schema.json").read_text())
kubernetes.schema_contents = functools.cache(kubernetes.schema_contents)


@functools.cache
def validate_text(text, version):
    document = json.loads(text)
    if document["apiVersion"].startswith("monitoring.coreos.com/"):
        jsonschema.validate(document, MONITORING)
        return
    # Not warned of, as on the command line, but raised: a kind without a schema.
    assert kubernetes.validate(document, version, strict=True) == version


def validate(document, version):
    """Strictly, against the schema of that version of Kubernetes itself."""
    validate_text(json.dumps(document, sort_keys=True), version)


def rights(docs):
    """{(group, resource, verb)}, of the agent's account."""
    roles = {d["metadata"]["name"]: d["rules"] for d in docs if d["kind"] == "ClusterRole"}
    bindings = [d for d in docs if d["kind"] == "ClusterRoleBinding"]
    account = find(docs, "ServiceAccount")["metadata"]
    assert sorted(b["roleRef"]["name"] for b in bindings) == sorted(roles)
    for binding in bindings:
        [subject] = binding["subjects"]
        assert (subject["namespace"], subject["name"]) == (account["namespace"], account["name"])
    rules = [rule for role in roles.values() for rule in role]
    assert all(set(rule) == {"apiGroups", "resources", "verbs"} for rule in rules)
    return granted(rules)


def granted(rules):
    return {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def expected_rights(mode, force, resizes=False):
    used = {("", "pods", "list"), ("", "pods", "watch"), ("", "pods/eviction", "create")}
    used |= {("events.k8s.io", "events", "create"), ("events.k8s.io", "events", "patch")}
    if force:
        used.add(("", "pods", "delete"))
    if mode == "impersonation":
        used = {(group, resource, IMPERSONATED + verb) for group, resource, verb in used}
        used.add(("authentication.k8s.io", "nodes", "impersonate:associated-node"))
    if resizes:
        # A node has no right to it.
        used.add(("", "pods/resize", "patch"))
    return used
