"""The plain manifests and their kustomizations."""

import os
import pathlib
import shutil
import tempfile

import yaml

from render import OUT, ROOT, VERSIONS, documents, expected_rights, fails, find, kinds, kustomize, rights, run, template, validate, write

DAEMONSET = ROOT / "daemonset"


def check_install_yaml_is_not_stale():
    run(DAEMONSET / "render", "--check")
    # And a stale one would be told.
    with tempfile.TemporaryDirectory() as directory:
        copy = pathlib.Path(directory, "daemonset")
        shutil.copytree(DAEMONSET, copy)
        run(copy / "render", "--check")
        for template_, old, new, file in [
            ("daemonset", "maxSurge: 1", "maxSurge: 2", "install.yaml"),
            ("policy-namespaces", "IfNeeded", "Never", "components/namespaces/policy.yaml"),
            ("policy-resize", "4096", "4097", "components/remedies/policy.yaml"),
        ]:
            changed = copy / f"chart/templates/{template_}.yaml"
            changed.write_text(changed.read_text().replace(old, new))
            fails(lambda: run(copy / "render", "--check"), file, "stale")
            run(copy / "render")
            run(copy / "render", "--check")


def check_install_yaml_is_valid_and_in_order():
    docs = documents((DAEMONSET / "install.yaml").read_text())
    by_name = lambda d: (d["kind"], d["metadata"]["name"])
    assert sorted(docs, key=by_name) == sorted(kustomize(DAEMONSET), key=by_name)
    for version in VERSIONS:
        for document in docs:
            validate(document, version)
    order = [d["kind"] for d in docs]
    assert order[0] == "Namespace" and order[-1] == "DaemonSet", order
    assert docs[0]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "privileged"
    assert "ResourceQuota" in order and "ValidatingAdmissionPolicy" in order
    assert "Helm" not in (DAEMONSET / "install.yaml").read_text()
    assert rights(docs) == expected_rights("policy", False)


def overlay(**settings):
    """Builds the kustomization of somebody who has ours as a base."""
    directory = OUT / "overlay"
    directory.mkdir(parents=True, exist_ok=True)
    base = os.path.relpath(DAEMONSET, directory)
    content = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": [base]}
    order = settings.pop("order", ("impersonation", "namespaces", "remedies"))
    components = [name for name in order if settings.pop(name, False)]
    if components:
        content["components"] = [f"{base}/components/{name}" for name in components]
    (directory / "kustomization.yaml").write_text(yaml.safe_dump(content | settings))
    return kustomize(directory)


MOVED = {
    "namespace": "other",
    "images": [{"name": "ghcr.io/pre-oom-killer/pre-oom-killer", "newName": "registry.example.com/p", "newTag": "v9"}],
}


def check_kustomize_moves_image_and_namespace():
    for impersonation in (False, True):
        docs = overlay(impersonation=impersonation, **MOVED)
        assert find(docs, "Namespace")["metadata"]["name"] == "other"
        namespaced = {d["metadata"].get("namespace") for d in docs if d["kind"] in ("DaemonSet", "ServiceAccount", "ResourceQuota")}
        assert namespaced == {"other"}
        assert find(docs, "DaemonSet")["spec"]["template"]["spec"]["containers"][0]["image"] == "registry.example.com/p:v9"
        rights(docs)  # the binding names the account where it is now
        for document in docs:
            validate(document, "1.36")


def check_the_component_is_what_the_chart_has():
    docs = overlay(impersonation=True)
    chart = template({"confinement": "impersonation", "createNamespace": True, "namespaces": {"enabled": False}}, "1.36")
    assert kinds(docs) == kinds(chart)
    assert rights(docs) == rights(chart) == expected_rights("impersonation", False)
    env = lambda docs: {e["name"]: e for e in find(docs, "DaemonSet")["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert env(docs) == env(chart)


def check_the_component_for_namespaces_is_what_the_chart_has():
    def own(docs):
        docs = [d for d in docs if d["kind"].startswith("MutatingAdmissionPolicy")]
        for document in docs:
            document["metadata"]["labels"].pop("app.kubernetes.io/managed-by", None)
        return docs

    assert own(overlay()) == []
    for impersonation in (False, True):
        docs = overlay(namespaces=True, impersonation=impersonation)
        assert own(docs) == own(template({}, "1.36"))
        for document in docs:
            validate(document, "1.36")
    # An overlay that moves the agent: its namespace is known by a label of its own.
    docs = overlay(namespaces=True, **MOVED)
    [policy, _] = own(docs)
    tests = policy["spec"]["matchConstraints"]["namespaceSelector"]["matchExpressions"]
    labels = find(docs, "Namespace")["metadata"]["labels"]
    assert any(test["operator"] == "NotIn" and labels.get(test["key"]) in test["values"] for test in tests)


def check_the_component_for_remedies_is_what_the_chart_has():
    def own(docs):
        docs = [d for d in docs if d["metadata"]["name"].endswith("-own-node-resize")]
        for document in docs:
            document["metadata"]["labels"].pop("app.kubernetes.io/managed-by", None)
        return docs

    env = lambda docs: {e["name"]: e for e in find(docs, "DaemonSet")["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert own(overlay()) == []
    for impersonation in (False, True):
        for namespaces in (False, True):
            setting = {"confinement": "impersonation" if impersonation else "policy", "policy": {"anyNamespace": True}}
            setting |= {"namespaces": {"enabled": namespaces}, "remedies": {"raise": True, "restart": True}}
            chart = template(setting | {"createNamespace": True}, "1.36")
            # In any order: the component for impersonation replaces the rules of its role.
            for order in (("impersonation", "namespaces", "remedies"), ("remedies", "namespaces", "impersonation")):
                docs = overlay(remedies=True, impersonation=impersonation, namespaces=namespaces, order=order)
                assert len(own(docs)) == 2 and own(docs) == own(chart)
                assert rights(docs) == rights(chart) == expected_rights(setting["confinement"], False, True)
                assert env(docs) == env(chart) and kinds(docs) == kinds(chart)
                for document in docs:
                    validate(document, "1.36")
    docs = overlay(remedies=True, **MOVED)
    assert rights(docs) == expected_rights("policy", False, True)  # the bindings name the account where it is now


def check_renderings_for_the_policies_test():
    """Written for tests/policies.rs, which evaluates the expressions."""
    force = {"confinement": "policy", "forceDelete": True}
    write("chart.yaml", template(force))
    write("chart-other.yaml", template(force, namespace="other"))
    write("chart-release.yaml", template(force, namespace="other", release="mine"))
    write("plain-other.yaml", overlay(**MOVED))
    write("namespaces.yaml", template({}, "1.36"))
    setting = {"namespaces": {"threshold": "62.5%"}, "excludeNamespaces": ["infra"]}
    write("namespaces-other.yaml", template(setting, "1.36", namespace="other", release="mine"))
    both, one = {"raise": True, "restart": True}, lambda name: {"remedies": {name: True}}
    write("resize.yaml", template({"confinement": "impersonation", "remedies": both}, "1.36", namespace="other"))
    write("resize-raise.yaml", template(one("raise"), namespace="other", release="mine"))
    write("resize-restart.yaml", template(one("restart")))
    write("plain-resize.yaml", overlay(remedies=True, **MOVED))
    write("opt-in.yaml", template({"confinement": "impersonation", "impersonation": {"requireOptIn": True}}))
