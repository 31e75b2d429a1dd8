"""The chart: schemas, and what is rendered."""

import functools
import json

import helm_python
import yaml
from kubernetes_validate import utils as kubernetes

from render import CHART, ROOT, VERSIONS, documents, expected_rights, fails, find, granted, helm, kinds, rights, template, validate
from switches import MODES, NEEDS, REFUSED, SWITCHES, all_cases, values

# The versions that have admissionregistration.k8s.io/v1 MutatingAdmissionPolicy.
MUTATING = ["1.36", "1.37"]


def check_every_switch_is_valid_on_every_version():
    cases = list(all_cases())
    for version in VERSIONS:
        for name, setting in [("defaults", {}), *cases]:
            for document in template(setting, version):
                try:
                    # A switch that renders for a later version does not ask the older one.
                    mutating = document["kind"].startswith("MutatingAdmissionPolicy") and version not in MUTATING
                    validate(document, MUTATING[0] if mutating else version)
                except Exception as error:
                    where = f"{name}, Kubernetes {version}, {document['kind']}"
                    raise AssertionError(f"{where}: {getattr(error, 'message', error)}") from error
    print(f"{len(VERSIONS) * (len(cases) + 1)} renderings")


def check_the_validation_is_strict():
    """What the check above relies on: seen to fail."""
    for version in VERSIONS:
        assert version in map(kubernetes.major_minor, kubernetes.all_versions()), version
    docs = template({"metrics": {"podMonitor": {"enabled": True}}, "alerts": {"enabled": True}}, "1.36")
    for kind in kinds(docs):
        document = json.loads(json.dumps(find(docs, kind)))
        validate(document, "1.36")
        document["specs"] = {}
        fails(lambda: validate(document, "1.36"))
    unknown = {"apiVersion": "example.com/v1", "kind": "Nope", "metadata": {"name": "x"}}
    error = None
    try:
        validate(unknown, "1.36")
    except kubernetes.SchemaNotFoundError as caught:
        error = caught
    assert error, "a kind without a schema passed"
    mount = find(docs, "DaemonSet")
    mount["spec"]["template"]["spec"]["containers"][0]["volumeMounts"][0]["recursive"] = True
    fails(lambda: validate(mount, "1.36"), "recursive")


def check_every_value_is_documented_tried_and_used():
    schema = json.loads((CHART / "values.schema.json").read_text())

    def leaves(node, path):
        node = schema["definitions"][node["$ref"].split("/")[-1]] if "$ref" in node else node
        if "properties" not in node:
            return [path]
        assert node["additionalProperties"] is False, f"{path or 'the top'} lets unknown values pass"
        return [leaf for key, inner in node["properties"].items() for leaf in leaves(inner, f"{path}.{key}".strip("."))]

    known = set(leaves(schema, "")) - {"global"}
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    for path in known:
        functools.reduce(lambda tree, key: tree[key], path.split("."), defaults)  # it stands in values.yaml
    assert known == set(SWITCHES), f"not tried, or unknown: {known ^ set(SWITCHES)}"
    for path, settings in SWITCHES.items():
        without = template(NEEDS.get(path, {}), "1.32")
        for setting in settings:
            if path == "confinement" and setting == "policy":
                continue  # what 1.32 has by itself
            assert template(values(path, setting), "1.32") != without, f"{path}={setting} changes nothing"
    assert template({"dryRun": False}) == template({"dryRun": "off"}) == template({})  # an unquoted `off` in YAML


def check_bad_values_are_refused_with_a_clear_message():
    for bad, words in REFUSED:
        fails(lambda: template(bad), "values don't meet the specifications of the schema", *words)


# --- what is rendered -------------------------------------------------------------------------------------------------


def check_lint():
    for mode in MODES:
        helm("lint", "--strict", CHART, values={"confinement": mode})


def check_both_helms_render_the_same():
    """Helm 3, the command, and Helm 4, as a library; and the notes, which the command shows at an installation alone."""
    assert helm_python.helm_sdk_version().startswith("v4.")
    for name, setting in all_cases():
        setting = {"kubeVersionOverride": "1.32.0"} | setting
        with helm_python.Chart.load(str(CHART)) as chart:
            files = chart.render(setting, name="pre-oom-killer", namespace="pre-oom-killer")
        docs = [d for path, text in files.items() if path.endswith(".yaml") for d in documents(text)]
        by_name = lambda d: (d["kind"], d["metadata"]["name"])
        assert sorted(docs, key=by_name) == sorted(template(setting), key=by_name), name


def check_notes_tell_how_to_opt_in_and_what_confines():
    for setting, words in [
        ({"confinement": "policy"}, ["own node: policy", "pre-oom-killer: enabled", "memory-usage-threshold", "api/guards"]),
        ({"confinement": "impersonation"}, ["own node: impersonation"]),
        ({"confinement": "none"}, ["CONFINEMENT: none", "all nodes"]),
        ({"dryRun": "server"}, ["DRY RUN (server)"]),
    ]:
        with helm_python.Chart.load(str(CHART)) as chart:
            files = chart.render(setting, name="pre-oom-killer", namespace="x")
        [notes] = [text for path, text in files.items() if path.endswith("NOTES.txt")]
        for word in words:
            assert word in notes, f"'{word}' is not in:\n{notes}"
        assert ("DRY RUN" in notes) == ("dryRun" in setting)


def check_the_version_chooses_the_mode():
    def mode(setting, **options):
        container = find(template(setting, **options), "DaemonSet")["spec"]["template"]["spec"]["containers"][0]
        return {e["name"]: e.get("value") for e in container["env"]}["PRE_OOM_KILLER_CONFINEMENT"]

    for version, expected in {
        "1.29.0": "none",
        "1.29": "none",
        "v1.29.14-eks-1": "none",
        "1.30.0": "policy",
        "1.31.0": "policy",
        "v1.35.9+k3s1": "policy",
        "1.36.0": "impersonation",
        "v1.36.1-gke.1000": "impersonation",
        "2.0.0": "impersonation",
    }.items():
        # The server is of another version: what is told goes before it.
        assert mode({"kubeVersionOverride": version}, version="1.33") == expected, version
        assert mode({}, version=version) == expected, version
        for told in MODES:
            assert mode({"kubeVersionOverride": version, "confinement": told}) == told
    # Before 1.30 the server would refuse the field that it does not know.
    assert "recursiveReadOnly" not in json.dumps(template({}, version="1.29.0"))
    for document in template({"kubeVersionOverride": "1.29.0"}):
        validate(document, "1.29")


def check_namespaces_are_guarded_where_the_server_can():
    def rendered(setting, **options):
        return [d for d in template(setting, **options) if d["kind"].startswith("MutatingAdmissionPolicy")]

    for version, there in {
        "1.29.14": False,
        "1.30.0": False,
        "1.35.9": False,
        "v1.35.9+k3s1": False,
        "1.36.0-0": True,
        "v1.36.1-gke.1000": True,
        "1.37": True,
    }.items():
        # The server is of another version: what is told goes before it.
        for docs in (rendered({}, version=version), rendered({"kubeVersionOverride": version}, version="1.33")):
            assert [d["kind"] for d in docs] == ["MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding"][: 2 * there], version
        assert not rendered({"namespaces": {"enabled": False}}, version=version)
        with helm_python.Chart.load(str(CHART)) as chart:
            for enabled in (True, False):
                setting = {"kubeVersionOverride": version, "namespaces": {"enabled": enabled, "threshold": "75"}}
                files = chart.render(setting, name="pre-oom-killer", namespace="x")
                [notes] = [text for path, text in files.items() if path.endswith("NOTES.txt")]
                assert ("kubectl label namespace NAME pre-oom-killer=enabled" in notes) == (enabled and there), notes
                assert ("The default threshold is 75." in notes) == (enabled and there), notes
                assert ("NAMESPACES: no namespace is guarded" in notes) == (enabled and not there), notes
    # Neither the agent's namespace, nor kube-system, nor what is excluded; nobody twice.
    setting = {"excludeNamespaces": ["infra", "kube-system"]}
    [policy, _] = rendered(setting, version="1.36", namespace="other")
    selector = policy["spec"]["matchConstraints"]["namespaceSelector"]
    assert selector["matchLabels"] == {"pre-oom-killer": "enabled"}
    assert {(e["key"], e["operator"], *e["values"]) for e in selector["matchExpressions"]} == {
        ("kubernetes.io/metadata.name", "NotIn", "kube-system", "other", "infra"),
        ("app.kubernetes.io/name", "NotIn", "pre-oom-killer"),
    }
    # What it can do, it does by the server's own hand: the agent needs no right for it.
    assert rights(template({}, "1.36")) == rights(template({"namespaces": {"enabled": False}}, "1.36"))


def check_the_rights_are_those_that_are_used():
    for mode in MODES:
        for force in (False, True):
            docs = template({"confinement": mode, "forceDelete": force})
            assert rights(docs) == expected_rights(mode, force), mode
            assert not {"Role", "RoleBinding"} & kinds(docs)
            policies = {d["metadata"]["name"] for d in docs if d["kind"] == "ValidatingAdmissionPolicy"}
            bindings = {d["spec"]["policyName"] for d in docs if d["kind"] == "ValidatingAdmissionPolicyBinding"}
            assert policies == bindings
            own = {"pre-oom-killer-own-node"} | ({"pre-oom-killer-own-node-delete"} if force else set())
            assert policies == (own if mode == "policy" else set()), policies
    docs = template({"confinement": "impersonation", "impersonation": {"requireOptIn": True}, "forceDelete": True})
    [only] = [d for d in docs if d["kind"] == "ValidatingAdmissionPolicy"]
    # The kubelet deletes pods as a node, too.
    assert only["spec"]["matchConstraints"]["resourceRules"][0]["operations"] == ["CREATE"]
    assert only["spec"]["matchConstraints"]["resourceRules"][0]["resources"] == ["pods/eviction"]


def check_remedies_bring_their_right_policy_and_flags_and_nothing_else_does():
    for mode in MODES:
        for on in ([], ["raise"], ["restart"], ["raise", "restart"]):
            docs = template({"confinement": mode, "remedies": dict.fromkeys(on, True) | {"raiseReserve": 20, "raiseBudget": 5}})
            assert rights(docs) == expected_rights(mode, False, bool(on)), (mode, on)
            # Who patches is the account itself, in each mode.
            resizing = [d for d in docs if d["metadata"]["name"].endswith("-own-node-resize")]
            policies = ["ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"]
            assert [d["kind"] for d in resizing] == (policies if on and mode != "none" else []), (mode, on)
            if resizing:
                variables = {v["name"]: v["expression"] for v in resizing[0]["spec"]["variables"]}
                assert [name for name in ("raise", "restart") if variables[name] == "true"] == on
                assert {variables[name] for name in ("raise", "restart")} <= {"true", "false"}
            env = {e["name"]: e.get("value") for e in find(docs, "DaemonSet")["spec"]["template"]["spec"]["containers"][0]["env"]}
            assert env.get("PRE_OOM_KILLER_REMEDIES") == (",".join(on) or None)
            bounds = (env.get("PRE_OOM_KILLER_RAISE_RESERVE"), env.get("PRE_OOM_KILLER_RAISE_BUDGET"))
            assert bounds == (("20", "5") if "raise" in on else (None, None)), (mode, on)


def check_the_end_to_end_tests_run_under_the_charts_rights():
    folder = ROOT / "tests/e2e/manifests"
    remedies = documents((ROOT / "daemonset/components/remedies/rbac.yaml").read_text())
    for mode, force, resizes in (
        ("policy", True, False),
        ("policy", False, True),
        ("impersonation", False, False),
        ("impersonation", True, False),
        ("impersonation", False, True),
    ):
        names = [f"{mode}-force-delete.yaml"] if force else []
        docs = [d for name in names for d in documents((folder / name).read_text())] + (remedies if resizes else [])
        if mode == "policy":
            docs += documents((ROOT / "daemonset/install.yaml").read_text())
        else:
            docs += documents((folder / f"{mode}.yaml").read_text())
        rules = [rule for d in docs if d["kind"] == "ClusterRole" for rule in d["rules"]]
        assert granted(rules) == expected_rights(mode, force, resizes), (mode, force, resizes)


def check_the_daemonset_is_what_was_promised():
    for name, setting in [("defaults", {}), *all_cases()]:
        docs = template(setting)
        spec = find(docs, "DaemonSet")["spec"]
        pod = spec["template"]["spec"]
        [container] = pod["containers"]
        update = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
        assert spec["updateStrategy"] == update, name
        assert not {"hostPID", "hostNetwork", "hostIPC", "initContainers", "shareProcessNamespace"} & set(pod), name
        assert pod["terminationGracePeriodSeconds"] == 35
        assert pod["nodeSelector"]["kubernetes.io/os"] == "linux"
        [term] = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
        assert {(e["key"], e["operator"], *e["values"]) for e in term["matchExpressions"]} == {
            ("type", "NotIn", "virtual-kubelet"),
            ("eks.amazonaws.com/compute-type", "NotIn", "fargate"),
        }
        assert pod["automountServiceAccountToken"] and not find(docs, "ServiceAccount")["automountServiceAccountToken"]
        assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert pod["volumes"] == [{"name": "cgroup", "hostPath": {"path": "/sys/fs/cgroup", "type": "Directory"}}]
        [mount] = container["volumeMounts"]
        assert mount["readOnly"] and mount["mountPath"] != "/sys/fs/cgroup"
        if "kubeVersionOverride" not in setting:
            assert mount["recursiveReadOnly"] == "IfPossible"
        assert container["args"] == [f"--cgroup-root={mount['mountPath']}"]
        fields = {e["name"]: e["valueFrom"]["fieldRef"]["fieldPath"] for e in container["env"] if "valueFrom" in e}
        assert fields == {
            "NODE_NAME": "spec.nodeName",
            "POD_NAME": "metadata.name",
            "POD_UID": "metadata.uid",
            "POD_NAMESPACE": "metadata.namespace",
        }
        [port] = container["ports"]
        assert port["name"] == "http" and "hostPort" not in port
        for probe, path in [("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")]:
            assert container[probe]["httpGet"] == {"path": path, "port": "http"}
            assert container[probe]["timeoutSeconds"] * container[probe]["failureThreshold"] >= 60
        resources = container["resources"]
        assert resources["limits"] == {"memory": resources["requests"]["memory"]}, name
        # Nothing that selects these pods misses them.
        labels = spec["template"]["metadata"]["labels"].items()
        selectors = [spec["selector"]["matchLabels"]]
        selectors += [d["spec"]["selector"] for d in docs if d["kind"] == "Service"]
        selectors += [d["spec"]["selector"]["matchLabels"] for d in docs if d["kind"] == "PodMonitor"]
        selectors += [d["spec"]["podSelector"]["matchLabels"] for d in docs if d["kind"] == "NetworkPolicy"]
        assert all(labels >= selector.items() for selector in selectors), name


def check_the_quota_admits_the_priority_class_and_only_there():
    quota = find(template({}), "ResourceQuota")["spec"]["scopeSelector"]["matchExpressions"]
    assert quota == [{"scopeName": "PriorityClass", "operator": "In", "values": ["system-node-critical"]}]
    # In kube-system it would bound what else runs there.
    for docs in (template({}, namespace="kube-system"), template({"priorityClassName": "mine"})):
        assert "ResourceQuota" not in kinds(docs)


def check_the_network_policy_opens_the_port_to_the_named_alone():
    def policy(**setting):
        return find(template({"networkPolicy": {"enabled": True} | setting}), "NetworkPolicy")["spec"]

    assert policy()["policyTypes"] == ["Ingress"] and policy()["ingress"] == []
    [rule] = policy(fromNamespaces=["monitoring"])["ingress"]
    named = {"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["monitoring"]}
    assert rule == {"from": [{"namespaceSelector": {"matchExpressions": [named]}}], "ports": [{"port": "http"}]}
    [rule] = policy(fromCIDRs=["10.0.0.10/32", "fd00::/64"])["ingress"]
    assert rule["from"] == [{"ipBlock": {"cidr": "10.0.0.10/32"}}, {"ipBlock": {"cidr": "fd00::/64"}}]
    [rule] = policy(fromNamespaces=["monitoring"], fromCIDRs=["10.0.0.10/32"])["ingress"]
    assert len(rule["from"]) == 2


def check_the_longest_release_name_gives_valid_names():
    everything = dict(list(all_cases()))["everything, policy, forceDelete=True"]
    for document in template(everything, release="a" * 53):
        assert len(document["metadata"]["name"]) <= 63
        assert "pre-oom-killer" in document["metadata"]["name"]
