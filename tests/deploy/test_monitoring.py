"""deploy/grafana, deploy/prometheus: they ask for metrics that the daemon has."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.observe.test_metrics import metrics
from udpoverlay import _fastpath as fp

ROOT = Path(__file__).parents[2]
DASHBOARD = ROOT / "deploy" / "grafana" / "udpoverlay.json"
ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yml"
NAME = re.compile(r"\budpoverlay_\w+")
LABELS = re.compile(r"(udpoverlay_\w+)\{([^}]*)\}")
VERDICTS = {name.partition("_")[2] for name, *_ in fp.VERDICTS}


def labels_by_name() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(metrics().text().decode()):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def expressions() -> list[str]:
    dashboard: dict[str, Any] = json.loads(DASHBOARD.read_text())
    panels = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    rules = [rule["expr"] for rule in alerts()]
    queries = [each["query"] for each in dashboard["templating"]["list"]]
    return [*panels, *rules, *(query for query in queries if "udpoverlay" in query)]


def alerts() -> list[dict[str, Any]]:
    [group] = yaml.safe_load(ALERTS.read_text())["groups"]
    rules: list[dict[str, Any]] = group["rules"]
    return rules


def test_dashboard_and_alerts_name_metrics_that_exist() -> None:
    known = labels_by_name()
    asked = {name for text in expressions() for name in NAME.findall(text)}
    assert len(asked) > 15
    assert asked <= known.keys()


def test_selectors_name_labels_and_verdicts_that_exist() -> None:
    known = labels_by_name()
    for text in expressions():
        for name, selector in LABELS.findall(text):
            for label, value in re.findall(r'(\w+)(?:=~|!~|!=|=)"([^"]*)"', selector):
                assert label in known[name] | {"instance"}, (name, label)
                if label == "verdict":
                    for part in value.split("|"):
                        assert any(re.fullmatch(part, verdict) for verdict in VERDICTS), part


def test_every_alert_has_a_summary_and_the_line_to_begin_with() -> None:
    rules = alerts()
    assert len({rule["alert"] for rule in rules}) == len(rules) >= 8
    for rule in rules:
        assert set(rule["annotations"]) == {"summary", "runbook"}
        assert rule["labels"]["severity"] in {"critical", "warning"}
        for path in re.findall(r"docs/[\w./]+\.md", rule["annotations"]["runbook"]):
            assert (ROOT / path).exists(), path


def test_panels_do_not_overlap_and_say_what_they_show() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells
        assert panel["title"]
        assert panel["targets"]


@pytest.mark.skipif(not shutil.which("promtool"), reason="no promtool on PATH")
def test_promtool_takes_the_alerts() -> None:
    done = subprocess.run(
        ["promtool", "check", "rules", str(ALERTS)], capture_output=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
