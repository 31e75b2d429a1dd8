"""Alerts and dashboard."""

import json
import re
import shutil

import yaml

from render import CHART, OUT, ROOT, fails, find, run, template


def rule_files():
    """The rules as rendered, and beside them their tests."""
    directory = OUT / "rules"
    directory.mkdir(parents=True, exist_ok=True)
    spec = find(template({"alerts": {"enabled": True}}), "PrometheusRule")["spec"]
    (directory / "full.yaml").write_text(yaml.safe_dump(spec))
    shutil.copy(ROOT / "tests/deploy/alerts.test.yaml", directory)
    for rule in spec["groups"][0]["rules"]:
        del rule["annotations"]["description"]
    return directory, spec


def check_alerts_rise_when_they_should_and_only_then():
    directory, spec = rule_files()
    run("promtool", "check", "rules", directory / "full.yaml")

    def test(changed):
        (directory / "alerts.yaml").write_text(yaml.safe_dump(changed))
        run("promtool", "test", "rules", "alerts.test.yaml", cwd=directory)

    test(spec)
    # Each is seen to fail: an alert that never rises, and one that always does.
    for index, rule in enumerate(spec["groups"][0]["rules"]):
        for expression in ("vector(0) > 1", "vector(1)"):
            changed = json.loads(json.dumps(spec))
            changed["groups"][0]["rules"][index]["expr"] = expression
            fails(lambda: test(changed), rule["alert"])
    test(spec)


def check_the_dashboard_is_rendered_as_it_is():
    data = find(template({"dashboard": {"enabled": True}}), "ConfigMap")["data"]
    assert json.loads(data["pre-oom-killer.json"]) == json.loads((CHART / "files/dashboard.json").read_text())
    panels = json.loads(data["pre-oom-killer.json"])["panels"]
    assert len({p["id"] for p in panels}) == len(panels)
    places = {(p["gridPos"]["x"] + x, p["gridPos"]["y"] + y) for p in panels for x in range(p["gridPos"]["w"]) for y in range(p["gridPos"]["h"])}
    assert len(places) == sum(p["gridPos"]["w"] * p["gridPos"]["h"] for p in panels), "panels overlap"
    # PromQL: promtool reads the expressions as rules, Grafana's variables put in.
    rules = [
        {"record": "x:y", "expr": re.sub(r"\$__rate_interval", "5m", target["expr"]).replace("$job", "j").replace("$node", "n")}
        for panel in panels
        for target in panel["targets"]
    ]
    for number, rule in enumerate(rules):
        rule["record"] += str(number)
    file = OUT / "dashboard.rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    run("promtool", "check", "rules", file)
