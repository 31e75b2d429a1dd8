"""Every value of the chart, each with a setting that is not its default, and what must be on for it to be seen."""

MODES = ["impersonation", "policy", "none"]

# A value's path → settings to try. The tests see to it that no value is missing here.
SWITCHES = {
    "image.repository": ["registry.example.com:5000/a/b"],
    "image.tag": ["v9"],
    "image.digest": ["sha256:" + "0" * 64],
    "image.pullPolicy": ["Always", "Never"],
    "imagePullSecrets": [[{"name": "secret"}]],
    "dryRun": ["client", "server"],
    "excludeNamespaces": [["kube-system", "infra"]],
    "namespaces.enabled": [False],
    "namespaces.threshold": ["75", "62.5%"],
    "restraint.evictionBurst": [3],
    "restraint.rescueBurst": [0],
    "restraint.evictionRefill": ["1m30s", "500ms"],
    "restraint.minimumAge": ["0s"],
    "remedies.raise": [True],
    "remedies.restart": [True],
    "remedies.raiseReserve": [25],
    "remedies.raiseBudget": [1],
    "forceDelete": [True],
    "confinement": ["none", "policy", "impersonation"],
    "kubeVersionOverride": ["1.29.0"],
    "impersonation.requireOptIn": [True],
    "policy.anyNamespace": [True],
    "log.format": ["text", "auto"],
    "log.filter": ["info,kube=debug"],
    "priorityClassName": ["", "my-own", "system-cluster-critical"],
    "resourceQuota.enabled": [False],
    "createNamespace": [True],
    "resources.cpu": ["100m", "1"],
    "resources.memory": ["128Mi"],
    "tolerations": [[], [{"key": "a", "operator": "Equal", "value": "b", "effect": "NoSchedule"}]],
    "nodeSelector": [{"pool": "big"}],
    "podLabels": [{"team": "infra"}],
    "podAnnotations": [{"a/b": "c"}],
    "port": [9090],
    "metrics.service.enabled": [True],
    "metrics.podMonitor.enabled": [True],
    "metrics.podMonitor.interval": ["1m"],
    "metrics.podMonitor.labels": [{"release": "monitoring"}],
    "alerts.enabled": [True],
    "alerts.labels": [{"release": "monitoring"}],
    "alerts.job": ["agents"],
    "dashboard.enabled": [True],
    "dashboard.labels": [{"a": "b"}],
    "networkPolicy.enabled": [True],
    "networkPolicy.fromNamespaces": [["monitoring", "ingress"]],
    "networkPolicy.fromCIDRs": [["10.0.0.10/32", "fd00::/64"]],
}

# What has to be on before a setting can be seen.
NEEDS = {
    "namespaces.enabled": {"kubeVersionOverride": "1.36.0"},
    "namespaces.threshold": {"kubeVersionOverride": "1.36.0"},
    "remedies.raiseReserve": {"remedies": {"raise": True}},
    "remedies.raiseBudget": {"remedies": {"raise": True}},
    "impersonation.requireOptIn": {"confinement": "impersonation"},
    "policy.anyNamespace": {"confinement": "policy"},
    "metrics.podMonitor.interval": {"metrics": {"podMonitor": {"enabled": True}}},
    "metrics.podMonitor.labels": {"metrics": {"podMonitor": {"enabled": True}}},
    "alerts.labels": {"alerts": {"enabled": True}},
    "alerts.job": {"alerts": {"enabled": True}},
    "dashboard.labels": {"dashboard": {"enabled": True}},
    "networkPolicy.fromNamespaces": {"networkPolicy": {"enabled": True}},
    "networkPolicy.fromCIDRs": {"networkPolicy": {"enabled": True}},
}

# Values that must be refused, and words that the message must have.
REFUSED = [
    ({"confinement": "strict"}, ["confinement", "auto", "impersonation", "policy", "none"]),
    ({"dryRun": True}, ["dryRun", "client", "server"]),
    ({"podLabels": {"app.kubernetes.io/name": "x"}}, ["podLabels", "app.kubernetes.io/name"]),
    ({"nodeSelector": {"kubernetes.io/os": "windows"}}, ["nodeSelector", "kubernetes.io/os"]),
    ({"dryrun": "client"}, ["dryrun", "not allowed"]),
    ({"image": {"name": "x"}}, ["image", "name", "not allowed"]),
    ({"image": {"digest": "sha256:abc"}}, ["image.digest"]),
    ({"port": 80}, ["port", "1024"]),
    ({"port": "8080"}, ["port", "integer"]),
    ({"restraint": {"evictionBurst": 0}}, ["restraint.evictionBurst", "1"]),
    ({"restraint": {"evictionRefill": 6}}, ["restraint.evictionRefill", "string"]),
    ({"restraint": {"minimumAge": "soon"}}, ["restraint.minimumAge"]),
    ({"excludeNamespaces": "kube-system"}, ["excludeNamespaces", "array"]),
    ({"excludeNamespaces": ["Kube_System"]}, ["excludeNamespaces.0"]),
    ({"namespaces": {"threshold": 80}}, ["namespaces.threshold", "string"]),
    ({"namespaces": {"threshold": "0"}}, ["namespaces.threshold"]),
    ({"namespaces": {"threshold": "100"}}, ["namespaces.threshold"]),
    ({"namespaces": {"threshold": "512Mi"}}, ["namespaces.threshold"]),
    ({"namespaces": {"threshold": "80'"}}, ["namespaces.threshold"]),
    ({"resources": {"limits": {"cpu": "1"}}}, ["resources", "limits", "not allowed"]),
    ({"resources": {"memory": "64"}}, ["resources.memory"]),
    ({"tolerations": [{"operator": "Exist"}]}, ["tolerations.0.operator", "Exists"]),
    ({"log": {"format": "xml"}}, ["log.format", "json", "text"]),
    ({"forceDelete": "yes"}, ["forceDelete", "boolean"]),
    ({"remedies": {"raise": "yes"}}, ["remedies.raise", "boolean"]),
    ({"remedies": {"evict": True}}, ["remedies", "evict", "not allowed"]),
    ({"remedies": {"raiseReserve": 0}}, ["remedies.raiseReserve", "1"]),
    ({"remedies": {"raiseBudget": 100}}, ["remedies.raiseBudget", "99"]),
    ({"remedies": {"raiseBudget": "10%"}}, ["remedies.raiseBudget", "integer"]),
    ({"kubeVersionOverride": "newest"}, ["kubeVersionOverride"]),
    ({"networkPolicy": {"fromCIDRs": ["10.0.0.10"]}}, ["networkPolicy.fromCIDRs.0", "pattern"]),
    ({"networkPolicy": {"fromNamespaces": [{"name": "x"}]}}, ["networkPolicy.fromNamespaces.0", "string"]),
    ({"metrics": {"podMonitor": True}}, ["metrics.podMonitor", "object"]),
]


def values(path, setting):
    """The values with one setting, and what it needs."""
    tree = merge({}, NEEDS.get(path, {}))
    inner = tree
    *parents, leaf = path.split(".")
    for parent in parents:
        inner = inner.setdefault(parent, {})
    inner[leaf] = setting
    return tree


def merge(into, tree):
    for key, value in tree.items():
        into[key] = merge(into.get(key, {}), value) if isinstance(value, dict) else value
    return into


def all_cases():
    """Each setting by itself, and all that add something together, in each mode."""
    for path, settings in SWITCHES.items():
        for setting in settings:
            yield f"{path}={setting}", values(path, setting)
    for mode in MODES:
        for force in (False, True):
            everything = {"confinement": mode, "forceDelete": force}
            for path in SWITCHES:
                if path.endswith(".enabled") or path in ("createNamespace", "impersonation.requireOptIn", "remedies.raise", "remedies.restart"):
                    merge(everything, values(path, True) | {"confinement": mode})
            merge(everything, {"networkPolicy": {"fromNamespaces": ["monitoring"]}})
            yield f"everything, {mode}, forceDelete={force}", everything
